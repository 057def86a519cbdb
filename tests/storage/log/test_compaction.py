"""Compaction against a plain dictionary: the last value of every key stays, at its own offset, whatever is cleaned and when."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.clock import VirtualClock
from mainspring.storage.log.codecs import Codec, compress
from mainspring.storage.log.offset_map import ENTRY_BYTES, OffsetMap
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.producers import Origin
from mainspring.storage.log.records import HEADER_BYTES, batches_in, build, marker, records_in, sealed

from .logs import all_of, running

COMPACTED = {"cleanup.policy": "compact", "segment.bytes": "600", "delete.retention.ms": "1000"}
KEYS = [b"key%d" % n for n in range(6)]


def now_ms(clock: VirtualClock) -> int:
    return clock.wall_ns() // 1_000_000


async def put(partition: Partition, clock: VirtualClock, *pairs: tuple[bytes, bytes | None], **more) -> int:
    appending = partition.append(build([(now_ms(clock), key, value, ()) for key, value in pairs], **more))
    await appending.durable()
    return appending.base_offset


async def roll(partition: Partition) -> None:
    if partition.segments[-1].size:
        partition.roll()


def table(partition: Partition) -> dict[bytes, bytes]:
    """What a reader of committed records has at the end."""
    fetched = partition.read(partition.log_start, 1 << 30, committed=True)
    aborted = sorted((first, id) for id, first in fetched.aborted)
    found: dict[bytes, bytes] = {}
    offset, active = partition.log_start, set()
    while fetched.buffers:
        for buffer in fetched.buffers:
            for at, header in batches_in(buffer):
                while aborted and aborted[0][0] <= header.last_offset:
                    active.add(aborted.pop(0)[1])
                if header.control:
                    active.discard(header.producer_id)
                elif not (header.transactional and header.producer_id in active):
                    for record in _records(buffer, at, header):
                        found[record.key] = record.value
                offset = header.next_offset
        fetched = partition.read(offset, 1 << 30, committed=True)
    return {key: value for key, value in found.items() if value is not None}


def _records(buffer, at, header):
    return list(records_in(memoryview(buffer)[at : at + header.size_bytes])) if header.count else []


async def test_only_the_last_record_of_a_key_stays_at_its_own_offset(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock, cache_bytes_max=0) as engine:
        partition = (await engine.create_topic("t", config=COMPACTED)).partitions[0]
        for n in range(60):
            await put(partition, clock, (KEYS[n % 6], b"%d" % n))
        before = {record.offset: record.value for record in all_of(partition)}
        segments = len(partition.segments)
        assert await engine.cleaner.clean_one(partition) is not None
        after = {record.offset: record.value for record in all_of(partition)}
        assert after.items() <= before.items() and len(after) < 20 and len(partition.segments) < segments
        assert table(partition) == {key: b"%d" % (54 + n) for n, key in enumerate(KEYS)}
        assert await engine.cleaner.clean_one(partition) is None
    async with running(tmp_path, clock, cache_bytes_max=0) as engine:
        partition = engine.partition("t", 0)
        assert {record.offset: record.value for record in all_of(partition)} == after
        assert await put(partition, clock, (KEYS[0], b"next")) == 60


async def test_a_tombstone_goes_only_after_its_retention(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock, cache_bytes_max=0) as engine:
        partition = (await engine.create_topic("t", config=COMPACTED)).partitions[0]
        await put(partition, clock, (b"a", b"1"), (b"b", b"2"))
        await put(partition, clock, (b"a", None))
        await roll(partition)
        await put(partition, clock, (b"c", b"3"))
        await engine.cleaner.clean_one(partition)
        assert [(r.offset, r.key, r.value) for r in all_of(partition)] == [
            (1, b"b", b"2"),
            (2, b"a", None),
            (3, b"c", b"3"),
        ]
        await roll(partition)
        await put(partition, clock, (b"d", b"4"))
        await engine.cleaner.clean_one(partition)
        assert 2 in [record.offset for record in all_of(partition)]
        await roll(partition)
        await clock.advance(2)
        await put(partition, clock, (b"e", b"5"))
        await engine.cleaner.clean_one(partition)
        assert [record.offset for record in all_of(partition)] == [1, 3, 4, 5]


async def test_aborted_records_go_and_markers_follow_after_their_time(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock, cache_bytes_max=0) as engine:
        partition = (await engine.create_topic("t", config=COMPACTED)).partitions[0]
        await put(partition, clock, (b"a", b"1"))
        await put(partition, clock, (b"a", b"no"), producer_id=5, epoch=0, sequence=0, transactional=True)
        await partition.append(marker(5, 0, False, 0, now_ms(clock)), origin=Origin.COORDINATOR).durable()
        await put(partition, clock, (b"b", b"2"), producer_id=6, epoch=0, sequence=0, transactional=True)
        await partition.append(marker(6, 0, True, 0, now_ms(clock)), origin=Origin.COORDINATOR).durable()
        await put(partition, clock, (b"b", b"3"))
        for _ in range(4):
            await roll(partition)
            await put(partition, clock, (b"z", b"z"))
            await engine.cleaner.clean_one(partition)
            await clock.advance(2)
            assert table(partition) == {b"a": b"1", b"b": b"3", b"z": b"z"}
    (tmp_path / "clean-stop").unlink()
    for path in tmp_path.glob("t-0/*.snapshot"):
        path.unlink()
    (tmp_path / "recovery-point-offset-checkpoint").unlink()
    async with running(tmp_path, clock) as engine:
        partition = engine.partition("t", 0)
        assert not partition.open_transactions and partition.last_stable == partition.end
        assert table(partition) == {b"a": b"1", b"b": b"3", b"z": b"z"}
        assert partition.append(
            build([(now_ms(clock), b"b", b"2", ())], producer_id=6, epoch=0, sequence=0, transactional=True)
        ).repeated


async def test_nothing_at_or_behind_an_open_transaction_is_cleaned(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock) as engine:
        partition = (await engine.create_topic("t", config=COMPACTED)).partitions[0]
        await put(partition, clock, (b"a", b"1"), producer_id=5, epoch=0, sequence=0, transactional=True)
        for n in range(20):
            await put(partition, clock, (b"b", b"%d" % n))
        assert await engine.cleaner.clean_one(partition) is None


async def test_a_bomb_and_what_cannot_be_read_stay_as_they_are(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock, cache_bytes_max=0) as engine:
        topic = await engine.create_topic(
            "t", config=COMPACTED | {"cleanup.policy": "delete", "segment.bytes": "100000"}
        )
        partition = topic.partitions[0]
        bomb = build([(now_ms(clock), b"a", bytes(1 << 19), ())], codec=Codec.ZSTD)
        garbage = bytearray(build([(now_ms(clock), b"a", b"x" * 50, ())]))
        garbage[HEADER_BYTES:] = compress(Codec.NONE, b"\xff" * (len(garbage) - HEADER_BYTES))
        for data in (bomb, sealed(garbage)):
            await partition.append(data).durable()
        await put(partition, clock, (b"a", b"1"))
        await put(partition, clock, (b"a", b"2"))
        await engine.configure("t", {"cleanup.policy": "compact"})
        await roll(partition)
        await put(partition, clock, (b"z", b"z"))
        outcome = await engine.cleaner.clean_one(partition)
        assert outcome.batches_unreadable == 2 and engine.cleaner.batches_unreadable == 2
        offsets = [
            header.base_offset for buffer in partition.read(0, 1 << 20).buffers for _, header in batches_in(buffer)
        ]
        assert offsets == [0, 1, 3] and partition.read(4, 1).size_bytes


async def test_a_map_that_is_too_small_cleans_in_several_runs(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock, cache_bytes_max=0, cleaner_dedupe_bytes=1 << 12) as engine:
        partition = (await engine.create_topic("t", config=COMPACTED | {"segment.bytes": "20000"})).partitions[0]
        for n in range(120):
            await put(partition, clock, *[(b"%d" % ((5 * n + at) % 300), b"%d" % (5 * n + at)) for at in range(5)])
        expected = table(partition)
        await roll(partition)
        await put(partition, clock, (b"z", b"z"))
        runs = 0
        while await engine.cleaner.clean_one(partition) is not None:
            runs += 1
        assert runs > 2 and table(partition) == expected | {b"z": b"z"}
        assert len(all_of(partition)) == 301


async def test_the_cleaner_waits_until_it_is_worth_it(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock, cleaner_interval_ms=1_000_000_000) as engine:
        topic = await engine.create_topic("t", config=COMPACTED | {"min.compaction.lag.ms": "5000"})
        partition = topic.partitions[0]
        for n in range(40):
            await put(partition, clock, (b"%d" % n, b"x"))
        await engine.cleaner.clean_due()
        assert engine.cleaner.runs == 0
        await clock.advance(6)
        await engine.cleaner.clean_due()
        assert engine.cleaner.runs == 1
        for n in range(12):
            await put(partition, clock, (b"a", b"%d" % n))
        await clock.advance(6)
        await engine.cleaner.clean_due()
        assert engine.cleaner.runs == 1
        for n in range(60):
            await put(partition, clock, (b"a", b"%d" % n))
        await clock.advance(6)
        await engine.cleaner.clean_due()
        assert engine.cleaner.runs == 2


@pytest.mark.parametrize("seed", range(6))
async def test_committed_readers_have_the_same_table_whatever_is_cleaned(tmp_path, seed):
    random, clock = Random(seed), VirtualClock()
    async with running(tmp_path, clock, cache_bytes_max=0) as engine:
        codec = random.choice(list(Codec))
        topic = await engine.create_topic(
            "t", config=COMPACTED | {"segment.bytes": str(random.choice((300, 900, 4_000)))}
        )
        partition = topic.partitions[0]
        pending: set[int] = set()
        sequences: dict[int, int] = {}
        for n in range(150):
            pairs = [
                (random.choice(KEYS), None if random.random() < 0.2 else b"%d" % n) for _ in range(random.randint(1, 3))
            ]
            match random.randrange(10):
                case 0 | 1 | 2:
                    id = random.randrange(3)
                    sequence = sequences.get(id, 0)
                    sequences[id] = sequence + len(pairs)
                    more = {"producer_id": id, "epoch": 0, "sequence": sequence, "transactional": True}
                    await put(partition, clock, *pairs, codec=codec, **more)
                    pending.add(id)
                case 3 | 4 if pending:
                    id = random.choice(sorted(pending))
                    commit = random.random() < 0.5
                    await partition.append(marker(id, 0, commit, 0, now_ms(clock)), origin=Origin.COORDINATOR).durable()
                    pending.discard(id)
                case 5 if not pending:
                    before = table(partition)
                    await engine.cleaner.clean_one(partition)
                    assert table(partition) == before
                case 6:
                    await clock.advance(random.choice((0, 0.5, 2)))
                case _:
                    await put(partition, clock, *pairs, codec=codec)
        for id in sorted(pending):
            await partition.append(marker(id, 0, True, 0, now_ms(clock)), origin=Origin.COORDINATOR).durable()
        model = table(partition)
        for _ in range(4):
            await roll(partition)
            await put(partition, clock, (b"last", b"x"))
            await engine.cleaner.clean_one(partition)
            await clock.advance(2)
            assert table(partition) == model | {b"last": b"x"}
        expected = table(partition), partition.last_stable, partition.end
    (tmp_path / "clean-stop").unlink()
    (tmp_path / "recovery-point-offset-checkpoint").unlink()
    async with running(tmp_path, clock) as engine:
        partition = engine.partition("t", 0)
        assert (table(partition), partition.last_stable, partition.end) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=3), max_size=60))
def test_the_map_of_keys_is_a_dictionary_in_24_bytes_a_key(keys):
    offsets, plain = OffsetMap(1 << 20, len(keys)), {}
    for offset, key in enumerate(keys):
        offsets.put(key, offset)
        plain[key] = offset
    assert len(offsets) == len(plain) and all(offsets.get(key) == offset for key, offset in plain.items())
    assert offsets.get(b"absent") == -1


def test_a_full_map_says_so_and_still_takes_keys_that_it_has():
    offsets = OffsetMap(8 * ENTRY_BYTES, 1_000)
    for n in range(6):
        offsets.put(b"%d" % n, n)
    with pytest.raises(OverflowError):
        offsets.put(b"more", 7)
    offsets.put(b"3", 9)
    assert offsets.get(b"3") == 9
