"""Record batches, format v2: the bytes that producers send, files hold and consumers get.

    base offset i64 | length i32 | leader epoch i32 | magic i8 | crc u32 | attributes i16 | last offset delta i32 |
    base timestamp i64 | max timestamp i64 | producer id i64 | producer epoch i16 | base sequence i32 | count i32 | records

The checksum (CRC32C) covers everything from the attributes on, so that a log gives a batch its offset by writing the first
sixteen bytes anew and touches nothing else. Nothing here reads records but `records_in`; a log moves whole batches.

Encoding and decoding of records is aiokafka's C codec (`record_codec`), used in this module only.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

import msgspec
from awscrt import checksums  # type: ignore[import-untyped]

from .codecs import EXPANDED_BYTES_MAX, Codec, compress, decompress
from .errors import CorruptBatch, InvalidRecord, UnsupportedCompression
from .record_codec import DefaultRecordBatch, DefaultRecordBatchBuilder

HEADER = Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size
HEAD = Struct(">qii")
"""Base offset, length, leader epoch: what a log writes anew."""
HEAD_BYTES = HEAD.size
LENGTH_AT, CRC_AT, ATTRIBUTES_AT, LAST_DELTA_AT, MAX_TIMESTAMP_AT, COUNT_AT = 8, 17, 21, 23, 35, 57
OVERHEAD_BYTES = 12
"""Base offset and length, which the length does not count."""
MAGIC = 2

CODEC_MASK, LOG_APPEND_TIME, TRANSACTIONAL, CONTROL, HAS_DELETE_HORIZON = 0x07, 0x08, 0x10, 0x20, 0x40

_CRC = Struct(">I")
_INT = Struct(">i")
_LONG = Struct(">q")
_SHORT = Struct(">h")
_MARKER_KEY = Struct(">hh")
_MARKER_VALUE = Struct(">hi")
_BUILDER_BYTES_MAX = (1 << 31) - 1
_NO_HEADERS: list[tuple[str, bytes]] = []

crc32c: Callable[..., int] = checksums.crc32c
"""Of a buffer, going on from an earlier sum where one is given."""

Headers = Sequence[tuple[str, bytes | None]]


class Batch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A batch's header. `base_offset` and `leader_epoch` mean something only once a log gave them."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int

    @property
    def size_bytes(self) -> int:
        return self.length + OVERHEAD_BYTES

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_delta + 1

    @property
    def last_sequence(self) -> int:
        """Sequences wrap around to zero after 2^31 - 1."""
        return (self.base_sequence + self.last_delta) & 0x7FFFFFFF if self.base_sequence >= 0 else -1

    @property
    def transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def codec(self) -> Codec:
        return Codec(self.attributes & CODEC_MASK)

    @property
    def log_append_time(self) -> bool:
        return bool(self.attributes & LOG_APPEND_TIME)


class Record(NamedTuple):
    """A record as it is built: `timestamp_ms` since 1970."""

    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Read(NamedTuple):
    """A record as it is read."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Control(IntEnum):
    """What a control record says about its producer's transaction."""

    ABORT = 0
    COMMIT = 1


def parse(data: bytes | bytearray | memoryview, at: int = 0) -> Batch:
    """The header of the whole batch that begins at `at`, checked for its lengths and not yet for its checksum.

    Raises `CorruptBatch` where the bytes end before the batch does, and `InvalidRecord` for the formats before v2.
    """
    left = len(data) - at
    if left < HEADER_BYTES:
        if left > 16 and data[at + 16] != MAGIC:
            raise InvalidRecord(f"message format v{data[at + 16]} is not accepted, only v2")
        raise CorruptBatch(f"{left} bytes hold no batch header")
    batch = Batch(*HEADER.unpack_from(data, at))
    if batch.magic != MAGIC:
        raise InvalidRecord(f"message format v{batch.magic} is not accepted, only v2")
    if not HEADER_BYTES <= batch.length + OVERHEAD_BYTES <= left:
        raise CorruptBatch(f"a batch of length {batch.length} does not fit in {left} bytes")
    return batch


def batches_in(data: bytes | bytearray | memoryview, at: int = 0) -> Iterator[tuple[int, Batch]]:
    """Position and header of each whole batch; a last one that is cut off is left out."""
    end = len(data)
    while end - at >= HEADER_BYTES:
        batch = Batch(*HEADER.unpack_from(data, at))
        if batch.length + OVERHEAD_BYTES < HEADER_BYTES:
            raise CorruptBatch(f"a batch of length {batch.length} at {at}")
        if at + batch.size_bytes > end:
            return
        yield at, batch
        at += batch.size_bytes


def checksum(data: bytes | bytearray | memoryview, at: int, size_bytes: int) -> int:
    """The CRC32C of the batch of `size_bytes` at `at`, to be compared with its header's."""
    return crc32c(memoryview(data)[at + ATTRIBUTES_AT : at + size_bytes])


def is_intact(data: bytes | bytearray | memoryview, at: int, batch: Batch) -> bool:
    return checksum(data, at, batch.size_bytes) == batch.crc


def placed(data: bytes | bytearray | memoryview, at: int, batch: Batch, base_offset: int, leader_epoch: int) -> bytes:
    """The batch at `at` as this log stores it: our own copy, with its offset and epoch."""
    head = HEAD.pack(base_offset, batch.length, leader_epoch)
    return head + memoryview(data)[at + HEAD_BYTES : at + batch.size_bytes]


def sealed(batch: bytearray) -> bytes:
    """A batch whose fields were changed, with its length and checksum made right."""
    _INT.pack_into(batch, LENGTH_AT, len(batch) - OVERHEAD_BYTES)
    _CRC.pack_into(batch, CRC_AT, crc32c(memoryview(batch)[ATTRIBUTES_AT:]))
    return bytes(batch)


def headed(batch: bytearray, count: int, timestamp_ms: int) -> bytearray:
    """A batch whose records are there behind room for the header, with the header of `count` plain records of one time."""
    length, last_delta = len(batch) - OVERHEAD_BYTES, count - 1
    HEADER.pack_into(batch, 0, 0, length, -1, MAGIC, 0, 0, last_delta, timestamp_ms, timestamp_ms, -1, -1, -1, count)
    _CRC.pack_into(batch, CRC_AT, crc32c(memoryview(batch)[ATTRIBUTES_AT:]))
    return batch


def stamped(data: bytes, timestamp_ms: int) -> bytes:
    """The batch with the log's own time in place of its producer's."""
    batch = bytearray(data)
    (attributes,) = _SHORT.unpack_from(batch, ATTRIBUTES_AT)
    _SHORT.pack_into(batch, ATTRIBUTES_AT, attributes | LOG_APPEND_TIME)
    _LONG.pack_into(batch, MAX_TIMESTAMP_AT, timestamp_ms)
    return sealed(batch)


def build(
    records: Iterable[tuple[int, bytes | None, bytes | None, Headers]],
    *,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    transactional: bool = False,
    control: Control | None = None,
    codec: Codec = Codec.NONE,
    level: int | None = None,
) -> bytes:
    """One batch of `(timestamp_ms, key, value, headers)`, with base offset 0; `level` is the codec's own."""
    builder = DefaultRecordBatchBuilder(MAGIC, 0, transactional, producer_id, epoch, sequence, _BUILDER_BYTES_MAX)
    append = builder.append
    for delta, (timestamp_ms, key, value, headers) in enumerate(records):
        append(delta, timestamp_ms, key, value, list(headers) if headers else _NO_HEADERS)
    return _finished(builder.build(), CONTROL if control is not None else 0, codec, level)


def build_pairs(pairs: Sequence[tuple[bytes | None, bytes | None]], timestamp_ms: int) -> bytearray:
    """One batch of keys and values of one time, with base offset 0."""
    builder = DefaultRecordBatchBuilder(MAGIC, 0, False, -1, -1, -1, _BUILDER_BYTES_MAX)
    append = builder.append
    for delta, (key, value) in enumerate(pairs):
        append(delta, timestamp_ms, key, value, _NO_HEADERS)
    built: bytearray = builder.build()
    return built


def rebuilt(batch: Batch, records: Sequence[Read], codec: Codec, delete_horizon_ms: int | None = None) -> bytes:
    """`batch` with only these of its records left, each at its own offset; the range of offsets it covers stays.

    With `delete_horizon_ms` the base timestamp says from when on tombstones and markers in it may go, as Kafka writes it.
    """
    builder = DefaultRecordBatchBuilder(
        MAGIC,
        0,
        batch.transactional,
        batch.producer_id,
        batch.producer_epoch,
        batch.base_sequence,
        _BUILDER_BYTES_MAX,
    )
    cut_bytes = 0
    if delete_horizon_ms is not None:
        # The codec takes the first record's time as the base, so one goes before the others and is cut out again.
        cut_bytes = builder.append(0, delete_horizon_ms, None, None, []).size
    for record in records:
        builder.append(record.offset - batch.base_offset, record.timestamp_ms, record.key, record.value, record.headers)
    built = builder.build()
    del built[HEADER_BYTES : HEADER_BYTES + cut_bytes]
    latest = max((record.timestamp_ms for record in records), default=batch.max_timestamp)
    _INT.pack_into(built, COUNT_AT, len(records))
    _INT.pack_into(built, LAST_DELTA_AT, batch.last_delta)
    _LONG.pack_into(built, MAX_TIMESTAMP_AT, batch.max_timestamp if batch.log_append_time else latest)
    kept = batch.attributes & (CONTROL | LOG_APPEND_TIME)
    horizon = HAS_DELETE_HORIZON if delete_horizon_ms is not None else 0
    whole = bytearray(_finished(built, kept | horizon, codec))
    HEAD.pack_into(whole, 0, batch.base_offset, len(whole) - OVERHEAD_BYTES, batch.leader_epoch)
    return sealed(whole)


def marker(producer_id: int, epoch: int, commit: bool, coordinator_epoch: int, timestamp_ms: int = 0) -> bytes:
    """The control batch that ends a producer's transaction in a partition."""
    control = Control.COMMIT if commit else Control.ABORT
    record = (timestamp_ms, _MARKER_KEY.pack(0, control), _MARKER_VALUE.pack(0, coordinator_epoch), ())
    return build((record,), producer_id=producer_id, epoch=epoch, transactional=True, control=control)


def marker_in(data: bytes | bytearray | memoryview, at: int, batch: Batch) -> tuple[Control, int] | None:
    """What a control batch says and its coordinator's epoch; None where it is not about a transaction."""
    for record in records_in(memoryview(data)[at : at + batch.size_bytes]):
        if record.key is None or record.value is None or len(record.key) < 4 or len(record.value) < 6:
            raise CorruptBatch("a control record is too short")
        kind = _MARKER_KEY.unpack_from(record.key)[1]
        if kind in (Control.ABORT, Control.COMMIT):
            return Control(kind), _MARKER_VALUE.unpack_from(record.value)[1]
    return None


def records_in(batch: bytes | bytearray | memoryview, expanded_bytes_max: int = EXPANDED_BYTES_MAX) -> Iterator[Read]:
    """The records of one whole batch. Raises `CorruptBatch` for bytes that are none, `TooExpansive` for a bomb."""
    header = parse(batch)
    check_codec(header)
    data = bytes(memoryview(batch)[: header.size_bytes])
    if header.codec is not Codec.NONE:
        data = data[:HEADER_BYTES] + decompress(header.codec, memoryview(data)[HEADER_BYTES:], expanded_bytes_max)
        plain = bytearray(data)
        _SHORT.pack_into(plain, ATTRIBUTES_AT, header.attributes & ~CODEC_MASK)
        data = sealed(plain)
    stamp = header.max_timestamp if header.log_append_time else None
    try:
        for record in DefaultRecordBatch(data):
            at_ms = record.timestamp if stamp is None else stamp
            yield Read(record.offset, at_ms, record.key, record.value, record.headers)
    except (ValueError, RuntimeError, IndexError, OverflowError) as error:
        raise CorruptBatch(f"the records of the batch at {header.base_offset} cannot be read: {error}") from error
    except Exception as error:
        if type(error).__module__.startswith("aiokafka"):
            raise CorruptBatch(f"the records of the batch at {header.base_offset} cannot be read: {error}") from error
        raise


def check_codec(batch: Batch) -> None:
    """Raises `UnsupportedCompression` for codec bits that mean nothing."""
    if batch.attributes & CODEC_MASK > Codec.ZSTD:
        raise UnsupportedCompression(f"no compression has the number {batch.attributes & CODEC_MASK}")


def _finished(built: bytearray, more_attributes: int, codec: Codec, level: int | None = None) -> bytes:
    if not more_attributes and codec is Codec.NONE:
        return bytes(built)
    if codec is not Codec.NONE:
        built = built[:HEADER_BYTES] + compress(codec, memoryview(built)[HEADER_BYTES:], level)
    (attributes,) = _SHORT.unpack_from(built, ATTRIBUTES_AT)
    _SHORT.pack_into(built, ATTRIBUTES_AT, attributes | more_attributes | codec)
    return sealed(built)
