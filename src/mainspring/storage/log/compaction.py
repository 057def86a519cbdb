"""Compaction: of all records with the same key only the last stays, at its own offset.

Two passes, as Kafka's cleaner makes them. The first reads the part that was never cleaned and notes the last offset of each
key; the second copies segments and leaves out what has a later record. Batches keep the range of offsets that they cover. A
record without a value (a tombstone) and a marker whose transaction has no record left get a time from which on they may go,
and go at the first cleaning after it. Records of aborted transactions go. Of a producer that is still known the last batch
stays, empty if need be: its sequence must be found again.

A batch that cannot be read, or that expands beyond bounds, stays as it is and is counted.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from .codecs import EXPANDED_BYTES_MAX, Codec
from .errors import CorruptBatch, UnsupportedCompression
from .files import OpenFiles
from .indexes import Aborted
from .offset_map import OffsetMap
from .records import HAS_DELETE_HORIZON, HEADER_BYTES, Batch, Control, Read, marker_in, parse, rebuilt, records_in
from .segments import Segment, scan

EXPANSION_MAX = 64


class Task(msgspec.Struct):
    """What to clean: whole closed segments, the clean ones first, up to `upper` (below the last stable offset).

    `first_dirty` is where the last cleaning ended. `last_batches` gives for each known producer the last offset of its last
    batch, or -1 and its epoch where only a marker is left of it.
    """

    segments: list[Segment]
    first_dirty: int
    upper: int
    now_ms: int
    delete_retention_ms: int
    segment_bytes_max: int
    interval_bytes: int
    map_bytes_max: int
    aborted: list[Aborted]
    last_batches: Mapping[int, tuple[int, int]]
    is_cancelled: bool = False
    """Set by whoever no longer wants it."""


class Cancelled(OSError):
    """The log stops; what was written so far is a leftover."""


class Outcome(msgspec.Struct):
    """What a cleaning has done: each group of old segments and the one that takes their place, and the figures."""

    cleaned_to: int = 0
    groups: list[tuple[list[Segment], Segment, str]] = []
    records_read: int = 0
    records_kept: int = 0
    batches_unreadable: int = 0


class Transactions:
    """Which batches belong to aborted transactions, followed in the order of the log."""

    def __init__(self, aborted: Iterable[Aborted]) -> None:
        self._waiting = sorted(aborted, key=lambda entry: entry.first_offset, reverse=True)
        self._aborted: dict[int, tuple[Aborted, bool]] = {}
        """Producers in an aborted transaction, and whether a batch of it has been seen."""
        self._committed: set[int] = set()
        self.kept: list[Aborted] = []
        """Those that have ended and of which a batch is still there."""

    def is_discarded(self, batch: Batch, data: memoryview) -> bool:
        """Whether nothing in this batch is worth keeping: aborted records, or a marker that ends nothing any more."""
        while self._waiting and self._waiting[-1].first_offset <= batch.last_offset:
            entry = self._waiting.pop()
            self._aborted.setdefault(entry.producer_id, (entry, False))
        id = batch.producer_id
        if batch.control:
            return self._is_spent(id, batch, data)
        if not batch.transactional:
            return False
        if id in self._aborted:
            self._aborted[id] = (self._aborted[id][0], True)
            return True
        self._committed.add(id)
        return False

    def _is_spent(self, id: int, batch: Batch, data: memoryview) -> bool:
        says = marker_in(data, 0, batch) if batch.count else None
        if says is None:
            return not batch.count
        was_seen = id in self._committed
        self._committed.discard(id)
        if says[0] is Control.COMMIT:
            return not was_seen
        entry, was_seen = self._aborted.pop(id, (None, was_seen))
        if entry is not None and was_seen:
            self.kept.append(entry)
        return not was_seen


def fill(opened: OpenFiles, task: Task, outcome: Outcome) -> OffsetMap:
    """The first pass: the last offset of each key in the part that was never cleaned, as far as memory goes."""
    offsets = OffsetMap(task.map_bytes_max, max(1, task.upper - max(task.first_dirty, task.segments[0].base)))
    transactions = Transactions(entry for entry in task.aborted if entry.last_offset >= task.first_dirty)
    for at, segment in enumerate(task.segments):
        if _upper(task, at) <= task.first_dirty:
            continue
        for _, batch, data in scan(opened, segment):
            if batch.last_offset < task.first_dirty:
                continue
            _pause(task)
            if not transactions.is_discarded(batch, data) and not batch.control:
                try:
                    for record in _records(batch, data):
                        if record.key is not None:
                            offsets.put(record.key, record.offset)
                except OverflowError:
                    # What was noted of this batch is right; what was not is kept, since it lies behind `latest`.
                    return offsets
                except (CorruptBatch, UnsupportedCompression):
                    outcome.batches_unreadable += 1
            offsets.latest = batch.last_offset
    offsets.latest = task.upper - 1
    return offsets


def clean(opened: OpenFiles, task: Task) -> Outcome:
    """Both passes; the new segments lie beside the old ones under their temporary names, durable. Raises `OSError`."""
    outcome = Outcome(groups=[])
    offsets = fill(opened, task, outcome)
    outcome.cleaned_to = max(task.first_dirty, offsets.latest + 1)
    outcome.batches_unreadable = 0
    transactions = Transactions(task.aborted)
    # The last one may be cleaned in part: what lies behind `latest` in it stays.
    for segment in [segment for segment in task.segments if segment.base <= offsets.latest]:
        group, into, path = outcome.groups[-1] if outcome.groups else ([], None, "")
        if into is None or into.size + segment.size > task.segment_bytes_max or segment.base - into.base >= 1 << 30:
            _end(opened, outcome, transactions)
            group, into = [], Segment.fresh(segment.folder, segment.base)
            path = into.path() + ".cleaned"
            opened.files.delete(path)
            outcome.groups.append((group, into, path))
        group.append(segment)
        handle = opened.handle(path, create=True)
        for data in _kept(opened, segment, task, offsets, transactions, outcome):
            batch = parse(data)
            position = into.add(batch, batch.base_offset, len(data), batch.max_timestamp, task.interval_bytes)
            opened.files.write(handle, [data], position)
    _end(opened, outcome, transactions)
    return outcome


def _end(opened: OpenFiles, outcome: Outcome, transactions: Transactions) -> None:
    """Makes the last group's new segment durable."""
    if outcome.groups:
        _, into, path = outcome.groups[-1]
        opened.files.sync(opened.handle(path, create=True))
        opened.close(path)
        into.created = True
        into.aborted, transactions.kept = transactions.kept, []


def _kept(
    opened: OpenFiles,
    segment: Segment,
    task: Task,
    offsets: OffsetMap,
    transactions: Transactions,
    outcome: Outcome,
) -> Iterator[bytes]:
    """The batches that stay of a segment, each as it is to be written."""
    for _, batch, data in scan(opened, segment):
        _pause(task)
        is_discarded = transactions.is_discarded(batch, data)
        try:
            records = list(_records(batch, data))
        except (CorruptBatch, UnsupportedCompression):
            outcome.batches_unreadable += 1
            yield bytes(data)
            continue
        stay = [read for read in records if _stays(read, batch, is_discarded, offsets, task)]
        outcome.records_read += len(records)
        outcome.records_kept += len(stay)
        if not stay and not _must_stay(batch, task):
            continue
        horizon_ms = _horizon(batch, stay, is_discarded, task)
        if len(stay) == batch.count and horizon_ms is None:
            yield bytes(data)
            continue
        if batch.attributes & HAS_DELETE_HORIZON:
            horizon_ms = batch.base_timestamp
        yield rebuilt(batch, stay, batch.codec if stay else Codec.NONE, horizon_ms)


def _pause(task: Task) -> None:
    """Between two batches others get their turn: this is the one place where the log handles record by record."""
    time.sleep(0)
    if task.is_cancelled:
        raise Cancelled


def _stays(read: Read, batch: Batch, is_discarded: bool, offsets: OffsetMap, task: Task) -> bool:
    if batch.control:
        return not (is_discarded and _is_past_horizon(batch, task))
    if is_discarded:
        return False
    if read.offset > offsets.latest:
        return True
    if read.key is None:
        return False
    if read.offset < offsets.get(read.key):
        return False
    return read.value is not None or not _is_past_horizon(batch, task)


def _is_past_horizon(batch: Batch, task: Task) -> bool:
    return bool(batch.attributes & HAS_DELETE_HORIZON) and batch.base_timestamp <= task.now_ms


def _horizon(batch: Batch, stay: Sequence[Read], is_discarded: bool, task: Task) -> int | None:
    """From when on what is left of the batch may go, where that is not yet written in it."""
    if batch.attributes & HAS_DELETE_HORIZON:
        return None
    has_tombstone = not batch.control and any(read.value is None for read in stay)
    is_empty_marker = batch.control and is_discarded and bool(stay)
    return task.now_ms + task.delete_retention_ms if has_tombstone or is_empty_marker else None


def _must_stay(batch: Batch, task: Task) -> bool:
    """Whether the batch stays without a record: its producer's last, or the one that the range ends with."""
    if batch.next_offset == task.upper:
        return True
    last = task.last_batches.get(batch.producer_id)
    if last is None:
        return False
    offset, epoch = last
    return batch.last_offset == offset if offset >= 0 else batch.control and batch.producer_epoch == epoch


def _records(batch: Batch, data: memoryview) -> Iterator[Read]:
    if not batch.count:
        return iter(())
    bytes_max = min(EXPANDED_BYTES_MAX, EXPANSION_MAX * (batch.size_bytes - HEADER_BYTES))
    return records_in(data, bytes_max)


def _upper(task: Task, at: int) -> int:
    return task.segments[at + 1].base if at + 1 < len(task.segments) else task.upper
