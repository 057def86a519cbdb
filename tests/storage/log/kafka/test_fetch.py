"""Fetch: what comes back, how much of it, and when."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from mainspring.storage.log.kafka.registry import ApiKey
from mainspring.storage.log.records import Record, batches_in, build, records_in
from tests.fixtures_kafka import OurBroker
from tests.storage.log.kafka.topics import BATCH, NOW_MS, fetched, make_topic, parts, produce
from tests.storage.log.kafka.wire import Wire, request


def values(records: bytes | None) -> list[bytes | None]:
    """Of every record in every batch."""
    found: list[bytes | None] = []
    for at, batch in batches_in(records or b""):
        found += [record.value for record in records_in((records or b"")[at : at + batch.size_bytes])]
    return found


def test_batches_come_back_in_the_bytes_that_were_sent(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        for _ in range(3):
            assert produce(wire, BATCH) == 0
        one = parts(fetched(wire, {0: 0}))[0]
        assert (one.error_code, one.high_watermark, one.last_stable_offset, one.log_start_offset) == (0, 6, 6, 0)
        size = len(BATCH)
        assert [one.records[at + 12 : at + size] for at in (0, size, 2 * size)] == [b"\0\0\0\0" + BATCH[16:]] * 3
        assert [one.records[at + 7] for at in (0, size, 2 * size)] == [0, 2, 4]


def test_at_least_one_whole_batch_comes_even_above_the_limits(ours: OurBroker) -> None:
    large = build([Record(NOW_MS, None, b"x" * 5000)])
    with Wire(ours.port) as wire:
        make_topic(wire, partitions=2)
        for index in (0, 0, 1):
            assert produce(wire, large, index=index) == 0
        answer = parts(fetched(wire, {0: 0, 1: 0}, bytes_max=10, partition_bytes_max=10))
        assert len(values(answer[0].records)) == 1
        assert values(answer[1].records) == []
        answer = parts(fetched(wire, {0: 0, 1: 0}, partition_bytes_max=10))
        assert [len(values(answer[index].records)) for index in (0, 1)] == [1, 0]


def test_an_offset_beyond_the_end_or_before_the_start_is_out_of_range(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        produce(wire, BATCH)
        assert parts(fetched(wire, {0: 2}))[0].error_code == 0
        assert parts(fetched(wire, {0: 3}))[0].error_code == 1
        assert parts(fetched(wire, {0: -5}))[0].error_code == 1
        assert parts(fetched(wire, {7: 0}))[7].error_code == 3


def test_a_fetch_waits_until_there_is_enough(ours: OurBroker) -> None:
    with Wire(ours.port) as reader, Wire(ours.port) as writer, ThreadPoolExecutor(1) as threads:
        make_topic(writer)
        begun = time.monotonic()
        assert values(parts(fetched(reader, {0: 0}, max_wait_ms=60))[0].records) == []
        assert time.monotonic() - begun >= 0.05
        waiting = threads.submit(fetched, reader, {0: 0}, max_wait_ms=60_000, min_bytes=len(BATCH) + 1)
        assert produce(writer, BATCH) == 0
        assert not waiting.done(), "one batch is less than was asked for"
        assert produce(writer, BATCH) == 0
        assert len(values(parts(waiting.result(60))[0].records)) == 4


def test_a_client_that_goes_away_is_waited_for_no_more(ours: OurBroker) -> None:
    with Wire(ours.port) as writer:
        make_topic(writer)
        with Wire(ours.port) as reader:
            asked = {"topic": "t", "partitions": [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 10}]}
            reader.send(request(ApiKey.FETCH, 4, max_wait_ms=600_000, min_bytes=1, max_bytes=10, topics=[asked]))
            partition = ours.log.engine.partition("t", 0)
            _until(lambda: bool(partition._listeners))
        _until(lambda: not partition._listeners)
        assert produce(writer, BATCH) == 0


def _until(happened: object) -> None:
    deadline_s = time.monotonic() + 60
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


def test_a_session_tells_only_what_changed(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire, partitions=3)
        first = fetched(wire, {0: 0, 1: 0, 2: 0}, session_epoch=0)
        assert first.session_id > 0
        assert set(parts(first)) == {0, 1, 2}
        ask = {"session_id": first.session_id}
        assert parts(fetched(wire, {}, **ask, session_epoch=1)) == {}
        produce(wire, BATCH, index=1)
        second = parts(fetched(wire, {}, **ask, session_epoch=2))
        assert {index: len(values(one.records)) for index, one in second.items()} == {1: 2}
        third = parts(fetched(wire, {1: 2}, **ask, session_epoch=3))
        assert third == {}
        forgotten = [{"topic": "t", "partitions": [1]}]
        produce(wire, BATCH, index=1)
        produce(wire, BATCH, index=2)
        fourth = parts(fetched(wire, {}, **ask, session_epoch=4, forgotten_topics_data=forgotten))
        assert set(fourth) == {2}
        assert fetched(wire, {}, **ask, session_epoch=4).error_code == 71
        assert fetched(wire, {}, session_id=first.session_id + 1, session_epoch=1).error_code == 70


def test_topics_are_fetched_and_written_by_their_ids(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        topic_id = wire.call(ApiKey.METADATA, 12, topics=None).topics[0].topic_id
        for asked, code in ((topic_id, 0), (UUID(int=9), 100)):
            data = [{"topic_id": asked, "partition_data": [{"index": 0, "records": BATCH}]}]
            answer = wire.call(ApiKey.PRODUCE, 13, acks=-1, timeout_ms=30_000, topic_data=data)
            assert answer.responses[0].topic_id == asked
            assert answer.responses[0].partition_responses[0].error_code == code
            partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1 << 20, "log_start_offset": -1}
            topics = [{"topic_id": asked, "partitions": [partition]}]
            for version in (13, 16, 17, 18):
                found = wire.call(
                    ApiKey.FETCH,
                    version,
                    max_wait_ms=0,
                    min_bytes=1,
                    max_bytes=1 << 20,
                    session_epoch=-1,
                    topics=topics,
                )
                (one,) = found.responses[0].partitions
                assert (one.error_code, len(values(one.records))) == (code, 0 if code else 2)


def test_every_version_of_produce_and_fetch_works(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        for version in range(3, 13):
            data = [{"name": "t", "partition_data": [{"index": 0, "records": BATCH}]}]
            answer = wire.call(ApiKey.PRODUCE, version, acks=-1, timeout_ms=30_000, topic_data=data)
            (one,) = answer.responses[0].partition_responses
            assert (one.error_code, one.base_offset) == (0, 2 * (version - 3))
        for version in range(4, 13):
            partition = {"partition": 0, "fetch_offset": 4, "partition_max_bytes": 1 << 20, "log_start_offset": -1}
            topics = [{"topic": "t", "partitions": [partition]}]
            fields = {"max_wait_ms": 0, "min_bytes": 1, "max_bytes": 1 << 20, "session_epoch": -1, "rack_id": ""}
            (found,) = wire.call(ApiKey.FETCH, version, topics=topics, **fields).responses[0].partitions
            assert (found.error_code, found.high_watermark, len(values(found.records))) == (0, 20, 16)


def test_a_client_with_another_idea_of_the_leader_is_told(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        produce(wire, BATCH)
        epoch = ours.log.engine.partition("t", 0).leader_epoch
        for known, code in ((epoch, 0), (epoch + 1, 75)):
            partition = {"partition": 0, "current_leader_epoch": known, "fetch_offset": 0, "partition_max_bytes": 1000}
            topics = [{"topic": "t", "partitions": [partition | {"log_start_offset": -1}]}]
            answer = wire.call(
                ApiKey.FETCH, 12, max_wait_ms=0, min_bytes=1, max_bytes=1000, session_epoch=-1, topics=topics
            )
            assert parts(answer)[0].error_code == code
            offsets = [
                {"topic": "t", "partitions": [{"partition": 0, "current_leader_epoch": known, "leader_epoch": epoch}]}
            ]
            (end,) = wire.call(ApiKey.OFFSET_FOR_LEADER_EPOCH, 4, replica_id=-1, topics=offsets).topics[0].partitions
            assert (end.error_code, end.end_offset) == (code, -1 if code else 2)


def test_a_fetch_from_beyond_the_end_of_its_epoch_diverges(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        produce(wire, BATCH)
        epoch = ours.log.engine.partition("t", 0).leader_epoch
        partition = {"partition": 0, "fetch_offset": 9, "last_fetched_epoch": epoch, "partition_max_bytes": 1000}
        topics = [{"topic": "t", "partitions": [partition | {"log_start_offset": -1}]}]
        answer = wire.call(
            ApiKey.FETCH, 12, max_wait_ms=0, min_bytes=1, max_bytes=1000, session_epoch=-1, topics=topics
        )
        diverging = parts(answer)[0].diverging_epoch
        assert (diverging.epoch, diverging.end_offset) == (epoch, 2)
