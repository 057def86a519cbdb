"""Requests and answers of every version that is listed, read and written."""

import struct
import subprocess
import sys
from dataclasses import fields, is_dataclass
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest
from kio.index import load_request_schema
from kio.serial import entity_reader
from kio.serial._introspect import EntityField, EntityTupleField, PrimitiveTupleField, classify_field, is_optional

from mainspring.storage.log.kafka import codec
from mainspring.storage.log.kafka.codec import Malformed
from mainspring.storage.log.kafka.registry import ApiKey, Context, Raw, table
from mainspring.storage.log.kafka.session import Session
from mainspring.storage.log.kafka.varints import get_varint, put_varint
from mainspring.storage.log.kafka.version_keys import SUPPORTED, api_versions, levels
from tests.storage.log.kafka.wire import answer_of, head, request

EVERY = [(entry.key, version) for entry in table().values() for version in entry.versions]


@pytest.mark.parametrize(("key", "version"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_an_answer_of_defaults_is_read_by_a_client_of_that_version(key: ApiKey, version: int) -> None:
    frame = codec.answer(key, version, 11, {})
    assert struct.unpack_from(">i", frame) == (len(frame) - 4,)
    correlation_id, _ = answer_of(key, version, bytes(frame[4:]))
    assert correlation_id == 11


def test_headers_are_those_of_the_schema_though_it_is_not_asked() -> None:
    for key, version in EVERY:
        assert codec.is_flexible(key, version) == load_request_schema(key, version).__flexible__


@pytest.mark.parametrize("version", range(5))
@pytest.mark.parametrize("features", [{}, {"transaction.version": 0, "group.version": 1}])
def test_the_packed_answer_to_api_versions_is_that_of_the_schema(version: int, features: dict[str, int]) -> None:
    broker: Any = SimpleNamespace(state=SimpleNamespace(current=SimpleNamespace(client_metrics={}, features=features)))
    context = Context(broker, Session("127.0.0.1", "127.0.0.1", 9092), ApiKey.API_VERSIONS, version, 11, None, 25)
    frame = memoryview(request(ApiKey.API_VERSIONS, version, client_software_name="x", client_software_version="1"))[4:]
    _, at = codec.client(frame, flexible=version >= 3)
    supported = {name: levels for name, levels in SUPPORTED.items() if version >= 4 or levels[0] >= 1}
    expected: dict[str, Any] = {
        "throttle_time_ms": 25,
        "api_keys": [
            {"api_key": entry.key, "min_version": entry.listed[0], "max_version": entry.listed[-1]}
            for entry in sorted(table().values(), key=lambda entry: entry.key)
            if entry.key not in (ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY)
        ],
        "supported_features": [
            {"name": name, "min_version": low, "max_version": high} for name, (low, high) in supported.items()
        ],
        "finalized_features_epoch": 1,
        "finalized_features": [
            {"name": name, "max_version_level": level, "min_version_level": level}
            for name, level in levels(features).items()
        ],
    }
    answer: Any = api_versions(Raw(frame, at), context)
    assert bytes(answer) == bytes(codec.answer(ApiKey.API_VERSIONS, version, 11, expected))


def test_the_first_answer_loads_neither_the_schemas_nor_a_client() -> None:
    code = (
        "import sys; from mainspring.storage.log.kafka import connection, listener; connection.table();"
        "print(*(sys.modules.keys() & {'kio', 'hypothesis', 'confluent_kafka', 'aiokafka.client', 'blacksheep'}));"
        "connection.codec.request_reader(3, 12); assert 'kio' in sys.modules;"
        "print(*(sys.modules.keys() & {'hypothesis'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize(("key", "version"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_a_request_that_ends_early_is_malformed_wherever_it_ends(key: ApiKey, version: int) -> None:
    body = memoryview(request(key, version))[4:]
    _, at = codec.client(body, flexible=codec.is_flexible(key, version))
    codec.read(key, version, body, at)
    for end in range(at, len(body)):
        with pytest.raises(Malformed):
            codec.read(key, version, body[:end], at)


@pytest.mark.parametrize(("key", "version"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_requests_are_read_as_the_native_reader_of_kio_reads_them(key: ApiKey, version: int) -> None:
    random = Random(f"{key} {version}")
    kind = load_request_schema(key, version)
    for _ in range(5):
        frame = memoryview(request(key, version, **filled(kind, random))[4:]).toreadonly()
        _, at = codec.client(frame, flexible=codec.is_flexible(key, version))
        theirs, size = entity_reader(kind)(frame, at)
        assert at + size == len(frame)
        assert plain(codec.read(key, version, frame, at)) == plain(theirs)


def filled(kind: Any, random: Random) -> dict[str, Any]:
    """Random values for a structure, lists short."""
    values: dict[str, Any] = {}
    for field in fields(kind):
        shape, kafka_type = classify_field(field), field.metadata.get("kafka_type", "")
        name = f"{field.name}_ms" if kafka_type.startswith(("timedelta", "datetime")) else field.name
        if is_optional(field) and random.random() < 0.3:
            if "tag" not in field.metadata:
                values[name] = None
        elif isinstance(shape, EntityTupleField):
            values[name] = [filled(shape.type_, random) for _ in range(random.randrange(3))]
        elif isinstance(shape, PrimitiveTupleField):
            values[name] = [scalar(kafka_type, random) for _ in range(random.randrange(3))]
        elif isinstance(shape, EntityField):
            values[name] = filled(shape.type_, random)
        else:
            values[name] = scalar(kafka_type, random)
    return values


def scalar(kafka_type: str, random: Random) -> Any:
    match kafka_type:
        case "string":
            return "".join(random.choice("abc.é-_") for _ in range(random.randrange(200)))
        case "bytes" | "records":
            return random.randbytes(random.randrange(300))
        case "bool":
            return random.random() < 0.5
        case "uuid":
            return random.choice([None, UUID(int=random.getrandbits(128))])
        case "float64":
            return random.random()
    if kafka_type == "timedelta_i64":
        return random.getrandbits(50)
    bits = int(kafka_type.lstrip("_abcdefghijklmnopqrstuvwxyz"))
    return random.choice([0, 1, random.getrandbits(bits - 2)])


def plain(value: Any) -> Any:
    """Structures of either reader as dictionaries."""
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    return value


def test_fields_that_a_version_lacks_are_left_out_and_those_not_given_are_defaults() -> None:
    values: dict[str, Any] = {
        "cluster_id": "abc",
        "controller_id": 1,
        "brokers": [{"node_id": 1, "host": "here", "port": 9092, "rack": None}],
        "topics": [{"name": "t", "topic_id": UUID(int=5), "partitions": [{"replica_nodes": [1], "leader_epoch": 4}]}],
        "throttle_time_ms": 250,
    }
    for version in range(14):
        _, answer = answer_of(3, version, bytes(codec.answer(3, version, 1, values)[4:]))
        (topic,) = answer.topics
        assert (topic.name, topic.partitions[0].replica_nodes) == ("t", (1,))
        assert hasattr(topic, "topic_id") == (version >= 10)
        assert getattr(topic.partitions[0], "leader_epoch", 4) == 4
        assert version < 3 or codec.ms(answer.throttle_time) == 250


def test_tags_that_nobody_knows_are_passed_over() -> None:
    plain = request(ApiKey.CREATE_TOPICS, 7, topics=[{"name": "t", "num_partitions": 3}], validate_only=True)[4:]
    assert plain[-1] == 0
    unknown = bytearray(plain[:-1])
    put_varint(unknown, 2)
    for tag, value in ((77, b"from the future"), (900, b"")):
        put_varint(unknown, tag)
        put_varint(unknown, len(value))
        unknown += value
    frame = memoryview(bytes(unknown))
    _, at = codec.client(frame, flexible=True)
    read = codec.read(ApiKey.CREATE_TOPICS, 7, frame, at)
    assert [topic.num_partitions for topic in read.topics] == [3]
    assert read.validate_only is True


def test_a_tag_that_is_known_is_read() -> None:
    frame = memoryview(request(ApiKey.FETCH, 16, topics=[], cluster_id="mine", max_wait_ms=5, min_bytes=1)[4:])
    _, at = codec.client(frame, flexible=True)
    read = codec.read(ApiKey.FETCH, 16, frame, at)
    assert (read.cluster_id, codec.ms(read.max_wait)) == ("mine", 5)


def test_a_count_beyond_the_frame_is_refused_before_anything_is_made() -> None:
    legacy = memoryview(head(ApiKey.METADATA, 1) + struct.pack(">i", 2**31 - 1) + b"\0\1a")
    compact = memoryview(head(ApiKey.METADATA, 12) + b"\0" + b"\xff\xff\xff\xff\x0f" + bytes(40))
    for version, frame in ((1, legacy), (12, compact)):
        _, at = codec.client(frame, flexible=version == 12)
        with pytest.raises(Malformed):
            codec.read(ApiKey.METADATA, version, frame, at)


@pytest.mark.parametrize("frame", [b"", b"\0\3", head(3, 1)[:9], struct.pack(">hhih", 3, 1, 1, 500) + b"short"])
def test_a_header_that_is_cut_is_malformed(frame: bytes) -> None:
    def read() -> None:
        codec.header(memoryview(frame))
        codec.client(memoryview(frame), flexible=False)

    with pytest.raises(Malformed):
        read()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**21, 2**28 - 1, 2**32 - 1])
def test_varints_are_read_as_they_were_written(value: int) -> None:
    out = bytearray()
    put_varint(out, value)
    assert get_varint(bytes(out), 0) == (value, len(out))


def test_a_varint_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="five bytes"):
        get_varint(b"\xff" * 6, 0)
    with pytest.raises(IndexError):
        get_varint(b"\xff", 0)
