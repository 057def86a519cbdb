"""The instruments themselves: counters, gauges and histograms cheap enough for every hot path.

An update is one addition to a slot or a list, without a lock. CPython looks for another thread only when a function
starts, after a call and at a backward jump; none of these lies between the reading and the writing of
`self.value += n`, so under the GIL no update is lost, from whatever thread it comes (a test hammers this). A scrape may
see a histogram's sum one observation ahead of its buckets.

What a caller sends must not be able to fill memory: a family keeps at most 1,000 children, and every further set of
label values shares one child named `other`; the registry counts how often.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Generic, Literal, TypeVar

LATENCY_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The default bounds of a histogram, in seconds: from a cache hit to a client that has given up."""

CHILDREN_MAX = 1_000
OTHER = "other"

Sample = Callable[[], float]


class Counter:
    """A number that only grows. It starts again at zero with the process, which Prometheus understands."""

    __slots__ = ("sample", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self.sample: Sample | None = None

    def inc(self, n: float = 1) -> None:
        """Adds `n`, which must not be negative."""
        if n < 0:
            raise ValueError("a counter only grows")
        self.value += n

    def follow(self, sample: Sample) -> None:
        """Reads the value from `sample` at each scrape, for what is counted elsewhere already."""
        self.sample = sample


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("sample", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self.sample: Sample | None = None

    def set(self, value: float) -> None:
        self.value = value

    def inc(self, n: float = 1) -> None:
        self.value += n

    def dec(self, n: float = 1) -> None:
        self.value -= n

    def follow(self, sample: Sample) -> None:
        """Reads the value from `sample` at each scrape: the length of a queue costs nothing until somebody asks."""
        self.sample = sample


class Histogram:
    """How observations are distributed over buckets; a bucket's bound belongs to it (`le`)."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """The number of observations."""
        return sum(self.counts)


Instrument = Counter | Gauge | Histogram
Child = TypeVar("Child", Counter, Gauge, Histogram)
Kind = Literal["counter", "gauge", "histogram"]


class Family(Generic[Child]):
    """All the children of one metric, one for each set of label values."""

    def __init__(
        self,
        kind: Kind,
        name: str,
        help: str,
        labels: tuple[str, ...],
        make: Callable[[], Child],
        dropped: Callable[[], None],
    ) -> None:
        self.kind = kind
        self.name = name
        self.help = help
        self.label_names = labels
        self.children: dict[tuple[str, ...], Child] = {}
        self._make: Callable[[], Child] = make
        self._dropped = dropped

    def labels(self, *values: object) -> Child:
        """The child with these label values, in the order of the family's names. Keep it: finding is dearer than using.

        Raises `ValueError` where the number of values is not the number of names.
        """
        child = self.children.get(values)  # type: ignore[arg-type]  # other things than text are simply not found
        return child if child is not None else self._add(values)

    def snapshot(self) -> list[tuple[tuple[str, ...], Instrument]]:
        """The children as they are now, with their label values."""
        return list(self.children.items())

    def remove(self, *values: object) -> None:
        """Forgets a child, for a gauge of something that has gone."""
        self.children.pop(tuple(map(str, values)), None)

    def _add(self, values: tuple[object, ...]) -> Child:
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has the labels {self.label_names}, got {len(values)} values")
        texts = tuple(map(str, values))
        if texts not in self.children and len(self.children) >= CHILDREN_MAX:
            self._dropped()
            texts = (OTHER,) * len(texts)
        return self.children.setdefault(texts, self._make())
