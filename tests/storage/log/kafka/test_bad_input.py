"""Every "bad input and abuse" line of the door, in the protocol's own form of error."""

import struct
from collections.abc import Callable

import pytest
from awscrt.checksums import crc32c

from mainspring.storage.log.kafka.registry import ApiKey
from mainspring.storage.log.kafka.settings import KafkaSettings
from mainspring.storage.log.records import Record, build
from tests.fixtures_kafka import OurBroker
from tests.storage.log.kafka.topics import BATCH, NOW_MS, end_offset, make_topic, produce
from tests.storage.log.kafka.wire import Wire, answer_of, framed, head, request


@pytest.mark.parametrize("length", [-1, -(2**31), 104_857_601, 2**31 - 1])
def test_a_length_below_zero_or_over_the_limit_closes_the_connection(ours: OurBroker, length: int) -> None:
    with Wire(ours.port) as wire:
        wire.send(struct.pack(">i", length) + bytes(100))
        assert wire.is_closed()


@pytest.mark.parametrize("key", [-1, 4, 7, 52, 58, 999])
def test_a_key_that_is_not_answered_closes_the_connection(ours: OurBroker, key: int) -> None:
    with Wire(ours.port) as wire:
        wire.send(framed(head(key, 0)))
        assert wire.is_closed()


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\x03\0\x01"])
def test_a_frame_without_a_header_closes_the_connection(ours: OurBroker, payload: bytes) -> None:
    with Wire(ours.port) as wire:
        wire.send(framed(payload))
        assert wire.is_closed()


def test_a_request_before_authentication_closes_the_connection(make_ours: Callable[..., OurBroker]) -> None:
    broker = make_ours(settings=KafkaSettings(authentication=True))
    for key, version in ((ApiKey.METADATA, 9), (ApiKey.PRODUCE, 9), (ApiKey.FETCH, 12), (ApiKey.CREATE_TOPICS, 7)):
        with Wire(broker.port) as wire:
            assert wire.call(ApiKey.API_VERSIONS, 0).error_code == 0
            wire.send(request(key, version))
            assert wire.is_closed()


def test_a_stranger_cannot_send_a_large_frame(make_ours: Callable[..., OurBroker]) -> None:
    broker = make_ours(settings=KafkaSettings(authentication=True))
    with Wire(broker.port) as wire:
        wire.send(struct.pack(">i", 524_289))
        assert wire.is_closed()


def test_an_unknown_version_of_api_versions_is_answered_in_version_0_with_the_table(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        wire.send(framed(head(ApiKey.API_VERSIONS, 99, 5) + b"\xff" * 20))
        correlation_id, answer = answer_of(ApiKey.API_VERSIONS, 0, wire.frame())
        assert (correlation_id, answer.error_code) == (5, 35)
        assert {key.api_key for key in answer.api_keys} >= {0, 1, 3, 18}


def test_an_unknown_version_of_a_known_key_is_unsupported(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        for key, version, nearest in (
            (ApiKey.METADATA, 99, 13),
            (ApiKey.DESCRIBE_CLUSTER, 9, 2),
            (ApiKey.JOIN_GROUP, 40, 9),
        ):
            wire.send(framed(head(key, version, 6)))
            assert answer_of(key, nearest, wire.frame())[1].error_code == 35
        wire.send(framed(head(ApiKey.LIST_OFFSETS, 99)))
        assert wire.is_closed(), "its answer has no place for an error of the whole"


@pytest.mark.parametrize("version", [0, 1, 2])
def test_an_old_produce_is_listed_but_unsupported_in_its_own_form(ours: OurBroker, version: int) -> None:
    body = struct.pack(">hiih1sii", 1, 1000, 1, 1, b"t", 1, 0) + struct.pack(">i", 4) + b"xxxx"
    with Wire(ours.port) as wire:
        listed = {key.api_key: key for key in wire.call(ApiKey.API_VERSIONS, 3, **SOFTWARE).api_keys}
        assert (listed[0].min_version, listed[0].max_version) == (0, 13)
        wire.send(framed(head(ApiKey.PRODUCE, version, 9) + body))
        frame = wire.frame()
        fixed = struct.pack(">iih1siih", 9, 1, 1, b"t", 1, 0, 35) + struct.pack(">q", -1)
        assert frame == fixed + (struct.pack(">q", -1) if version == 2 else b"") + (b"" if version == 0 else bytes(4))


SOFTWARE = {"client_software_name": "wire", "client_software_version": "1.0"}


@pytest.mark.parametrize(
    "fields",
    [{"client_software_name": "", "client_software_version": "1"}, {**SOFTWARE, "client_software_name": "a b"}],
)
def test_a_client_must_say_its_name_properly(ours: OurBroker, fields: dict[str, str]) -> None:
    with Wire(ours.port) as wire:
        assert wire.call(ApiKey.API_VERSIONS, 4, **fields).error_code == 42


def test_a_truncated_request_is_invalid_and_closes_the_connection(ours: OurBroker) -> None:
    whole = request(ApiKey.JOIN_GROUP, 5, 3, group_id="g", protocol_type="consumer", protocols=[])[4:]
    with Wire(ours.port) as wire:
        wire.send(framed(whole[:-3]))
        assert answer_of(ApiKey.JOIN_GROUP, 5, wire.frame())[1].error_code == 42
        assert wire.is_closed()
    with Wire(ours.port) as wire:
        wire.send(framed(request(ApiKey.PRODUCE, 9)[4:-3]))
        assert wire.is_closed()


def test_a_field_or_a_count_beyond_the_frame_closes_the_connection(ours: OurBroker) -> None:
    endless = b"\xff\xff\xff\xff\x0f"
    for body in (
        head(ApiKey.METADATA, 1) + struct.pack(">i", 2**31 - 1) + bytes(10),
        head(ApiKey.METADATA, 8) + struct.pack(">ih", 1, 32_767) + b"name",
        head(ApiKey.CREATE_TOPICS, 7) + b"\0" + endless + bytes(10),
        head(ApiKey.DELETE_TOPICS, 4) + b"\0" + endless + bytes(10),
        head(ApiKey.PRODUCE, 9) + b"\0\0" + struct.pack(">hi", 1, 1000) + endless,
        head(ApiKey.PRODUCE, 8) + struct.pack(">hhii", -1, 1, 1000, 2**31 - 1),
        head(ApiKey.PRODUCE, 8) + struct.pack(">hhiih1siii", -1, 1, 1000, 1, 1, b"t", 1, 0, 2**31 - 1),
    ):
        with Wire(ours.port) as wire:
            wire.send(framed(body))
            assert wire.is_closed()


def test_a_batch_that_was_damaged_is_corrupt_and_nothing_is_stored(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        assert make_topic(wire) == 0
        for at in (17, 25, 60, len(BATCH) - 1):
            damaged = bytearray(BATCH)
            damaged[at] ^= 0x40
            assert produce(wire, bytes(damaged)) == 2
        short = bytearray(BATCH)
        struct.pack_into(">i", short, 8, len(BATCH) - 11)
        assert produce(wire, bytes(short)) == 2
        assert produce(wire, BATCH[:40]) == 2
        assert end_offset(wire) == 0


def resealed(batch: bytes, at: int, layout: str, value: int) -> bytes:
    """A batch with another value in its header, and a checksum that fits again."""
    out = bytearray(batch)
    struct.pack_into(layout, out, at, value)
    struct.pack_into(">I", out, 17, crc32c(bytes(out[21:])))
    return bytes(out)


def test_a_batch_that_contradicts_itself_is_an_invalid_record(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        assert make_topic(wire) == 0
        assert produce(wire, resealed(BATCH, 57, ">i", 3)) == 87
        old_magic = bytearray(BATCH)
        old_magic[16] = 1
        assert produce(wire, bytes(old_magic)) == 87
        assert produce(wire, None) == 87
        assert produce(wire, b"") == 87
        assert produce(wire, resealed(BATCH, 21, ">h", 0x07)) == 76
        assert end_offset(wire) == 0


def test_a_batch_out_of_bounds_is_refused(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        assert make_topic(wire, max_message_bytes="1000") == 0
        assert produce(wire, build([Record(NOW_MS, None, b"x" * 2000)])) == 10
        assert make_topic(wire, "strict", message_timestamp_before_max_ms="60000") == 0
        assert produce(wire, build([Record(NOW_MS - 3_600_000, None, b"old")]), "strict") == 32
        assert produce(wire, build([Record(NOW_MS + 7_200_000, None, b"early")]), "strict") == 32
        assert make_topic(wire, "keyed", cleanup_policy="compact") == 0
        assert produce(wire, BATCH, "keyed") == 87
        assert (end_offset(wire), end_offset(wire, "strict"), end_offset(wire, "keyed")) == (0, 0, 0)


def test_records_for_nowhere_or_with_unknown_acks_are_refused(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        assert make_topic(wire) == 0
        assert produce(wire, BATCH, "missing") == 3
        assert produce(wire, BATCH, index=1) == 3
        assert produce(wire, BATCH, acks=2) == 21
        assert end_offset(wire) == 0


def test_refused_records_without_acknowledgement_close_the_connection(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        data = [{"name": "missing", "partition_data": [{"index": 0, "records": BATCH}]}]
        wire.send(request(ApiKey.PRODUCE, 9, acks=0, timeout_ms=1000, topic_data=data))
        assert wire.is_closed()


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "ä", "a/b", "a" * 250])
def test_a_name_that_no_topic_may_have_is_invalid(ours: OurBroker, name: str) -> None:
    with Wire(ours.port) as wire:
        assert make_topic(wire, name) == 17
        (topic,) = wire.call(ApiKey.METADATA, 9, topics=[{"name": name}], allow_auto_topic_creation=True).topics
        assert topic.error_code == 17


def test_names_that_differ_in_dots_and_underscores_clash(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        assert make_topic(wire, "a.b") == 0
        assert make_topic(wire, "a_b") == 17
        assert make_topic(wire, "a.b") == 36


@pytest.mark.parametrize("partitions", [1_000_000, 2**31 - 1, 0, -5])
def test_partitions_that_cannot_be_are_invalid_before_anything_is_made(ours: OurBroker, partitions: int) -> None:
    with Wire(ours.port) as wire:
        assert make_topic(wire, "many", partitions) == 37
        assert wire.call(ApiKey.METADATA, 9, topics=None).topics == ()


def test_an_address_has_only_so_many_connections(make_ours: Callable[..., OurBroker]) -> None:
    broker = make_ours(settings=KafkaSettings(connections_max_per_ip=2))
    with Wire(broker.port) as first, Wire(broker.port) as second:
        assert first.call(ApiKey.API_VERSIONS, 0).error_code == 0
        assert second.call(ApiKey.API_VERSIONS, 0).error_code == 0
        with Wire(broker.port) as third:
            assert third.is_closed()
        assert first.call(ApiKey.API_VERSIONS, 0).error_code == 0
