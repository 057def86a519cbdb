"""The same bytes of k shards of a stripe, which give those of all its data shards: what a degraded read is served from.

A range of a shard depends on that range of the others alone, so no more is read and computed than somebody wants. Who reads on
keeps the window: what was read is given as it is, what is missing is computed once, and nothing is put together that is
then only cut up again.
"""

from collections.abc import Mapping

from mainspring.storage.objects.erasure import compute, shard_length
from mainspring.storage.objects.references import Stripe


def spans(stripe: Stripe, start: int, stop: int) -> dict[int, tuple[int, int]]:
    """Where bytes [start, stop) of the payload lie: (start, stop) in each data shard that has some, in order."""
    length = shard_length(stripe.size, stripe.k)
    return {
        index: (max(0, start - index * length), min(length, stop - index * length))
        for index in range(start // length, (stop - 1) // length + 1)
    }


def bounds(stripe: Stripe, start: int, stop: int) -> tuple[int, int]:
    """The least range of a shard that has all of these bytes, in each data shard that has some."""
    found = spans(stripe, start, stop).values()
    return min(begin for begin, _ in found), max(end for _, end in found)


class Window:
    """Bytes [start, stop) of the payload. Of k shards `parts` has the bytes that these lie in, or are computed from, each from
    `skip` on."""

    def __init__(self, stripe: Stripe, start: int, stop: int, parts: Mapping[int, bytes], skip: int) -> None:
        self._stripe = stripe
        self._start = start
        self._stop = stop
        self._parts = parts
        self._skip = skip
        self._low, high = bounds(stripe, start, stop)
        self._length = high - self._low
        self._shards = {index: memoryview(part)[skip : skip + self._length] for index, part in parts.items()}

    def has(self, start: int, stop: int) -> bool:
        return self._start <= start and stop <= self._stop

    def is_missing(self, start: int, stop: int) -> bool:
        """Whether something has to be computed before bytes [start, stop) of the payload can be given."""
        return any(index not in self._shards for index in spans(self._stripe, start, stop))

    def compute(self) -> None:
        """Computes all that is missing, in one pass over what is here. Takes a while: for a thread."""
        missing = [index for index in spans(self._stripe, self._start, self._stop) if index not in self._shards]
        made = compute(self._parts, missing, self._stripe.profile, self._skip, self._length)
        self._shards.update(zip(missing, made, strict=True))

    def take(self, start: int, stop: int) -> bytes | memoryview:
        """Bytes [start, stop) of the payload, of which nothing is missing."""
        found = [
            self._shards[index][begin - self._low : end - self._low]
            for index, (begin, end) in spans(self._stripe, start, stop).items()
        ]
        return found[0] if len(found) == 1 else b"".join(found)
