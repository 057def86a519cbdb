"""Windows: fixed, sliding by two counters, and the exact log. Bounds as in `buckets`."""

from functools import cached_property
from typing import ClassVar

import msgspec

from mainspring.primitives.limiter.measures import ENTRIES_MAX, ceil, check_count, period_ns
from mainspring.primitives.limiter.model import EXACT, FRESH, State, Verdict


class FixedWindow(msgspec.Struct, frozen=True, dict=True, tag="fixed"):
    """`limit` in each window of `per` seconds, windows being aligned to the clock's zero. State: (start, count).

    Bound: limit·(⌈L / per⌉ + 1), because a window may be spent at its end and the next one at its beginning.
    """

    kind: ClassVar[str] = "fixed"
    calendar: ClassVar[bool] = False

    limit: int
    per: float

    def __post_init__(self) -> None:
        check_count("limit", self.limit)
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
        return self.limit * (ceil(length_ns, self.span_ns) + 1)


def counted(
    start: int, count: int, end: int, now_ns: int, cost: int, limit: int, span_ns: int
) -> tuple[State, Verdict]:
    """The decision of one counter whose window ends at `end` and is followed by windows of `span_ns`."""
    allowed = count + cost <= limit or not cost
    if allowed:
        count += cost
        retry = 0
    else:
        windows = ceil(min(count, limit) + cost - limit, limit)
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
        check_count("limit", self.limit)
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
        while 2 * self.limit * ceil(self.span_ns, tick) >= EXACT:
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
        ticks = ceil(self.span_ns, self.tick_ns)
        return ceil(previous * (ticks - max(0, now_ns - start) // self.tick_ns), ticks)

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
        ticks = ceil(self.span_ns, self.tick_ns)
        return min((ticks - room * ticks // previous) * self.tick_ns, self.span_ns)

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        start, count, previous = self.current(state, now_ns)
        if delta < 0 and start - self.span_ns <= at_ns < start:
            return start, count, max(previous + delta, 0)
        return start, readjusted(count, delta, at_ns >= start, self.limit), previous

    def expires_ns(self, state: State) -> int:
        return state[0] + 2 * self.span_ns if state else 0

    def bound(self, length_ns: int) -> int:
        return self.limit + max(0, ceil(self.limit * length_ns, self.span_ns) - 1)


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
        check_count("limit", self.limit, ENTRIES_MAX)
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
        return last + self.span_ns - now_ns + ceil(excess, self.limit) * self.span_ns

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
        return self.limit * ceil(length_ns, self.span_ns)
