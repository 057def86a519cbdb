"""What is not in memory is brought in by a thread, and the event loop waits for no disk."""

import asyncio
import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mainspring.storage.log.files import LOOK_EVERY_BYTES, RealFiles
from mainspring.storage.log.kafka import codec
from mainspring.storage.log.kafka.broker import Broker
from mainspring.storage.log.kafka.fetch_keys import fetch
from mainspring.storage.log.kafka.registry import ApiKey, Context, Later
from mainspring.storage.log.kafka.session import Session
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.reading import Indexes
from mainspring.storage.log.records import records_in
from mainspring.storage.log.segments import Segment

from .kafka.wire import request
from .logs import append, running, values_of


class ColdFiles(RealFiles):
    """Files of which nothing is in memory before another thread than the loop's has read it."""

    def __init__(self) -> None:
        self.warmed: set[str] = set()
        self.waited: list[str] = []
        """What the loop's thread read and would have waited for."""
        self.broken = False
        self._loop_thread = threading.get_ident()
        self._paths: dict[int, str] = {}

    def open(self, path: str, *, create: bool = False) -> int:
        handle = super().open(path, create=create)
        self._paths[handle] = path
        return handle

    def read(self, handle: int, at: int, size: int) -> bytes:
        path = self._paths[handle]
        if self.broken:
            raise OSError(errno.EIO, "the disk is broken")
        if threading.get_ident() != self._loop_thread:
            self.warmed.add(path)
        elif size and path not in self.warmed and path.endswith(("log", "index")):
            self.waited.append(path)
        return super().read(handle, at, size)

    def is_in_memory(self, handle: int, at: int, size: int) -> bool:
        return self._paths[handle] in self.warmed


async def filled(engine: Any) -> Partition:
    await engine.create_topic("t", 1, {"segment.bytes": "1000", "index.interval.bytes": "1"})
    partition: Partition = engine.partition("t", 0)
    for n in range(20):
        await append(partition, b"%d" % n + bytes(200))
    assert len(partition.segments) > 3
    await engine.upkeep.checkpoint()
    return partition


async def test_a_read_that_was_waited_for_waits_for_nothing_itself(tmp_path: Path) -> None:
    files = ColdFiles()
    async with running(tmp_path, files=files, cache_bytes_max=0) as engine:
        partition = await filled(engine)
        files.warmed.clear()
        for offset in range(20):
            await partition.warm(offset, 1 << 20)
            assert partition.cold(offset, 1 << 20) is None
            [buffer] = partition.read(offset, 1).buffers
            assert next(records_in(buffer)).offset == offset
        assert not files.waited
        assert await partition.find(0) is not None
        assert len(values_of(partition)) == 20


async def test_the_newest_records_are_in_memory_whatever_the_file_is(tmp_path: Path) -> None:
    files = ColdFiles()
    async with running(tmp_path, files=files) as engine:
        partition = await filled(engine)
        files.warmed.clear()
        assert all(partition.cold(offset, 1 << 20) is None for offset in range(21))
        assert len(values_of(partition)) == 20 and not files.waited


async def test_a_segment_that_goes_while_it_is_waited_for_keeps_nobody_waiting(tmp_path: Path) -> None:
    files = ColdFiles()
    async with running(tmp_path, files=files, cache_bytes_max=0) as engine:
        partition = await filled(engine)
        piece = partition.cold(0, 1 << 20)
        assert piece is not None
        os.unlink(piece.path)
        await partition.warm(0, 1 << 20)
        assert next(records_in(partition.read(19, 1).buffers[0])).offset == 19


async def test_a_segment_is_read_on_though_the_files_of_its_indexes_are_not_there_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, cache_bytes_max=0) as engine:
        partition = await filled(engine)
        closed = partition.segments[-1]
        monkeypatch.setattr(Segment, "rebuild", None)
        partition.roll()
        assert not os.path.exists(closed.path(".index"))
        assert next(records_in(partition.read(19, 1).buffers[0])).offset == 19


def fetching(engine: Any, folder: Path, partitions: dict[int, int], session: Session | None = None) -> Any:
    wanted = [
        {"partition": index, "fetch_offset": offset, "partition_max_bytes": 1 << 20, "log_start_offset": -1}
        for index, offset in partitions.items()
    ]
    fields = {"max_wait_ms": 60_000, "min_bytes": 1, "max_bytes": 1 << 20, "session_epoch": -1, "rack_id": ""}
    frame = memoryview(request(ApiKey.FETCH, 11, topics=[{"topic": "t", "partitions": wanted}], **fields))[4:]
    _, at = codec.client(frame, flexible=False)
    broker = Broker(engine, engine.upkeep._clock, folder / "door.json")
    context = Context(broker, session or Session("127.0.0.1"), ApiKey.FETCH, 11, 1, None)
    return fetch(codec.read(ApiKey.FETCH, 11, frame, at), context)


async def answered(later: Later) -> bytes:
    done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    later.then = done.set_result
    async with asyncio.timeout(60):
        return b"".join(await done)


async def test_a_fetch_of_old_records_waits_for_a_thread_and_one_of_new_records_does_not(tmp_path: Path) -> None:
    files = ColdFiles()
    async with running(tmp_path / "log", files=files, cache_bytes_max=700) as engine:
        await filled(engine)
        files.warmed.clear()
        new = fetching(engine, tmp_path, {0: 19})
        assert isinstance(new, list) and b"19" + bytes(200) in b"".join(new)
        old = fetching(engine, tmp_path, {0: 2})
        assert isinstance(old, Later)
        assert b"2" + bytes(200) in await answered(old)
        assert not files.waited
        assert isinstance(fetching(engine, tmp_path, {0: 2}), list), "it is in memory now"


async def test_nothing_is_answered_or_waited_for_once_the_client_has_gone(tmp_path: Path) -> None:
    async with running(tmp_path / "log", files=ColdFiles(), cache_bytes_max=0) as engine:
        partition = await filled(engine)
        session, answers = Session("127.0.0.1"), list[Any]()
        later = fetching(engine, tmp_path, {0: 2}, session)
        later.then = answers.append
        session.end()
        await asyncio.gather(later._warming, return_exceptions=True)
        assert later._warming.cancelled() and not answers and not partition._listeners


async def test_a_fetch_of_what_the_disk_cannot_read_is_answered_with_a_storage_error(tmp_path: Path) -> None:
    files = ColdFiles()
    async with running(tmp_path / "log", files=files, cache_bytes_max=0) as engine:
        await filled(engine)
        files.warmed.clear()
        files.broken = True
        answer = await answered(fetching(engine, tmp_path, {0: 2}))
        files.broken = False
        assert b"\0\0\0\0\0\x38" in answer, "partition 0, KAFKA_STORAGE_ERROR"


def test_whether_a_file_is_in_memory_is_asked_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, asked = RealFiles(), list[int]()
    handle = files.open(str(tmp_path / "f"), create=True)
    says: list[OSError | None] = [None]

    def preadv(handle: int, buffers: Any, at: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        asked.append(at)
        if says[0] is not None:
            raise says[0]
        return 1

    monkeypatch.setattr("mainspring.storage.log.files.os", SimpleNamespace(preadv=preadv, RWF_NOWAIT=os.RWF_NOWAIT))
    assert files.is_in_memory(handle, 10, LOOK_EVERY_BYTES + 5)
    assert asked == [10, 10 + LOOK_EVERY_BYTES, LOOK_EVERY_BYTES + 14], "here and there, and at the end"
    says[0] = BlockingIOError(errno.EAGAIN, "it would wait")
    assert not files.is_in_memory(handle, 0, 1)
    says[0] = OSError(errno.EOPNOTSUPP, "tmpfs cannot say")
    assert files.is_in_memory(handle, 0, 1)
    says[0] = OSError(errno.EIO, "broken")
    with pytest.raises(OSError, match="broken"):
        files.is_in_memory(handle, 0, 1)
    os.close(handle)


def test_indexes_are_kept_up_to_so_many_bytes_and_the_least_used_go_first() -> None:
    kept = Indexes(250)
    segments = [Segment("/f", base) for base in range(4)]
    found: Any = (SimpleNamespace(data=bytes(60)), SimpleNamespace(data=bytes(40)))
    for segment in segments[:2]:
        kept.keep(segment, found)
    assert kept.get(segments[0]) is found
    kept.keep(segments[2], found)
    assert [segment in kept for segment in segments] == [True, False, True, False] and kept.size == 200
    kept.keep(segments[0], found)
    assert kept.size == 200
    kept.keep(segments[3], (SimpleNamespace(data=bytes(900)), SimpleNamespace(data=b"")))  # type: ignore[arg-type]
    assert [segment in kept for segment in segments] == [False, False, False, True] and kept.size == 900
