"""Algorithms side by side under one load: what each would admit and refuse, on one time axis. Pure; no store, no clock."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.model import FRESH, BadPolicy, Rule
from mainspring.primitives.limiter.notation import format_clause, parse
from mainspring.primitives.limiter.policies import Clause
from mainspring.primitives.limiter.windows import FixedWindow, SlidingLog, SlidingWindow

WORK_MAX = 50_000
"""Hits times limits, more for those whose states are long: some tenths of a second."""

STEPS_MAX = 2_000
LIMITS_MAX = 8
START_NS = 1_767_225_600 * 10**9

Shape = Literal["even", "random", "burst"]


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many seconds at a rate: `even` spacing, `random` arrivals (Poisson), or each second's hits in one `burst`."""

    seconds: Annotated[float, Meta(gt=0, le=86_400)]
    rate: Annotated[float, Meta(ge=0, le=10_000)]
    shape: Shape = "even"


class Simulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A load and the limits to put on it. One limit alone is shown beside the same amount under every other algorithm."""

    limits: Annotated[tuple[Annotated[str, Meta(max_length=200)], ...], Meta(min_length=1, max_length=LIMITS_MAX)]
    load: Annotated[tuple[Phase, ...], Meta(min_length=1, max_length=50)]
    step_s: Annotated[float, Meta(ge=0.01, le=3600)] = 1.0
    seed: int = 0


class Series(msgspec.Struct, frozen=True):
    """One limit: admitted and refused in each step, and the most that any window of its period has admitted."""

    limit: str
    algorithm: str
    admitted: list[int]
    refused: list[int]
    admitted_total: int
    refused_total: int
    fullest_window: int
    bound: int


class Simulated(msgspec.Struct, frozen=True):
    step_s: float
    offered: list[int]
    series: list[Series]


def simulate(wanted: Simulation) -> Simulated:
    """Raises `BadPolicy` for a limit that is none, and for more work than `WORK_MAX`."""
    rules = [_rule(text) for text in wanted.limits]
    if len(rules) == 1:
        rules = siblings(rules[0])
    seconds = sum(phase.seconds for phase in wanted.load)
    steps = int(-(-seconds // wanted.step_s))
    if steps > STEPS_MAX:
        raise BadPolicy(f"{seconds:g} s in steps of {wanted.step_s:g} s are more than {STEPS_MAX:,}")
    if sum(phase.seconds * phase.rate for phase in wanted.load) * sum(map(_work, rules)) > WORK_MAX:
        raise BadPolicy(f"at most {WORK_MAX:,} hits, over all limits, are simulated; those on an exact log count more")
    arrivals = [at_ns for at_ns in _arrivals(wanted.load, Random(wanted.seed)) if at_ns < seconds * 1e9]
    step_ns = round(wanted.step_s * 1e9)
    offered = _counted(arrivals, step_ns, steps)
    return Simulated(wanted.step_s, offered, [_series(rule, arrivals, offered, step_ns) for rule in rules])


def siblings(rule: Rule) -> list[Rule]:
    """The rule, and the same amount in the same time under each other algorithm that has both."""
    if not isinstance(rule, TokenBucket | FixedWindow | SlidingWindow | SlidingLog | LeakyBucket):
        return [rule]
    amount = rule.rate if isinstance(rule, TokenBucket | LeakyBucket) else rule.limit
    others: list[Rule] = [
        TokenBucket(amount, per=rule.per),
        SlidingWindow(amount, rule.per),
        FixedWindow(amount, rule.per),
    ]
    if amount <= 10_000:
        others.append(SlidingLog(amount, rule.per))
    others.append(LeakyBucket(amount, amount - 1, rule.per))
    return [rule, *(other for other in others if type(other) is not type(rule))]


def _rule(text: str) -> Rule:
    levels = parse(text).levels
    if len(levels) != 1 or len(levels[0]) != 1:
        raise BadPolicy(f"“{text[:60]}”: simulate one limit at a time")
    return levels[0][0].rule


def _work(rule: Rule) -> float:
    """What a hit costs, a counter being 1: a long state is copied each time."""
    return 1 + (rule.most / 100 if isinstance(rule, SlidingLog | Concurrency) else 0)


def _arrivals(load: Sequence[Phase], random: Random) -> Iterator[int]:
    start_s = 0.0
    for phase in load:
        count = int(phase.seconds * phase.rate)
        if phase.shape == "even":
            yield from (round((start_s + at / phase.rate) * 1e9) for at in range(count))
        elif phase.shape == "burst":
            yield from (round((start_s + at // max(phase.rate, 1)) * 1e9) for at in range(count))
        else:
            # Given their number, the arrivals of a Poisson process lie evenly at random.
            yield from sorted(round((start_s + random.random() * phase.seconds) * 1e9) for _ in range(count))
        start_s += phase.seconds


def _counted(times_ns: Sequence[int], step_ns: int, steps: int) -> list[int]:
    counts = [0] * steps
    for at_ns in times_ns:
        counts[min(at_ns // step_ns, steps - 1)] += 1
    return counts


def _series(rule: Rule, arrivals: Sequence[int], offered: Sequence[int], step_ns: int) -> Series:
    state, passed = FRESH, list[int]()
    for at_ns in arrivals:
        state, verdict = rule.hit(state, START_NS + at_ns, 1)
        if verdict.allowed:
            passed.append(at_ns)
    admitted = _counted(passed, step_ns, len(offered))
    refused = [all_ - some for all_, some in zip(offered, admitted, strict=True)]
    span_ns = rule.span_ns or 10**9
    return Series(
        format_clause(Clause(rule)),  # type: ignore[arg-type]  # a rule that was parsed is one that can be written
        rule.kind,
        admitted,
        refused,
        len(passed),
        len(arrivals) - len(passed),
        _fullest(passed, span_ns),
        rule.bound(span_ns),
    )


def _fullest(passed: Sequence[int], span_ns: int) -> int:
    """The most within any half-open window of `span_ns`."""
    first = most = 0
    for last, at_ns in enumerate(passed):
        while passed[first] <= at_ns - span_ns:
            first += 1
        most = max(most, last - first + 1)
    return most
