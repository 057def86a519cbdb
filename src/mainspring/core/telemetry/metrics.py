"""The registry of a process's metrics, and what a scrape gets from it."""

import logging
import re
from collections.abc import Callable, Sequence
from typing import overload

from mainspring.core.telemetry import exposition
from mainspring.core.telemetry.instruments import (
    LATENCY_S,
    Child,
    Counter,
    Family,
    Gauge,
    Histogram,
    Kind,
    Sample,
)

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_log = logging.getLogger(__name__)


class Metrics:
    """The registry of a process: asking twice for the same metric gives the same one, so that its users need not meet.

    Each of `counter`, `gauge` and `histogram` gives the metric itself where it has no labels and otherwise its family,
    whose `labels(...)` gives the metric. They raise `ValueError` for a name that Prometheus would refuse and for one
    that is taken by another kind, other labels or other buckets.
    """

    def __init__(self) -> None:
        self._families: dict[str, exposition.AnyFamily] = {}
        self._before: list[Callable[[], None]] = []
        self._dropped = self.counter("metric_labels_dropped", "Label values that found their family full", ("metric",))
        self._failed = self.counter("metric_sample_failures", "Values that could not be read at a scrape", ("metric",))

    @overload
    def counter(self, name: str, help: str) -> Counter: ...
    @overload
    def counter(self, name: str, help: str, labels: Sequence[str]) -> Family[Counter]: ...
    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter | Family[Counter]:
        """A counter. Its name ends in `_total`, which is added where it is missing."""
        name = name if name.endswith("_total") else f"{name}_total"
        family = self._family("counter", name, help, labels, Counter)
        return family if labels else family.labels()

    @overload
    def gauge(self, name: str, help: str, *, sample: Sample | None = None) -> Gauge: ...
    @overload
    def gauge(self, name: str, help: str, labels: Sequence[str]) -> Family[Gauge]: ...
    def gauge(
        self, name: str, help: str, labels: Sequence[str] = (), *, sample: Sample | None = None
    ) -> Gauge | Family[Gauge]:
        """A gauge; with `sample` its value is read by that function at each scrape."""
        family = self._family("gauge", name, help, labels, Gauge)
        if labels:
            return family
        if sample is not None:
            family.labels().follow(sample)
        return family.labels()

    @overload
    def histogram(self, name: str, help: str, *, buckets: Sequence[float] = LATENCY_S) -> Histogram: ...
    @overload
    def histogram(
        self, name: str, help: str, labels: Sequence[str], buckets: Sequence[float] = LATENCY_S
    ) -> Family[Histogram]: ...
    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_S
    ) -> Histogram | Family[Histogram]:
        """A histogram; `buckets` are rising upper bounds, to which infinity is added."""
        bounds = tuple(map(float, buckets))
        if not bounds or list(bounds) != sorted(set(bounds)) or bounds[-1] == float("inf"):
            raise ValueError("buckets are finite bounds in rising order")
        family = self._family("histogram", name, help, labels, lambda: Histogram(bounds))
        if any(child.bounds != bounds for child in family.children.values()):
            raise ValueError(f"{name} exists already with other buckets")
        return family if labels else family.labels()

    def before_scrape(self, hook: Callable[[], None]) -> None:
        """Calls `hook` at the start of each scrape, for metrics that are cheapest read together."""
        self._before.append(hook)

    def exposition(self) -> bytes:
        """Everything in Prometheus' text format 0.0.4."""
        self._refresh()
        return exposition.text(self._families.values())

    def scrape(self, accept: str | None) -> tuple[str, bytes]:
        """The content type and body that a request's `Accept` header prefers: OpenMetrics 1.0.0 or text 0.0.4."""
        if not exposition.prefers_openmetrics(accept or ""):
            return exposition.TEXT, self.exposition()
        self._refresh()
        return exposition.OPENMETRICS, exposition.openmetrics(self._families.values())

    def _family(
        self, kind: Kind, name: str, help: str, labels: Sequence[str], make: Callable[[], Child]
    ) -> Family[Child]:
        found = self._families.get(name)
        if found is not None:
            if found.kind != kind or found.label_names != tuple(labels):
                raise ValueError(f"{name} exists already as a {found.kind} with the labels {found.label_names}")
            return found  # type: ignore[return-value]  # its kind says which family it is
        if isinstance(labels, str) or not _NAME.fullmatch(name) or not all(map(_LABEL.fullmatch, labels)):
            raise ValueError(f"not a metric's name and labels: {name} {labels}")
        family = Family(kind, name, help, tuple(labels), make, lambda: self._dropped.labels(name).inc())
        self._families[name] = family
        return family

    def _refresh(self) -> None:
        for hook in self._before:
            try:
                hook()
            except Exception:
                self._note_failure(getattr(hook, "__qualname__", "hook"))
        for family in list(self._families.values()):
            for _, child in family.snapshot():
                if isinstance(child, Histogram) or child.sample is None:
                    continue
                try:
                    child.value = float(child.sample())
                except Exception:
                    self._note_failure(family.name)

    def _note_failure(self, name: str) -> None:
        self._failed.labels(name).inc()
        _log.warning("a metric could not be read", exc_info=True, extra={"metric": name})
