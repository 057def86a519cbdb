"""The newest batches of each partition in memory, so that a reader at the end costs no system call.

Bounded twice: per partition, and over all of them, where the partition that was appended to the longest ago gives up its own.
"""

from bisect import bisect_right
from collections import OrderedDict


class Tail:
    """Consecutive batches of one partition, the newest last."""

    __slots__ = ("_bases", "_batches", "_head", "size")

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._batches: list[bytes] = []
        self._head = 0
        self.size = 0

    def add(self, base_offset: int, batch: bytes) -> None:
        self._bases.append(base_offset)
        self._batches.append(batch)
        self.size += len(batch)

    def shrink(self, bytes_max: int) -> int:
        """Lets go of the oldest until it fits; gives how many bytes that freed."""
        batches, head, before = self._batches, self._head, self.size
        while self.size > bytes_max:
            self.size -= len(batches[head])
            batches[head] = b""
            head += 1
        if head > 64 and 2 * head > len(batches):
            del self._bases[:head], batches[:head]
            head = 0
        self._head = head
        return before - self.size

    def holds(self, offset: int) -> bool:
        """Whether the batch with `offset` is here, if there is one."""
        return self._head < len(self._bases) and self._bases[self._head] <= offset

    def read(self, offset: int, before: int, bytes_max: int) -> tuple[list[bytes], int] | None:
        """Batches from the one with `offset` to those that begin below `before`, the first whatever its size.

        Gives them and their bytes; None where the batch with `offset` is not here any more.
        """
        bases, batches = self._bases, self._batches
        first = bisect_right(bases, offset, self._head) - 1
        if first < self._head:
            return None
        at, end, size = first, len(batches), 0
        while at < end and bases[at] < before:
            more = len(batches[at])
            if size and size + more > bytes_max:
                break
            size += more
            at += 1
        return batches[first:at], size


class Tails:
    """Keeps the sum of all tails below its bound."""

    def __init__(self, bytes_max: int, partition_bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._partition_bytes_max = partition_bytes_max
        self._tails: OrderedDict[object, Tail] = OrderedDict()
        self.size = 0

    def add(self, owner: object, base_offset: int, batch: bytes) -> None:
        if len(batch) > min(self._partition_bytes_max, self._bytes_max):
            # What cannot be kept would leave a gap before the next.
            self.drop(owner)
            return
        tail = self._tails.get(owner)
        if tail is None:
            tail = self._tails[owner] = Tail()
        else:
            self._tails.move_to_end(owner)
        tail.add(base_offset, batch)
        self.size += len(batch)
        if tail.size > self._partition_bytes_max:
            # An eighth at a time, so that not every append has to.
            self.size -= tail.shrink(self._partition_bytes_max * 7 // 8)
        while self.size > self._bytes_max:
            oldest, freed = next(iter(self._tails.items()))
            if oldest is owner:
                self.size -= tail.shrink(tail.size - (self.size - self._bytes_max))
                return
            self.size -= freed.size
            del self._tails[oldest]

    def get(self, owner: object) -> Tail | None:
        return self._tails.get(owner)

    def drop(self, owner: object) -> None:
        tail = self._tails.pop(owner, None)
        if tail is not None:
            self.size -= tail.size
