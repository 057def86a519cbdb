"""Penalties: whoever is refused too often is blocked outright, each time for twice as long. For login routes.

A penalty is a rule like the others, so that it lives in the same state, the same decision and every store; what it counts
is not admissions but refusals.
"""

from typing import ClassVar

import msgspec

from mainspring.primitives.limiter.measures import ENTRIES_MAX, period_ns
from mainspring.primitives.limiter.model import BadPolicy, State, Verdict


class Penalty(msgspec.Struct, frozen=True, tag="penalty"):
    """After `denials` refusals in a window of `within` seconds a key is blocked for `first` seconds, then 2, 4, 8 … times
    as long, at most `longest`. A key that behaves for `longest` after its last block begins anew.

    State: (window start, refusals, blocks so far, blocked until). Refusals while blocked do not count: hammering at a
    closed door neither lengthens a block nor begins another. A clock set back blocks for no longer than `longest`.
    """

    kind: ClassVar[str] = "penalty"
    calendar: ClassVar[bool] = False

    denials: int
    within: float
    first: float = 60.0
    longest: float = 3600.0

    def __post_init__(self) -> None:
        if type(self.denials) is not int or not 1 <= self.denials <= ENTRIES_MAX:
            raise BadPolicy(f"denials must be a whole number from 1 to {ENTRIES_MAX:,}")
        if period_ns(self.within) and period_ns(self.first) > period_ns(self.longest):
            raise BadPolicy("the first block may not be longer than the longest")

    @property
    def most(self) -> int:
        return self.denials

    @property
    def span_ns(self) -> int:
        return period_ns(self.within)

    @property
    def fingerprint(self) -> str:
        return self.kind

    def blocked_ns(self, state: State, now_ns: int) -> int:
        """How much longer the key is blocked."""
        return min(max(state[3] - now_ns, 0), period_ns(self.longest)) if state else 0

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        left = self.blocked_ns(state, now_ns)
        if state and state[3] > now_ns + left:
            state = (*state[:3], now_ns + left)
        counted = state[1] if state and now_ns < state[0] + self.span_ns else 0
        return state, Verdict(not left, self.denials - counted, left, left)

    def refused(self, state: State, now_ns: int) -> State:
        """The state after a refusal by another limit of the same decision, the key not being blocked."""
        start, count, blocks, until = state or (now_ns, 0, 0, 0)
        if blocks and now_ns >= until + period_ns(self.longest):
            blocks = 0
        if not start <= now_ns < start + self.span_ns:
            start, count = now_ns, 0
        count += 1
        if count < self.denials:
            return start, count, blocks, until
        block = min(period_ns(self.first) << min(blocks, 40), period_ns(self.longest))
        return now_ns, 0, blocks + 1, now_ns + block

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        return state

    def expires_ns(self, state: State) -> int:
        return max(state[0] + self.span_ns, state[3] + period_ns(self.longest)) if state else 0

    def bound(self, length_ns: int) -> int:
        """Blocks that can begin in a window: each takes at least `first`."""
        return -(-length_ns // period_ns(self.first))
