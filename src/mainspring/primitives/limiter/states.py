"""Where one process keeps the states of one limit: compact, bounded, and swept a few keys at a time.

A `Shelf` gives and takes the states of its rule and offers `quick`, a closure that decides the common case (a known key,
a cost of 1, nothing to sweep) without calling the rule; everything else goes through the rule itself, and a property test
holds both to the same answers. At `max_keys` new keys share a sketch instead, which can only count too much.
"""

from collections.abc import Callable
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol

from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.decision import Decision, Face
from mainspring.primitives.limiter.model import FRESH, Rule, State, Verdict
from mainspring.primitives.limiter.penalties import Penalty
from mainspring.primitives.limiter.sketch import CELLS, Sketch
from mainspring.primitives.limiter.store import KEY_LETTERS_MAX
from mainspring.primitives.limiter.wheel import Wheel
from mainspring.primitives.limiter.windows import FixedWindow, SlidingWindow

SWEEP_KEYS = 256
"""Keys looked at in one sweep: about 50 µs, so that a million expired keys never stop the loop."""

Place = str | bytes
"""A key, or the digest of a long one."""

Slow = Callable[[str, int], Decision]


class Reading(NamedTuple):
    """How to read the figures of a quick path: as verdicts, and, of one that passed, the two numbers of a header."""

    read: Callable[[bool, Any], list[Verdict]]
    brief: Callable[[Any], tuple[int, int]]


class Shelf(Protocol):
    due_ns: int
    """When `sweep` wants to be called next, at the latest before a key is added."""

    calendar: bool
    """Whether its times are those of the wall clock."""

    def load(self, key: Place, now_ns: int) -> State: ...

    def save(self, key: Place, state: State, now_ns: int) -> None: ...

    def sweep(self, now_ns: int) -> None: ...

    def items(self, now_ns: int, most: int) -> list[tuple[Place, State]]:
        """Up to `most` keys and their states; those in the sketch are left out."""

    def __len__(self) -> int: ...


def shelf(rule: Rule, max_keys: int, now_ns: int) -> Shelf:
    """The shelf that fits a rule."""
    if isinstance(rule, TokenBucket | LeakyBucket):
        return Arrivals(rule, max_keys, now_ns)
    if isinstance(rule, FixedWindow | SlidingWindow):
        return Windows(rule, max_keys, now_ns)
    return States(rule, max_keys, now_ns)


class Arrivals:
    """Theoretical arrival times, a bare integer for each key (in units of 1/scale ns)."""

    __slots__ = ("_max_keys", "_scale", "_sketch", "_tats", "_wheel", "due_ns")
    calendar = False

    def __init__(self, rule: TokenBucket | LeakyBucket, max_keys: int, now_ns: int) -> None:
        self._scale = rule.cell.scale
        self._max_keys = max_keys
        self._tats: dict[Place, int] = {}
        self._wheel: Wheel[Place] = Wheel(rule.cell.tolerance // self._scale, now_ns)
        self._sketch: Sketch | None = None
        self.due_ns = self._wheel.due_ns(now_ns)

    def load(self, key: Place, now_ns: int) -> State:
        tat = self._tats.get(key)
        if tat is None:
            if self._sketch is None:
                return FRESH
            tat = self._sketch.read(key) * self._scale
        return (tat,) if tat > now_ns * self._scale else FRESH

    def save(self, key: Place, state: State, now_ns: int) -> None:
        tat = state[0] if state else 0
        if key in self._tats:
            self._tats[key] = tat  # one that is full again stays until the wheel finds it
        elif not tat:
            return
        elif len(self._tats) < self._max_keys:
            self._tats[key] = tat
            self._wheel.add(key, -(-tat // self._scale))
        else:
            self._sketch = self._sketch or Sketch()
            self._sketch.raise_to(key, -(-tat // self._scale))

    def _added(self, key: str, tat: int, now_ns: int) -> bool:
        """Adds a key that is new, or says that this is not the simple case."""
        if now_ns >= self.due_ns:
            self.sweep(now_ns)
        if type(key) is not str or len(key) > KEY_LETTERS_MAX or self._sketch or len(self._tats) >= self._max_keys:
            return False
        self._tats[key] = tat
        self._wheel.add(key, -(-tat // self._scale))
        return True

    def sweep(self, now_ns: int) -> None:
        for key in self._wheel.take(now_ns, SWEEP_KEYS):
            tat = self._tats[key]
            if tat <= now_ns * self._scale:
                del self._tats[key]
            else:
                self._wheel.add(key, -(-tat // self._scale))
        if self._sketch and self._sketch.highest <= now_ns:
            self._sketch = None
        self.due_ns = self._wheel.due_ns(now_ns)

    def items(self, now_ns: int, most: int) -> list[tuple[Place, State]]:
        return [(key, (tat,)) for key, tat in islice(self._tats.items(), most)]

    def __len__(self) -> int:
        return len(self._tats)

    def quick(self, rule: TokenBucket, now: Callable[[], int], face: Face, slow: Slow) -> Slow:
        """A hit on a token bucket. The figure is how far the TAT lies, or would lie, ahead of now."""
        tats, find, scale = self._tats, self._tats.get, self._scale
        interval, tolerance = rule.cell.interval, rule.cell.tolerance

        def hit(key: str, cost: int = 1) -> Decision:
            now_ns = now()
            tat = find(key)
            if tat is None or cost != 1:
                if cost == 1 and self._added(key, now_ns + interval, now_ns):
                    return Decision(True, interval, face, key, now_ns)
                return slow(key, cost)
            ahead = tat - now_ns
            ahead = ahead + interval if ahead > 0 else interval
            if ahead <= tolerance:
                tats[key] = now_ns + ahead
                return Decision(True, ahead, face, key, now_ns)
            if ahead > 2 * tolerance + interval:
                return slow(key, cost)  # a burst that has been made smaller since
            return Decision(False, ahead, face, key, now_ns)

        def hit_in_fractions(key: str, cost: int = 1) -> Decision:
            now_ns = now()
            tat = find(key)
            scaled = now_ns * scale
            if tat is None or cost != 1:
                if cost == 1 and self._added(key, scaled + interval, now_ns):
                    return Decision(True, interval, face, key, now_ns)
                return slow(key, cost)
            ahead = tat - scaled
            ahead = ahead + interval if ahead > 0 else interval
            if ahead <= tolerance:
                tats[key] = scaled + ahead
                return Decision(True, ahead, face, key, now_ns)
            if ahead > 2 * tolerance + interval:
                return slow(key, cost)
            return Decision(False, ahead, face, key, now_ns)

        return hit if scale == 1 else hit_in_fractions


def read_arrival(rule: TokenBucket) -> Reading:
    """Reads what `Arrivals.quick` leaves behind, or verdicts."""
    interval, tolerance, scale = rule.cell.interval, rule.cell.tolerance, rule.cell.scale

    def read(allowed: bool, figures: Any) -> list[Verdict]:
        if type(figures) is not int:
            return list(figures)
        if allowed:
            return [rule.hit((figures,), 0, 0)[1]]
        return [rule.hit((figures - interval,), 0, 1)[1]]

    def brief(figures: Any) -> tuple[int, int]:
        if type(figures) is not int:
            return figures[0].remaining, figures[0].reset_ns
        return (tolerance - figures) // interval, figures // scale

    return Reading(read, brief)


_COUNT = (1 << 32) - 1


class Windows:
    """Counters of fixed and sliding windows: one generation of keys for this window, one for the last.

    A key's two counts are one integer (previous << 32 | count), and it moves to this window's generation when it is first
    seen there, so that a window's end costs nothing: a generation is dropped whole, some keys at a time.
    """

    __slots__ = (
        "_current",
        "_dropped",
        "_max_keys",
        "_previous",
        "_previous_sketch",
        "_remembers",
        "_sketch",
        "_span_ns",
        "_start_ns",
        "due_ns",
    )
    calendar = False

    def __init__(self, rule: FixedWindow | SlidingWindow, max_keys: int, now_ns: int) -> None:
        self._span_ns = rule.span_ns
        self._remembers = isinstance(rule, SlidingWindow)
        self._max_keys = max_keys
        self._start_ns = now_ns - now_ns % self._span_ns
        self._current: dict[Place, int] = {}
        self._previous: dict[Place, int] = {}
        self._dropped: list[dict[Place, int]] = []
        self._sketch: Sketch | None = None
        self._previous_sketch: Sketch | None = None
        self.due_ns = self._start_ns + self._span_ns

    def load(self, key: Place, now_ns: int) -> State:
        if now_ns >= self.due_ns:
            self.sweep(now_ns)
        packed = self._current.get(key)
        if packed is not None:
            count, previous = packed & _COUNT, packed >> 32
        else:
            count = self._sketch.read(key) if self._sketch else 0
            previous = self._previous.get(key, 0) & _COUNT
            if not previous and self._previous_sketch:
                previous = self._previous_sketch.read(key)
        if not count and not previous:
            return FRESH
        return (self._start_ns, count, previous) if self._remembers else (self._start_ns, count)

    def save(self, key: Place, state: State, now_ns: int) -> None:
        packed = (state[1] | state[2] << 32 if self._remembers else state[1]) if state else 0
        if key in self._current:
            self._current[key] = packed
        elif not packed:
            self._previous.pop(key, None)
        elif self._previous.pop(key, None) is not None or len(self) < self._max_keys:
            self._current[key] = packed
        else:
            self._sketch = self._sketch or Sketch()
            self._sketch.raise_to(key, packed & _COUNT)

    def sweep(self, now_ns: int) -> None:
        if now_ns >= self._start_ns + self._span_ns:
            follows = now_ns < self._start_ns + 2 * self._span_ns
            self._dropped.append(self._previous)
            if self._remembers and follows:
                self._previous, self._previous_sketch = self._current, self._sketch
            else:
                self._dropped.append(self._current)
                self._previous, self._previous_sketch = {}, None
            self._current, self._sketch = {}, None
            self._start_ns = now_ns - now_ns % self._span_ns
        while self._dropped and not self._dropped[-1]:
            self._dropped.pop()
        self.due_ns = self._start_ns + self._span_ns
        if self._dropped:
            old = self._dropped[-1]
            for _ in range(min(2 * SWEEP_KEYS, len(old))):
                old.popitem()
            self.due_ns = min(self.due_ns, now_ns + 1_000_000)

    def _added(self, key: str, now_ns: int) -> bool:
        """Counts the first hit of a key that is new in both windows, or says that this is not the simple case."""
        if now_ns >= self.due_ns:
            self.sweep(now_ns)
        if (
            type(key) is not str
            or len(key) > KEY_LETTERS_MAX
            or key in self._current
            or key in self._previous
            or self._sketch
            or self._previous_sketch
            or len(self) >= self._max_keys
        ):
            return False
        self._current[key] = 1
        return True

    def items(self, now_ns: int, most: int) -> list[tuple[Place, State]]:
        if now_ns >= self.due_ns:
            self.sweep(now_ns)
        return [(key, self.load(key, now_ns)) for key in islice(chain(self._current, self._previous), most)]

    def __len__(self) -> int:
        return len(self._current) + len(self._previous) + sum(map(len, self._dropped))

    def quick_fixed(self, rule: FixedWindow, now: Callable[[], int], face: Face, slow: Slow) -> Slow:
        """A hit on a fixed window. The figures are the count and how long the window has lasted."""
        limit = rule.limit

        def hit(key: str, cost: int = 1) -> Decision:
            now_ns = now()
            count = self._current.get(key)
            if count is None or cost != 1 or now_ns >= self.due_ns:
                if cost == 1 and self._added(key, now_ns):
                    return Decision(True, (1, now_ns - self._start_ns), face, key, now_ns)
                return slow(key, cost)
            if count < limit:
                self._current[key] = count = count + 1
                return Decision(True, (count, now_ns - self._start_ns), face, key, now_ns)
            return Decision(False, (count, now_ns - self._start_ns), face, key, now_ns)

        return hit

    def quick_sliding(self, rule: SlidingWindow, now: Callable[[], int], face: Face, slow: Slow) -> Slow:
        """A hit on a sliding window. The figures are both counts, packed, and how long the window has lasted."""
        limit, tick_ns = rule.limit, rule.tick_ns
        ticks = -(-rule.span_ns // tick_ns)

        def hit(key: str, cost: int = 1) -> Decision:
            now_ns = now()
            packed = self._current.get(key)
            if packed is None or cost != 1 or now_ns >= self.due_ns:
                if cost == 1 and self._added(key, now_ns):
                    return Decision(True, (1, now_ns - self._start_ns), face, key, now_ns)
                return slow(key, cost)
            lasted = now_ns - self._start_ns
            if packed > _COUNT:
                room = limit - (packed & _COUNT) + (packed >> 32) * (lasted // tick_ns - ticks) // ticks
            else:
                room = limit - packed
            if room > 0:
                self._current[key] = packed = packed + 1
                return Decision(True, (packed, lasted), face, key, now_ns)
            return Decision(False, (packed, lasted), face, key, now_ns)

        return hit


def read_window(rule: FixedWindow | SlidingWindow) -> Reading:
    """Reads what the closures of `Windows` leave behind, or verdicts."""
    sliding, limit, span_ns = isinstance(rule, SlidingWindow), rule.limit, rule.span_ns

    def read(allowed: bool, figures: Any) -> list[Verdict]:
        if not figures or type(figures[0]) is not int:
            return list(figures)
        packed, lasted_ns = figures
        state = (-lasted_ns, packed & _COUNT, packed >> 32) if sliding else (-lasted_ns, packed)
        return [rule.hit(state, 0, 0 if allowed else 1)[1]]

    def brief(figures: Any) -> tuple[int, int]:
        packed, lasted_ns = figures if type(figures[0]) is int else (_COUNT + 1, 0)
        if packed > _COUNT:  # the last window counts too: the rule knows how
            verdict = read(True, figures)[0]
            return verdict.remaining, verdict.reset_ns
        return limit - packed, (2 * span_ns if sliding else span_ns) - lasted_ns

    return Reading(read, brief)


class States:
    """Whole states, for every other rule. Keys beyond `max_keys` share 65,536 states among them, by their hash."""

    __slots__ = ("_max_keys", "_rule", "_states", "_wheel", "calendar", "due_ns")

    def __init__(self, rule: Rule, max_keys: int, now_ns: int) -> None:
        self._rule = rule
        self.calendar = rule.calendar
        self._max_keys = max_keys
        self._states: dict[Place | int, State] = {}
        blocked_s = rule.within + rule.longest if isinstance(rule, Penalty) else 0
        self._wheel: Wheel[Place | int] = Wheel(max(rule.span_ns, int(blocked_s * 1e9), 60 * 10**9), now_ns)
        self.due_ns = self._wheel.due_ns(now_ns)

    def load(self, key: Place, now_ns: int) -> State:
        state = self._states.get(key)
        # A key that finds no state of its own may have been counted in a shared one, and begins from there.
        return self._states.get(hash(key) % CELLS, FRESH) if state is None else state

    def save(self, key: Place, state: State, now_ns: int) -> None:
        own = key in self._states or len(self._states) < self._max_keys
        place: Place | int = key if own else hash(key) % CELLS
        if place not in self._states:
            if not state:
                return
            self._wheel.add(place, self._rule.expires_ns(state))
        self._states[place] = state

    def sweep(self, now_ns: int) -> None:
        for place in self._wheel.take(now_ns, SWEEP_KEYS):
            expires_ns = self._rule.expires_ns(self._states[place])
            if expires_ns <= now_ns:
                del self._states[place]
            else:
                self._wheel.add(place, expires_ns)
        self.due_ns = self._wheel.due_ns(now_ns)

    def items(self, now_ns: int, most: int) -> list[tuple[Place, State]]:
        return [(key, state) for key, state in islice(self._states.items(), most) if not isinstance(key, int)]

    def __len__(self) -> int:
        return len(self._states)
