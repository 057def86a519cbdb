"""Concurrency: so many at once, each holding a slot on a lease."""

from functools import cached_property
from typing import ClassVar

import msgspec

from mainspring.primitives.limiter.measures import ENTRIES_MAX, ceil, check_count, period_ns
from mainspring.primitives.limiter.model import State, Verdict


class Concurrency(msgspec.Struct, frozen=True, dict=True, tag="concurrency"):
    """At most `limit` slots at once; a slot that is neither released nor renewed for `ttl` seconds is free again.

    State: (lease, expiry, weight, …). A lease is a number, greater than all before it of the same key. Bound: at no
    instant of the store's clock are more than `limit` leases alive; over time, limit·⌈L / ttl⌉ where none is released early.
    """

    kind: ClassVar[str] = "concurrency"
    calendar: ClassVar[bool] = False

    limit: int
    ttl: float = 60.0

    def __post_init__(self) -> None:
        check_count("limit", self.limit, ENTRIES_MAX)
        period_ns(self.ttl)

    @property
    def most(self) -> int:
        return self.limit

    @property
    def span_ns(self) -> int:
        return 0

    @cached_property
    def ttl_ns(self) -> int:
        return period_ns(self.ttl)

    @property
    def fingerprint(self) -> str:
        return self.kind

    def current(self, state: State, now_ns: int) -> State:
        """The leases that are alive, none of them for longer than `ttl` from now."""
        kept: list[int] = []
        for at in range(0, len(state), 3):
            if state[at + 1] > now_ns:
                kept += (state[at], min(state[at + 1], now_ns + self.ttl_ns), state[at + 2])
        return tuple(kept)

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        kept = self.current(state, now_ns)
        used = sum(kept[2::3])
        allowed = used + cost <= self.limit or not cost
        lease = retry = 0
        if not allowed:
            retry = self._retry_ns(kept, used + cost - self.limit, now_ns)
        elif cost:
            lease = max(1, now_ns // 1000, *(one + 1 for one in state[::3]))
            kept = (*kept, lease, now_ns + self.ttl_ns, cost)
            used += cost
        reset = max(kept[1::3]) - now_ns if kept else 0
        return kept, Verdict(allowed, max(0, self.limit - used), reset, retry, lease=lease)

    def _retry_ns(self, kept: State, excess: int, now_ns: int) -> int:
        """Until enough leases run out, which is the longest that it can take: a holder may release sooner."""
        for expiry, weight in sorted(zip(kept[1::3], kept[2::3], strict=True)):
            excess -= weight
            if excess <= 0:
                return expiry - now_ns
        last_ns = max(kept[1::3]) - now_ns if kept else self.ttl_ns
        return last_ns + ceil(excess, self.limit) * self.ttl_ns

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        """Nothing is charged or given back by amount: slots are released by their lease."""
        return self.current(state, now_ns)

    def release(self, state: State, now_ns: int, lease: int) -> State:
        kept = self.current(state, now_ns)
        at = next((at for at in range(0, len(kept), 3) if kept[at] == lease), len(kept))
        return kept[:at] + kept[at + 3 :]

    def renew(self, state: State, now_ns: int, lease: int) -> tuple[State, bool]:
        """Gives the lease `ttl` from now, and whether it was still alive."""
        kept = list(self.current(state, now_ns))
        for at in range(0, len(kept), 3):
            if kept[at] == lease:
                kept[at + 1] = now_ns + self.ttl_ns
                return tuple(kept), True
        return tuple(kept), False

    def expires_ns(self, state: State) -> int:
        return max(state[1::3]) if state else 0

    def bound(self, length_ns: int) -> int:
        return self.limit * ceil(length_ns, self.ttl_ns)
