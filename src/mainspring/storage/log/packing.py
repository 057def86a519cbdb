"""Records of this process as batches: as few as the topic's largest allows, and with as little Python for each as may be.

A record without key and headers, with the time of its batch, is (numbers are zigzag varints)

    size | attributes 0 | timestamp delta 0 | offset delta | no key -1 | length of the value | value | no headers 0

What stands around the value follows from its length or from its place in the batch. Both come from tables and one `join`
makes the batch, so that no step of Python touches a record by itself. Records with keys go one by one to the C codec.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from mainspring.storage.log.errors import MessageTooLarge
from mainspring.storage.log.records import HEADER_BYTES, Headers, build, build_pairs, headed
from mainspring.storage.log.topics import Topic


class New(NamedTuple):
    """A record to append. Without `timestamp_ms` its time is now; without `partition` its key says where it goes."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp_ms: int | None = None
    partition: int | None = None


Item = tuple[int, bytes | None, bytes | None, Headers]
"""A record as batches are built of it: milliseconds UTC, key, value, headers."""
Pair = tuple[bytes | None, bytes]
"""Key and value."""

_PLAIN = (None, (), None)
"""Key, headers and time of a record that has none."""

RECORD_BYTES_AROUND = 36
"""At most so many bytes of a batch are of a record beside its key, value and headers: five varints and a length."""
HEADER_BYTES_AROUND = 10

RECORDS_MAX = 8_192
"""In a batch of plain records: their offset deltas take at most two bytes, and so many entries has their table."""
_SHORT_DELTAS = 64
_LENGTHS_MAX = 4_096
"""So many lengths of values are remembered."""
HEADS_MAX = 8
"""Of so many lengths whole tables are kept: 350 KB each for batches of the most records."""
_PACKED_MIN = 4
"""Fewer records than these take the C codec less time."""


class _ByLength(dict[int, bytes]):
    """What `make` says of each length, remembered."""

    def __init__(self, make: Callable[[int], bytes]) -> None:
        self._make = make

    def __missing__(self, length: int) -> bytes:
        if len(self) >= _LENGTHS_MAX:
            self.clear()
        found = self[length] = self._make(length)
        return found


def _zigzag(value: int) -> bytes:
    value <<= 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _opening(length: int, delta_bytes: int) -> bytes:
    """The end of the record before, then one with a value of `length` up to its offset delta."""
    around = 4 + delta_bytes  # Attributes, timestamp delta, no key, no headers.
    return b"\0" + _zigzag(around + len(_zigzag(length)) + length) + b"\0\0"


_opening_short = _ByLength(lambda length: _opening(length, 1))
_opening_long = _ByLength(lambda length: _opening(length, 2))
_lengths = _ByLength(_zigzag)


class _Heads(dict[int, list[bytes]]):
    """Of each length of values all that stands before a value, by its place: for batches whose values are of one length."""

    def __missing__(self, length: int) -> list[bytes]:
        if len(self) >= HEADS_MAX:
            self.clear()
        found = self[length] = []
        return found

    def of(self, length: int, count: int) -> list[bytes]:
        """Those of the first `count` records."""
        heads = self[length]
        for at in range(len(heads), count):
            opening = _opening_short if at < _SHORT_DELTAS else _opening_long
            heads.append(opening[length] + _deltas()[at] + _lengths[length])
        return heads[:count]


_heads = _Heads()


@cache
def _deltas() -> list[bytes]:
    """Offset deltas, each with what says that there is no key."""
    return [_zigzag(delta) + b"\1" for delta in range(RECORDS_MAX)]


def pack(values: Sequence[bytes], at_ms: int, lengths: Sequence[int]) -> bytearray:
    """One batch of at most `RECORDS_MAX` records without keys."""
    count = len(values)
    if lengths.count(lengths[0]) == count:
        pieces = [b"\0"] * (2 * count + 1)
        pieces[0:-1:2] = _heads.of(lengths[0], count)
        pieces[1::2] = values
    else:
        pieces = [b"\0"] * (4 * count + 1)
        pieces[0:-1:4] = [
            *map(_opening_short.__getitem__, lengths[:_SHORT_DELTAS]),
            *map(_opening_long.__getitem__, lengths[_SHORT_DELTAS:]),
        ]
        pieces[1::4] = _deltas()[:count]
        pieces[2::4] = map(_lengths.__getitem__, lengths)
        pieces[3::4] = values
    pieces[0] = bytes(HEADER_BYTES) + pieces[0][1:]
    return headed(bytearray().join(pieces), count, at_ms)


def batches_of_values(topic: Topic, values: Sequence[bytes], at_ms: int) -> bytes | bytearray:
    """Raises `MessageTooLarge` for a value that no batch can hold."""
    count, lengths = len(values), list(map(len, values))
    spans = _spans(topic, lengths, RECORDS_MAX)
    if count < _PACKED_MIN:
        return _joined([build_pairs([(None, value) for value in values[start:end]], at_ms) for start, end in spans])
    return _joined([pack(values[start:end], at_ms, lengths[start:end]) for start, end in spans])


def batches_of_pairs(topic: Topic, pairs: Sequence[Pair], at_ms: int) -> bytes | bytearray:
    """Raises `MessageTooLarge` for a record that no batch can hold."""
    lengths = [len(value) + (len(key) if key else 0) for key, value in pairs]
    spans = _spans(topic, lengths, len(pairs))
    return _joined([build_pairs(pairs[start:end], at_ms) for start, end in spans])


def batches_of_items(topic: Topic, items: Sequence[Item]) -> bytes | bytearray:
    """Raises `MessageTooLarge` for a record that no batch can hold."""
    lengths = [(len(value) if value else 0) + (len(key) if key else 0) for _, key, value, _ in items]
    for at, (_, _, _, headers) in enumerate(items):
        for name, given in headers:
            lengths[at] += HEADER_BYTES_AROUND + 4 * len(name) + (len(given) if given else 0)
    return _joined([build(items[start:end]) for start, end in _spans(topic, lengths, len(items))])


def batches_of_records(topic: Topic, records: Sequence[New], now_ms: int) -> bytes | bytearray:
    """Raises `MessageTooLarge` for a record that no batch can hold."""
    values = [one.value for one in records if one.value is not None and one[1:4] == _PLAIN]
    if len(values) == len(records):
        return batches_of_values(topic, values, now_ms)
    times = [now_ms if one.timestamp_ms is None else one.timestamp_ms for one in records]
    return batches_of_items(
        topic, [(at_ms, one.key, one.value, one.headers) for at_ms, one in zip(times, records, strict=True)]
    )


def _spans(topic: Topic, lengths: Sequence[int], records_max: int) -> Iterator[tuple[int, int]]:
    """Which records come together in a batch, where each has so many bytes beside those of its format."""
    bytes_max = topic.config.max_message_bytes
    count = len(lengths)
    is_alike = lengths.count(lengths[0]) == count
    longest = RECORD_BYTES_AROUND + (lengths[0] if is_alike else max(lengths))
    if HEADER_BYTES + longest > bytes_max:
        raise MessageTooLarge(f"{topic.name} accepts {bytes_max} bytes, a record has {longest}")
    if is_alike:
        records_max = min(records_max, (bytes_max - HEADER_BYTES) // longest)
    if is_alike or HEADER_BYTES + sum(lengths) + RECORD_BYTES_AROUND * count <= bytes_max:
        for start in range(0, count, records_max):
            yield start, min(start + records_max, count)
        return
    start, size_bytes = 0, HEADER_BYTES
    for at, length in enumerate(lengths):
        size_bytes += RECORD_BYTES_AROUND + length
        if size_bytes > bytes_max or at - start == records_max:
            yield start, at
            start, size_bytes = at, HEADER_BYTES + RECORD_BYTES_AROUND + length
    yield start, count


def _joined(batches: Sequence[bytes | bytearray]) -> bytes | bytearray:
    return batches[0] if len(batches) == 1 else b"".join(batches)
