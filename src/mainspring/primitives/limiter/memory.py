"""The limiter of one process: no await, no lock, no I/O.

`MemoryLimiter` is the synchronous face for code that is one process; `MemoryStore` keeps the states, for it and for the
asynchronous `Limiter`. Both belong to one thread. Time is the process's monotonic clock, so nothing that happens to the
wall clock matters, except to calendar quotas, which are about the wall clock.
"""

import asyncio
from collections.abc import Callable, Container
from heapq import nlargest
from typing import Any

from mainspring.core.clock import Clock, SystemClock
from mainspring.primitives.limiter.arrivals import Arrivals, read_arrival
from mainspring.primitives.limiter.book import Book, Keys, check_refund, check_settlement
from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.decide import Ask, Limit, Outcome, answer
from mainspring.primitives.limiter.decision import Decision, Face
from mainspring.primitives.limiter.generations import Generations, read_window
from mainspring.primitives.limiter.model import Rule
from mainspring.primitives.limiter.plans import Plan, Written
from mainspring.primitives.limiter.shelf import Reading, Shelf, Slow, States, face_of
from mainspring.primitives.limiter.store import KEY_LETTERS_MAX, KeyState, place
from mainspring.primitives.limiter.windows import FixedWindow, SlidingWindow

MAX_KEYS = 1_000_000
_AT_ONCE = 1_000


class MemoryStore:
    """States of any number of limits, for one limiter; `max_keys` bounds each of them.

    A key takes 200 bytes or less, but for logs and slots, which keep an entry for each admission.
    """

    name = "memory"

    def __init__(self, clock: Clock | None = None, max_keys: int = MAX_KEYS) -> None:
        self.clock = clock or SystemClock()
        self.max_keys = max_keys
        self._shelves: dict[str, Shelf] = {}

    async def ask(self, ask: Ask) -> Outcome:
        return self.answer(ask)

    def answer(self, ask: Ask) -> Outcome:
        """Answers at once, without the loop."""
        shelves, nows_ns, states = [], [], []
        for charge in ask.charges:
            now_ns = self._now_ns(charge.limit.rule)
            found = self.shelf(charge.bucket, charge.limit.rule)
            if now_ns >= found.due_ns:
                found.sweep(now_ns)
            shelves.append(found)
            nows_ns.append(now_ns)
            states.append(found.load(place(charge.key), now_ns))
        outcome = answer(ask, states, nows_ns, self.clock.mono_ns())
        if ask.verb != "peek":
            for charge, found, now_ns, state in zip(ask.charges, shelves, nows_ns, outcome.states, strict=True):
                found.save(place(charge.key), state, now_ns)
        return outcome

    def _now_ns(self, rule: Rule) -> int:
        return self.clock.wall_ns() if rule.calendar else self.clock.mono_ns()

    def shelf(self, bucket: str, rule: Rule) -> Shelf:
        found = self._shelves.get(bucket)
        if found is None:
            found = self._shelves[bucket] = _shelf(rule, self.max_keys, self._now_ns(rule))
        return found

    def retain(self, policy: str, buckets: set[str]) -> None:
        """Drops what a policy that has changed does not use any more."""
        for bucket in [one for one in self._shelves if one.startswith(f"{policy}/") and one not in buckets]:
            del self._shelves[bucket]

    def quick(
        self,
        plan: Plan,
        face: Callable[[tuple[Limit, ...], Reading | None], Face],
        slow: Slow,
        exceptions: Container[str],
    ) -> Slow:
        """A hit on one key of `plan`: as fast as Python goes for one limit, prepared for several, `slow` for all else."""
        if len(plan.levels) != 1:
            return slow
        quick = self._one(plan, face, slow) or self._several(plan, face(plan.limits, None), slow)
        if not exceptions:
            return quick
        return lambda key, cost: slow(key, cost) if key in exceptions else quick(key, cost)

    def _one(self, plan: Plan, face: Callable[[tuple[Limit, ...], Reading | None], Face], slow: Slow) -> Slow | None:
        """The shelf's own quick path, where there is one."""
        (bucket, limit), *others = plan.levels[0]
        if others or limit.shadow:
            return None
        found, now = self.shelf(bucket, limit.rule), self.clock.mono_ns
        if isinstance(limit.rule, TokenBucket):
            assert isinstance(found, Arrivals)
            return found.quick(limit.rule, now, face((limit,), read_arrival(limit.rule)), slow)
        if isinstance(limit.rule, FixedWindow | SlidingWindow):
            assert isinstance(found, Generations)
            return found.quick(limit.rule, now, face((limit,), read_window(limit.rule)), slow)
        return None

    def _several(self, plan: Plan, face: Face, slow: Slow) -> Slow:
        """What `answer` does for a hit that all limits let pass; where one does not, nothing is saved and `answer` decides."""
        mono_ns, wall_ns = self.clock.mono_ns, self.clock.wall_ns
        places = [(self.shelf(bucket, limit.rule), limit.rule) for bucket, limit in plan.levels[0]]

        def hit(key: str, cost: int = 1) -> Decision:
            if cost != 1 or type(key) is not str or len(key) > KEY_LETTERS_MAX:
                return slow(key, cost)
            at_ns, verdicts, changes = mono_ns(), [], []
            for found, rule in places:
                now_ns = wall_ns() if rule.calendar else at_ns
                if now_ns >= found.due_ns:
                    found.sweep(now_ns)
                state, verdict = rule.hit(found.load(key, now_ns), now_ns, 1)
                if not verdict.allowed:
                    return slow(key, cost)
                verdicts.append(verdict)
                changes.append((found, state, now_ns))
            for found, state, now_ns in changes:
                found.save(key, state, now_ns)
            return Decision(True, verdicts, face, key, at_ns)

        return hit

    async def keys(self, bucket: str, limit: Limit, top: int, scanned_max: int) -> list[KeyState]:
        """The keys that have spent most, of the first `scanned_max`; the loop goes on meanwhile."""
        now_ns = self._now_ns(limit.rule)
        seen = self.shelf(bucket, limit.rule).items(now_ns, scanned_max)
        found: list[KeyState] = []
        for first in range(0, len(seen), _AT_ONCE):
            states = [KeyState.of(key, limit.rule, state, now_ns) for key, state in seen[first : first + _AT_ONCE]]
            found = nlargest(top, (one for one in (*found, *states) if one.used), key=lambda one: one.used)
            await asyncio.sleep(0)
        return found

    def sweep(self) -> None:
        """Forgets some of what has expired; hits do so too, this is for limits that nobody hits any more."""
        for found in self._shelves.values():
            now_ns = self.clock.wall_ns() if found.calendar else self.clock.mono_ns()
            if now_ns >= found.due_ns:
                found.sweep(now_ns)

    def __len__(self) -> int:
        """States held, over all limits."""
        return sum(map(len, self._shelves.values()))


def _shelf(rule: Rule, max_keys: int, now_ns: int) -> Shelf:
    """An empty shelf that fits a rule."""
    if isinstance(rule, TokenBucket | LeakyBucket):
        return Arrivals(rule, max_keys, now_ns)
    if isinstance(rule, FixedWindow | SlidingWindow):
        return Generations(rule, max_keys, now_ns)
    return States(rule, max_keys, now_ns)


class MemoryLimiter:
    """Limits in this process: `limiter.hit("api", user)` is truthy where it passes, and takes less than a microsecond."""

    def __init__(self, clock: Clock | None = None, *, max_keys: int = MAX_KEYS, **policies: Written) -> None:
        self._store = MemoryStore(clock, max_keys)
        self._quick: dict[str, Slow] = {}
        self._book = Book(self._changed)
        self.define = self._book.define
        self.override = self._book.override
        self.restore = self._book.restore
        for name, written in policies.items():
            self.define(name, written)

    def hit(self, policy: str, key: Keys, cost: int = 1) -> Decision:
        """Spends `cost` of the policy for one key, or for several at once: all of them or none.

        Raises `UnknownPolicy` (404), `BadCost` and `BadKey` (422).
        """
        try:
            return self._quick[policy](key, cost)  # type: ignore[arg-type]  # a list of keys is not found there
        except (KeyError, TypeError):  # no such policy, or a list of keys: nothing is charged yet
            return self._ask(policy, key, cost)

    def bound(self, policy: str) -> Callable[[str], Decision]:
        """`hit` for one policy: a function of the key, for code that takes an `allow(key)`."""
        self._book.plan(policy)
        return lambda key: self.hit(policy, key)

    def peek(self, policy: str, key: Keys, cost: int = 1) -> Decision:
        """What `hit` would decide, having changed nothing."""
        ask = self._book.ask(policy, key, "peek", cost)
        return self._decision(policy, ask, key, self._store.answer(ask))

    def refund(self, policy: str, key: Keys, cost: int = 1) -> None:
        """Gives back what was spent in the current window, which the caller vouches for; `settle` needs no vouching.

        Raises `UnknownPolicy` (404), `BadCost` and `BadKey` (422).
        """
        check_refund(cost)
        self._store.answer(self._book.ask(policy, key, "adjust", -cost))

    def settle(self, decision: Decision, actual: int) -> None:
        """Corrects, once, what a decision has charged to what it turned out to cost. Raises `BadCost` (422).

        One that was refused has charged nothing, and is left as it is.
        """
        check_settlement(decision.cost, actual)
        if decision:
            ask = self._book.ask(decision.policy, decision.keys, "adjust", actual - decision.cost, decision.at_ns)
            self._store.answer(ask)

    def reset(self, policy: str, key: Keys) -> None:
        """Forgets what the keys have spent, and their penalties."""
        self._store.answer(self._book.ask(policy, key, "reset", 0))

    def sweep(self) -> None:
        self._store.sweep()

    def __len__(self) -> int:
        return len(self._store)

    def _changed(self, policy: str) -> None:
        """A policy is different now: what was prepared for its hits is made anew."""
        plan = self._book.plans.get(policy)
        self._quick.pop(policy, None)
        self._store.retain(policy, self._book.buckets(policy))
        if plan is not None:
            self._quick[policy] = self._store.quick(
                plan,
                lambda limits, reading: face_of(policy, limits, reading),
                lambda key, cost: self._ask(policy, key, cost),
                self._book.overrides.get(policy, {}),
            )

    def _ask(self, policy: str, key: Keys, cost: Any) -> Decision:
        ask = self._book.ask(policy, key, "hit", cost)
        return self._decision(policy, ask, key, self._store.answer(ask))

    @staticmethod
    def _decision(policy: str, ask: Ask, keys: Keys, outcome: Outcome) -> Decision:
        face = Face(policy, tuple(charge.limit for charge in ask.charges))
        held = keys if isinstance(keys, str) else tuple(keys)
        return Decision(outcome.allowed, outcome.verdicts, face, held, outcome.at_ns, ask.amount)
