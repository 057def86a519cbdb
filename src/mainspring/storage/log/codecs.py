"""The five compressions of record batches, by cramjam, with a bound on what they may expand to.

Snappy comes as xerial frames, as every Kafka client writes it, and is read raw too. Decompression is for compaction, for topics
that recompress, and for readers in process: what passes through stays as it came.
"""

import zlib
from collections.abc import Callable
from enum import IntEnum
from struct import Struct

import cramjam

from .errors import CorruptBatch

EXPANDED_BYTES_MAX = 256 << 20

_XERIAL = b"\x82SNAPPY\x00" + b"\x00\x00\x00\x01\x00\x00\x00\x01"
_XERIAL_BLOCK_BYTES = 32 << 10
_INT = Struct(">i")


class Codec(IntEnum):
    """The low three bits of a batch's attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


NAMES = {codec.name.lower().replace("none", "uncompressed"): codec for codec in Codec} | {"none": Codec.NONE}


class TooExpansive(CorruptBatch):
    """What was compressed expands beyond the bound: a bomb, or nothing we can hold."""


def compress(codec: Codec, data: bytes | memoryview, level: int | None = None) -> bytes:
    """`data` compressed; `level` is the codec's own, None for its default."""
    match codec:
        case Codec.NONE:
            return bytes(data)
        case Codec.GZIP:
            return bytes(cramjam.gzip.compress(data, level=6 if level is None else level))
        case Codec.SNAPPY:
            return _to_xerial(memoryview(data))
        case Codec.LZ4:
            return _to_lz4(data, 0 if level is None else level)
        case Codec.ZSTD:
            return bytes(cramjam.zstd.compress(data, level=3 if level is None else level))


def decompress(codec: Codec, data: bytes | memoryview, bytes_max: int = EXPANDED_BYTES_MAX) -> bytes:
    """Raises `TooExpansive` above `bytes_max` and `CorruptBatch` for what is not compressed so."""
    if codec is Codec.NONE:
        return bytes(data)
    try:
        match codec:
            case Codec.GZIP:
                return _gunzip(data, bytes_max)
            case Codec.SNAPPY:
                return _from_xerial(memoryview(data), bytes_max)
            case Codec.LZ4:
                return _bounded(cramjam.lz4.decompress_into, data, bytes_max)
            case Codec.ZSTD:
                return _bounded(cramjam.zstd.decompress_into, data, bytes_max)
    except (cramjam.DecompressionError, zlib.error, OverflowError, ValueError) as error:
        raise CorruptBatch(f"not {codec.name.lower()}: {error}") from error


def _gunzip(data: bytes | memoryview, bytes_max: int) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    out = stream.decompress(data, bytes_max + 1)
    if len(out) > bytes_max:
        raise TooExpansive(f"expands to more than {bytes_max} bytes")
    if not stream.eof:
        raise CorruptBatch("the gzip stream ends early")
    return out


def _bounded(into: Callable[..., int], data: bytes | memoryview, bytes_max: int) -> bytes:
    """Decompresses into buffers of rising size: the library writes no further than the buffer it is given."""
    size = min(bytes_max, max(4 * len(data), 4 << 10))
    while True:
        out = bytearray(size)
        try:
            return bytes(memoryview(out)[: into(data, out)])
        except cramjam.DecompressionError as error:
            # The library's words are the only sign that the buffer was too small; anything else is broken input.
            if "whole buffer" not in str(error):
                raise
            if size >= bytes_max:
                raise TooExpansive(f"expands to more than {bytes_max} bytes") from error
            size = min(bytes_max, 4 * size)


def _to_lz4(data: bytes | memoryview, level: int) -> bytes:
    """A frame of blocks that do not need each other: Kafka's Java reader takes no other."""
    stream = cramjam.lz4.Compressor(level=level, content_checksum=True, block_linked=False)
    stream.compress(bytes(data))
    return bytes(stream.finish())


def _to_xerial(data: memoryview) -> bytes:
    parts = [_XERIAL]
    for at in range(0, len(data), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(data[at : at + _XERIAL_BLOCK_BYTES]))
        parts += (_INT.pack(len(block)), block)
    return b"".join(parts)


def _from_xerial(data: memoryview, bytes_max: int) -> bytes:
    if data[:8] != _XERIAL[:8]:
        return _unsnap(data, bytes_max)
    parts, at, left = [], len(_XERIAL), bytes_max
    while at < len(data):
        if at + 4 > len(data):
            raise CorruptBatch("a snappy block's length is cut off")
        (size,) = _INT.unpack_from(data, at)
        at += 4
        if size <= 0 or at + size > len(data):
            raise CorruptBatch("a snappy block is cut off")
        parts.append(_unsnap(data[at : at + size], left))
        left -= len(parts[-1])
        at += size
    return b"".join(parts)


def _unsnap(block: memoryview, bytes_max: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(block) > bytes_max:
        raise TooExpansive(f"expands to more than {bytes_max} bytes")
    return bytes(cramjam.snappy.decompress_raw(block))
