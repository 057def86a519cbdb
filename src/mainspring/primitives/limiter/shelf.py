"""Where one process keeps the states of one limit: what such a shelf does, and the one that any rule can use.

A shelf gives and takes the states of its rule. Those of the usual algorithms (`arrivals`, `generations`) also offer
`quick`, a closure that decides a cost of 1 without calling the rule; a property test holds both to the same answers. At
`max_keys` new keys share something smaller, which can only count too much: a flood of invented keys is limited and never
admitted free, and takes nobody's state.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from mainspring.primitives.limiter.decide import Limit
from mainspring.primitives.limiter.decision import Decision, Face
from mainspring.primitives.limiter.model import FRESH, Rule, State, Verdict
from mainspring.primitives.limiter.penalties import Penalty
from mainspring.primitives.limiter.sketch import CELLS
from mainspring.primitives.limiter.wheel import Wheel

SWEEP_KEYS = 256
"""Keys looked at in one sweep: about 50 µs, so that a million expired keys never stop the loop."""

Place = str | bytes
"""A key, or the digest of a long one."""

Slow = Callable[[str, int], Decision]


class Reading(NamedTuple):
    """How to read a decision of a quick path: its verdicts, and, where it passed, the two numbers of a header.

    The figures of one that took the slow path after all are verdicts already.
    """

    read: Callable[[Decision], Sequence[Verdict]]
    brief: Callable[[Decision], tuple[int, int]]


def face_of(
    policy: str,
    limits: tuple[Limit, ...],
    reading: Reading | None,
    settle: Callable[[Decision, int], Awaitable[None]] | None = None,
) -> Face:
    """The face of all decisions of a quick path; without a reading their figures are verdicts."""
    if reading is None:
        return Face(policy, limits, settle=settle)
    return Face(policy, limits, reading.read, settle, reading.brief)


class Shelf(Protocol):
    due_ns: int
    """When `sweep` wants to be called next, at the latest before a key is added."""

    calendar: bool
    """Whether its times are those of the wall clock."""

    def load(self, key: Place, now_ns: int) -> State: ...

    def save(self, key: Place, state: State, now_ns: int) -> None: ...

    def sweep(self, now_ns: int) -> None: ...

    def items(self, now_ns: int, most: int) -> list[tuple[Place, State]]:
        """Up to `most` keys and their states; those that share something are left out."""

    def __len__(self) -> int: ...


class States:
    """Whole states, for every rule that has no shelf of its own. Keys beyond `max_keys` share 65,536 states by their hash."""

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
