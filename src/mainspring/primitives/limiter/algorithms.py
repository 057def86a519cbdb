"""The rate limiting algorithms, each a pure function of state, time and cost with an exact bound.

Bounds speak of half-open windows [t, t + L) of ANY start and length and hold whatever the clock does: a clock set back
never admits more. What it costs instead is refusals for at most two windows, because a state from the future counts as a
spent one. Everything is integer arithmetic; where a rate does not divide its period the unit of time becomes a fraction
of a nanosecond (`scale`), so that "3/s" is three, not 2.99.
"""

from functools import cached_property
from math import gcd
from typing import ClassVar

import msgspec

from mainspring.primitives.limiter.model import EXACT, FRESH, BadPolicy, State, Verdict

COUNT_MAX = 1_000_000_000
PERIOD_MAX_S = 100 * 86_400
LOG_MAX = 10_000
"""The exact log and the slots of a concurrency limit keep an entry for each admission; more would make every hit slow."""


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
        _check_count("rate", self.rate)
        if self.burst:
            _check_count("burst", self.burst)

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
        return self.most + max(0, _ceil(length_ns * self.cell.scale, self.cell.interval) - 1)


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
        _check_count("rate", self.rate)
        if not 0 <= self.delay <= self.queue < COUNT_MAX:
            raise BadPolicy(f"queue must be 0 to {COUNT_MAX - 1}, and delay no more than queue")

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
        waiting = after[0] - now_ns * self.cell.scale - self.cell.interval * (1 + self.delay)
        return after, msgspec.structs.replace(verdict, delay_ns=max(0, _ceil(waiting, self.cell.scale)))

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        return self.cell.adjust(state, now_ns, delta, at_ns)

    def expires_ns(self, state: State) -> int:
        return -(-state[0] // self.cell.scale) if state else 0

    def bound(self, length_ns: int) -> int:
        return self.most + max(0, _ceil(length_ns * self.cell.scale, self.cell.interval) - 1)


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
            scale, interval_us = 1, _ceil(period_us, rate)
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
            _ceil(ahead, self.scale),
            0 if allowed else _ceil(after - self.tolerance, self.scale),
        )
        return ((now_ns * self.scale + ahead,) if ahead else FRESH), verdict

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        change = self.interval * delta
        if delta < 0:
            # What has been refilled since the charge cannot come back a second time.
            change = min(change + max(now_ns - at_ns, 0) * self.scale, 0)
        ahead = min(max(self.ahead(state, now_ns) + change, 0), 2 * self.tolerance)
        return (now_ns * self.scale + ahead,) if ahead else FRESH


class FixedWindow(msgspec.Struct, frozen=True, dict=True, tag="fixed"):
    """`limit` in each window of `per` seconds, windows being aligned to the clock's zero. State: (start, count).

    Bound: limit·(⌈L / per⌉ + 1), because a window may be spent at its end and the next one at its beginning.
    """

    kind: ClassVar[str] = "fixed"
    calendar: ClassVar[bool] = False

    limit: int
    per: float

    def __post_init__(self) -> None:
        _check_count("limit", self.limit)
        period_ns(self.per)

    @property
    def most(self) -> int:
        return self.limit

    @cached_property
    def span_ns(self) -> int:
        return period_ns(self.per)

    @property
    def fingerprint(self) -> str:
        return f"{self.kind}{self.span_ns // 1000}"

    def current(self, state: State, now_ns: int) -> tuple[int, int]:
        """The window that now belongs to and what it has admitted."""
        span = self.span_ns
        if not state or now_ns >= state[0] + span:
            return now_ns - now_ns % span, 0
        if state[0] > now_ns + span:
            # Set back by more than a window: nothing passes until a whole one has gone by.
            return now_ns - now_ns % span + span, self.limit
        return state[0], state[1]

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        start, count = self.current(state, now_ns)
        return counted(start, count, start + self.span_ns, now_ns, cost, self.limit, self.span_ns)

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        start, count = self.current(state, now_ns)
        return start, readjusted(count, delta, at_ns >= start, self.limit)

    def expires_ns(self, state: State) -> int:
        return state[0] + self.span_ns if state else 0

    def bound(self, length_ns: int) -> int:
        return self.limit * (_ceil(length_ns, self.span_ns) + 1)


def counted(
    start: int, count: int, end: int, now_ns: int, cost: int, limit: int, span_ns: int
) -> tuple[State, Verdict]:
    """The decision of one counter whose window ends at `end` and is followed by windows of `span_ns`."""
    allowed = count + cost <= limit or not cost
    if allowed:
        count += cost
        retry = 0
    else:
        windows = _ceil(min(count, limit) + cost - limit, limit)
        retry = end - now_ns + (windows - 1) * span_ns
    verdict = Verdict(allowed, max(0, limit - count), end - now_ns if count else 0, retry)
    return ((start, count) if count else FRESH), verdict


def readjusted(count: int, delta: int, this_window: bool, limit: int) -> int:
    """A counter after a later charge, or after giving back what this window, and no earlier one, has admitted."""
    return min(max(count + delta, 0), 2 * limit) if delta > 0 or this_window else count


class SlidingWindow(msgspec.Struct, frozen=True, dict=True, tag="sliding"):
    """`limit` in `per` seconds by two counters: the last window counts by the share of it that still overlaps.

    State: (start, count, previous). The share is rounded up. Bound: limit + ⌈limit·L / per⌉ − 1, so at most twice the
    limit less one in a window of `per`, and that only where a full burst ends one window; evenly spread callers see limit.
    """

    kind: ClassVar[str] = "sliding"
    calendar: ClassVar[bool] = False

    limit: int
    per: float

    def __post_init__(self) -> None:
        _check_count("limit", self.limit)
        period_ns(self.per)

    @property
    def most(self) -> int:
        return self.limit

    @cached_property
    def span_ns(self) -> int:
        return period_ns(self.per)

    @cached_property
    def tick_ns(self) -> int:
        """The grain of the share: a microsecond, or as coarse as keeps twice the limit times the window exact."""
        tick = 1000
        while 2 * self.limit * _ceil(self.span_ns, tick) >= EXACT:
            tick *= 10
        return tick

    @property
    def fingerprint(self) -> str:
        return f"{self.kind}{self.span_ns // 1000}"

    def current(self, state: State, now_ns: int) -> tuple[int, int, int]:
        """The window that now belongs to, what it has admitted, and what the one before it has."""
        span = self.span_ns
        if not state or now_ns >= state[0] + 2 * span:
            return now_ns - now_ns % span, 0, 0
        start, count, previous = state
        if now_ns >= start + span:
            return start + span, 0, count
        if start > now_ns + span:
            return now_ns - now_ns % span + span, self.limit, self.limit
        return start, count, previous

    def overlap(self, previous: int, start: int, now_ns: int) -> int:
        """What the last window still counts for."""
        ticks = _ceil(self.span_ns, self.tick_ns)
        return _ceil(previous * (ticks - max(0, now_ns - start) // self.tick_ns), ticks)

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        start, count, previous = self.current(state, now_ns)
        overlap = self.overlap(previous, start, now_ns)
        allowed = count + overlap + cost <= self.limit or not cost
        if allowed:
            count += cost
        end = start + self.span_ns
        verdict = Verdict(
            allowed,
            max(0, self.limit - count - overlap),
            end - now_ns + (self.span_ns if count else 0) if count or previous else 0,
            0 if allowed else self._retry_ns(start, count, previous, now_ns, cost),
        )
        return ((start, count, previous) if count or previous else FRESH), verdict

    def _retry_ns(self, start: int, count: int, previous: int, now_ns: int, cost: int) -> int:
        windows, cost = divmod(cost - 1, self.limit)  # a line of waiters fills whole windows first
        cost += 1
        if count + cost <= self.limit:
            at = start + self._room_after_ns(previous, self.limit - count - cost)
        else:
            at = start + self.span_ns + self._room_after_ns(count, self.limit - cost)
        return max(at - now_ns, 0) + windows * self.span_ns

    def _room_after_ns(self, previous: int, room: int) -> int:
        """How far into a window the share of `previous` has fallen to `room`."""
        if previous <= room:
            return 0
        ticks = _ceil(self.span_ns, self.tick_ns)
        return min((ticks - room * ticks // previous) * self.tick_ns, self.span_ns)

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        start, count, previous = self.current(state, now_ns)
        if delta < 0 and start - self.span_ns <= at_ns < start:
            return start, count, max(previous + delta, 0)
        return start, readjusted(count, delta, at_ns >= start, self.limit), previous

    def expires_ns(self, state: State) -> int:
        return state[0] + 2 * self.span_ns if state else 0

    def bound(self, length_ns: int) -> int:
        return self.limit + max(0, _ceil(self.limit * length_ns, self.span_ns) - 1)


class SlidingLog(msgspec.Struct, frozen=True, dict=True, tag="log"):
    """`limit` in any window of `per` seconds, exactly: every admission is remembered with its time.

    State: (time, cost, time, cost, …), oldest first; memory and time are O(limit), so the limit is at most 10,000.
    Bound: limit·⌈L / per⌉, which no algorithm that admits `limit` at once can better.
    """

    kind: ClassVar[str] = "log"
    calendar: ClassVar[bool] = False

    limit: int
    per: float

    def __post_init__(self) -> None:
        _check_count("limit", self.limit, LOG_MAX)
        period_ns(self.per)

    @property
    def most(self) -> int:
        return self.limit

    @cached_property
    def span_ns(self) -> int:
        return period_ns(self.per)

    @property
    def fingerprint(self) -> str:
        return f"{self.kind}{self.span_ns // 1000}"

    def current(self, state: State, now_ns: int) -> tuple[State, int]:
        """The admissions that still count, and the time to go on with: never before the newest of them."""
        if not state:
            return FRESH, now_ns
        newest = state[-2]
        if newest > now_ns + self.span_ns:
            # Set back by more than a window: all of them count for one more.
            return (now_ns, sum(state[1::2])), now_ns
        now_ns = max(now_ns, newest)
        first = 0
        while first < len(state) and state[first] <= now_ns - self.span_ns:
            first += 2
        return state[first:], now_ns

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        kept, held_ns = self.current(state, now_ns)
        used = sum(kept[1::2])
        allowed = used + cost <= self.limit or not cost
        retry = 0
        if not allowed:
            retry = self._retry_ns(kept, used + cost - self.limit, held_ns)
        elif cost:
            used += cost
            kept = (*kept[:-1], kept[-1] + cost) if kept and kept[-2] == held_ns else (*kept, held_ns, cost)
        reset = kept[-2] + self.span_ns - now_ns if kept else 0
        return kept, Verdict(allowed, max(0, self.limit - used), reset, retry + held_ns - now_ns if retry else 0)

    def _retry_ns(self, kept: State, excess: int, now_ns: int) -> int:
        """Until admissions worth `excess` are forgotten; whoever waits in line beyond them waits whole windows more."""
        for at, cost in zip(kept[::2], kept[1::2], strict=True):
            excess -= cost
            if excess <= 0:
                return at + self.span_ns - now_ns
        last = kept[-2] if kept else now_ns
        return last + self.span_ns - now_ns + _ceil(excess, self.limit) * self.span_ns

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        kept, held_ns = self.current(state, now_ns)
        if delta > 0:
            delta = min(delta, 2 * self.limit - sum(kept[1::2]))
            return (*kept, held_ns, delta) if delta > 0 else kept
        entries: list[int] = []
        for at, cost in zip(kept[::2], kept[1::2], strict=True):
            # Given back from the very admission, or without one from the oldest, which leaves least room the longest.
            back = min(cost, -delta) if at == at_ns or at_ns >= now_ns else 0
            delta += back
            if cost > back:
                entries += (at, cost - back)
        return tuple(entries)

    def expires_ns(self, state: State) -> int:
        return state[-2] + self.span_ns if state else 0

    def bound(self, length_ns: int) -> int:
        return self.limit * _ceil(length_ns, self.span_ns)


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
        _check_count("limit", self.limit, LOG_MAX)
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
        return self.ttl_ns * (1 + _ceil(excess, self.limit))

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
        return self.limit * _ceil(length_ns, self.ttl_ns)


def period_ns(seconds: float) -> int:
    """A period in nanoseconds: a whole number of microseconds, a millisecond to a hundred days."""
    if not 0.001 <= seconds <= PERIOD_MAX_S:  # also refuses NaN
        raise BadPolicy("a period is a millisecond to 100 days long; use a calendar quota for more")
    return round(seconds * 1_000_000) * 1000


def _check_count(name: str, value: int, most: int = COUNT_MAX) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise BadPolicy(f"{name} must be a whole number from 1 to {most:,}")


def _suffix(scale: int) -> str:
    return "" if scale == 1 else f"*{scale}"


def _ceil(amount: int, unit: int) -> int:
    return -(-amount // unit)
