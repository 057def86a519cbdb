"""One decision over several limits: all of them are charged, or none is.

The in-process store and the SQL store call `answer`; the Redis store runs its transcription in Lua.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.model import FRESH, Rule, State, Verdict
from mainspring.primitives.limiter.penalties import Penalty

Verb = Literal["hit", "peek", "adjust", "reset", "release", "renew"]


class Limit(msgspec.Struct, frozen=True):
    """A rule under the name that callers see. One in `shadow` decides and counts but never refuses."""

    name: str
    rule: Rule
    shadow: bool = False


class Charge(msgspec.Struct, frozen=True):
    """One limit to be asked about one key; `bucket` is where its states live."""

    bucket: str
    limit: Limit
    key: str


class Ask(msgspec.Struct, frozen=True):
    """A question to a store, answered atomically.

    `hit` spends `amount` of every limit or of none; `peek` tells what a hit would; `adjust` charges `amount` in any case,
    or gives back where it is negative what was charged at `at_ns` (0: in the current window); `reset` forgets; `release`
    and `renew` concern the lease `amount`.
    """

    charges: tuple[Charge, ...]
    verb: Verb
    amount: int
    at_ns: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """Whether all passed, what each limit said, when by the store's clock, and the state that each has now.

    After a refusal the verdicts of limits that would have passed tell how they stand, uncharged.
    """

    allowed: bool
    verdicts: Sequence[Verdict]
    at_ns: int
    states: tuple[State, ...] = ()


def answer(ask: Ask, states: Sequence[State], nows_ns: Sequence[int], at_ns: int) -> Outcome:
    """Answers from the states of the charges, in order.

    `nows_ns` holds the time for each: a store with one clock repeats it, one in process has wall time for calendars.
    `at_ns` is the time by the clock that `Ask.at_ns` is of.
    """
    asked = [(charge.limit, state, now_ns) for charge, state, now_ns in zip(ask.charges, states, nows_ns, strict=True)]
    match ask.verb:
        case "hit":
            return _hit(asked, ask.amount, at_ns)
        case "peek":
            seen = _hit(asked, ask.amount, at_ns)
            return Outcome(seen.allowed, seen.verdicts, at_ns, tuple(states))
        case "adjust":
            age_ns = max(at_ns - ask.at_ns, 0) if ask.at_ns else 0
            after = [one.rule.adjust(state, now, ask.amount, now - age_ns) for one, state, now in asked]
            return _told(asked, after, at_ns)
        case "reset":
            return _told(asked, [FRESH] * len(asked), at_ns)
        case "release":
            after = [_slots(one.rule).release(state, now, ask.amount) for one, state, now in asked]
            return _told(asked, after, at_ns)
        case "renew":
            renewed = [_slots(one.rule).renew(state, now, ask.amount) for one, state, now in asked]
            told = _told(asked, [state for state, _ in renewed], at_ns)
            return Outcome(all(alive for _, alive in renewed), told.verdicts, at_ns, told.states)


_Asked = Sequence[tuple[Limit, State, int]]


def _hit(asked: _Asked, cost: int, at_ns: int) -> Outcome:
    answers = [limit.rule.hit(state, now_ns, cost) for limit, state, now_ns in asked]
    refusing = [
        limit.rule
        for (limit, _, _), (_, verdict) in zip(asked, answers, strict=True)
        if not verdict.allowed and not limit.shadow
    ]
    if refusing:
        blocked = any(isinstance(rule, Penalty) for rule in refusing)
        for at, (limit, state, now_ns) in enumerate(asked):
            if isinstance(limit.rule, Penalty) and not blocked:
                answers[at] = limit.rule.hit(limit.rule.refused(state, now_ns), now_ns, 0)
            elif answers[at][1].allowed:
                answers[at] = limit.rule.hit(state, now_ns, 0)
    return Outcome(not refusing, tuple(one for _, one in answers), at_ns, tuple(state for state, _ in answers))


def _told(asked: _Asked, after: Sequence[State], at_ns: int) -> Outcome:
    """How things stand once the states are `after`."""
    answers = [limit.rule.hit(state, now_ns, 0) for (limit, _, now_ns), state in zip(asked, after, strict=True)]
    return Outcome(True, tuple(one for _, one in answers), at_ns, tuple(state for state, _ in answers))


def _slots(rule: Rule) -> Concurrency:
    assert isinstance(rule, Concurrency), "the limiter asks about leases only where there are slots"
    return rule
