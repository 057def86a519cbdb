"""The engine on disks that lose and tear what was not synced, with a crash at a random operation, life after life.

After each crash: every acknowledged record is there unless its deletion was asked for; what is there was written, in order and
without a hole; a transaction that was ended stays ended as it was; a topic that was promised exists.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable
from pathlib import Path
from random import Random

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.errors import OutOfOrderSequence, StorageFailed
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.producers import Origin
from mainspring.storage.log.records import build, marker
from mainspring.storage.log.settings import LogSettings

from .logs import NOW_MS, all_of, batch
from .torn import PowerFailure, TornFiles

PARTITIONS = 5
LIVES = 5


class Crashed(Exception):
    pass


class Histories:
    """What a log may and must hold, by partition."""

    def __init__(self) -> None:
        self.sent: dict[int, dict[int, set[bytes]]] = defaultdict(lambda: defaultdict(set))
        self.acked: dict[int, dict[int, bytes]] = defaultdict(dict)
        self.start_asked: dict[int, int] = defaultdict(int)
        self.start_acked: dict[int, int] = defaultdict(int)
        self.has_topic = False
        self.keyed_sent: dict[bytes, dict[int, bytes]] = defaultdict(dict)
        self.keyed_acked: dict[bytes, int] = defaultdict(int)


async def finish(files: TornFiles, work: Awaitable[None]) -> None:
    """Awaits `work` unless the power fails first."""
    task = asyncio.ensure_future(work)
    while not task.done() and not files.is_crashed:  # noqa: ASYNC110  (a crash has no event)
        await asyncio.sleep(0)
    if files.is_crashed:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise Crashed
    await task


async def live(engine: Engine, files: TornFiles, random: Random, histories: Histories) -> None:
    """One life: starts, checks what it finds, works until the end or the crash."""
    await finish(files, engine.start())
    if histories.has_topic:
        check(engine, histories)
    if "t" not in engine.topics:
        config = {"segment.bytes": "700", "index.interval.bytes": "150", "file.delete.delay.ms": "0"}
        await finish(files, _ignore(engine.create_topic("t", PARTITIONS, config)))
        histories.has_topic = True
    if "k" not in engine.topics:
        config = {"segment.bytes": "500", "cleanup.policy": "compact", "delete.retention.ms": "0"}
        await finish(files, _ignore(engine.create_topic("k", 1, config)))
    for _ in range(random.randint(1, 25)):
        await finish(files, act(engine, files, random, histories))
    if random.random() < 0.4:
        await finish(files, engine.stop())


async def _ignore(work: Awaitable[object]) -> None:
    await work


async def act(engine: Engine, files: TornFiles, random: Random, histories: Histories) -> None:
    match random.randrange(17):
        case 0:
            await engine.upkeep.checkpoint()
        case 1:
            index = random.randrange(PARTITIONS)
            partition = engine.partition("t", index)
            before = random.randint(partition.log_start, partition.high_watermark)
            histories.start_asked[index] = max(before, histories.start_asked[index])
            histories.start_acked[index] = await partition.delete_records(before)
        case 2:
            partition = engine.partition("t", random.randrange(PARTITIONS))
            for id in list(partition.open_transactions):
                appending = partition.append(marker(id, 0, True, 0, NOW_MS), origin=Origin.COORDINATOR)
                await appending.durable()
        case 3:
            await engine.cleaner.clean_one(engine.partition("k", 0))
        case 16:
            index = random.randrange(PARTITIONS)
            files.full = f"/t-{index}/"
            await asyncio.gather(*(send(engine, n, random, histories) for n in (*range(PARTITIONS), index)))
            files.full = ""
            await engine.upkeep.restore()
            assert engine.partition("t", index).failure is None
        case 4 | 5 | 6 | 7:
            await asyncio.gather(*(send_keyed(engine, random, histories) for _ in range(random.randint(1, 4))))
        case _:
            chosen = random.sample(range(PARTITIONS), random.choice((1, 1, 2, PARTITIONS)))
            await asyncio.gather(*(send(engine, index, random, histories) for index in chosen))


async def send(engine: Engine, index: int, random: Random, histories: Histories) -> None:
    partition = engine.partition("t", index)
    values = [random.randbytes(random.choice((1, 30, 600))) for _ in range(random.randint(1, 3))]
    more = {}
    if random.random() < 0.3:
        known = partition.producers.get(5)
        sequence = known.last_sequence + 1 if known is not None else 0
        more = {"producer_id": 5, "epoch": 0, "sequence": sequence, "transactional": True}
    try:
        appending = partition.append(batch(*values, **more))
    except OutOfOrderSequence:
        # Two that were made before either was appended.
        return
    for at, value in enumerate(values):
        histories.sent[index][appending.base_offset + at].add(value)
    try:
        await appending.durable()
    except StorageFailed:
        return
    for at, value in enumerate(values):
        histories.acked[index][appending.base_offset + at] = value


async def send_keyed(engine: Engine, random: Random, histories: Histories) -> None:
    key, value = b"key%d" % random.randrange(5), random.randbytes(random.choice((1, 200)))
    appending = engine.partition("k", 0).append(build([(NOW_MS, key, value, ())]))
    histories.keyed_sent[key][appending.base_offset] = value
    await appending.durable()
    histories.keyed_acked[key] = max(appending.base_offset, histories.keyed_acked[key])


def check_keyed(partition: Partition, histories: Histories) -> None:
    """Of each key the last acknowledged record is there, or one that was sent after it."""
    last = {record.key: record for record in all_of(partition)}
    for key, offset in histories.keyed_acked.items():
        assert key in last and last[key].offset >= offset, f"{key!r}: {offset} is missing"
    for key, record in last.items():
        assert key is not None and histories.keyed_sent[key][record.offset] == record.value
        histories.keyed_acked[key] = record.offset
    offsets = [record.offset for record in all_of(partition)]
    assert offsets == sorted(set(offsets))


def check(engine: Engine, histories: Histories) -> None:
    if "k" in engine.topics:
        check_keyed(engine.partition("k", 0), histories)
    else:
        assert not histories.keyed_acked
    topic = engine.topics["t"]
    assert len(topic.partitions) == PARTITIONS
    for index, partition in enumerate(topic.partitions):
        start, acked, asked = partition.log_start, histories.start_acked[index], histories.start_asked[index]
        assert acked <= start <= asked, f"{index}: begins at {start}, not {acked} to {asked}"
        assert partition.high_watermark == partition.end and partition.last_stable <= partition.end
        records = {record.offset: record.value for record in all_of(partition) if record.offset >= partition.log_start}
        for offset, value in histories.acked[index].items():
            assert offset < partition.log_start or records.get(offset) == value, f"{index}: {offset} is missing"
        for offset, value in records.items():
            assert value in histories.sent[index][offset], f"{index}: {offset} was never sent"
        assert list(records) == sorted(records)
        # What is there now was seen by a reader and must not go any more.
        histories.acked[index].update(records)


async def many_lives(seed: int) -> None:
    random = Random(seed)
    files, histories, clock = TornFiles(random), Histories(), VirtualClock()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _expect(context))
    for life in range(LIVES + 1):
        settings = LogSettings(
            journal_files_min=random.choice((1, 2, 4)), journal_bytes=1 << 16, cache_bytes_max=0, open_files_max=16
        )
        engine = Engine([Path("/data")], clock, settings, random=Random(seed + life), files=files, threaded=False)
        files.operations_left = random.choice((5, 20, 60, 200, 400)) if life < LIVES else None
        try:
            await live(engine, files, random, histories)
        except (Crashed, PowerFailure):
            pass
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        files.crash()
    engine = Engine([Path("/data")], clock, LogSettings(), random=Random(seed), files=files, threaded=False)
    await engine.start()
    if histories.has_topic:
        check(engine, histories)
    await engine.stop()


def _expect(context: dict[str, object]) -> None:
    error = context.get("exception")
    if error is not None and not isinstance(error, PowerFailure):
        raise error  # type: ignore[misc]


@pytest.mark.parametrize("first", range(0, 45, 15))
async def test_no_power_failure_loses_or_halves_what_was_acknowledged(first):
    for seed in range(first, first + 15):
        await many_lives(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1_000, 3_000, 100))
async def test_no_power_failure_of_two_thousand_loses_what_was_acknowledged(first):
    for seed in range(first, first + 100):
        await many_lives(seed)
