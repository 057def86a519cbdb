"""What compaction would keep of a partition, found by reading it, with nothing changed.

Compaction keeps the last record of every key and drops what was written over, and what was aborted. It reads closed segments
only, none that is younger than `min.compaction.lag.ms` or that an open transaction reaches into. A tombstone that it keeps goes
once `delete.retention.ms` have passed.
"""

import asyncio
from itertools import pairwise
from typing import Literal

import msgspec

from mainspring.storage.log.model import Fetched
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.reader import visible
from mainspring.storage.log.records import batches_in, records_in
from mainspring.storage.log.views import text_and_base64

RECORDS_MAX = 200_000
SHOWN_MAX = 200
READ_BYTES = 1 << 20

Fate = Literal["kept", "tombstone", "superseded", "aborted", "without key", "not compacted"]


class FateView(msgspec.Struct, omit_defaults=True):
    """One record; `by` is the offset that supersedes it."""

    offset: int
    key: str | None
    fate: Fate
    size_bytes: int
    key_base64: str | msgspec.UnsetType = msgspec.UNSET
    by: int | msgspec.UnsetType = msgspec.UNSET


class SegmentFate(msgspec.Struct):
    """A segment's records and their keys' and values' bytes, now and after; one that is not `closed` stays as it is."""

    file: str
    base_offset: int
    closed: bool
    records: int
    records_kept: int
    size_bytes: int
    kept_bytes: int


class CompactionView(msgspec.Struct):
    """`enabled`: whether this topic is compacted at all. Not `complete` where only the first 200,000 records were read.
    `records` are the last two hundred of them."""

    enabled: bool
    complete: bool
    keys: int
    tombstones: int
    segments: list[SegmentFate]
    records: list[FateView]


class _One(msgspec.Struct, gc=False):
    offset: int
    key: bytes | None
    is_tombstone: bool
    is_aborted: bool
    size_bytes: int


async def preview(partition: Partition, now_ms: int, *, active: bool) -> CompactionView:
    """`active`: as if the newest segment were closed. Raises `LogError` where a batch cannot be read."""
    found: list[_One] = []
    offset, end = partition.log_start, partition.last_stable
    while offset < end and len(found) < RECORDS_MAX:
        await partition.warm(offset, READ_BYTES)
        fetched = partition.read(offset, READ_BYTES, committed=True)
        if not fetched.buffers:
            break
        more, offset = await asyncio.to_thread(_records, fetched, offset)
        found += more
    bases = [segment.base for segment in partition.segments]
    closed_before = end if active else _closed_before(partition, now_ms)
    made = await asyncio.to_thread(_judge, found, bases, closed_before)
    made.enabled, made.complete = partition.topic.config.is_compacted, offset >= end
    return made


def _closed_before(partition: Partition, now_ms: int) -> int:
    """Where the part ends that compaction would read: at the newest segment, or at one that is too young or unsettled."""
    lag_ms = partition.topic.config.min_compaction_lag_ms
    for segment, after in pairwise(partition.segments):
        if after.base > partition.last_stable or (lag_ms and segment.max_timestamp > now_ms - lag_ms):
            return segment.base
    return partition.segments[-1].base if partition.segments else 0


def _records(fetched: Fetched, offset: int) -> tuple[list[_One], int]:
    """All records of these batches, those of aborted transactions too, and the offset after them."""
    seen = {read.offset for read in visible(fetched, offset, RECORDS_MAX).records}
    found = []
    for buffer in fetched.buffers:
        view = memoryview(buffer)
        for at, batch in batches_in(view):
            for read in records_in(view[at : at + batch.size_bytes]) if not batch.control else ():
                if read.offset >= offset:
                    size_bytes = len(read.key or b"") + len(read.value or b"")
                    is_aborted = read.offset not in seen
                    found.append(_One(read.offset, read.key, read.value is None, is_aborted, size_bytes))
            offset = max(offset, batch.next_offset)
    return found, offset


def _judge(found: list[_One], bases: list[int], closed_before: int) -> CompactionView:
    latest = {
        one.key: one.offset
        for one in found
        if one.offset < closed_before and not one.is_aborted and one.key is not None
    }
    segments = [SegmentFate(f"{base:020}.log", base, base < closed_before, 0, 0, 0, 0) for base in bases]
    shown: list[FateView] = []
    tombstones = at = 0
    for one in found:
        while at + 1 < len(bases) and one.offset >= bases[at + 1]:
            at += 1
        fate, by = _fate(one, latest, closed_before)
        keeps = fate in ("kept", "tombstone", "not compacted")
        segment = segments[at]
        segment.records += 1
        segment.size_bytes += one.size_bytes
        segment.records_kept += keeps
        segment.kept_bytes += one.size_bytes if keeps else 0
        tombstones += fate == "tombstone"
        key, key_base64 = text_and_base64(one.key)
        shown.append(FateView(one.offset, key, fate, one.size_bytes, key_base64, by))
        if len(shown) > 2 * SHOWN_MAX:
            del shown[:SHOWN_MAX]
    return CompactionView(False, False, len(latest), tombstones, segments, shown[-SHOWN_MAX:])


def _fate(one: _One, latest: dict[bytes, int], closed_before: int) -> tuple[Fate, int | msgspec.UnsetType]:
    if one.offset >= closed_before:
        return "not compacted", msgspec.UNSET
    if one.is_aborted:
        return "aborted", msgspec.UNSET
    if one.key is None:
        return "without key", msgspec.UNSET
    last = latest[one.key]
    if one.offset < last:
        return "superseded", last
    return ("tombstone" if one.is_tombstone else "kept"), msgspec.UNSET
