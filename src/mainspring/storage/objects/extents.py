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


def check_header(head: bytes | memoryview, stripe: int, index: int) -> Header:
    """Raises `Damage` where another shard lies here, or none."""
    header = parse_header(head)
    if (header.stripe, header.shard) != (stripe, index):
        raise Damage(f"shard {header.shard} of stripe {header.stripe} lies here")
    return header


def parts(length: int, codec: int) -> list[tuple[int, int]]:
    """(offset, length) of the parts of an extent that `check_whole` takes: header, fragment, and what follows it."""
    end = HEADER_BYTES + codec + length
    return [(0, HEADER_BYTES), (HEADER_BYTES, codec + length), (end, extent_bytes(length, codec) - end)]


def check_whole(head: bytes, fragment: bytes, tail: bytes, stripe: int, index: int) -> None:
    """Checks every block of an extent. Raises `Damage`."""
    header = check_header(head, stripe, index)
    blocks = -(-header.length // BLOCK)
    whole_bytes = extent_bytes(header.length, header.codec)
    if len(fragment) != header.codec + header.length or len(head) + len(fragment) + len(tail) != whole_bytes:
        raise Damage("cut short")
    view = memoryview(fragment)
    magic, crc, whole = _FOOTER.unpack_from(tail, 4 * blocks)
    table = memoryview(tail)[: 4 * blocks]
    if magic != FOOT or whole != whole_bytes or crc != crc32c(table, crc32c(view[: header.codec])):
        raise Damage("the footer does not fit")
    check_blocks(view[header.codec :], table)


def window(length: int, codec: int, start: int, stop: int) -> tuple[int, int, int, int]:
    """Where in an extent the blocks lie that hold bytes [start, stop) of the shard, and their part of the table.

    Gives (offset, length) of the blocks and (offset, length) of the table's part, from the extent's beginning.
    """
    first, last = start // BLOCK, -(-stop // BLOCK)
    begin = HEADER_BYTES + codec
    blocks_end = min(last * BLOCK, length)
    return begin + first * BLOCK, blocks_end - first * BLOCK, begin + length + 4 * first, 4 * (last - first)


def check_blocks(blocks: bytes | memoryview, table: bytes | memoryview) -> None:
    """Raises `Damage` where a block differs from its CRC."""
    view = memoryview(blocks)
    if 4 * -(-len(view) // BLOCK) != len(table):
        raise Damage("cut short")
    for number, (expected,) in enumerate(_CRC.iter_unpack(table)):
        if crc32c(view[number * BLOCK : (number + 1) * BLOCK]) != expected:
            raise Damage(f"the CRC of block {number} differs")
