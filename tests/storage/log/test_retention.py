"""Old segments go by age, by size and with the log start, and only whole ones that everybody may see."""

from pathlib import Path

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.storage.log.errors import OffsetOutOfRange
from tests.waiting import until

from .logs import append, running, values_of

SMALL = {"segment.bytes": "300", "file.delete.delay.ms": "5000"}


async def filled(engine, count: int = 20, **config: str):
    """A partition of many segments, a record a second."""
    partition = (await engine.create_topic("t", config=SMALL | config)).partitions[0]
    for n in range(count):
        clock = engine.upkeep._clock
        await append(partition, b"%d" % n, at_ms=clock.wall_ns() // 1_000_000)
        await clock.advance(1)
    return partition


async def test_segments_go_when_their_last_record_is_too_old(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock) as engine:
        partition = await filled(engine, **{"retention.ms": "10000"})
        await engine.upkeep.retain()
        left = values_of(partition)
        assert left[-1] == b"19" and len(left) < 16 and partition.log_start == 20 - len(left)
        with pytest.raises(OffsetOutOfRange):
            partition.read(0, 1)
        await clock.advance(60)
        await engine.upkeep.retain()
        assert values_of(partition) == [] and partition.log_start == partition.end == 20
        assert await append(partition, b"20", at_ms=clock.wall_ns() // 1_000_000) == 20
        assert values_of(partition) == [b"20"]
    async with running(tmp_path, clock) as engine:
        assert values_of(engine.partition("t", 0)) == [b"20"]


async def test_segments_go_while_the_partition_is_larger_than_its_bound(tmp_path):
    async with running(tmp_path) as engine:
        partition = await filled(engine, **{"retention.bytes": "700"})
        await engine.upkeep.retain()
        assert 700 <= partition.size_bytes < 1_100 and values_of(partition)[-1] == b"19"


async def test_nothing_goes_where_everything_is_to_be_kept_or_the_topic_is_only_compacted(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock) as engine:
        partition = await filled(engine, **{"retention.ms": "-1"})
        clock.set_wall(clock.wall_ns() + 10**16)
        await engine.upkeep.retain()
        await engine.configure("t", {"retention.ms": "1", "cleanup.policy": "compact"})
        await engine.upkeep.retain()
        assert len(values_of(partition)) == 20


async def test_files_go_after_their_delay_and_a_reader_can_end_what_it_has_begun(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock, retention_check_interval_ms=1_000_000_000) as engine:
        partition = await filled(engine)
        before = {path.name for path in tmp_path.glob("t-0/*.log")}
        held = partition.read(0, 1 << 20).buffers
        await partition.delete_records(10)
        await until(lambda: any(tmp_path.glob("t-0/*.deleted")))
        assert held and values_of(partition) == [b"%d" % n for n in range(10, 20)]

        async def are_gone() -> bool:
            await clock.advance(1)
            return not any(tmp_path.glob("t-0/*.deleted"))

        await clock.advance(3)
        assert any(tmp_path.glob("t-0/*.deleted"))
        await until(are_gone)
        after = {path.name for path in tmp_path.glob("t-0/*.log")}
        assert after < before and not _beside(tmp_path, before - after)


def _beside(folder: Path, names: set[str]) -> list[Path]:
    return [path for name in names for path in folder.glob(f"t-0/{name.removesuffix('.log')}.*")]


async def test_a_segment_is_closed_when_its_time_has_come(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock) as engine:
        config = {"segment.ms": "60000", "segment.bytes": "1000000"}
        partition = (await engine.create_topic("t", config=config)).partitions[0]
        for _ in range(3):
            await append(partition, b"a", at_ms=clock.wall_ns() // 1_000_000)
            await append(partition, b"b", at_ms=clock.wall_ns() // 1_000_000)
            await clock.advance(61)
        assert [segment.base for segment in partition.segments] == [0, 2, 4]


async def test_an_emptied_log_goes_on_with_its_offsets_after_a_crash(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock, retention_check_interval_ms=1_000_000_000) as engine:
        partition = await filled(engine, 5, **{"retention.ms": "1000"})
        clock.set_wall(clock.wall_ns() + 10**13)
        await engine.upkeep.retain()
        await until(lambda: any(tmp_path.glob("t-0/*.deleted")))
        files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        path.unlink()
    for path, data in files.items():
        path.write_bytes(data)
    async with running(tmp_path, clock) as engine:
        partition = engine.partition("t", 0)
        assert partition.log_start == partition.end == 5
        assert await append(partition, b"next", at_ms=clock.wall_ns() // 1_000_000) == 5
