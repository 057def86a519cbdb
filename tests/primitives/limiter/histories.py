"""Histories for the rules: hits and clocks as Hypothesis draws them, and the check of a bound over every window."""

import os
from collections.abc import Sequence

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.model import FRESH, Rule, State
from mainspring.primitives.limiter.quota import Quota
from mainspring.primitives.limiter.windows import FixedWindow, SlidingLog, SlidingWindow

EXPLORING = bool(os.environ.get("MAINSPRING_EXPLORE"))
"""Set it to look for new failures; otherwise the examples are the same each time, for a test must not fail by luck."""

steady = settings(
    derandomize=not EXPLORING,
    max_examples=500 if EXPLORING else 60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

S = 10**9
NEW_YEAR_NS = 1_767_225_600 * S
"""2026-01-01 00:00 UTC, a Thursday."""

counts = st.integers(1, 12)
periods = st.sampled_from([0.001, 0.7, 1.0, 3.0, 60.0])

token_buckets = st.builds(TokenBucket, counts, st.integers(0, 12), periods)
leaky_buckets = st.builds(lambda rate, queue, per: LeakyBucket(rate, queue, per), counts, st.integers(0, 11), periods)
fixed_windows = st.builds(FixedWindow, counts, periods)
sliding_windows = st.builds(SlidingWindow, counts, periods)
sliding_logs = st.builds(SlidingLog, counts, periods)
quotas = st.builds(
    Quota,
    counts,
    st.sampled_from(["day", "week", "month", "year"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Havana", "Pacific/Apia"]),
)
slots = st.builds(Concurrency, counts, periods)
timed = token_buckets | leaky_buckets | fixed_windows | sliding_windows | sliding_logs
rules = timed | quotas | slots


def span(rule: Rule) -> int:
    """The time over which the rule forgets."""
    if isinstance(rule, TokenBucket | LeakyBucket):
        return rule.cell.tolerance // rule.cell.scale
    return rule.ttl_ns if isinstance(rule, Concurrency) else rule.span_ns


def steps(rule: Rule) -> st.SearchStrategy[int]:
    """Time between two hits: bursts, edges of the window, and anything up to two of it."""
    whole = max(span(rule), 4)
    edges = st.sampled_from([0, 1, whole // 3, whole // 2, whole - 1, whole, whole + 1])
    return st.one_of(st.just(0), edges, st.integers(0, whole // 4), st.integers(0, 2 * whole))


@st.composite
def histories(draw: st.DrawFn, over: st.SearchStrategy[Rule], length: int = 40) -> tuple[Rule, list[tuple[int, int]]]:
    """A rule, and hits as (nanoseconds since the one before, cost)."""
    rule = draw(over)
    hit = st.tuples(steps(rule), st.integers(1, rule.most))
    return rule, draw(st.lists(hit, max_size=length))


def admitted(rule: Rule, hits: Sequence[tuple[int, int]], start_ns: int = NEW_YEAR_NS) -> list[tuple[int, int]]:
    """(time, cost) of what passes, one hit after the other."""
    state: State = FRESH
    now_ns, passed = start_ns, []
    for step_ns, cost in hits:
        now_ns += step_ns
        state, verdict = rule.hit(state, now_ns, cost)
        if verdict.allowed:
            passed.append((now_ns, cost))
    return passed


def assert_bound(rule: Rule, passed: Sequence[tuple[int, int]]) -> None:
    """No half-open window, of any length, holds more than the bound: the fullest begin and end at an admission."""
    for first in range(len(passed)):
        total = 0
        for at_ns, cost in passed[first:]:
            total += cost
            length_ns = at_ns - passed[first][0] + 1
            assert total <= rule.bound(length_ns), f"{total} in {length_ns} ns, at most {rule.bound(length_ns)}"
