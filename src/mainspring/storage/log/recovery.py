"""From files back to a partition.

After a clean stop everything is known from one file and no segment is read. After anything else the segments from the last
checkpoint on are scanned batch by batch: the first one whose length, order or checksum is wrong ends the log, and what follows
was never acknowledged, or stands in the commit journal, which is then put back on. Indexes of what was scanned and the state
of the producers are made again, from the newest snapshot that lies before.
"""

import logging
from collections.abc import Sequence

import msgspec

from mainspring.core.crash import crash_point

from .checkpoints import EPOCHS_FILE, FIRST_EPOCHS, Epochs, format_epochs, parse_epochs
from .errors import CorruptBatch, InvalidRecord
from .files import Files, OpenFiles, read_all, replace, write_all
from .indexes import TimeIndex
from .producers import Producers
from .records import MAGIC, Batch, batches_in, is_intact, marker_in
from .segments import LOG, SNAPSHOT, SUFFIXES, SWAP, TIME_INDEX, Segment, finish_swap, scan

LEFT_SUFFIXES = (".tmp", ".deleted", ".cleaned")

_log = logging.getLogger(__name__)


class Loaded(msgspec.Struct):
    """A partition's state as its files tell it."""

    segments: list[Segment]
    log_start: int
    end: int
    producers: Producers | None
    epochs: Epochs


def recover(
    opened: OpenFiles,
    folder: str,
    *,
    point: int,
    log_start: int,
    interval_bytes: int,
    has_gaps: bool = False,
    before: int | None = None,
    journal: Sequence[bytes | memoryview] = (),
) -> Loaded:
    """Reads a partition's files and mends them: what they hold afterwards is the log, durable.

    `point`: all below is known to be durable and is not read. `has_gaps`: compaction may have taken offsets out. `before`:
    nothing from this offset on is kept. `journal`: batches that were acknowledged, some of which the files may lack. Raises
    `OSError`.
    """
    files = opened.files
    names = _tidied(files, folder)
    segments = [Segment(folder, int(name[:20]), created=True) for name in names if name.endswith(LOG)]
    for segment in segments:
        segment.size = files.size(segment.path())
    first = max(0, sum(segment.base <= point for segment in segments) - 1)
    snapshot, states = _snapshot(files, folder, names, segments[first].base if segments else 0)
    for at, segment in enumerate(segments[:first]):
        if snapshot < segments[at + 1].base:
            _replay(opened, segment, states, snapshot)
        _know(opened, segment)
    repair = _Repair(opened, states, snapshot, interval_bytes, has_gaps, before, _Journaled(journal))
    end = segments[first].base if segments else 0
    for at in range(first, len(segments)):
        segment = segments[at]
        following = segments[at + 1].base if at + 1 < len(segments) else None
        end, is_whole = repair.scan(segment, max(end, segment.base) if has_gaps or at == first else end)
        end = repair.put_back(segment, end, following)
        is_whole = is_whole or end == following
        if following is not None and (not is_whole or not (has_gaps or end == following)):
            _drop(opened, segments[at + 1 :])
            del segments[at + 1 :]
            break
    crash_point("log.recover.truncated")
    if end < log_start:
        # All that the files have was deleted; a batch that holds the log start may still stand in the journal.
        _drop(opened, segments)
        segments.clear()
        first, end = 0, repair.journaled.holding(log_start)
    if not segments and repair.journaled.has(end):
        segments.append(Segment.fresh(folder, end))
        end = repair.put_back(segments[-1], end, None)
    _finish(opened, folder, segments[first:])
    for name in names:
        if name.endswith(SNAPSHOT) and int(name[:20]) > end:
            files.delete(f"{folder}/{name}")
    if segments:
        log_start = max(log_start, segments[0].base)
    return Loaded(segments, log_start, end, states if states.by_id else None, _epochs(files, folder, repair.epochs))


def _tidied(files: Files, folder: str) -> list[str]:
    """The names in the folder, after what a crash left half done was finished or undone."""
    names = files.names(folder)
    swaps = [name for name in names if name.endswith(SWAP)]
    left = [name for name in names if name.endswith(LEFT_SUFFIXES)]
    if not swaps and not left:
        return names
    for name in swaps:
        finish_swap(files, folder, name)
    for name in left:
        files.delete(f"{folder}/{name}")
    files.sync_folder(folder)
    return files.names(folder)


def _snapshot(files: Files, folder: str, names: Sequence[str], offset: int) -> tuple[int, Producers]:
    """The newest snapshot that can be read at or below `offset`, and up to which offset it tells."""
    for name in reversed(names):
        if name.endswith(SNAPSHOT) and int(name[:20]) <= offset:
            try:
                return int(name[:20]), Producers.from_snapshot(read_all(files, f"{folder}/{name}"))
            except ValueError:
                _log.warning("a producer snapshot is damaged", extra={"path": f"{folder}/{name}"})
    return -1, Producers()


def _replay(opened: OpenFiles, segment: Segment, states: Producers, snapshot: int) -> None:
    """Takes the producers' batches of a segment that is known to be whole."""
    for _, batch, data in scan(opened, segment):
        if batch.base_offset >= snapshot:
            _remember(segment, states, batch, data)


def _remember(segment: Segment, states: Producers, batch: Batch, data: memoryview) -> None:
    if batch.producer_id < 0:
        return
    if not batch.control:
        states.append(batch, batch.base_offset, batch.max_timestamp)
        return
    says = marker_in(data, 0, batch) if batch.count else None
    if says is not None:
        aborted = states.end(batch, batch.last_offset, says[0], says[1], batch.max_timestamp)
        if aborted is not None and segment.aborted is not None:
            segment.aborted.append(aborted)


def _know(opened: OpenFiles, segment: Segment) -> None:
    """The greatest time of a closed segment, from the end of its time index; the batches tell where that is missing."""
    try:
        times = TimeIndex(segment.base, read_all(opened.files, segment.path(TIME_INDEX)))
        if times.is_sane() and len(times):
            segment.max_timestamp, segment.max_offset = times.last()
            return
    except FileNotFoundError:
        pass
    for _, batch, _ in scan(opened, segment):
        if batch.max_timestamp > segment.max_timestamp:
            segment.max_timestamp, segment.max_offset = batch.max_timestamp, batch.last_offset


class _Journaled:
    """The batches that the journal has of a partition, in order."""

    def __init__(self, entries: Sequence[bytes | memoryview]) -> None:
        self._batches = [
            (batch, memoryview(entry)[at : at + batch.size_bytes])
            for entry in entries
            for at, batch in batches_in(entry)
        ]
        self._at = 0

    def has(self, offset: int) -> bool:
        """Whether a batch begins at `offset`; those before it are passed over."""
        while self._at < len(self._batches) and self._batches[self._at][0].base_offset < offset:
            self._at += 1
        return self._at < len(self._batches) and self._batches[self._at][0].base_offset == offset

    def holding(self, offset: int) -> int:
        """Where the batch with `offset` begins; `offset` itself where there is none."""
        found = (batch.base_offset for batch, _ in self._batches if batch.base_offset <= offset <= batch.last_offset)
        return next(found, offset)

    def next(self) -> tuple[Batch, memoryview]:
        self._at += 1
        return self._batches[self._at - 1]


class _Repair:
    """Goes through segments in order; what it finds in them goes into their indexes and the producers' state."""

    def __init__(
        self,
        opened: OpenFiles,
        states: Producers,
        snapshot: int,
        interval_bytes: int,
        has_gaps: bool,
        before: int | None,
        journaled: _Journaled,
    ) -> None:
        self._opened = opened
        self._states = states
        self._snapshot = snapshot
        self._interval_bytes = interval_bytes
        self._has_gaps = has_gaps
        self._before = before
        self.journaled = journaled
        self.epochs: list[tuple[int, int]] = []
        """(epoch, its first offset) as the batches tell."""

    def scan(self, segment: Segment, expected: int) -> tuple[int, bool]:
        """Checks every batch and cuts the file at the first that is none; gives the end, and whether nothing was cut."""
        on_disk = segment.size
        again = Segment.fresh(segment.folder, segment.base)
        epoch = -1
        try:
            for _, batch, data in scan(self._opened, segment):
                if not self._fits(batch, data, expected) or batch.leader_epoch < epoch:
                    break
                position = self._take(again, batch, data)
                if self.journaled.has(batch.base_offset):
                    # After a sync that failed the kernel shows what the disk does not have: written again, it is synced.
                    self._opened.files.write(self._opened.handle(segment.path()), [bytes(data)], position)
                expected, epoch = batch.next_offset, batch.leader_epoch
        except (CorruptBatch, InvalidRecord) as error:
            _log.warning("the log ends at a damaged batch: %s", error, extra={"path": segment.path()})
        for name in (
            "size",
            "since_index",
            "max_timestamp",
            "max_offset",
            "first_timestamp",
            "index",
            "times",
            "aborted",
        ):
            setattr(segment, name, getattr(again, name))
        if segment.size == on_disk:
            return expected, True
        _log.warning(
            "cut off %d bytes behind the last whole batch", on_disk - segment.size, extra={"path": segment.path()}
        )
        self._opened.files.truncate(self._opened.handle(segment.path()), segment.size)
        return expected, False

    def _fits(self, batch: Batch, data: memoryview, expected: int) -> bool:
        if batch.base_offset < expected or (batch.base_offset > expected and not self._has_gaps):
            return False
        if self._before is not None and batch.base_offset >= self._before:
            return False
        return batch.magic == MAGIC and is_intact(data, 0, batch)

    def _take(self, segment: Segment, batch: Batch, data: memoryview) -> int:
        if not self.epochs or batch.leader_epoch > self.epochs[-1][0]:
            self.epochs.append((batch.leader_epoch, batch.base_offset))
        if batch.base_offset >= self._snapshot:
            _remember(segment, self._states, batch, data)
        return segment.add(batch, batch.base_offset, batch.size_bytes, batch.max_timestamp, self._interval_bytes)

    def put_back(self, segment: Segment, end: int, following: int | None) -> int:
        """Appends what the journal has and the files lack, up to the offset with which the next segment begins."""
        while (following is None or end < following) and self.journaled.has(end):
            batch, data = self.journaled.next()
            segment.load(self._opened.files)
            position = self._take(segment, batch, data)
            handle = self._opened.handle(segment.path(), create=not segment.created)
            self._opened.files.write(handle, [bytes(data)], position)
            segment.created = True
            end = batch.next_offset
        return end


def _finish(opened: OpenFiles, folder: str, segments: Sequence[Segment]) -> None:
    """Makes durable what was mended, and leaves the indexes beside all but the active segment."""
    for segment in segments:
        if segment.created:
            opened.files.sync(opened.handle(segment.path()))
    for segment in segments[:-1]:
        for path, data in segment.index_files():
            write_all(opened.files, path, data)
        aborted = segment.aborted
        segment.drop_indexes()
        segment.aborted = aborted
    if segments:
        opened.files.sync_folder(folder)


def _drop(opened: OpenFiles, segments: Sequence[Segment]) -> None:
    for segment in segments:
        _log.warning("a segment behind a damaged batch goes", extra={"path": segment.path()})
        for suffix in SUFFIXES:
            opened.close(segment.path(suffix))
            opened.files.delete(segment.path(suffix))


def _epochs(files: Files, folder: str, seen: Sequence[tuple[int, int]]) -> Epochs:
    """The leader epochs that were written down, and those of the batches; written down anew where that was lost."""
    path = f"{folder}/{EPOCHS_FILE}"
    epochs: Epochs = ()
    try:
        epochs = parse_epochs(read_all(files, path).decode())
    except FileNotFoundError:
        pass
    except ValueError:
        _log.warning("the leader epochs are damaged", extra={"path": folder})
    known = epochs
    for epoch, start in seen:
        if not epochs or epoch > epochs[-1][0]:
            epochs = (*epochs, (epoch, start))
    if seen and epochs != known:
        replace(files, path, format_epochs(epochs))
    return epochs or FIRST_EPOCHS


class CleanSegment(msgspec.Struct, array_like=True):
    base: int
    size: int
    max_timestamp: int
    max_offset: int
    first_timestamp: int
    since_index: int


class CleanPartition(msgspec.Struct, array_like=True):
    """What a clean stop knows of a partition."""

    log_start: int
    end: int
    epochs: Epochs
    segments: list[CleanSegment]
    producers: bytes
    kept: list[tuple[int, list[tuple[int, int, int, int]]]]


def to_clean(
    segments: Sequence[Segment],
    log_start: int,
    end: int,
    epochs: Epochs,
    producers: Producers | None,
) -> CleanPartition:
    return CleanPartition(
        log_start,
        end,
        epochs,
        [
            CleanSegment(
                segment.base,
                segment.size,
                segment.max_timestamp,
                segment.max_offset,
                segment.first_timestamp,
                segment.since_index,
            )
            for segment in segments
            if segment.created
        ],
        producers.to_snapshot() if producers is not None else b"",
        producers.kept() if producers is not None else [],  # type: ignore[arg-type]
    )


def from_clean(files: Files, folder: str, clean: CleanPartition) -> Loaded | None:
    """The state as it was; None where the active segment is not as it was left, so that it must be read."""
    segments: list[Segment] = []
    for known in clean.segments:
        segment = Segment(folder, known.base, created=True)
        segment.size, segment.since_index = known.size, known.since_index
        segment.max_timestamp, segment.max_offset = known.max_timestamp, known.max_offset
        segment.first_timestamp = known.first_timestamp
        segments.append(segment)
    producers: Producers | None = None
    try:
        if segments and files.size(segments[-1].path()) != segments[-1].size:
            return None
        if clean.producers:
            producers = Producers.from_snapshot(clean.producers)
            producers.keep(clean.kept)
    except (ValueError, FileNotFoundError):
        return None
    return Loaded(segments, clean.log_start, clean.end, producers, clean.epochs)


def decode_clean(data: bytes) -> dict[str, CleanPartition]:
    """Folder name to `CleanPartition`. Raises `msgspec.DecodeError`."""
    return msgspec.msgpack.decode(data, type=dict[str, CleanPartition])
