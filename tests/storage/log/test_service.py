"""The log's Python face: where records go, what is appended together, and readers without a group."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.outbox import commits, idle
from mainspring.storage.log.errors import InvalidTopic, MessageTooLarge, TopicExists, UnknownPartition
from mainspring.storage.log.packing import New
from mainspring.storage.log.partitioner import murmur2, partition_of
from mainspring.storage.log.service import Log
from tests.fixtures_database import embedded_database

PATIENCE_S = 60.0


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    made = Log(tmp_path / "log", SystemClock(), random=Random(1))
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_of_a_key_is_the_java_clients(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF
    assert partition_of(key, 7) == (expected & 0x7FFFFFFF) % 7
    assert partition_of(key, 1) == 0


async def test_records_without_a_key_go_to_one_partition_a_call_and_to_all_over_time(log: Log) -> None:
    await log.create_topic("t", 4)
    calls = [await log.append_many("t", [(None, b"1"), (None, b"2")]) for _ in range(60)]
    assert all(len({position.partition for position in call}) == 1 for call in calls)
    assert {call[0].partition for call in calls} == {0, 1, 2, 3}


async def test_a_topic_that_is_missing_is_made_once_though_many_ask(log: Log) -> None:
    await asyncio.gather(*(log.append("t", b"%d" % n) for n in range(20)))
    assert len(log.engine.topics["t"].partitions) == 1 and log.engine.partition("t", 0).end == 20
    with pytest.raises(TopicExists):
        await log.create_topic("t")
    with pytest.raises(InvalidTopic):
        await log.append("no/topic", b"")


async def test_what_is_too_large_for_one_batch_becomes_several_and_a_record_that_is_too_large_none(log: Log) -> None:
    await log.create_topic("t", max_message_bytes=2_000)
    positions = await log.append_many("t", [(None, bytes(500)) for _ in range(20)])
    assert [position.offset for position in positions] == list(range(20))
    with pytest.raises(MessageTooLarge):
        await log.append_many("t", [(None, b"small"), (None, bytes(2_000))])
    assert log.engine.partition("t", 0).end == 20, "none of them"


async def test_a_partition_and_a_time_can_be_named(log: Log) -> None:
    await log.create_topic("t", 3)
    positions = await log.append_records("t", [New(b"1", partition=2, timestamp_ms=1_700_000_000_000), New(None, b"k")])
    assert positions[0].partition == 2
    record = (await log.fetch("t", 2, 0))[0]
    assert record.at_us == 1_700_000_000_000_000
    assert (await log.fetch("t", positions[1].partition, positions[1].offset))[0].value == b"", "a tombstone"
    with pytest.raises(UnknownPartition):
        await log.append("t", b"1", partition=3)
    assert await log.append_records("t", []) == []


async def test_a_reader_begins_where_it_is_told_and_waits_for_what_comes(log: Log) -> None:
    await log.append_many("t", [(None, b"%d" % n) for n in range(5)])
    reader = log.reader("t", 0, 3)
    async with asyncio.timeout(PATIENCE_S):
        assert [record.value for record in await anext(reader)] == [b"3", b"4"]
        waiting = asyncio.ensure_future(anext(reader))
        await log.append("t", b"5")
        assert [record.value for record in await waiting] == [b"5"]
        waiting = asyncio.ensure_future(anext(reader))
        await asyncio.sleep(0)
        await log.delete_topic("t")
        with pytest.raises(StopAsyncIteration):
            await waiting
    with pytest.raises(UnknownPartition):
        log.reader("t", 0)


async def test_after_a_crash_nobody_waits_for_members_that_died_with_it(log: Log, tmp_path: Path) -> None:
    await log.append("t", b"1")
    member = log.consumer("g", ["t"])
    await anext(member)
    image = tmp_path / "crashed"
    await asyncio.to_thread(shutil.copytree, tmp_path / "log", image)
    later = Log(image, SystemClock(), random=Random(2))
    await later.start()
    try:
        coordinator = await later.groups.opened()
        assert not coordinator.groups["g"].members  # type: ignore[union-attr]
    finally:
        await later.stop()


async def test_positions_in_the_database_go_with_their_topic_through_whichever_door(tmp_path: Path) -> None:
    async with embedded_database(tmp_path) as database:
        log = Log(tmp_path / "log", SystemClock(), database, random=Random(1))
        await log.start()
        try:
            for name in ("kept", "gone"):
                await log.append_many(name, [(None, b"1"), (None, b"2")])
                consumer = log.consumer("g", [name])
                await anext(consumer)
                assert await database.write(consumer.commit_in)
                await consumer.close()
            await log.engine.delete_topic("gone")
            await log.append("gone", b"anew")
            assert await database.read(commits.all_positions, "g") == {("kept", 0): 2}
            consumer = log.consumer("g", ["gone"])
            assert [record.value for record in await anext(consumer)] == [b"anew"]
            await database.write(commits.put, "g", {("never", 0): 7})
        finally:
            await log.stop()
        later = Log(tmp_path / "log", SystemClock(), database, random=Random(1))
        await later.start()
        assert await database.read(idle.committed_topics) == {"kept"}, (
            "one of a topic that went without a word is gone as well"
        )
        await later.stop()


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20, 100])
async def test_a_start_that_is_given_up_leaves_no_thread_and_no_harm(tmp_path: Path, turns: int) -> None:
    log = Log(tmp_path, SystemClock())
    await log.start()
    await log.append("kept", b"0")
    await log.engine.partition("kept", 0).delete_records(1)
    await log.append("kept", b"1")
    async with log.transaction("t") as transaction:
        await transaction.append("kept", b"2")
    await log.stop()
    before = set(threading.enumerate())
    log = Log(tmp_path, SystemClock())
    starting = asyncio.ensure_future(log.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    if starting.cancel():
        await asyncio.gather(starting, return_exceptions=True)
        assert starting.cancelled()
    else:
        await log.stop()
    assert not [one for one in set(threading.enumerate()) - before if one.name == "log-writer"]
    log = Log(tmp_path, SystemClock())
    await log.start()
    assert [record.value for record in await log.fetch("kept", 0, 0)] == [b"1", b"2"]
    await log.stop()
