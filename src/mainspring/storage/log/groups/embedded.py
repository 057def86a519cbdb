"""The consumers' own protocol inside the classic one: subscriptions and assignments as clients write them.

The coordinator need not understand them, except to say which topics a group reads (so that offsets of others may go), and to
let a classic member live in a new consumer group. What it cannot read is another protocol's and is left alone.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence

import msgspec

PROTOCOL_TYPE = "consumer"
VERSION_MAX = 3


class Subscription(msgspec.Struct, frozen=True):
    """`owned` are (topic, partitions) that a cooperative member still holds, of `generation` where it says."""

    version: int
    topics: tuple[str, ...]
    user_data: bytes | None = None
    owned: tuple[tuple[str, tuple[int, ...]], ...] = ()
    generation: int = -1
    rack: str | None = None


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, layout: str) -> int:
        number: int = struct.unpack_from(layout, self._data, self._at)[0]
        self._at += struct.calcsize(layout)
        return number

    def data(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise IndexError("it ends early")
        self._at += count
        return self._data[self._at - count : self._at]

    def string(self) -> str | None:
        count = self.take(">h")
        return None if count < 0 else self.data(count).decode()

    def count(self) -> int:
        count = self.take(">i")
        if count > len(self._data):
            raise IndexError("a length points past the end")
        return max(0, count)

    def partitions(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple(
            (self.string() or "", tuple(self.take(">i") for _ in range(self.count()))) for _ in range(self.count())
        )

    def blob(self) -> bytes | None:
        count = self.take(">i")
        return None if count < 0 else self.data(count)


def read_subscription(metadata: bytes) -> Subscription | None:
    """None where the bytes are not the consumers' protocol."""
    cursor = _Cursor(metadata)
    try:
        version = cursor.take(">h")
        topics = tuple(cursor.string() or "" for _ in range(cursor.count()))
        user_data = cursor.blob()
        owned = cursor.partitions() if version >= 1 else ()
        generation = cursor.take(">i") if version >= 2 else -1
        rack = cursor.string() if version >= 3 else None
    except (struct.error, IndexError, UnicodeDecodeError):
        return None
    return Subscription(version, topics, user_data, owned, generation, rack)


def read_assignment(assignment: bytes) -> tuple[tuple[str, tuple[int, ...]], ...] | None:
    """(topic, partitions) pairs; None where the bytes are not the consumers' protocol."""
    cursor = _Cursor(assignment)
    try:
        cursor.take(">h")
        return cursor.partitions()
    except (struct.error, IndexError, UnicodeDecodeError):
        return None


def write_subscription(
    topics: Iterable[str], owned: Sequence[tuple[str, Sequence[int]]] = (), generation: int = -1, version: int = 3
) -> bytes:
    names = list(topics)
    out = bytearray(struct.pack(">hi", version, len(names)))
    for name in names:
        out += _string(name)
    out += struct.pack(">i", -1)
    if version >= 1:
        _partitions(out, owned)
    if version >= 2:
        out += struct.pack(">i", generation)
    if version >= 3:
        out += struct.pack(">h", -1)
    return bytes(out)


def write_assignment(topics: Mapping[str, Iterable[int]], version: int = 3) -> bytes:
    out = bytearray(struct.pack(">h", min(version, VERSION_MAX)))
    _partitions(out, [(topic, sorted(partitions)) for topic, partitions in sorted(topics.items())])
    out += struct.pack(">i", -1)
    return bytes(out)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def _partitions(out: bytearray, owned: Sequence[tuple[str, Sequence[int]]]) -> None:
    out += struct.pack(">i", len(owned))
    for topic, partitions in owned:
        out += _string(topic) + struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
