"""A segment: a file of batches from its base offset on, with its indexes.

Its fields are known without the file. The indexes of a closed segment are read when they are asked for; where one is missing
or makes no sense it is made again from the batches.
"""

from collections.abc import Iterator

from .errors import CorruptBatch
from .files import Files, OpenFiles, read_all, write_all
from .indexes import Aborted, OffsetIndex, TimeIndex, from_txnindex, to_txnindex
from .records import HEADER, HEADER_BYTES, OVERHEAD_BYTES, Batch

LOG, INDEX, TIME_INDEX, TRANSACTION_INDEX, SNAPSHOT = ".log", ".index", ".timeindex", ".txnindex", ".snapshot"
SUFFIXES = (LOG, INDEX, TIME_INDEX, TRANSACTION_INDEX)

SWAP = ".swap"

SCAN_BYTES = 1 << 20


class Segment:
    """`size` bytes of batches with offsets from `base` on; `max_offset` is the last offset of the batch of `max_timestamp`.

    `aborted` lists the aborted transactions that end here; None while it has not been read.
    """

    __slots__ = (
        "aborted",
        "base",
        "created",
        "first_timestamp",
        "folder",
        "index",
        "max_offset",
        "max_timestamp",
        "since_index",
        "size",
        "times",
    )

    def __init__(self, folder: str, base: int, *, created: bool = False) -> None:
        self.folder = folder
        self.base = base
        self.size = 0
        self.max_timestamp = -1
        self.max_offset = base
        self.first_timestamp = -1
        self.since_index = 0
        self.index: OffsetIndex | None = None
        self.times: TimeIndex | None = None
        self.aborted: list[Aborted] | None = None
        self.created = created
        """Whether the file is there: the writer makes it with the first batch."""

    @classmethod
    def fresh(cls, folder: str, base: int) -> "Segment":
        """An empty one that will be written."""
        self = cls(folder, base)
        self.index, self.times, self.aborted = OffsetIndex(base), TimeIndex(base), []
        return self

    def path(self, suffix: str = LOG) -> str:
        return f"{self.folder}/{self.base:020}{suffix}"

    def add(self, batch: Batch, base_offset: int, size_bytes: int, max_timestamp: int, interval_bytes: int) -> int:
        """Takes in a batch at the end, indexes included; gives its position."""
        position, last_offset = self.size, base_offset + batch.last_delta
        if max_timestamp > self.max_timestamp:
            self.max_timestamp, self.max_offset = max_timestamp, last_offset
        if self.first_timestamp < 0:
            self.first_timestamp = max_timestamp
        if self.since_index > interval_bytes:
            assert self.index is not None and self.times is not None
            self.index.append(last_offset, position)
            self.times.append(self.max_timestamp, self.max_offset)
            self.since_index = 0
        self.since_index += size_bytes
        self.size += size_bytes
        return position

    def load(self, files: Files) -> None:
        """Reads the indexes for writing on. Raises `ValueError` where one is not that of this segment."""
        if self.index is not None:
            return
        self.index, self.times = self.indexes(files)
        self.index.data, self.times.data = bytearray(self.index.data), bytearray(self.times.data)
        self.aborted = self.aborted_in(files)

    def indexes(self, files: Files) -> tuple[OffsetIndex, TimeIndex]:
        """The indexes, read from their files where this segment is closed. Raises `ValueError` and `FileNotFoundError`."""
        if self.index is not None and self.times is not None:
            return self.index, self.times
        index = OffsetIndex(self.base, read_all(files, self.path(INDEX)))
        times = TimeIndex(self.base, read_all(files, self.path(TIME_INDEX)))
        if not index.is_sane(self.size) or not times.is_sane():
            raise ValueError(f"the indexes of {self.path()} are damaged")
        return index, times

    def aborted_in(self, files: Files) -> list[Aborted]:
        """Raises `CorruptBatch` where the file is damaged; none at all means that no transaction was aborted."""
        if self.aborted is None:
            try:
                self.aborted = from_txnindex(read_all(files, self.path(TRANSACTION_INDEX)))
            except FileNotFoundError:
                self.aborted = []
            except ValueError as error:
                raise CorruptBatch(f"{self.path(TRANSACTION_INDEX)}: {error}") from error
        return self.aborted

    def index_files(self) -> list[tuple[str, bytes]]:
        """What the files of the indexes are to hold, with the time index ended by the greatest time, as Kafka ends it."""
        assert self.index is not None and self.times is not None
        times = TimeIndex(self.base, bytearray(self.times.data))
        if self.max_timestamp >= 0:
            times.append(self.max_timestamp, self.max_offset)
        found = [(self.path(INDEX), bytes(self.index.data)), (self.path(TIME_INDEX), bytes(times.data))]
        if self.aborted:
            found.append((self.path(TRANSACTION_INDEX), to_txnindex(self.aborted)))
        return found

    def drop_indexes(self) -> None:
        """Forgets what can be read again."""
        self.index = self.times = self.aborted = None

    def rebuild(self, opened: OpenFiles, interval_bytes: int) -> None:
        """Makes both sparse indexes again from the batches; the transaction index stays."""
        again = Segment.fresh(self.folder, self.base)
        for _, batch, _ in scan(opened, self):
            again.add(batch, batch.base_offset, batch.size_bytes, batch.max_timestamp, interval_bytes)
        try:
            for path, data in again.index_files():
                write_all(opened.files, path, data)
        except OSError:
            # They are kept in memory where there is no room for them.
            self.index, self.times = again.index, again.times


def scan(
    opened: OpenFiles, segment: Segment, at: int = 0, end: int | None = None
) -> Iterator[tuple[int, Batch, memoryview]]:
    """Position, header and bytes of each batch from `at` on, up to `end` or the segment's size, read in chunks.

    Ends at a batch that is cut off. Raises `CorruptBatch` for a length that cannot be; checksums are the caller's.
    """
    handle = opened.handle(segment.path())
    end = segment.size if end is None else end
    chunk, start = b"", at
    while at < end:
        if at + HEADER_BYTES > start + len(chunk):
            chunk, start = opened.files.read(handle, at, min(SCAN_BYTES, end - at)), at
            if len(chunk) < HEADER_BYTES:
                return
        batch = Batch(*HEADER.unpack_from(chunk, at - start))
        size = batch.length + OVERHEAD_BYTES
        if size < HEADER_BYTES:
            raise CorruptBatch(f"a batch of length {batch.length} at {at} of {segment.path()}")
        if at + size > end:
            return
        if at + size > start + len(chunk):
            chunk, start = opened.files.read(handle, at, max(size, min(SCAN_BYTES, end - at))), at
            if len(chunk) < size:
                return
        yield at, batch, memoryview(chunk)[at - start : at - start + size]
        at += size
        handle = opened.handle(segment.path())


def swap_name(base: int, upper: int) -> str:
    """Of a segment that takes the place of all between the two offsets, as soon as it is so called."""
    return f"{base:020}-{upper:020}{SWAP}"


def finish_swap(files: Files, folder: str, swap: str) -> None:
    """Deletes what a swap replaces and gives it its name. Broken off, it can be done again."""
    base, upper = int(swap[:20]), int(swap[21:41])
    for name in files.names(folder):
        if name.endswith(SUFFIXES) and base <= int(name[:20]) < upper:
            files.delete(f"{folder}/{name}")
    files.rename(f"{folder}/{swap}", f"{folder}/{base:020}{LOG}")
