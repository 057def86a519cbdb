"""Linear combinations of bytes over GF(2^8) with the polynomial x^8+x^4+x^3+x^2+1: what computes a shard from k others.

ISA-L does it where it lies beside pyeclib: many gigabytes a second, without the interpreter's lock, and the sources are read
where they are. Elsewhere it is one table look-up and one exclusive or a byte, by methods of `bytes` and `int`: the same result,
some hundred times slower.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

Row = tuple[int, ...]

_POLYNOMIAL: Final = 0x11D


def _powers() -> list[int]:
    powers, value = [], 1
    for _ in range(255):
        powers.append(value)
        value <<= 1
        if value > 255:
            value ^= _POLYNOMIAL
    return powers * 2


_POWER: Final = _powers()
_LOG: Final = {value: power for power, value in enumerate(_POWER[:255])}


def multiply(a: int, b: int) -> int:
    return _POWER[_LOG[a] + _LOG[b]] if a and b else 0


def inverse(a: int) -> int:
    """Of anything but zero."""
    return _POWER[255 - _LOG[a]]


def inverted(matrix: Sequence[Row]) -> list[Row]:
    """The inverse of a square matrix that has one, by Gauss and Jordan."""
    size = len(matrix)
    rows = [[*row, *(int(at == number) for at in range(size))] for number, row in enumerate(matrix)]
    for column in range(size):
        pivot = next(at for at in range(column, size) if rows[at][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        scale = inverse(rows[column][column])
        rows[column] = [multiply(scale, value) for value in rows[column]]
        for at in range(size):
            if at != column and (factor := rows[at][column]):
                rows[at] = [value ^ multiply(factor, own) for value, own in zip(rows[at], rows[column], strict=True)]
    return [tuple(row[size:]) for row in rows]


def combine(rows: Sequence[Row], sources: Sequence[bytes], skip: int, length: int) -> list[memoryview]:
    """For each row the sum of row[i] times sources[i][skip : skip + length]. A row has one factor for each source, and each
    source has so many bytes."""
    if not length or any(len(source) < skip + length for source in sources):
        raise ValueError(f"sources of {list(map(len, sources))} bytes do not have {length} from {skip} on")
    isal = _isal()
    return _by_tables(rows, sources, skip, length) if isal is None else _by(isal, rows, sources, skip, length)


def _by(isal: ctypes.CDLL, rows: Sequence[Row], sources: Sequence[bytes], skip: int, length: int) -> list[memoryview]:
    count = len(sources)
    made = [bytearray(length) for _ in rows]
    # An array of `char *` points into the bytes objects and keeps them alive; its memory, seen as numbers, has their addresses.
    # (`cast` would do the same, and leave a cycle that keeps megabytes until the collector comes.)
    held = (ctypes.c_char_p * count)(*sources)
    begins = (ctypes.c_size_t * count).from_buffer(held)
    data = (ctypes.c_void_p * count)(*(begins[at] + skip for at in range(count)))
    coding = (ctypes.c_void_p * len(rows))(*(ctypes.addressof(ctypes.c_char.from_buffer(one)) for one in made))
    tables = ctypes.create_string_buffer(32 * count * len(rows))
    isal.ec_init_tables(count, len(rows), b"".join(map(bytes, rows)), tables)
    isal.ec_encode_data(length, count, len(rows), tables, data, coding)
    return [memoryview(one) for one in made]


def _by_tables(rows: Sequence[Row], sources: Sequence[bytes], skip: int, length: int) -> list[memoryview]:
    made = []
    for row in rows:
        total = 0
        for factor, source in zip(row, sources, strict=True):
            total ^= int.from_bytes(source[skip : skip + length].translate(_products(factor)), "little")
        made.append(memoryview(total.to_bytes(length, "little")))
    return made


@cache
def _products(factor: int) -> bytes:
    return bytes(multiply(factor, value) for value in range(256))


@cache
def _isal() -> ctypes.CDLL | None:
    """The library that pyeclib's wheel brings along; None where there is none."""
    import pyeclib

    folder = Path(pyeclib.__file__).parent.with_name("pyeclib.libs")
    for path in sorted(folder.glob("libisal*.so*")):
        isal = ctypes.CDLL(str(path))
        isal.ec_init_tables.restype = isal.ec_encode_data.restype = None
        isal.ec_init_tables.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p]
        isal.ec_encode_data.argtypes = [
            *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_char_p),
            *(ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p)),
        ]
        return isal
    return None
