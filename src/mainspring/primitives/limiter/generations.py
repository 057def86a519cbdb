"""Counters of a window's keys, in generations: those of this window, and those of the last that it has not seen again."""

from collections.abc import Callable, Sequence
from itertools import chain, islice

from mainspring.primitives.limiter.decision import Decision, Face
from mainspring.primitives.limiter.model import FRESH, State, Verdict
from mainspring.primitives.limiter.shelf import SWEEP_KEYS, Place, Reading, Slow
from mainspring.primitives.limiter.sketch import Sketch
from mainspring.primitives.limiter.store import KEY_LETTERS_MAX
from mainspring.primitives.limiter.windows import FixedWindow, SlidingWindow

_COUNT = (1 << 32) - 1


class Generations:
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
        if packed is None:
            packed = self._unseen(key)
        if not packed:
            return FRESH
        return (self._start_ns, packed & _COUNT, packed >> 32) if self._remembers else (self._start_ns, packed)

    def save(self, key: Place, state: State, now_ns: int) -> None:
        self._put(key, (state[1] | state[2] << 32 if self._remembers else state[1]) if state else 0)

    def _unseen(self, key: Place) -> int:
        """The counts of a key that this window has not seen, or has no room for."""
        count = self._sketch.read(key) if self._sketch else 0
        if not self._remembers:
            return count
        previous = self._previous.get(key, 0) & _COUNT
        if not previous and self._previous_sketch:
            previous = self._previous_sketch.read(key)
        return count | previous << 32

    def _put(self, key: Place, packed: int) -> None:
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

    def _first(self, key: str, now_ns: int) -> int | None:
        """The counts of a key for its first hit in this window, or None where it cannot be kept as it is."""
        if now_ns >= self.due_ns:
            self.sweep(now_ns)
        if type(key) is not str or len(key) > KEY_LETTERS_MAX:
            return None
        packed = self._current.get(key)
        return self._unseen(key) if packed is None else packed

    def items(self, now_ns: int, most: int) -> list[tuple[Place, State]]:
        if now_ns >= self.due_ns:
            self.sweep(now_ns)
        return [(key, self.load(key, now_ns)) for key in islice(chain(self._current, self._previous), most)]

    def __len__(self) -> int:
        return len(self._current) + len(self._previous) + sum(map(len, self._dropped))

    def quick(self, rule: FixedWindow | SlidingWindow, now: Callable[[], int], face: Face, slow: Slow) -> Slow:
        """A hit on a window. The figure is both counts, packed; how long the window has lasted follows from the time."""
        limit = rule.limit
        tick_ns = rule.tick_ns if isinstance(rule, SlidingWindow) else rule.span_ns
        ticks = -(-rule.span_ns // tick_ns)

        def first(key: str, cost: int, now_ns: int) -> Decision:
            packed = self._first(key, now_ns) if cost == 1 else None
            if packed is None:
                return slow(key, cost)
            overlap = (packed >> 32) * (ticks - (now_ns - self._start_ns) // tick_ns)
            if (packed & _COUNT) - (-overlap // ticks) >= limit:
                return Decision(False, packed, face, key, now_ns)
            self._put(key, packed + 1)
            return Decision(True, packed + 1, face, key, now_ns)

        def hit(key: str, cost: int = 1) -> Decision:
            now_ns = now()
            packed = self._current.get(key)
            if packed is None or cost != 1 or now_ns >= self.due_ns:
                return first(key, cost, now_ns)
            if packed < limit:  # what the last window has left is in the bits above: then this is false
                self._current[key] = packed = packed + 1
                return Decision(True, packed, face, key, now_ns)
            if packed > _COUNT:
                into = (now_ns - self._start_ns) // tick_ns
                if (packed & _COUNT) - (packed >> 32) * (into - ticks) // ticks < limit:
                    self._current[key] = packed = packed + 1
                    return Decision(True, packed, face, key, now_ns)
            return Decision(False, packed, face, key, now_ns)

        return hit


def read_window(rule: FixedWindow | SlidingWindow) -> Reading:
    """Reads what `Generations.quick` leaves behind."""
    sliding, limit, span_ns = isinstance(rule, SlidingWindow), rule.limit, rule.span_ns

    def read(decision: Decision) -> Sequence[Verdict]:
        packed = decision.figures
        if type(packed) is not int:
            return decision.figures  # type: ignore[no-any-return]
        start_ns = -(decision.at_ns % span_ns)
        state = (start_ns, packed & _COUNT, packed >> 32) if sliding else (start_ns, packed)
        return [rule.hit(state, 0, 0 if decision.allowed else 1)[1]]

    def brief(decision: Decision) -> tuple[int, int]:
        packed = decision.figures
        if type(packed) is not int or packed > _COUNT:  # the last window counts too: the rule knows how
            verdict = read(decision)[0]
            return verdict.remaining, verdict.reset_ns
        return limit - packed, (2 * span_ns if sliding else span_ns) - decision.at_ns % span_ns

    return Reading(read, brief)
