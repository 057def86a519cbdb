"""What compaction is said to keep is what it keeps, whatever was written."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.clock import VirtualClock
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.preview import preview
from mainspring.storage.log.producers import Origin
from mainspring.storage.log.reader import visible
from mainspring.storage.log.records import marker

from .logs import NOW_MS, running
from .test_compaction import COMPACTED, put

WRITE = st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.just(b"x" * 90))
TRANSACTION = st.tuples(st.lists(WRITE, min_size=1, max_size=3), st.booleans())


def readable(partition: Partition) -> set[int]:
    found: set[int] = set()
    offset = partition.log_start
    while offset < partition.last_stable:
        seen = visible(partition.read(offset, 1 << 20, committed=True), offset, 1_000)
        found |= {read.offset for read in seen.records}
        offset = seen.next_offset
    return found


@settings(max_examples=25)
@given(st.lists(WRITE | TRANSACTION, max_size=25), st.booleans(), st.sampled_from([0, 5_000]))
async def test_what_is_foreseen_is_what_compaction_does(
    writes: list[object], is_left_open: bool, min_lag_ms: int
) -> None:
    clock = VirtualClock()
    config = {**COMPACTED, "min.compaction.lag.ms": str(min_lag_ms)}
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), clock, cache_bytes_max=0) as engine:
            partition = (await engine.create_topic("t", config=config)).partitions[0]
            for id, write in enumerate(writes):
                if isinstance(write[0], bytes):
                    await put(partition, clock, write)
                else:
                    await put(partition, clock, *write[0], producer_id=id, epoch=0, sequence=0, transactional=True)
                    await partition.append(
                        marker(id, 0, write[1], 0, clock.wall_ns() // 1_000_000), origin=Origin.COORDINATOR
                    ).durable()
                await clock.advance(0.5)
            if is_left_open:
                await put(partition, clock, (b"a", b"y"), producer_id=99, epoch=0, sequence=0, transactional=True)
                await put(partition, clock, (b"b", b"y" * 600))
            before = readable(partition)
            told = await preview(partition, clock.wall_ns() // 1_000_000, active=False)
            await engine.cleaner.clean_one(partition)
            kept = {one.offset for one in told.records if one.fate in ("kept", "tombstone", "not compacted")}
            assert told.complete and told.enabled
            assert readable(partition) == kept & before
            assert {one.offset for one in told.records if one.fate == "aborted"}.isdisjoint(before)


async def test_an_empty_partition_foresees_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        topic = await engine.create_topic("t")
        told = await preview(topic.partitions[0], NOW_MS, active=False)
        assert (told.keys, told.records, told.segments, told.complete, told.enabled) == (0, [], [], True, False)
