"""Theoretical arrival times of a bucket's keys: one integer each, forgotten by a timing wheel once a bucket is full again."""

from collections.abc import Callable, Sequence
from itertools import islice

from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.decision import Decision, Face
from mainspring.primitives.limiter.model import FRESH, State, Verdict
from mainspring.primitives.limiter.shelf import SWEEP_KEYS, Place, Reading, Slow
from mainspring.primitives.limiter.sketch import Sketch
from mainspring.primitives.limiter.store import KEY_LETTERS_MAX
from mainspring.primitives.limiter.wheel import Wheel


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

    def _first(self, key: str, now_ns: int, interval: int, tolerance: int) -> int | None:
        """A hit for a key without a state of its own: how far its TAT lies ahead then, or None where it is no such key."""
        if now_ns >= self.due_ns:
            self.sweep(now_ns)
        if type(key) is not str or len(key) > KEY_LETTERS_MAX:
            return None
        ahead = interval
        if self._sketch is not None:
            ahead += max(0, (self._sketch.read(key) - now_ns) * self._scale)
        if ahead <= tolerance:
            self.save(key, (now_ns * self._scale + ahead,), now_ns)
        return ahead

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

        def first(key: str, cost: int, now_ns: int) -> Decision:
            ahead = self._first(key, now_ns, interval, tolerance) if cost == 1 and key not in tats else None
            return slow(key, cost) if ahead is None else Decision(ahead <= tolerance, ahead, face, key, now_ns)

        def hit(key: str, cost: int = 1) -> Decision:
            now_ns = now()
            tat = find(key)
            if tat is None or cost != 1:
                return first(key, cost, now_ns)
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
                return first(key, cost, now_ns)
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
    """Reads what `Arrivals.quick` leaves behind."""
    interval, tolerance, scale = rule.cell.interval, rule.cell.tolerance, rule.cell.scale

    def read(decision: Decision) -> Sequence[Verdict]:
        ahead = decision.figures
        if type(ahead) is not int:
            return decision.figures  # type: ignore[no-any-return]
        return [rule.hit((ahead,), 0, 0)[1] if decision.allowed else rule.hit((ahead - interval,), 0, 1)[1]]

    def brief(decision: Decision) -> tuple[int, int]:
        ahead = decision.figures
        if type(ahead) is not int:
            return ahead[0].remaining, ahead[0].reset_ns
        return (tolerance - ahead) // interval, ahead // scale

    return Reading(read, brief)
