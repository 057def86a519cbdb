"""The three indexes of a segment, byte for byte as Kafka writes them.

`.index` has an entry for every few KiB of batches: (last offset of a batch − base offset: i32, where that batch begins: i32).
`.timeindex` says with each the greatest time so far and the last offset of the batch that has it: (time in ms: i64, offset −
base offset: i32). `.txnindex` lists the aborted transactions that end in the segment. The first two are sparse: what they
give is where to begin to look. All can be made again from the batches.

An index is bytes in both its lives: a bytearray that grows while its segment is written, the file's bytes afterwards.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

_POSITION = Struct(">ii")
_TIME = Struct(">qi")
_ABORTED = Struct(">hqqqq")
_FIRST_INT = Struct(">i")
_FIRST_LONG = Struct(">q")


class OffsetIndex:
    """Where in the file to begin to look for an offset."""

    __slots__ = ("base", "data")

    def __init__(self, base: int, data: bytes | bytearray | None = None) -> None:
        self.base = base
        self.data = bytearray() if data is None else data

    def __len__(self) -> int:
        return len(self.data) // _POSITION.size

    def append(self, offset: int, position: int) -> None:
        self.data += _POSITION.pack(offset - self.base, position)

    def position(self, offset: int) -> int:
        """The beginning of a batch that does not begin after `offset`, near it."""
        data, relative = self.data, offset - self.base
        at = bisect_right(range(len(self)), relative, key=lambda n: _FIRST_INT.unpack_from(data, n * 8)[0])
        return _POSITION.unpack_from(data, (at - 1) * 8)[1] if at else 0

    def is_sane(self, size_bytes: int) -> bool:
        """Whether this can be the index of a segment of that size."""
        if len(self.data) % _POSITION.size:
            return False
        if not self.data:
            return True
        offset, position = _POSITION.unpack_from(self.data, len(self.data) - 8)
        return bool(offset > 0 and 0 <= position < size_bytes)


class TimeIndex:
    """Up to which offset times are below a time."""

    __slots__ = ("base", "data")

    def __init__(self, base: int, data: bytes | bytearray | None = None) -> None:
        self.base = base
        self.data = bytearray() if data is None else data

    def __len__(self) -> int:
        return len(self.data) // _TIME.size

    def last(self) -> tuple[int, int]:
        """The greatest time and the offset of its batch; (-1, base) of an empty index."""
        if not self.data:
            return -1, self.base
        time_ms, relative = _TIME.unpack_from(self.data, len(self.data) - _TIME.size)
        return time_ms, self.base + relative

    def append(self, time_ms: int, offset: int) -> None:
        """Adds an entry where time has moved on since the last."""
        if time_ms > self.last()[0]:
            self.data += _TIME.pack(time_ms, offset - self.base)

    def offset(self, time_ms: int) -> int:
        """An offset such that every batch that ends at or before it is older than `time_ms`; the base where there is none."""
        data = self.data
        at = bisect_left(range(len(self)), time_ms, key=lambda n: _FIRST_LONG.unpack_from(data, n * 12)[0])
        return self.base + _TIME.unpack_from(data, (at - 1) * 12)[1] if at else self.base

    def is_sane(self) -> bool:
        return len(self.data) % _TIME.size == 0


class Aborted(NamedTuple):
    """A transaction that was aborted, and what the last stable offset was once it had ended."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable: int


def to_txnindex(entries: Iterable[Aborted]) -> bytes:
    return b"".join(_ABORTED.pack(0, *entry) for entry in entries)


def from_txnindex(data: bytes) -> list[Aborted]:
    """Raises `ValueError` for what is no transaction index."""
    if len(data) % _ABORTED.size:
        raise ValueError(f"{len(data)} bytes are no transaction index")
    return [Aborted(*entry[1:]) for entry in _ABORTED.iter_unpack(data)]
