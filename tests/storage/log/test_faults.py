"""Disks that are full, that fail, and that lie: what the log does, and what it does not pretend."""

import asyncio
import errno
from pathlib import Path
from random import Random

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.storage.log.codecs import Codec
from mainspring.storage.log.errors import CorruptBatch, LogError, StorageFailed
from mainspring.storage.log.files import RealFiles
from mainspring.storage.log.records import HEADER_BYTES, batches_in, is_intact, sealed
from mainspring.storage.log.settings import FlushPolicy
from tests.waiting import until

from .logs import append, batch, running, values_of


class FailingFiles(RealFiles):
    """The machine's files, with parts of paths for which an operation fails."""

    def __init__(self) -> None:
        self.full: set[str] = set()
        self.unsyncable: set[str] = set()
        self.no_room = False
        self._paths: dict[int, str] = {}

    def open(self, path: str, *, create: bool = False) -> int:
        handle = super().open(path, create=create)
        self._paths[handle] = path
        return handle

    def write(self, handle, buffers, at) -> None:
        if any(part in self._paths[handle] for part in self.full):
            super().write(handle, [b"".join(buffers)[:10]], at)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(handle, buffers, at)

    def sync(self, handle: int) -> None:
        if any(part in self._paths[handle] for part in self.unsyncable):
            raise OSError(errno.EIO, "Input/output error")
        super().sync(handle)

    def free_bytes(self, path: str) -> int:
        return 0 if self.no_room else super().free_bytes(path)


async def test_a_full_disk_closes_its_partition_leaves_others_live_and_opens_again_with_room(tmp_path):
    files, clock = FailingFiles(), VirtualClock()
    async with running(tmp_path, clock, files=files) as engine:
        topic = await engine.create_topic("t", 2)
        first, second = topic.partitions
        await append(first, b"a", producer_id=7, epoch=0, sequence=0)
        files.full, files.no_room = {"t-0"}, True
        told = []
        first.on_progress(lambda: told.append(first.failure))
        failing = [first.append(batch(b"x", producer_id=7, epoch=0, sequence=n)) for n in (1, 2, 3)]
        for appending in failing:
            with pytest.raises(StorageFailed) as failed:
                await appending.durable()
            assert failed.value.kafka_code == 56
        assert told and isinstance(told[-1], StorageFailed)
        with pytest.raises(StorageFailed):
            first.append(batch(b"y"))
        assert values_of(first) == [b"a"] and first.high_watermark == 1
        await append(second, b"b")
        await engine.upkeep.restore()
        assert first.failure is not None
        files.full, files.no_room = set(), False
        await engine.upkeep.restore()
        assert first.failure is None and (first.end, first.high_watermark) == (1, 1)
        # The producer tries again what had failed: nothing of it was kept, nothing is taken for a repetition.
        assert await append(first, b"x", producer_id=7, epoch=0, sequence=1) == 1
        assert values_of(first) == [b"a", b"x"]
    async with running(tmp_path, clock) as engine:
        assert [values_of(partition) for partition in engine.topics["t"].partitions] == [[b"a", b"x"], [b"b"]]


async def test_a_disk_that_is_still_full_closes_the_partition_again(tmp_path):
    files = FailingFiles()
    async with running(tmp_path, files=files) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await append(partition, b"a")
        for _ in range(3):
            files.full = {"t-0"}
            with pytest.raises(StorageFailed):
                await append(partition, b"b")
            files.full = set()
            await engine.upkeep.restore()
        assert await append(partition, b"c") == 1 and values_of(partition) == [b"a", b"c"]


async def test_a_full_disk_in_a_roll_loses_nothing(tmp_path):
    files = FailingFiles()
    async with running(tmp_path, files=files) as engine:
        partition = (await engine.create_topic("t", config={"segment.bytes": "200"})).partitions[0]
        for n in range(4):
            await append(partition, b"%d" % n)
        files.full = {"t-0"}
        failing = [partition.append(batch(b"x")) for _ in range(8)]
        for appending in failing:
            with pytest.raises(StorageFailed):
                await appending.durable()
        files.full = set()
        await engine.upkeep.restore()
        assert await append(partition, b"4") == 4 and values_of(partition) == [b"0", b"1", b"2", b"3", b"4"]
    (tmp_path / "clean-stop").unlink()
    async with running(tmp_path) as engine:
        assert values_of(engine.partition("t", 0)) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_failing_sync_is_not_tried_again_as_if_nothing_had_happened(tmp_path):
    files = FailingFiles()
    async with running(tmp_path, files=files) as engine:
        first, second = (await engine.create_topic("t", 2)).partitions
        await append(first, b"a")
        files.unsyncable = {"t-0"}
        with pytest.raises(StorageFailed):
            await append(first, b"b")
        files.unsyncable = set()
        await engine.upkeep.restore()
        with pytest.raises(StorageFailed):
            first.append(batch(b"c"))
        assert values_of(first) == [b"a"] and first.high_watermark == 1
        await append(second, b"d")
    async with running(tmp_path) as engine:
        first = engine.partition("t", 0)
        assert values_of(first)[:1] == [b"a"] and await append(first, b"e") == first.end - 1


async def test_a_journal_that_cannot_be_synced_falls_back_to_the_files_themselves(tmp_path):
    files = FailingFiles()
    async with running(tmp_path, files=files, journal_files_min=1, open_files_max=32) as engine:
        topic = await engine.create_topic("t", 40)
        for broken in ("unsyncable", "full"):
            setattr(files, broken, {"commit-journal"})
            for _ in range(2):
                await asyncio.gather(*(append(partition, broken.encode()) for partition in topic.partitions))
            setattr(files, broken, set())
            await asyncio.gather(*(append(partition, b"after") for partition in topic.partitions))
    (tmp_path / "clean-stop").unlink()
    async with running(tmp_path) as engine:
        for partition in engine.topics["t"].partitions:
            assert values_of(partition) == [b"unsyncable"] * 2 + [b"after"] + [b"full"] * 2 + [b"after"]


async def test_a_topic_is_not_made_on_a_full_disk_and_can_be_made_later(tmp_path):
    files = FailingFiles()
    async with running(tmp_path, files=files) as engine:
        files.full = {"topics/"}
        with pytest.raises(StorageFailed):
            await engine.create_topic("t")
        assert "t" not in engine.topics
        files.full = set()
        assert await append((await engine.create_topic("t")).partitions[0], b"a") == 0


async def test_a_flipped_bit_is_found_and_not_handed_on_by_the_next_recovery(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        for n in range(5):
            await append(partition, b"value %d" % n)
    (tmp_path / "clean-stop").unlink()
    path = next(tmp_path.glob("t-0/*.log"))
    data = bytearray(path.read_bytes())
    data[-4] ^= 0x10
    path.write_bytes(data)
    async with running(tmp_path) as engine:
        partition = engine.partition("t", 0)
        assert values_of(partition) == [b"value %d" % n for n in range(4)]
        assert await append(partition, b"again") == 4


async def test_a_flipped_bit_under_a_running_log_is_found_by_the_checksum_that_readers_get(tmp_path):
    async with running(tmp_path, cache_bytes_max=0) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await append(partition, b"value")
        path = next(tmp_path.glob("t-0/*.log"))
        data = bytearray(path.read_bytes())
        data[-4] ^= 0x10
        path.write_bytes(data)
        (buffer,) = partition.read(0, 1_000).buffers
        ((at, header),) = batches_in(buffer)
        assert not is_intact(buffer, at, header)
        with pytest.raises(CorruptBatch):
            partition.append(bytes(buffer))


@pytest.mark.parametrize("damage", ["missing", "cut", "garbage"])
async def test_an_index_that_is_gone_or_makes_no_sense_is_made_again(tmp_path, damage):
    config = {"segment.bytes": "1000", "index.interval.bytes": "100"}
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t", config=config)).partitions[0]
        for n in range(60):
            await append(partition, b"%d" % n, at_ms=engine._clock.wall_ns() // 1_000_000 + n)
    for path in tmp_path.glob("t-0/*index"):
        match damage:
            case "missing":
                path.unlink()
            case "cut":
                path.write_bytes(path.read_bytes()[:-3])
            case "garbage":
                path.write_bytes(b"\xff" * 13)
    async with running(tmp_path) as engine:
        partition = engine.partition("t", 0)
        assert values_of(partition) == [b"%d" % n for n in range(60)]
        for n in (0, 17, 42, 59):
            found = await partition.find(VirtualClock().wall_ns() // 1_000_000 + n)
            assert found is not None and found[0] == n
        assert await append(partition, b"60") == 60


async def test_damaged_checkpoints_and_the_record_of_the_last_stop_are_done_without(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await append(partition, b"a")
    for name in ("clean-stop", "recovery-point-offset-checkpoint", "log-start-offset-checkpoint"):
        (tmp_path / name).write_bytes(b"\xffnonsense")
    for path in tmp_path.glob("t-0/leader-epoch-checkpoint"):
        path.write_bytes(b"nonsense")
    async with running(tmp_path) as engine:
        assert values_of(engine.partition("t", 0)) == [b"a"]


async def test_an_async_log_is_synced_by_its_checkpoints(tmp_path):
    clock = VirtualClock()
    async with running(tmp_path, clock, flush_policy=FlushPolicy.ASYNC) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await append(partition, b"a")
        assert partition.writer.syncs == 0
        await engine.upkeep.checkpoint()
        assert partition.writer.syncs > 0


async def test_upkeep_goes_on_by_itself(tmp_path):
    clock, files = VirtualClock(), FailingFiles()
    async with running(tmp_path, clock, files=files, checkpoint_interval_ms=5_000) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        files.full = {"t-0"}
        with pytest.raises(StorageFailed):
            await append(partition, b"a")
        files.full = set()
        await clock.advance(2)
        await until(lambda: partition.failure is None)
        await append(partition, b"b")
        path: Path = tmp_path / "recovery-point-offset-checkpoint"
        path.unlink()
        await clock.advance(6)
        await until(path.exists)


async def test_index_files_that_found_no_room_are_written_once_there_is_some(tmp_path):
    files = FailingFiles()
    async with running(tmp_path, files=files, cache_bytes_max=0) as engine:
        config = {"segment.bytes": "300", "index.interval.bytes": "50"}
        partition = (await engine.create_topic("t", config=config)).partitions[0]
        files.full = {".index", ".timeindex", ".snapshot"}
        for n in range(12):
            await append(partition, b"%d" % n, producer_id=7, epoch=0, sequence=n)
        assert values_of(partition) == [b"%d" % n for n in range(12)]
        with pytest.raises(OSError):
            await engine.upkeep.checkpoint()
        assert not any(path.stat().st_size for path in tmp_path.glob("t-0/*.timeindex"))
        files.full = set()
        await engine.upkeep.checkpoint()
        assert len(list(tmp_path.glob("t-0/*.timeindex"))) == len(partition.segments) - 1


async def test_a_log_stops_on_a_full_disk_and_the_next_start_reads_what_it_must(tmp_path):
    files = FailingFiles()
    async with running(tmp_path, files=files) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await append(partition, b"a")
        files.full = {"clean-stop", "checkpoint"}
    async with running(tmp_path) as engine:
        assert values_of(engine.partition("t", 0)) == [b"a"]


@pytest.mark.parametrize("config", [{}, {"cleanup.policy": "compact"}, {"compression.type": "gzip"}])
async def test_whatever_a_client_sends_is_stored_whole_or_refused_by_an_error_of_the_log(tmp_path, config):
    random = Random(7)
    whole = [batch(b"a", b"b", codec=codec, producer_id=3, epoch=0, sequence=0) for codec in Codec]
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t", config=config)).partitions[0]
        stored = 0
        for _ in range(600):
            data = bytearray(random.choice(whole))
            for _ in range(random.randint(0, 3)):
                data[random.randrange(len(data))] = random.randrange(256)
            if random.random() < 0.2:
                del data[random.randrange(len(data)) :]
            if random.random() < 0.7 and len(data) >= HEADER_BYTES:
                # With a right checksum what is behind it is looked at too.
                data = bytearray(sealed(data))
            end = partition.end
            try:
                appending = partition.append(bytes(data))
            except LogError:
                assert partition.end == end
                continue
            stored += not appending.repeated
            await appending.durable()
        assert stored and partition.high_watermark == partition.end
        await append(partition, b"after")
    (tmp_path / "clean-stop").unlink()
    async with running(tmp_path) as engine:
        again = engine.partition("t", 0)
        assert again.end == partition.end


async def test_a_fault_of_ours_in_a_commit_leaves_nobody_waiting_and_others_live(tmp_path, monkeypatch):
    files = FailingFiles()
    async with running(tmp_path, files=files) as engine:
        first, second = (await engine.create_topic("t", 2)).partitions
        await append(first, b"a")
        with monkeypatch.context() as patched:
            patched.setattr(files, "write", lambda *_: 1 / 0)
            with pytest.raises(StorageFailed):
                await append(first, b"b")
        await append(second, b"c")
        assert values_of(first) == [b"a"] and values_of(second) == [b"c"]
    async with running(tmp_path) as engine:
        assert values_of(engine.partition("t", 0)) == [b"a"]
