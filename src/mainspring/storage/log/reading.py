"""Reading a partition: from an offset, from a time, and which transactions were aborted in between.

What comes back are whole batches, the newest from memory, others as they lie in the file; headers are looked at, records only
where a time is searched.

A read runs on the event loop, where it costs a system call if its bytes are in the page cache, and would hold up everybody if
they are not. `cold` says which bytes are not; who can wait has them brought in by a thread first (`warm`).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from .errors import CorruptBatch, OffsetOutOfRange
from .files import Files, OpenFiles
from .indexes import OffsetIndex, TimeIndex
from .model import Fetched
from .records import HEAD, HEAD_BYTES, HEADER, HEADER_BYTES, OVERHEAD_BYTES, Batch, records_in
from .segments import INDEX, SCAN_BYTES, TIME_INDEX, Segment, scan

if TYPE_CHECKING:
    from .partition import Partition

SEARCH_BYTES = 8 << 10
"""Read at once to find a batch from where the index points: two of its intervals."""
PIECES_MAX = 8
"""So often a reader looks again whether all that it needs is in memory; then the disk is so busy that it may as well wait."""


def read(partition: Partition, offset: int, bytes_max: int, *, committed: bool, at_least_one: bool) -> Fetched:
    """See `Partition.read`."""
    log_start, high_watermark, stable = partition.log_start, partition.high_watermark, partition.last_stable
    if not log_start <= offset <= high_watermark:
        raise OffsetOutOfRange(f"{offset} is not between {log_start} and {high_watermark}")
    before = stable if committed else high_watermark
    if offset >= before:
        return Fetched([], 0, [], high_watermark, stable, log_start)
    tail = partition.around.tails.get(partition)
    found = tail.read(offset, before, bytes_max) if tail is not None else None
    buffers: list[bytes | memoryview]
    if found is not None:
        buffers, size = list(found[0]), found[1]
    else:
        chunk = read_files(partition, offset, before, bytes_max)
        buffers, size = [chunk] if len(chunk) else [], len(chunk)
    if size > bytes_max and not at_least_one:
        return Fetched([], 0, [], high_watermark, stable, log_start)
    return Fetched(
        buffers, size, aborted(partition, offset, before) if committed else [], high_watermark, stable, log_start
    )


class Piece(NamedTuple):
    """Bytes of a file."""

    path: str
    at: int
    size: int


def cold(partition: Partition, offset: int, bytes_max: int) -> Piece | None:
    """The first bytes that a read from `offset` would wait for; None where there are none, or it would find no file."""
    tail = partition.around.tails.get(partition)
    if not partition.segments or (tail is not None and tail.holds(offset)):
        return None
    segment = partition.segments[segment_of(partition, offset)]
    if not segment.created:
        return None
    if segment.index is None and segment not in partition.around.indexes:
        for suffix in (INDEX, TIME_INDEX):
            if (piece := _cold_file(partition.around.opened.files, segment.path(suffix))) is not None:
                return piece
    position = indexes(partition, segment)[0].position(offset)
    return _cold_piece(partition, segment, position, min(SEARCH_BYTES + bytes_max, segment.size - position))


async def warm(partition: Partition, offset: int, bytes_max: int) -> None:
    """Has a thread bring in what a read from `offset` would wait for. Raises `OSError` where the disk cannot read it."""
    for _ in range(PIECES_MAX):
        piece = cold(partition, offset, bytes_max)
        if piece is None:
            return
        await asyncio.to_thread(bring_in, partition.around.opened.files, piece)


def bring_in(files: Files, piece: Piece) -> None:
    """Reads bytes so that they are in the page cache. For a thread. A file that has gone is none to wait for."""
    try:
        handle = files.open(piece.path)
    except FileNotFoundError:
        return
    try:
        for at in range(piece.at, piece.at + piece.size, SCAN_BYTES):
            files.read(handle, at, min(SCAN_BYTES, piece.at + piece.size - at))
    finally:
        files.close(handle)


def _cold_file(files: Files, path: str) -> Piece | None:
    try:
        size, handle = files.size(path), files.open(path)
    except FileNotFoundError:
        return None
    try:
        return None if not size or files.is_in_memory(handle, 0, size) else Piece(path, 0, size)
    finally:
        files.close(handle)


def _cold_piece(partition: Partition, segment: Segment, at: int, size: int) -> Piece | None:
    opened, path = partition.around.opened, segment.path()
    return None if size <= 0 or opened.files.is_in_memory(opened.handle(path), at, size) else Piece(path, at, size)


def read_files(partition: Partition, offset: int, before: int, bytes_max: int) -> memoryview:
    at = segment_of(partition, offset)
    while at < len(partition.segments):
        chunk = _read_segment(partition, partition.segments[at], offset, before, bytes_max)
        if len(chunk):
            return chunk
        at += 1
    return memoryview(b"")


def _read_segment(partition: Partition, segment: Segment, offset: int, before: int, bytes_max: int) -> memoryview:
    """One piece of the file: from the first batch that ends at or after `offset`."""
    opened = partition.around.opened
    if not segment.created:
        return memoryview(b"")
    start = _find(opened, segment, indexes(partition, segment)[0].position(offset), offset)
    if start is None:
        return memoryview(b"")
    at, batch = start
    size = max(batch.size_bytes, min(bytes_max, segment.size - at))
    chunk = memoryview(opened.files.read(opened.handle(segment.path()), at, size))
    return chunk[: _whole(chunk, before)]


def _find(opened: OpenFiles, segment: Segment, at: int, offset: int) -> tuple[int, Batch] | None:
    """Position and header of the first batch, from `at` on, that ends at or after `offset`. Reads no more than it must."""
    handle = opened.handle(segment.path())
    chunk, start = b"", at
    while at + HEADER_BYTES <= segment.size:
        if at + HEADER_BYTES > start + len(chunk):
            chunk, start = opened.files.read(handle, at, min(SEARCH_BYTES, segment.size - at)), at
            if len(chunk) < HEADER_BYTES:
                return None
        batch = Batch(*HEADER.unpack_from(chunk, at - start))
        if batch.size_bytes < HEADER_BYTES:
            raise CorruptBatch(f"a batch of length {batch.length} at {at} of {segment.path()}")
        if batch.last_offset >= offset:
            return at, batch
        at += batch.size_bytes
    return None


def segment_of(partition: Partition, offset: int) -> int:
    """The index of the segment that may hold `offset`."""
    return max(0, bisect_right(partition.segments, offset, key=attrgetter("base")) - 1)


class Indexes:
    """Indexes of segments that were closed or read lately: so many bytes of them, the least recently used go first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept: OrderedDict[Segment, tuple[OffsetIndex, TimeIndex]] = OrderedDict()
        self.size = 0

    def __contains__(self, segment: Segment) -> bool:
        return segment in self._kept

    def get(self, segment: Segment) -> tuple[OffsetIndex, TimeIndex] | None:
        found = self._kept.get(segment)
        if found is not None:
            self._kept.move_to_end(segment)
        return found

    def keep(self, segment: Segment, found: tuple[OffsetIndex, TimeIndex]) -> None:
        """The last one stays whatever its size."""
        if (known := self._kept.pop(segment, None)) is not None:
            self.size -= _size(known)
        self._kept[segment] = found
        self.size += _size(found)
        while self.size > self._bytes_max and len(self._kept) > 1:
            self.size -= _size(self._kept.popitem(last=False)[1])


def _size(found: tuple[OffsetIndex, TimeIndex]) -> int:
    return len(found[0].data) + len(found[1].data)


def indexes(partition: Partition, segment: Segment) -> tuple[OffsetIndex, TimeIndex]:
    opened, kept = partition.around.opened, partition.around.indexes
    found = kept.get(segment) if segment.index is None else None
    if found is not None:
        return found
    try:
        found = segment.indexes(opened.files)
    except (ValueError, FileNotFoundError):
        segment.rebuild(opened, partition.topic.config.index_interval_bytes)
        found = segment.indexes(opened.files)
    if segment.index is None:
        kept.keep(segment, found)
    return found


def aborted(partition: Partition, offset: int, before: int) -> list[tuple[int, int]]:
    """The aborted transactions with records between the two."""
    found = []
    for segment in partition.segments[segment_of(partition, offset) :]:
        for entry in segment.aborted_in(partition.around.opened.files):
            if entry.last_offset >= offset and entry.first_offset < before:
                found.append((entry.producer_id, entry.first_offset))
            if entry.last_stable >= before:
                return found
    return found


async def find(partition: Partition, timestamp_ms: int) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record at or after the time, below the high watermark."""
    opened = partition.around.opened
    for segment in tuple(partition.segments):
        if segment.max_timestamp < timestamp_ms or not segment.created:
            continue
        index, times = indexes(partition, segment)
        position = index.position(times.offset(timestamp_ms))
        if (piece := _cold_piece(partition, segment, position, min(SCAN_BYTES, segment.size - position))) is not None:
            await asyncio.to_thread(bring_in, opened.files, piece)
        for _, batch, data in scan(opened, segment, position):
            if batch.base_offset >= partition.high_watermark:
                return None
            if batch.max_timestamp < timestamp_ms or batch.last_offset < partition.log_start:
                continue
            for record in records_in(data):
                if record.timestamp_ms >= timestamp_ms and record.offset >= partition.log_start:
                    return record.offset, record.timestamp_ms
        await asyncio.sleep(0)
    return None


async def find_greatest(partition: Partition) -> tuple[int, int] | None:
    """(offset, timestamp) of the first record with the greatest time."""
    greatest = max((segment.max_timestamp for segment in partition.segments if segment.size), default=-1)
    return await find(partition, greatest) if greatest >= 0 else None


def _whole(chunk: memoryview, before: int) -> int:
    """How many of its bytes are whole batches that begin below `before`."""
    at: int = 0
    end = len(chunk)
    while end - at >= HEAD_BYTES:
        base_offset, length, _ = HEAD.unpack_from(chunk, at)
        if base_offset >= before or at + length + OVERHEAD_BYTES > end:
            break
        at += length + OVERHEAD_BYTES
    return at
