"""One disk: a directory of append-only segments, after Haystack (Beaver et al. 2010). Many extents share one file.

Space in the open segment is handed out on the event loop (`reserve`), then filled by any thread, so that writers do not wait
for each other. A segment that is full is sealed and never written again; a process that starts begins a new one. Which bytes
count is said by the metadata alone: what a crash leaves beside them is reclaimed later (`compaction`).

A directory whose identity file is gone, or a segment that was unlinked under our feet, is a lost disk: `Lost` is raised,
and everything it held is rebuilt elsewhere.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple, TypeVar

from mainspring.storage.objects.files import Damaged, Files, Space, read_identity

T = TypeVar("T")
SUFFIX = ".segment"

OPEN_FILES_MAX = 128
THREADS = 4
STALLED_S = 60.0
"""A write or a sync that takes longer makes its disk a lost one."""

FULL = (errno.ENOSPC, errno.EDQUOT)


class Lost(Exception):
    """The disk, or this segment of it, is not there any more, or does not do what it is asked."""


class Segment:
    """One file. `size` is how much of it was handed out; `pinned` are the extents, by offset, that are being written, or are
    and their rows not yet: whoever wrote them needs the segment to stay as it is."""

    def __init__(self, number: int, path: Path, size: int) -> None:
        self.number = number
        self.path = path
        self.size = size
        self.pinned: dict[int, int] = {}
        self.reads = 0
        self.fd = -1
        self.sealed = True
        self.removed = False
        self._syncing: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def sync(self, run: Callable[[], Awaitable[None]]) -> None:
        """Returns once all that was written before is durable. Who comes while one sync runs shares the next."""
        if self._next is None:
            self._next = asyncio.create_task(self._sync_after(self._syncing, run))
        await asyncio.shield(self._next)

    async def _sync_after(self, before: "asyncio.Task[None] | None", run: Callable[[], Awaitable[None]]) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._syncing, self._next = self._next, None
        await run()


class Place(NamedTuple):
    """Where an extent lies."""

    disk: int
    segment: int
    offset: int


class Disk:
    """A live disk with threads of its own, so that one that stalls holds up nobody but itself."""

    def __init__(self, id: int, directory: Path, zone: str, files: Files, segment_bytes: int) -> None:
        self.id = id
        self.directory = directory
        self.zone = zone
        self.draining = False
        self.lost: str | None = None
        self.segments: dict[int, Segment] = {}
        self.latencies = Latencies()
        self._files = files
        self._threads = ThreadPoolExecutor(THREADS, f"objects-disk-{id}")
        self._segment_bytes = segment_bytes
        self.open: Segment | None = None
        self._opening = asyncio.Lock()
        self._opened: dict[int, Segment] = {}
        self._highest = self._beginning = 0
        for name in files.names(directory):
            if name.endswith(SUFFIX):
                number = int(name.removesuffix(SUFFIX))
                self.segments[number] = Segment(number, directory / name, files.size(directory / name))
                self._highest = max(self._highest, number)

    async def reserve(self, length: int, begin: Callable[[int, int], Awaitable[None]]) -> tuple[Place, Segment]:
        """Hands out `length` bytes, pinning the segment. `begin(disk, segment)` is awaited before a new one is written."""
        async with self._opening:
            segment = self.open
            if segment is None or (segment.size and segment.size + length > self._segment_bytes):
                segment = await self._begin_segment(begin)
            place = Place(self.id, segment.number, segment.size)
            segment.size += length
            segment.pinned[place.offset] = length
        return place, segment

    async def _begin_segment(self, begin: Callable[[int, int], Awaitable[None]]) -> Segment:
        self._highest += 1
        number = self._beginning = self._highest
        await begin(self.id, number)
        segment = Segment(number, self.directory / f"{number:08d}{SUFFIX}", 0)
        segment.fd = await self._run(self._files.create, segment.path)
        self.seal()
        segment.sealed = False
        self.open = self.segments[number] = segment
        return segment

    def has(self, number: int) -> bool:
        """Whether a segment is there, or about to be."""
        return number in self.segments or number == self._beginning

    def seal(self) -> None:
        """Ends the open segment: what comes goes to a new one."""
        if self.open is not None:
            self.open.sealed = True
            self._opened[self.open.number] = self.open
            self.open = None
            self._close_oldest()

    async def write(self, segment: Segment, make: Callable[[], Sequence[bytes]], offset: int) -> None:
        """Writes what `make` gives, which is called by the thread that writes. Raises `OSError`, also where it takes too
        long."""
        await self._in_time(self._write_linked, segment, make, offset)

    def _write_linked(self, segment: Segment, make: Callable[[], Sequence[bytes]], offset: int) -> None:
        self._files.write(segment.fd, make(), offset)
        self._ensure_linked(segment)

    async def sync(self, segment: Segment) -> None:
        """Makes what was written to `segment` durable, together with whoever asks at the same time. Raises `OSError`."""

        async def run() -> None:
            await self._in_time(self._sync_linked, segment)

        await segment.sync(run)

    def _sync_linked(self, segment: Segment) -> None:
        self._files.sync(segment.fd)
        self._ensure_linked(segment)

    async def read(self, place: Place, length: int, offset: int = 0) -> bytes:
        """`length` bytes from `offset` of the extent at `place`. Raises `Lost` or `OSError`; may be short."""
        return (await self.read_parts(place, [(offset, length)]))[0]

    async def read_parts(self, place: Place, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        """Like `read`, of several (offset, length) at once."""
        return await self.read_with(place, parts, list)

    async def read_with(self, place: Place, parts: Sequence[tuple[int, int]], make: Callable[[list[bytes]], T]) -> T:
        """What the thread that reads makes of the parts, while they are still warm. Raises also what `make` raises."""
        segment = self._segment(place.segment)
        segment.reads += 1
        try:
            self._ensure_open(segment)
            return await self._run(self._read_each, segment.fd, place.offset, parts, make)
        finally:
            segment.reads -= 1
            if segment.removed:
                self._close_removed(segment)

    def _read_each(self, fd: int, base: int, parts: Sequence[tuple[int, int]], make: Callable[[list[bytes]], T]) -> T:
        return make([self._files.read(fd, length, base + offset) for offset, length in parts])

    def read_cached(self, place: Place, length: int, offset: int) -> bytes | None:
        """Like `read`, at once, where the page cache has it all; None where the disk would have to be asked."""
        segment = self._segment(place.segment)
        self._ensure_open(segment)
        return self._files.read_cached(segment.fd, length, place.offset + offset)

    def remove(self, number: int) -> None:
        """Unlinks a sealed segment that nothing refers to."""
        segment = self.segments.pop(number)
        self._files.delete(segment.path)
        self._opened.pop(number, None)
        segment.removed = True
        self._close_removed(segment)

    def clear(self, number: int, spans: Sequence[tuple[int, int]], size: int) -> None:
        """Gives ranges of a sealed segment, as (offset, length), and all that follows `size` back, durably. Blocks."""
        segment = self.segments[number]
        fd = self._files.open_to_change(segment.path)
        try:
            for offset, length in spans:
                self._files.punch(fd, offset, length)
            if size < segment.size:
                self._files.truncate(fd, size)
                segment.size = size
            self._files.sync(fd)
        finally:
            self._files.close(fd)

    def present(self) -> bool:
        """Whether the directory is still this disk's."""
        try:
            return read_identity(self._files, self.directory).disk == self.id
        except (OSError, Damaged):
            return False

    def space(self) -> Space:
        return self._files.space(self.directory)

    def fail(self, reason: str) -> None:
        """Ends the life of this disk in this process."""
        if self.lost is None:
            self.lost = reason

    def close(self) -> None:
        """Waits for what is being read and written, and closes all files. A lost disk is not waited for: it may never
        answer. Blocks."""
        self._threads.shutdown(wait=self.lost is None)
        if self.lost is not None:
            return
        for segment in self.segments.values():
            if segment.fd >= 0:
                self._files.close(segment.fd)
                segment.fd = -1

    def _segment(self, number: int) -> Segment:
        segment = self.segments.get(number)
        if segment is None or self.lost is not None:
            raise Lost(self.lost or f"disk {self.id} has no segment {number}")
        return segment

    def _ensure_open(self, segment: Segment) -> None:
        if segment.fd >= 0:
            return
        try:
            segment.fd = self._files.open(segment.path)
        except FileNotFoundError:
            raise Lost(f"{segment.path} is gone") from None
        self._opened[segment.number] = segment
        self._close_oldest()

    def _ensure_linked(self, segment: Segment) -> None:
        """A file without a name still takes writes and syncs, and is gone with the process."""
        if not self._files.is_linked(segment.fd):
            raise FileNotFoundError(errno.ENOENT, "the segment was unlinked", str(segment.path))

    def _close_removed(self, segment: Segment) -> None:
        if segment.fd >= 0 and not segment.reads:
            self._files.close(segment.fd)
            segment.fd = -1

    def _close_oldest(self) -> None:
        """Closes sealed files that nobody reads or writes, until no more are open than may be."""
        for number, segment in list(self._opened.items()):
            if len(self._opened) <= OPEN_FILES_MAX:
                return
            if not segment.reads and not segment.pinned:
                del self._opened[number]
                self._files.close(segment.fd)
                segment.fd = -1

    async def _in_time(self, function: Callable[..., None], *args: object) -> None:
        try:
            async with asyncio.timeout(STALLED_S):
                await self._run(function, *args)
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"no answer for {STALLED_S:.0f} s", str(self.directory)) from None

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        if self.lost is not None:
            raise OSError(errno.EIO, self.lost, str(self.directory))
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


class Latencies:
    """How long reads of shards took lately. `late_s` is when one counts as late: three times the 99th percentile, a second
    before there is one, and never so little that a busy machine would read everything twice."""

    KEPT = 256
    LEAST_S = 0.25

    def __init__(self) -> None:
        self._kept: list[float] = []
        self._random = Random(0)
        self.late_s = 1.0

    def note(self, seconds: float) -> None:
        if len(self._kept) < self.KEPT:
            self._kept.append(seconds)
        else:
            self._kept[self._random.randrange(self.KEPT)] = seconds
        if len(self._kept) % 16 == 0:
            ordered = sorted(self._kept)
            self.late_s = max(self.LEAST_S, 3 * ordered[int(len(ordered) * 0.99)])
