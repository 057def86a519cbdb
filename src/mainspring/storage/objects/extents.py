"""The form of one shard in a volume segment, which can be checked by itself.

header, 64 bytes   magic, format, stripe, index, k, m, length of the codec's header, payload and shard sizes, disk, CRC32C
codec header       0 or 80 bytes, see `erasure`
shard              in blocks of 64 KiB
table              the CRC32C of each block
footer, 16 bytes   magic, CRC32C of codec header and table, length of the whole
padding            zeros, to a multiple of 8
"""

import struct
from typing import NamedTuple

from awscrt.checksums import crc32c  # type: ignore[import-untyped]

MAGIC, FOOT = b"MSX1", b"MSXF"
FORMAT = 1
BLOCK = 64 << 10

_HEADER = struct.Struct("<4sHHQBBBBIIQI20x")
_CRC = struct.Struct("<I")
_FOOTER = struct.Struct("<4sIQ")
HEADER_BYTES, FOOTER_BYTES = _HEADER.size + _CRC.size, _FOOTER.size


class Header(NamedTuple):
    """`size` is that of the stripe's payload, `length` that of the shard, `codec` that of the codec's header."""

    stripe: int
    shard: int
    k: int
    m: int
    codec: int
    size: int
    length: int
    at_us: int
    disk: int


class Damage(Exception):
    """These bytes are not the extent that was written here; the text says what differs."""


def extent_bytes(length: int, codec: int) -> int:
    """Size of the extent of a shard of `length` bytes."""
    blocks = -(-length // BLOCK)
    return (HEADER_BYTES + codec + length + 4 * blocks + FOOTER_BYTES + 7) & ~7


def pack(header: Header, fragment: bytes) -> list[bytes]:
    """The buffers of an extent, in order. `fragment` is the codec's header and the shard."""
    stripe, index, k, m, codec, size, length, at_us, disk = header
    head = _HEADER.pack(MAGIC, FORMAT, 0, stripe, index, k, m, codec, size, length, at_us, disk)
    view = memoryview(fragment)
    table = b"".join([_CRC.pack(crc32c(view[at : at + BLOCK])) for at in range(codec, len(fragment), BLOCK)])
    whole = extent_bytes(length, codec)
    foot = _FOOTER.pack(FOOT, crc32c(table, crc32c(view[:codec])), whole)
    padding = bytes(whole - HEADER_BYTES - len(fragment) - len(table) - FOOTER_BYTES)
    return [head + _CRC.pack(crc32c(head)), fragment, table + foot + padding]


def parse_header(data: bytes | memoryview) -> Header:
    """Raises `Damage`."""
    if len(data) < HEADER_BYTES:
        raise Damage("cut short")
    magic, form, _, stripe, index, k, m, codec, size, length, at_us, disk = _HEADER.unpack_from(data)
    if magic != MAGIC or form != FORMAT:
        raise Damage("no extent begins here")
    if _CRC.unpack_from(data, _HEADER.size)[0] != crc32c(memoryview(data)[: _HEADER.size]):
        raise Damage("the header's CRC differs")
    return Header(stripe, index, k, m, codec, size, length, at_us, disk)


def check_whole(data: bytes, stripe: int, index: int) -> bytes:
    """The fragment of a whole extent, every block of it checked. Raises `Damage`."""
    header = parse_header(data)
    if (header.stripe, header.shard) != (stripe, index):
        raise Damage(f"shard {header.shard} of stripe {header.stripe} lies here")
    end = HEADER_BYTES + header.codec + header.length
    blocks = -(-header.length // BLOCK)
    if len(data) < extent_bytes(header.length, header.codec):
        raise Damage("cut short")
    view = memoryview(data)
    magic, crc, whole = _FOOTER.unpack_from(data, end + 4 * blocks)
    table = view[end : end + 4 * blocks]
    codec = view[HEADER_BYTES : HEADER_BYTES + header.codec]
    if magic != FOOT or whole != extent_bytes(header.length, header.codec) or crc != crc32c(table, crc32c(codec)):
        raise Damage("the footer does not fit")
    start = HEADER_BYTES + header.codec
    for number, (expected,) in enumerate(_CRC.iter_unpack(table)):
        at = start + number * BLOCK
        if crc32c(view[at : min(at + BLOCK, end)]) != expected:
            raise Damage(f"the CRC of block {number} differs")
    return bytes(view[HEADER_BYTES:end])


def window(length: int, codec: int, start: int, stop: int) -> tuple[int, int, int, int]:
    """Where in an extent the blocks lie that hold bytes [start, stop) of the shard, and their part of the table.

    Gives (offset, length) of the blocks and (offset, length) of the table's part, from the extent's beginning.
    """
    first, last = start // BLOCK, -(-stop // BLOCK)
    begin = HEADER_BYTES + codec
    blocks_end = min(last * BLOCK, length)
    return begin + first * BLOCK, blocks_end - first * BLOCK, begin + length + 4 * first, 4 * (last - first)


def check_blocks(blocks: bytes | memoryview, table: bytes) -> None:
    """Raises `Damage` where a block differs from its CRC."""
    view = memoryview(blocks)
    if 4 * -(-len(view) // BLOCK) != len(table):
        raise Damage("cut short")
    for number, (expected,) in enumerate(_CRC.iter_unpack(table)):
        if crc32c(view[number * BLOCK : (number + 1) * BLOCK]) != expected:
            raise Damage(f"the CRC of block {number} differs")
