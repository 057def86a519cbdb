"""A bounded mapping that forgets what is not used: SIEVE.

After Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is Simpler than LRU" (NSDI 2024). Entries stand in a queue in order of
arrival; a hit only sets the entry's `visited` mark, so reading moves nothing. To make room a hand walks from the oldest
towards the newest, clears the marks it meets and evicts the first entry without one: what nobody asked for twice goes
early, what is popular stays in its place.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

NEVER = (1 << 63) - 1
"""The deadline of an entry that does not expire."""


class Entry(Generic[K, V]):
    __slots__ = ("cost", "deadline", "key", "newer", "older", "value", "visited")

    def __init__(self, key: K, value: V, cost: int, deadline: int) -> None:
        self.key, self.value, self.cost, self.deadline = key, value, cost, deadline
        self.visited = False
        self.older: Entry[K, V] | None = None
        self.newer: Entry[K, V] | None = None


class Sieve(Generic[K, V]):
    """At most `cost_max` of whatever `cost` counts (bytes, entries). Deadlines and `now` share any one unit of time.

    An expired entry is never given out; it is removed when it is asked for, or when the hand comes by, mark or no mark.
    Not for use by several threads at once.
    """

    def __init__(self, cost_max: int) -> None:
        if cost_max <= 0:
            raise ValueError("a sieve needs room for something")
        self.cost_max = cost_max
        self.cost = 0
        self.evictions = 0
        self._entries: dict[K, Entry[K, V]] = {}
        self._oldest: Entry[K, V] | None = None
        self._newest: Entry[K, V] | None = None
        self._hand: Entry[K, V] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[K]:
        """The keys, oldest first, expired ones among them."""
        entry = self._oldest
        while entry is not None:
            yield entry.key
            entry = entry.newer

    def get(self, key: K, now: int = 0) -> V | None:
        """The value, marked as used; None where there is none or its deadline has come."""
        entry = self.find(key, now)
        return None if entry is None else entry.value

    def find(self, key: K, now: int = 0) -> Entry[K, V] | None:
        """Like `get`, but the whole entry."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.deadline <= now:
            self._remove(entry)
            return None
        entry.visited = True
        return entry

    def put(self, key: K, value: V, cost: int = 1, *, deadline: int = NEVER, now: int = 0) -> bool:
        """Stores the value and evicts others until all fit. Gives False where it alone is too large: then it is not kept."""
        entry = self._entries.get(key)
        if cost > self.cost_max:
            if entry is not None:
                self._remove(entry)
            return False
        if entry is None:
            entry = self._entries[key] = Entry(key, value, cost, deadline)
            entry.older = self._newest
            if self._newest is None:
                self._oldest = entry
            else:
                self._newest.newer = entry
            self._newest = entry
        else:
            self.cost -= entry.cost
            entry.value, entry.cost, entry.deadline, entry.visited = value, cost, deadline, True
        self.cost += cost
        while self.cost > self.cost_max:
            self._evict(now, spared=entry)
        return True

    def pop(self, key: K) -> V | None:
        """Removes an entry and gives its value."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._remove(entry)
        return entry.value

    def clear(self) -> None:
        self._entries.clear()
        self._oldest = self._newest = self._hand = None
        self.cost = 0

    def _evict(self, now: int, spared: Entry[K, V]) -> None:
        # One lap clears every mark, so a second one always finds somebody; `spared` is never alone while over the bound.
        entry = self._hand or self._oldest
        while entry is not None and (entry is spared or (entry.visited and entry.deadline > now)):
            entry.visited = False
            entry = entry.newer or self._oldest
        assert entry is not None, "a sieve over its bound holds more than one entry"
        self._hand = entry.newer
        self._remove(entry)
        self.evictions += 1

    def _remove(self, entry: Entry[K, V]) -> None:
        if self._hand is entry:
            self._hand = entry.newer
        if entry.older is None:
            self._oldest = entry.newer
        else:
            entry.older.newer = entry.newer
        if entry.newer is None:
            self._newest = entry.older
        else:
            entry.newer.older = entry.older
        entry.older = entry.newer = None
        del self._entries[entry.key]
        self.cost -= entry.cost
