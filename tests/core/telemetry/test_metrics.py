"""Counters, gauges, histograms and their registry."""

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.telemetry import LATENCY_S, Metrics
from mainspring.core.telemetry.instruments import CHILDREN_MAX


def test_no_increment_is_lost_between_threads_that_are_switched_all_the_time() -> None:
    metrics = Metrics()
    counter, gauge = metrics.counter("hits", "Hits"), metrics.gauge("level", "Level")
    histogram = metrics.histogram("took_seconds", "Took")
    threads_n, each = 4, 20_000

    def hammer() -> None:
        for _ in range(each):
            counter.inc()
            gauge.inc(2)
            gauge.dec()
            histogram.observe(1)

    switch_interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=hammer) for _ in range(threads_n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch_interval)
    assert counter.value == gauge.value == histogram.count == histogram.sum == threads_n * each


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-20, max_value=20)))
def test_a_bucket_counts_exactly_what_is_at_most_its_bound(values: list[float]) -> None:
    histogram = Metrics().histogram("h", "H")
    for value in values:
        histogram.observe(value)
    for index, bound in enumerate(LATENCY_S):
        assert sum(histogram.counts[: index + 1]) == sum(value <= bound for value in values)
    assert histogram.count == len(values)


def test_a_family_keeps_one_child_for_each_set_of_values() -> None:
    family = Metrics().counter("requests", "Requests", ("method", "status"))
    family.labels("GET", 200).inc()
    family.labels("GET", "200").inc()
    family.labels("GET", 404).inc()
    assert {values: child.value for values, child in family.children.items()} == {("GET", "200"): 2, ("GET", "404"): 1}
    family.remove("GET", 404)
    assert list(family.children) == [("GET", "200")]


def test_label_values_beyond_the_bound_share_one_child_and_are_counted() -> None:
    metrics = Metrics()
    family = metrics.counter("by_agent", "By agent", ("agent", "kind"))
    for number in range(CHILDREN_MAX + 50):
        family.labels(number, "x").inc()
    family.labels(1, "x").inc()
    assert len(family.children) == CHILDREN_MAX + 1
    assert family.children["other", "other"].value == 50
    assert family.children["1", "x"].value == 2
    assert metrics.counter("metric_labels_dropped", "…", ("metric",)).labels("by_agent_total").value == 50


def test_asking_twice_gives_the_same_metric_and_a_different_definition_is_refused() -> None:
    metrics = Metrics()
    assert metrics.counter("a", "A") is metrics.counter("a_total", "A")
    assert metrics.gauge("b", "B", ("x",)) is metrics.gauge("b", "B", ("x",))
    assert metrics.histogram("c", "C") is metrics.histogram("c", "C")
    with pytest.raises(ValueError, match="already"):
        metrics.gauge("a_total", "A")
    with pytest.raises(ValueError, match="already"):
        metrics.gauge("b", "B", ("y",))
    with pytest.raises(ValueError, match="buckets"):
        metrics.histogram("c", "C", buckets=(1, 2))


@pytest.mark.parametrize("name", ["", "9lives", "with space", "dash-ed", "ünicode"])
def test_a_name_that_prometheus_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        Metrics().gauge(name, "Help")


@pytest.mark.parametrize("label", ["", "__reserved", "a:b", "a-b"])
def test_a_label_that_prometheus_would_refuse_is_refused(label: str) -> None:
    with pytest.raises(ValueError):
        Metrics().gauge("fine", "Help", (label,))


@pytest.mark.parametrize("buckets", [(), (2, 1), (1, 1), (1, float("inf"))])
def test_buckets_must_rise_and_be_finite(buckets: tuple[float, ...]) -> None:
    with pytest.raises(ValueError):
        Metrics().histogram("h", "Help", buckets=buckets)


def test_a_counter_refuses_to_fall_and_labels_must_be_complete() -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match="grows"):
        metrics.counter("a", "A").inc(-1)
    with pytest.raises(ValueError, match="values"):
        metrics.counter("b", "B", ("x", "y")).labels("only one")


def test_a_sampled_gauge_is_read_at_the_scrape_and_one_that_fails_spoils_nothing() -> None:
    metrics = Metrics()
    queue = [1, 2, 3]
    metrics.gauge("queue_depth", "Depth", sample=lambda: len(queue))
    metrics.gauge("broken", "Broken", ("which",)).labels("a").follow(lambda: 1 / 0)
    assert b"queue_depth 3.0\n" in metrics.exposition()
    queue.clear()
    scraped = metrics.exposition()
    assert b"queue_depth 0.0\n" in scraped
    assert b'metric_sample_failures_total{metric="broken"} 2\n' in scraped


def test_a_hook_runs_before_each_scrape_and_one_that_fails_spoils_nothing() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("read_together", "…")
    metrics.before_scrape(lambda: {}["absent"])
    metrics.before_scrape(gauge.inc)
    metrics.exposition()
    assert b"read_together 2\n" in metrics.exposition()
