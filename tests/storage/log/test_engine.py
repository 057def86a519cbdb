"""Topics and partitions as their callers see them, over restarts."""

import asyncio
import sys
from uuid import UUID

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.core.telemetry.metrics import Metrics
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.errors import (
    CorruptBatch,
    InvalidConfig,
    InvalidPartitions,
    InvalidRecord,
    InvalidTimestamp,
    InvalidTopic,
    MessageTooLarge,
    NotOpen,
    OffsetOutOfRange,
    Overloaded,
    TopicExists,
    UnknownPartition,
    UnsupportedCompression,
)
from mainspring.storage.log.records import Codec, build, marker, parse, records_in, sealed
from mainspring.storage.log.settings import FlushPolicy
from tests.waiting import until

from .logs import NOW_MS, all_of, append, batch, records_of, running, values_of


async def test_what_is_appended_is_read_back_before_and_after_a_restart(tmp_path):
    async with running(tmp_path) as engine:
        topic = await engine.create_topic("orders", 2)
        assert await append(topic.partitions[1], b"a", b"b") == 0
        assert await append(topic.partitions[1], b"c") == 2
        assert values_of(topic.partitions[1]) == [b"a", b"b", b"c"]
        id, cluster = topic.id, engine.cluster_id
    async with running(tmp_path) as engine:
        partition = engine.partition("orders", 1)
        assert (engine.cluster_id, engine.topics["orders"].id) == (cluster, id)
        assert engine.topic_by_id(id) is partition.topic and len(cluster) == 22
        assert values_of(partition) == [b"a", b"b", b"c"] and partition.end == partition.high_watermark == 3
        assert await append(partition, b"d") == 3
        assert [record.offset for record in all_of(partition)] == [0, 1, 2, 3]
        assert engine.partition("orders", 0).end == 0


async def test_nothing_is_visible_before_it_is_durable(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        appending = partition.append(batch(b"a"))
        assert (partition.end, partition.high_watermark) == (1, 0)
        assert partition.read(0, 1_000).buffers == []
        await appending.durable()
        assert partition.high_watermark == 1


async def test_appends_keep_the_order_of_their_calls(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        appendings = [partition.append(batch(b"%d" % n)) for n in range(200)]
        assert [appending.base_offset for appending in appendings] == list(range(200))
        await asyncio.gather(*(appending.durable() for appending in appendings))
        assert values_of(partition) == [b"%d" % n for n in range(200)]
        assert partition.writer.commits < 200


async def test_progress_is_told_once_it_is_there_and_not_after_its_end(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        seen = []
        end = partition.on_progress(lambda: seen.append(partition.high_watermark))
        await append(partition, b"a")
        end()
        await append(partition, b"b")
        assert seen == [1]


async def test_a_read_gives_at_least_one_batch_and_no_more_than_asked(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        size = len(batch(b"0"))
        for n in range(10):
            await append(partition, b"%d" % n)
        assert partition.read(3, 1).size_bytes == size
        assert partition.read(3, 1, at_least_one=False).buffers == []
        assert [record.value for record in records_of(partition.read(3, 2 * size))] == [b"3", b"4"]
        with pytest.raises(OffsetOutOfRange):
            partition.read(11, 1)
        assert partition.read(10, 1).buffers == []


async def test_the_files_give_the_same_as_the_memory(tmp_path):
    async with running(tmp_path, cache_bytes_max=0) as engine:
        topic = await engine.create_topic("t", config={"segment.bytes": "2000", "index.interval.bytes": "200"})
        partition = topic.partitions[0]
        for n in range(120):
            await append(partition, b"%d" % n, b"%d" % n)
        assert len(partition.segments) > 5
        for offset in range(0, 240, 7):
            first = records_of(partition.read(offset, 1))
            assert offset in {record.offset for record in first} and len(first) == 2
        assert values_of(partition) == [b"%d" % (n // 2) for n in range(240)]


async def test_a_time_finds_the_first_record_at_or_after_it(tmp_path):
    async with running(tmp_path) as engine:
        topic = await engine.create_topic("t", config={"segment.bytes": "600", "index.interval.bytes": "100"})
        partition = topic.partitions[0]
        for n in range(40):
            await append(partition, b"x", at_ms=NOW_MS + 10 * n)
        assert await partition.find(0) == (0, NOW_MS)
        assert await partition.find(NOW_MS + 101) == (11, NOW_MS + 110)
        assert await partition.find(NOW_MS + 391) is None
        assert await partition.max_timestamp() == (39, NOW_MS + 390)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "ä", "x" * 250, "a b"])
async def test_a_name_that_kafka_refuses_is_refused(tmp_path, name):
    async with running(tmp_path) as engine:
        with pytest.raises(InvalidTopic):
            await engine.create_topic(name)


async def test_topics_that_clash_do_not_both_come_to_be(tmp_path):
    async with running(tmp_path) as engine:
        await engine.create_topic("a.b")
        with pytest.raises(InvalidTopic):
            await engine.create_topic("a_b")
        with pytest.raises(TopicExists):
            await engine.create_topic("a.b")
        first = asyncio.ensure_future(engine.create_topic("c"))
        await asyncio.sleep(0)
        with pytest.raises(TopicExists):
            await engine.create_topic("c")
        assert (await first).name == "c"


async def test_more_partitions_than_the_node_may_hold_are_refused_before_anything_is_made(tmp_path):
    async with running(tmp_path) as engine:
        for count in (0, -1, 1_000_000):
            with pytest.raises(InvalidPartitions):
                await engine.create_topic("t", count)
        with pytest.raises(UnknownPartition):
            engine.partition("t", 0)
    assert not list(tmp_path.glob("t-*"))


async def test_a_topic_grows_and_never_shrinks(tmp_path):
    async with running(tmp_path) as engine:
        await engine.create_topic("t", 2)
        with pytest.raises(InvalidPartitions):
            await engine.add_partitions("t", 2)
        await engine.add_partitions("t", 5)
    async with running(tmp_path) as engine:
        assert [partition.index for partition in engine.topics["t"].partitions] == [0, 1, 2, 3, 4]


async def test_settings_are_checked_kept_and_given_back(tmp_path):
    async with running(tmp_path, topic={"retention.ms": "5000"}) as engine:
        with pytest.raises(InvalidConfig):
            await engine.create_topic("t", config={"no.such": "1"})
        with pytest.raises(InvalidConfig):
            await engine.create_topic("t", config={"retention.ms": "soon"})
        topic = await engine.create_topic("t", config={"retention.ms": "7", "cleanup.policy": "compact,delete"})
        assert topic.config.retention_ms == 7 and topic.config.cleanup_policy == {"compact", "delete"}
        await engine.configure("t", {"retention.ms": None, "max.message.bytes": "500"})
    async with running(tmp_path, topic={"retention.ms": "5000"}) as engine:
        config = engine.topics["t"].config
        assert config.given == {"cleanup.policy": "compact,delete", "max.message.bytes": "500"}
        assert (config.retention_ms, config.max_message_bytes) == (5000, 500)


async def test_a_deleted_topic_is_gone_at_once_and_its_files_later(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock) as engine:
        topic = await engine.create_topic("t", 2)
        partition = topic.partitions[0]
        await append(partition, b"a")
        told = []
        partition.on_progress(lambda: told.append(True))
        await engine.delete_topic("t")
        assert told and "t" not in engine.topics and engine.topic_by_id(topic.id) is None
        with pytest.raises(UnknownPartition):
            partition.append(batch(b"b"))
        again = await engine.create_topic("t")
        assert again.id != topic.id and values_of(again.partitions[0]) == []
        assert len(list(tmp_path.glob("t-*-delete"))) == 2
        await clock.advance(59)
        assert len(list(tmp_path.glob("t-*-delete"))) == 2
        await clock.advance(2)
        await until(lambda: not list(tmp_path.glob("t-*-delete")))
        assert await append(again.partitions[0], b"c") == 0


async def test_partitions_spread_over_all_directories(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    async with running(folders) as engine:
        topic = await engine.create_topic("t", 6)
        for partition in topic.partitions:
            await append(partition, b"%d" % partition.index)
    assert [len(list(folder.glob("t-*"))) for folder in folders] == [3, 3]
    async with running(folders) as engine:
        assert [values_of(partition) for partition in engine.topics["t"].partitions] == [[b"%d" % n] for n in range(6)]


def _with(data: bytes, at: int, replacement: bytes) -> bytes:
    return sealed(bytearray(data[:at] + replacement + data[at + len(replacement) :]))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (batch(b"a")[:-1], CorruptBatch),
        (batch(b"a") + b"more", CorruptBatch),
        (b"", CorruptBatch),
        (batch(b"a")[:17] + b"\0\0\0\0" + batch(b"a")[21:], CorruptBatch),
        (batch(b"a")[:16] + b"\1" + batch(b"a")[17:], InvalidRecord),
        (_with(batch(b"a"), 57, b"\0\0\0\5"), InvalidRecord),
        (_with(batch(b"a"), 57, b"\0\0\0\0"), InvalidRecord),
        (_with(batch(b"a"), 21, b"\0\7"), UnsupportedCompression),
        (marker(5, 0, True, 0, NOW_MS), InvalidRecord),
        (batch(b"a", producer_id=5), InvalidRecord),
        (batch(b"a", transactional=True), InvalidRecord),
        (batch(b"a" * 2_000_000), MessageTooLarge),
        (batch(b"a", at_ms=NOW_MS + 3_600_001), InvalidTimestamp),
    ],
)
async def test_a_bad_batch_is_refused_by_its_own_error_and_changes_nothing(tmp_path, data, error):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        with pytest.raises(error):
            partition.append(data)
        assert partition.end == 0 and not partition.segments
        assert await append(partition, b"good") == 0


async def test_several_batches_go_in_whole_or_not_at_all(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        with pytest.raises(CorruptBatch) as refused:
            partition.append(batch(b"a") + batch(b"b")[:-1])
        assert refused.value.batch_index == 1 and partition.end == 0
        appending = partition.append(batch(b"a") + batch(b"b", b"c"))
        await appending.durable()
        assert (appending.base_offset, appending.next_offset) == (0, 3)
        assert values_of(partition) == [b"a", b"b", b"c"]


async def test_a_compacted_topic_takes_no_record_without_a_key(tmp_path):
    async with running(tmp_path) as engine:
        topic = await engine.create_topic("t", config={"cleanup.policy": "compact"})
        with pytest.raises(InvalidRecord):
            topic.partitions[0].append(build([(NOW_MS, None, b"v", ())], codec=Codec.ZSTD))
        await append(topic.partitions[0], b"k")


async def test_a_topic_may_have_its_own_codec_and_clock(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock) as engine:
        topic = await engine.create_topic(
            "t", config={"compression.type": "lz4", "message.timestamp.type": "LogAppendTime"}
        )
        await clock.advance(5)
        appending = topic.partitions[0].append(batch(b"a" * 500, at_ms=1))
        await appending.durable()
        assert appending.log_append_time_ms == NOW_MS + 5_000
        (stored,) = topic.partitions[0].read(0, 1).buffers
        assert parse(stored).codec is Codec.LZ4 and len(stored) < 300
        assert [record.timestamp_ms for record in records_in(stored)] == [NOW_MS + 5_000]


async def test_more_than_may_wait_for_the_disk_is_refused_and_may_come_again(tmp_path):
    async with running(tmp_path, queue_bytes_max=1 << 20) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        appending = partition.append(batch(b"x" * 300_000))
        with pytest.raises(Overloaded):
            partition.append(batch(b"x" * 300_000))
        await appending.durable()
        await append(partition, b"x" * 300_000)
        assert partition.writer.queued_bytes == 0


async def test_acks_say_how_long_to_wait(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await partition.append(batch(b"a"), acks=0).durable()
        assert partition.high_watermark == 0
        await partition.append(batch(b"b"), acks=1).durable()
        await partition.append(batch(b"c"), acks=-1).durable()
        assert partition.high_watermark == 3


async def test_many_partitions_share_one_sync(tmp_path):
    async with running(tmp_path) as engine:
        topic = await engine.create_topic("t", 200)
        await engine.upkeep.checkpoint()
        appendings = [partition.append(batch(b"%d" % partition.index)) for partition in topic.partitions]
        before = topic.partitions[0].writer.syncs
        await asyncio.gather(*(appending.durable() for appending in appendings))
        assert topic.partitions[0].writer.syncs - before < 100
    async with running(tmp_path) as engine:
        assert all(values_of(p) == [b"%d" % p.index] for p in engine.topics["t"].partitions)


async def test_deleted_records_stay_deleted(tmp_path):
    async with running(tmp_path) as engine:
        topic = await engine.create_topic("t", config={"segment.bytes": "300"})
        partition = topic.partitions[0]
        for n in range(10):
            await append(partition, b"%d" % n)
        assert await partition.delete_records(7) == 7
        assert values_of(partition) == [b"7", b"8", b"9"] and partition.segments[0].base > 0
        with pytest.raises(OffsetOutOfRange):
            partition.read(6, 1)
        with pytest.raises(OffsetOutOfRange):
            await partition.delete_records(11)
        assert await partition.delete_records(3) == 7
    async with running(tmp_path) as engine:
        partition = engine.partition("t", 0)
        assert (partition.log_start, values_of(partition)) == (7, [b"7", b"8", b"9"])
        assert await partition.delete_records(-1) == 10
        assert values_of(partition) == [] and await append(partition, b"x") == 10


async def test_a_stopped_log_takes_nothing(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
    with pytest.raises(NotOpen):
        partition.append(batch(b"a"))


async def test_an_unknown_state_is_read_again_and_an_async_log_then_begins_an_epoch(tmp_path):
    async with running(tmp_path, flush_policy=FlushPolicy.ASYNC) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await append(partition, b"a", b"b")
    (tmp_path / "clean-stop").unlink()
    async with running(tmp_path, flush_policy=FlushPolicy.ASYNC) as engine:
        partition = engine.partition("t", 0)
        assert values_of(partition) == [b"a", b"b"] and partition.leader_epoch == 1
        await append(partition, b"c")
        assert partition.epoch_end(0) == (0, 2) and partition.epoch_end(1) == (1, 3) == partition.epoch_end(9)
        assert partition.epoch_end(-1) == (-1, -1)
    async with running(tmp_path, flush_policy=FlushPolicy.ASYNC) as engine:
        assert engine.partition("t", 0).leader_epoch == 1


async def test_ids_are_as_kafka_makes_them(tmp_path):
    async with running(tmp_path) as engine:
        topic = await engine.create_topic("t")
        assert isinstance(topic.id, UUID) and topic.id.version == 4 and not topic.internal
        assert (await engine.create_topic("__consumer_offsets")).internal


async def test_another_process_cannot_open_the_same_directory(tmp_path):
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from mainspring.core.clock import SystemClock; from mainspring.storage.log.engine import Engine\n"
        "asyncio.run(Engine([Path(sys.argv[1])], SystemClock()).start())"
    )
    async with running(tmp_path):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(tmp_path), stderr=asyncio.subprocess.PIPE
        )
        _, said = await child.communicate()
        assert child.returncode == 1 and b"BlockingIOError" in said


async def test_metrics_tell_what_an_operator_asks_first(tmp_path):
    metrics = Metrics()
    engine = Engine([tmp_path], VirtualClock(), metrics=metrics)
    await engine.start()
    topic = await engine.create_topic("t", 3)
    await append(topic.partitions[0], b"a")
    text = metrics.exposition().decode()
    size = topic.partitions[0].size_bytes
    for line in ("log_appends_total 1", f"log_appended_bytes_total {size}", "log_partitions 3", "log_queued_bytes 0"):
        assert line in text
    for line in ("log_appended_records_total 1", 'log_commit_batches_bucket{le="1.0"} 1', "log_commit_batches_sum 1"):
        assert line in text
    assert "log_partitions_failed 0" in text and "log_syncs_total" in text
    await engine.stop()


async def test_a_change_of_topics_goes_to_its_end_though_its_caller_has_gone(tmp_path):
    async with running(tmp_path) as engine:
        await engine.create_topic("t", 1)
        calls = [engine.create_topic("u"), engine.add_partitions("t", 3), engine.configure("t", {"retention.ms": "5"})]
        for call in calls:
            task = asyncio.ensure_future(call)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await engine.add_partitions("t", 4)
        assert "u" in engine.topics and len(engine.topics["t"].partitions) == 4
    async with running(tmp_path) as engine:
        assert "u" in engine.topics and engine.topics["t"].config.retention_ms == 5


async def test_growing_a_topic_twice_at_once_makes_each_partition_once(tmp_path):
    async with running(tmp_path) as engine:
        topic = await engine.create_topic("t", 1)
        await append(topic.partitions[0], b"a")
        outcomes = await asyncio.gather(
            engine.add_partitions("t", 3), engine.add_partitions("t", 3), return_exceptions=True
        )
        assert sum(isinstance(outcome, InvalidPartitions) for outcome in outcomes) == 1
        assert len(topic.partitions) == 3 and values_of(topic.partitions[0]) == [b"a"]


async def test_a_callback_that_fails_keeps_nobody_else_from_an_answer(tmp_path, caplog):
    def fails() -> None:
        raise ZeroDivisionError

    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        partition.on_progress(fails)
        first, second = partition.append(batch(b"a")), partition.append(batch(b"b"))
        first.when_durable(fails)
        await asyncio.gather(first.durable(), second.durable())
        assert values_of(partition) == [b"a", b"b"]
    assert caplog.text.count("ZeroDivisionError") >= 2
