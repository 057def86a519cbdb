"""Count-min sketches for the keys that come when there is room for no more: they over-count, and never forget.

Cormode and Muthukrishnan (2005), with the conservative update of Estan and Varghese (2002), 4 rows of 65,536 cells. What
is kept in a cell is a value that only grows while it matters: a count of this window, or the time at which a bucket is
full again. A key reads the least of its four cells, which is never less than its own value would be; so a flood of
invented keys gets what it would have got or less, and 2 MB is all that it costs. Cells are chosen by Python's own string
hash, which a caller cannot predict.
"""

from array import array

ROWS = 4
CELLS = 1 << 16


class Sketch:
    """`read` is never below the greatest value that `raise_to` was given for the same key."""

    __slots__ = ("_rows", "highest")

    def __init__(self) -> None:
        self._rows = tuple(array("q", bytes(8 * CELLS)) for _ in range(ROWS))
        self.highest = 0

    def read(self, key: str | bytes) -> int:
        spread = hash(key)
        a, b, c, d = self._rows
        return min(a[spread & 0xFFFF], b[spread >> 16 & 0xFFFF], c[spread >> 32 & 0xFFFF], d[spread >> 48 & 0xFFFF])

    def raise_to(self, key: str | bytes, value: int) -> None:
        spread = hash(key)
        for row in self._rows:
            cell = spread & 0xFFFF
            if row[cell] < value:
                row[cell] = value
            spread >>= 16
        if value > self.highest:
            self.highest = value
