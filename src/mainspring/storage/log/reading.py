"""Reading a partition's files: from an offset, from a time, and which transactions were aborted in between.

What comes back are whole batches as they lie in the file; headers are looked at, records only where a time is searched.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING

from .indexes import OffsetIndex, TimeIndex
from .records import HEAD, HEAD_BYTES, OVERHEAD_BYTES, records_in
from .segments import Segment, scan

if TYPE_CHECKING:
    from .partition import Partition

SEARCH_BYTES = 8 << 10
"""Read at once to find a batch from where the index points: two of its intervals."""


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
    position = indexes(partition, segment)[0].position(offset)
    for start, batch, _ in scan(opened, segment, position, chunk_bytes=SEARCH_BYTES):
        if batch.base_offset >= before:
            break
        if batch.last_offset < offset:
            continue
        size = max(batch.size_bytes, min(bytes_max, segment.size - start))
        chunk = memoryview(opened.files.read(opened.handle(segment.path()), start, size))
        return chunk[: _whole(chunk, before)]
    return memoryview(b"")


def segment_of(partition: Partition, offset: int) -> int:
    """The index of the segment that may hold `offset`."""
    return max(0, bisect_right(partition.segments, offset, key=attrgetter("base")) - 1)


def indexes(partition: Partition, segment: Segment) -> tuple[OffsetIndex, TimeIndex]:
    opened = partition.around.opened
    try:
        return segment.indexes(opened.files)
    except (ValueError, FileNotFoundError):
        segment.rebuild(opened, partition.topic.config.index_interval_bytes)
        return segment.indexes(opened.files)


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
        for _, batch, data in scan(opened, segment, index.position(times.offset(timestamp_ms))):
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
