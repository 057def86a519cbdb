"""Metrics as text: Prometheus' exposition format 0.0.4 and OpenMetrics 1.0.0.

The two differ in how a counter is announced (OpenMetrics without `_total`), in what a help text escapes, and in the
closing `# EOF`. Label values may hold anything: backslash, quote and line feed are escaped, lone surrogates replaced.
"""

import math
from collections.abc import Collection, Iterator
from itertools import accumulate

from mainspring.core.telemetry.instruments import Counter, Family, Gauge, Histogram

AnyFamily = Family[Counter] | Family[Gauge] | Family[Histogram]

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_VALUE_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def text(families: Collection[AnyFamily]) -> bytes:
    """The families in the text format 0.0.4."""
    lines: list[str] = []
    for family in list(families):
        lines.append(f"# HELP {family.name} {family.help.translate(_HELP_ESCAPES)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        lines.extend(_samples(family))
    return _encode(lines)


def openmetrics(families: Collection[AnyFamily]) -> bytes:
    """The families in OpenMetrics 1.0.0."""
    lines: list[str] = []
    for family in list(families):
        name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        lines.append(f"# HELP {name} {family.help.translate(_VALUE_ESCAPES)}")
        lines.append(f"# TYPE {name} {family.kind}")
        lines.extend(_samples(family))
    lines.append("# EOF")
    return _encode(lines)


def prefers_openmetrics(accept: str) -> bool:
    """Whether an `Accept` header asks for OpenMetrics at least as much as for plain text."""
    quality = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for offer in accept.lower().split(","):
        media, *parameters = (part.strip() for part in offer.split(";"))
        if media in quality:
            weights = [parameter[2:] for parameter in parameters if parameter.startswith("q=")]
            quality[media] = max(quality[media], _weight(weights[0]) if weights else 1.0)
    return (
        quality["application/openmetrics-text"] > 0 and quality["application/openmetrics-text"] >= quality["text/plain"]
    )


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _samples(family: AnyFamily) -> Iterator[str]:
    name = family.name
    bounds: tuple[float, ...] = ()
    closings: list[str] = []
    for values, child in family.snapshot():
        labels = ",".join(
            f'{label}="{value.translate(_VALUE_ESCAPES)}"'
            for label, value in zip(family.label_names, values, strict=True)
        )
        braced = f"{{{labels}}}" if labels else ""
        if not isinstance(child, Histogram):
            yield f"{name}{braced} {_number(child.value)}"
            continue
        if child.bounds is not bounds:
            bounds = child.bounds
            closings = [f'le="{_number(bound)}"}} ' for bound in (*bounds, math.inf)]
        totals = list(accumulate(child.counts.copy()))
        opening = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
        yield from [f"{opening}{closing}{total}" for closing, total in zip(closings, totals, strict=True)]
        yield f"{name}_sum{braced} {_number(child.sum)}"
        yield f"{name}_count{braced} {totals[-1]}"


def _number(value: float) -> str:
    if value == math.inf:
        return "+Inf"
    if value == -math.inf:
        return "-Inf"
    return "NaN" if value != value else repr(value)


def _encode(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")
