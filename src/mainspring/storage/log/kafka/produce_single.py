"""The Produce request that a busy producer sends: records for one partition, without a transaction, in a flexible version.

Everything of it before the records repeats from request to request, and so does most of its answer. What a first request was
read as is kept under those very bytes; the next costs a lookup, a check that nothing follows the records, and one
concatenation. Whatever differs is left to `produce_keys`, which can read everything.
"""

import struct
from typing import Any, NamedTuple

from mainspring.storage.log.kafka.registry import Context, Later
from mainspring.storage.log.kafka.varints import get_varint, put_varint

SHAPES_MAX = 10_000
_HEAD = struct.Struct(">iib")
_PART = struct.Struct(">ihqqq")
_THROTTLE = struct.Struct(">ib")
_NO_ERRORS = b"\x01\x00\x00\x00"
"""No refused batches, no message, and no tags of the partition and of the topic."""
_NO_TAGS = b"\0\0\0"
_BATCH_HEADER_BYTES = 61
_TRANSACTIONAL = 0x10


class Shape(NamedTuple):
    """What such requests have in common. `middle` is what their answers have between the header and the partition."""

    topic: str | bytes
    partition: int
    acks: int
    middle: bytes


Shapes = dict[bytes, Shape]


def _key(frame: memoryview, at: int, version: int) -> bytes | None:
    """The bytes before the records; None where this cannot be a request of this kind."""
    if len(frame) < at + 26 or frame[at] or frame[at + 7] != 2:
        return None
    if version >= 13:
        return bytes(frame[at : at + 29])
    size = frame[at + 8]
    return bytes(frame[at : at + size + 13]) if 1 < size < 0x80 else None


def find(frame: memoryview, at: int, version: int, shapes: Shapes) -> tuple[Shape, memoryview] | None:
    """The shape of a request like one before, and its records; None for any other."""
    key = _key(frame, at, version)
    shape = shapes.get(key) if key is not None else None
    if shape is None or key is None:
        return None
    try:
        size, begin = get_varint(frame, at + len(key))
    except (IndexError, ValueError):
        return None
    end = begin + size - 1
    if size <= _BATCH_HEADER_BYTES or frame[end:] != _NO_TAGS or frame[begin + 22] & _TRANSACTIONAL:
        return None
    return shape, frame[begin:end]


def remember(
    frame: memoryview, at: int, version: int, shapes: Shapes, topic: str | bytes, partition: int, acks: int
) -> None:
    """Keeps what a request with a single part was read as."""
    key = _key(frame, at, version)
    if key is None or acks not in (-1, 1):
        return
    middle = bytearray(b"\x02")
    if isinstance(topic, str):
        name = topic.encode()
        put_varint(middle, len(name) + 1)
        middle += name
    else:
        middle += topic
    middle.append(2)
    if len(shapes) >= SHAPES_MAX:
        shapes.clear()
    shapes[key] = Shape(topic, partition, acks, bytes(middle))


def written(shape: Shape, context: Context, appending: Any) -> bytes:
    """The answer of records that hold."""
    middle = shape.middle
    return (
        _HEAD.pack(len(middle) + 44, context.correlation_id, 0)
        + middle
        + _PART.pack(shape.partition, 0, appending.base_offset, appending.log_append_time_ms, appending.log_start)
        + _NO_ERRORS
        + _THROTTLE.pack(context.throttle_ms, 0)
    )


class Single(Later):
    """Such a request on its way to the disk."""

    __slots__ = ("_appending", "_context", "_failed", "_shape")

    def __init__(self, shape: Shape, context: Context, appending: Any, failed: Any) -> None:
        """`failed(shape, context, error)` writes the answer of records that do not hold."""
        self._shape = shape
        self._context = context
        self._appending = appending
        self._failed = failed

    def durable(self) -> None:
        error = self._appending.error
        if error is None:
            self.then(written(self._shape, self._context, self._appending))
        else:
            self.then(self._failed(self._shape, self._context, error))
