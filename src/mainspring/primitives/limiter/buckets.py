"""Buckets: the token bucket, and the leaky bucket that shapes. Both are the Generic Cell Rate Algorithm.

Bounds, here as in the other modules of algorithms, speak of half-open windows [t, t + L) of ANY start and length, and hold
whatever the clock does: one set back never admits more, it costs refusals instead, for at most three windows, because a
state from the future counts as a spent one. Everything is integer arithmetic; where a rate does not divide its period the
unit of time becomes a fraction of a nanosecond (`scale`), so that 3/s is three and not 2.99.
"""

from functools import cached_property
from math import gcd
from typing import ClassVar

import msgspec

from mainspring.primitives.limiter.measures import COUNT_MAX, ceil, check_count, period_ns
from mainspring.primitives.limiter.model import EXACT, FRESH, BadPolicy, State, Verdict


class TokenBucket(msgspec.Struct, frozen=True, dict=True, tag="token"):
    """`rate` per `per` seconds on average, up to `burst` (by default `rate`) at once.

    Kept as the Generic Cell Rate Algorithm (ITU-T I.371, 1993): one integer, the theoretical arrival time (TAT) at which
    the bucket is full again. With T = per / rate, a hit moves it to max(TAT, now) + T·cost, and passes iff that is at most
    burst·T ahead of now. Bound: burst + ⌈L / T⌉ − 1 in any window of length L.
    """

    kind: ClassVar[str] = "token"
    calendar: ClassVar[bool] = False

    rate: int
    burst: int = 0
    per: float = 1.0

    def __post_init__(self) -> None:
        check_count("rate", self.rate)
        if self.burst:
            check_count("burst", self.burst)
        _ = self.cell  # refuses what cannot be kept exactly

    @cached_property
    def cell(self) -> "Cell":
        return Cell.of(self.rate, self.per, self.most)

    @property
    def most(self) -> int:
        return self.burst or self.rate

    @property
    def span_ns(self) -> int:
        return period_ns(self.per)

    @property
    def fingerprint(self) -> str:
        return self.kind + _suffix(self.cell.scale)

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        return self.cell.hit(state, now_ns, cost)

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        return self.cell.adjust(state, now_ns, delta, at_ns)

    def expires_ns(self, state: State) -> int:
        return -(-state[0] // self.cell.scale) if state else 0

    def bound(self, length_ns: int) -> int:
        return self.most + max(0, ceil(length_ns * self.cell.scale, self.cell.interval) - 1)


class LeakyBucket(msgspec.Struct, frozen=True, dict=True, tag="leaky"):
    """Shapes traffic: one leaves every per / rate seconds, up to `queue` wait, and `Verdict.delay_ns` says how long.

    The first `delay` of those who would wait go at once, as nginx's `delay=` does (`delay = queue` is its `nodelay`).
    The same arithmetic as the token bucket with a burst of queue + 1. Bound on arrivals: queue + ⌈L / T⌉; on departures,
    for callers who obey the delay: delay + ⌈L / T⌉.
    """

    kind: ClassVar[str] = "leaky"
    calendar: ClassVar[bool] = False

    rate: int
    queue: int
    per: float = 1.0
    delay: int = 0

    def __post_init__(self) -> None:
        check_count("rate", self.rate)
        if not 0 <= self.delay <= self.queue < COUNT_MAX:
            raise BadPolicy(f"queue must be 0 to {COUNT_MAX - 1}, and delay no more than queue")
        _ = self.cell

    @cached_property
    def cell(self) -> "Cell":
        return Cell.of(self.rate, self.per, self.most)

    @property
    def most(self) -> int:
        return self.queue + 1

    @property
    def span_ns(self) -> int:
        return period_ns(self.per)

    @property
    def fingerprint(self) -> str:
        return self.kind + _suffix(self.cell.scale)

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        after, verdict = self.cell.hit(state, now_ns, cost)
        if not verdict.allowed or not cost:
            return after, verdict
        return after, msgspec.structs.replace(verdict, delay_ns=self.delay_ns(after, now_ns))

    def delay_ns(self, state: State, now_ns: int) -> int:
        """How long whoever has just been admitted, leaving this state, is to wait."""
        waiting = self.cell.ahead(state, now_ns) - self.cell.interval * (1 + self.delay)
        return max(0, ceil(waiting, self.cell.scale))

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        return self.cell.adjust(state, now_ns, delta, at_ns)

    def expires_ns(self, state: State) -> int:
        return -(-state[0] // self.cell.scale) if state else 0

    def bound(self, length_ns: int) -> int:
        return self.most + max(0, ceil(length_ns * self.cell.scale, self.cell.interval) - 1)


class Cell(msgspec.Struct, frozen=True):
    """The arithmetic of the GCRA. `interval` (T) and `tolerance` (burst·T) are in units of 1/scale nanosecond.

    T is a whole number of 1/scale microseconds too, so that Redis, whose clock has microseconds, decides alike.
    """

    scale: int
    interval: int
    tolerance: int

    @classmethod
    def of(cls, rate: int, per: float, burst: int) -> "Cell":
        period_us = period_ns(per) // 1000
        common = gcd(period_us, rate)
        scale, interval_us = rate // common, period_us // common
        if 2 * burst * interval_us >= EXACT:
            # Too fine to be exact in a double: whole microseconds, rounded so that the rate is never exceeded.
            scale, interval_us = 1, ceil(period_us, rate)
            if interval_us * rate > period_us * 1.01 or 2 * burst * interval_us >= EXACT:
                raise BadPolicy(
                    f"{rate} per {per:g} s with a burst of {burst} cannot be kept exactly: state it per second"
                )
        return cls(scale, interval_us * 1000, burst * interval_us * 1000)

    def ahead(self, state: State, now_ns: int) -> int:
        """How far the TAT lies ahead of now. More than twice the tolerance (one limit of debt) can only be a clock set back."""
        return min(max(state[0] - now_ns * self.scale, 0), 2 * self.tolerance) if state else 0

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        ahead = self.ahead(state, now_ns)
        after = ahead + self.interval * cost
        allowed = after <= self.tolerance or not cost
        if allowed:
            ahead = after
        verdict = Verdict(
            allowed,
            max(0, self.tolerance - ahead) // self.interval,
            ceil(ahead, self.scale),
            0 if allowed else ceil(after - self.tolerance, self.scale),
        )
        return ((now_ns * self.scale + ahead,) if ahead else FRESH), verdict

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        change = self.interval * delta
        if delta < 0:
            # What has been refilled since the charge cannot come back a second time.
            change = min(change + max(now_ns - at_ns, 0) * self.scale, 0)
        ahead = min(max(self.ahead(state, now_ns) + change, 0), 2 * self.tolerance)
        return (now_ns * self.scale + ahead,) if ahead else FRESH


def _suffix(scale: int) -> str:
    return "" if scale == 1 else f"*{scale}"
