"""The exposition formats, read back by a parser written from their specifications and by nothing of ours."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.telemetry import Metrics
from mainspring.core.telemetry.exposition import OPENMETRICS, TEXT

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
VALUE = r"[+-]?(?:Inf|NaN|\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? ({VALUE})")
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)


def parse_labels(text: str) -> tuple[tuple[str, str], ...]:
    labels, position = [], 0
    while position < len(text):
        match = LABEL.match(text, position)
        assert match, f"not a label: {text[position:]}"
        labels.append((match[1], unescape(match[2])))
        position = match.end()
        assert match[3] or position == len(text)
    assert len({name for name, _ in labels}) == len(labels)
    return tuple(labels)


def parse(body: bytes, openmetrics: bool = False) -> tuple[Samples, dict[str, tuple[str, str]]]:
    """Samples by name and labels, and (kind, help) by family; asserts what the formats demand."""
    text = body.decode()
    assert text.endswith("# EOF\n" if openmetrics else "\n")
    lines = text.removesuffix("# EOF\n").split("\n")
    assert lines.pop() == ""
    samples: Samples = {}
    families: dict[str, tuple[str, str]] = {}
    name = kind = ""
    for line in lines:
        if match := re.fullmatch(rf"# HELP ({NAME}) (.*)", line):
            name, kind = match[1], ""
            assert name not in families, "a family is in one piece"
            families[name] = ("", unescape(match[2]))
        elif match := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", line):
            assert match[1] == name and not kind
            kind = match[2]
            families[name] = (kind, families[name][1])
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"not a sample: {line}"
            suffixes = ("",) if kind == "counter" and not openmetrics else SUFFIXES[kind]
            assert match[1] in {name + suffix for suffix in suffixes}
            key = match[1], parse_labels(match[2] or "")
            assert key not in samples
            samples[key] = float(match[3])
    return samples, families


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(st.tuples(TEXTS, TEXTS), st.floats(), max_size=10), TEXTS)
def test_any_value_under_any_label_reads_back_in_both_formats(
    values: dict[tuple[str, str], float], description: str
) -> None:
    metrics = Metrics()
    family = metrics.gauge("temperature", description, ("place", "sensor"))
    for labels, value in values.items():
        family.labels(*labels).set(value)
    for body, openmetrics in ((metrics.exposition(), False), (metrics.scrape(OPENMETRICS)[1], True)):
        samples, families = parse(body, openmetrics)
        assert families["temperature"] == ("gauge", description)
        for (place, sensor), value in values.items():
            found = samples["temperature", (("place", place), ("sensor", sensor))]
            assert found == value or (math.isnan(found) and math.isnan(value))
        assert len(samples) == len(values)


@given(st.lists(st.floats(min_value=0, max_value=20), max_size=30))
def test_a_histogram_reads_back_as_rising_buckets_that_end_in_all(values: list[float]) -> None:
    metrics = Metrics()
    child = metrics.histogram("took_seconds", "Took", ("route",), buckets=(0.5, 1, 10)).labels("/a")
    for value in values:
        child.observe(value)
    for body, openmetrics in ((metrics.exposition(), False), (metrics.scrape(OPENMETRICS)[1], True)):
        samples, families = parse(body, openmetrics)
        route = ("route", "/a")
        for bound in ("0.5", "1.0", "10.0", "+Inf"):
            counted = sum(value <= float(bound) for value in values)
            assert samples["took_seconds_bucket", (route, ("le", bound))] == counted
        assert samples["took_seconds_count", (route,)] == len(values)
        assert samples["took_seconds_sum", (route,)] == pytest.approx(sum(values))
        assert families["took_seconds"] == ("histogram", "Took")


def test_a_counter_is_announced_with_its_suffix_in_text_and_without_it_in_openmetrics() -> None:
    metrics = Metrics()
    metrics.counter("requests", "Requests").inc(3)
    samples, families = parse(metrics.exposition())
    assert samples["requests_total", ()] == 3 and families["requests_total"][0] == "counter"
    samples, families = parse(metrics.scrape(OPENMETRICS)[1], openmetrics=True)
    assert samples["requests_total", ()] == 3 and families["requests"][0] == "counter"


def test_a_lone_surrogate_in_a_label_does_not_stop_the_scrape() -> None:
    metrics = Metrics()
    metrics.gauge("g", "G", ("x",)).labels("\ud800").set(1)
    assert ("g", (("x", "?"),)) in parse(metrics.exposition())[0]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1", OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.5", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text; q=rubbish", TEXT),
        ("Application/OpenMetrics-Text", OPENMETRICS),
    ],
)
def test_the_scraper_gets_the_format_that_it_prefers(accept: str | None, content_type: str) -> None:
    assert Metrics().scrape(accept)[0] == content_type
