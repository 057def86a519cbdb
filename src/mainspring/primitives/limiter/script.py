"""What goes into the Lua script and what comes out of it: rules as numbers, replies as verdicts.

The script decides; of most rules it gives back only the state, from which the rule itself reads the verdict here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.model import Rule, State, Verdict
from mainspring.primitives.limiter.penalties import Penalty
from mainspring.primitives.limiter.quota import Quota
from mainspring.primitives.limiter.windows import FixedWindow, SlidingLog, SlidingWindow

SCRIPT = (Path(__file__).parent / "limiter.lua").read_text()
_WIDTH = 6


def numbers(rule: Rule) -> tuple[int, ...]:
    """The kind of a rule and its six numbers, times in microseconds; a quota's calendar is left open."""
    found: tuple[int, ...]
    match rule:
        case TokenBucket() | LeakyBucket():
            cell = rule.cell
            found = (1, cell.scale, cell.interval // 1000, cell.tolerance // 1000)
        case FixedWindow():
            found = (2, rule.limit, rule.span_ns // 1000)
        case SlidingWindow():
            found = (3, rule.limit, rule.span_ns // 1000, rule.tick_ns // 1000)
        case SlidingLog():
            found = (4, rule.limit, rule.span_ns // 1000)
        case Concurrency():
            found = (5, rule.limit, rule.ttl_ns // 1000)
        case Quota():
            found = (6, rule.limit)
        case Penalty():
            times = (round(seconds * 1_000_000) for seconds in (rule.within, rule.first, rule.longest))
            found = (7, rule.denials, *times)
        case _:
            raise TypeError(f"the script has no {type(rule).__name__}")
    return found + (0,) * (1 + _WIDTH - len(found))


def calendar_page(rule: Quota, now_us: int) -> tuple[int, ...]:
    """The five bounds of the period before now, the one that now is in, and the two after it, in microseconds."""
    start_ns, end_ns = rule.period(now_us * 1000)
    before_ns = rule.period(start_ns - 1)[0]
    after_ns = rule.period(end_ns)[1]
    return tuple(at // 1000 for at in (before_ns, start_ns, end_ns, after_ns, rule.period(after_ns)[1]))


def state_of(rule: Rule, stored: list[int]) -> State:
    """A state as the rule has it, from one as the script has it."""
    if not stored:
        return ()
    if isinstance(rule, TokenBucket | LeakyBucket):
        return ((stored[0] * rule.cell.scale + stored[1]) * 1000,)
    if isinstance(rule, SlidingLog):
        return tuple(value * 1000 if at % 2 == 0 else value for at, value in enumerate(stored))
    if isinstance(rule, Concurrency):
        return tuple(value * 1000 if at % 3 == 1 else value for at, value in enumerate(stored))
    if isinstance(rule, Penalty):
        return stored[0] * 1000, stored[1], stored[2], stored[3] * 1000
    return (stored[0] * 1000, *stored[1:])


class Told(Sequence[Verdict]):
    """The verdicts in a reply, read when somebody looks: most callers only want to know whether it passed."""

    __slots__ = ("_allowed", "_cost", "_now_us", "_read", "_replies", "_rules")

    def __init__(self, rules: Sequence[Rule], replies: list[Any], now_us: int, cost: int, allowed: bool) -> None:
        self._rules = rules
        self._replies = replies
        self._now_us = now_us
        self._cost = cost
        self._allowed = allowed
        self._read: list[Verdict] | None = None

    def __len__(self) -> int:
        return len(self._replies)

    def __getitem__(self, at: Any) -> Any:
        if self._read is None:
            self._read = [
                verdict_of(rule, reply, self._now_us, self._cost, self._allowed)
                for rule, reply in zip(self._rules, self._replies, strict=True)
            ]
        return self._read[at]


def verdict_of(rule: Rule, reply: list[Any], now_us: int, cost: int, charged: bool) -> Verdict:
    """The verdict in a reply `[passed, state …]`; of the rules with long states it is `[passed, used, last, retry, lease]`."""
    passed, told = reply[0], reply[1:]
    if isinstance(rule, SlidingLog | Concurrency):
        used, last, retry, lease = told
        left = max(0, rule.limit - used)
        return Verdict(passed, left, max(0, last - now_us) * 1000, retry * 1000, lease=lease)
    state, now_ns = state_of(rule, told), now_us * 1000
    if not passed:
        return rule.hit(state, now_ns, cost)[1]
    verdict = rule.hit(state, now_ns, 0)[1]
    if isinstance(rule, LeakyBucket) and cost and charged:
        return msgspec.structs.replace(verdict, delay_ns=rule.delay_ns(state, now_ns))
    return verdict
