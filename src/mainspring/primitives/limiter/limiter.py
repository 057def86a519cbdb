"""The asynchronous face: policies by name on any store, hierarchies, waiting in line, slots, and what to do without a store.

    limiter = Limiter(MemoryStore(), SystemClock(), api="100/minute; 1000/hour", login=TokenBucket(5, per=60))
    if not await limiter.hit("api", user):
        ...

A decision costs one atomic question to the store. When the store gives no answer the policy's own `fail` decides, and the
decision and a metric say so.
"""

from collections.abc import Callable
from typing import Any

from mainspring.core.clock import Clock
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Counter, Metrics
from mainspring.primitives.limiter.book import Book, Keys, check_refund, check_settlement, slots
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.decide import Ask, Limit, Outcome
from mainspring.primitives.limiter.decision import Decision, Face
from mainspring.primitives.limiter.lines import Lines
from mainspring.primitives.limiter.memory import MemoryStore
from mainspring.primitives.limiter.model import BadPolicy, StoreAway
from mainspring.primitives.limiter.plans import Plan, Written
from mainspring.primitives.limiter.policies import Fail
from mainspring.primitives.limiter.shelf import Reading, Slow, face_of
from mainspring.primitives.limiter.slots import Slot
from mainspring.primitives.limiter.store import KeyState, Store

Watcher = Callable[[Decision], None]
LOCAL_KEYS_MAX = 100_000
SCANNED_MAX = 100_000


class Limiter:
    """Decides who may do how much. `await limiter.hit(policy, key)` is truthy where it passes and has charged it.

    Policies are texts, rules or `Policy` values by name; `define` adds more later. All methods raise `UnknownPolicy` (404)
    and `BadKey` or `BadCost` (422), and none raises because the store is away, but for those that only change states,
    which raise `Unavailable` (503).
    """

    def __init__(self, store: Store, clock: Clock, metrics: Metrics | None = None, **policies: Written) -> None:
        self.store = store
        self.clock = clock
        self.watchers: list[Watcher] = []
        """Called with every decision, on the hot path: they must be quick and may not raise."""
        self._local = store if isinstance(store, MemoryStore) else MemoryStore(clock, LOCAL_KEYS_MAX)
        self._lines = Lines(self)
        self._metrics = metrics or Metrics()
        self._decided = self._metrics.counter("limiter_decisions", "Decisions by outcome", ("policy", "outcome"))
        self._away = self._metrics.counter(
            "limiter_store_away", "Decisions without the store", ("policy", "choice", "reason")
        )
        self._hot: dict[str, tuple[Slow, Counter, Counter]] = {}
        self._book = Book(self._changed)
        for name, written in policies.items():
            self.define(name, written)

    # Policies

    def define(self, name: str, written: Written) -> None:
        """Makes or changes a policy, for the next decision. Raises `BadPolicy` (422).

        What keys have spent is kept while the algorithm and its window stay.
        """
        self._book.define(name, written)

    def undefine(self, name: str) -> None:
        self._book.undefine(name)

    def amend(self, name: str, written: Written) -> None:
        """Puts a policy in the place of the one that code defines, now or later. Raises `BadPolicy` (422)."""
        self._book.amend(name, written)

    def repeal(self, name: str) -> None:
        """Ends an amendment: what is defined is in force again."""
        self._book.repeal(name)

    def override(self, name: str, key: str, written: Written) -> None:
        """Gives `key` limits of its own under this policy. Raises `BadPolicy` (422)."""
        self._book.override(name, key, written)

    def restore(self, name: str, key: str) -> None:
        """Ends the override of `key`."""
        self._book.restore(name, key)

    def plan(self, name: str) -> Plan:
        """The policy in force. Raises `UnknownPolicy` (404)."""
        return self._book.plan(name)

    def plans(self) -> list[Plan]:
        """All policies in force, by name."""
        return [plan for _, plan in sorted(self._book.plans.items())]

    # Decisions

    async def hit(self, policy: str, key: Keys, cost: int = 1) -> Decision:
        """Spends `cost`, of all limits of all keys or of none."""
        decision = self.hit_now(policy, key, cost)
        return decision if decision is not None else await self._decide(policy, key, cost)

    def hit_now(self, policy: str, key: Keys, cost: int = 1) -> Decision | None:
        """`hit` where no store need be waited for, else None, having done nothing: a microsecond less for a hot path."""
        hot = self._hot.get(policy)
        if hot is None or type(key) is not str:
            return None
        quick, allowed, refused = hot
        decision = quick(key, cost)
        if decision.allowed:
            allowed.value += 1
        else:
            refused.value += 1
        if self.watchers:
            for watcher in self.watchers:
                watcher(decision)
        return decision

    async def peek(self, policy: str, key: Keys, cost: int = 1) -> Decision:
        """What `hit` would decide, having changed nothing."""
        ask = self._book.ask(policy, key, "peek", cost)
        return self._decision(policy, ask, key, *await self._ask(policy, ask))

    async def foresee(self, policy: str, key: Keys, cost: int) -> Decision:
        """Like `peek` for the sum of several callers' costs, which may be more than could ever pass at once."""
        ask = self._book.ask(policy, key, "adjust", cost)
        ask = Ask(ask.charges, "peek", cost)
        return self._decision(policy, ask, key, *await self._ask(policy, ask))

    async def wait(self, policy: str, key: Keys, cost: int = 1, timeout: float = 30.0) -> Decision:
        """Like `hit`, but waits for room, in the order of arrival at this node, for at most `timeout` seconds.

        Says no at once where the wait is known to exceed that; `retry_after` is then how long it would be. Where a leaky
        bucket asks for a delay, that is waited for too.
        """
        self._book.ask(
            policy, key, "hit", cost
        )  # what no hit can be made of is told at once, not at the head of a line
        return await self._lines.wait(policy, key, cost, timeout)

    def slot(self, policy: str, key: Keys, cost: int = 1, timeout: float = 0.0) -> Slot:
        """A slot of a concurrency policy: `async with limiter.slot("gpu", tenant): …`. Renewed while it is held.

        Entering raises `QuotaExceeded` (429) where none is free within `timeout` seconds.
        """
        charges = self._book.ask(policy, key, "reset", 0).charges
        ttls_s = [one.limit.rule.ttl for one in charges if isinstance(one.limit.rule, Concurrency)]
        if not ttls_s:
            raise BadPolicy(f"{policy} has no slots; write for instance “concurrency 5 ttl 30s”")
        return Slot(self, policy, key, cost, timeout, min(ttls_s))

    async def refund(self, policy: str, key: Keys, cost: int = 1) -> None:
        """Gives back what was spent in the current window, which the caller vouches for; `settle` needs no vouching."""
        check_refund(cost)
        await self._change(policy, self._book.ask(policy, key, "adjust", -cost))

    async def settle(self, policy: str, key: Keys, reserved: int, actual: int, at_ns: int, store: str = "") -> None:
        """Corrects, once, what a hit at `at_ns` has charged: what `Decision.settle` does, for who has no decision at hand."""
        check_settlement(reserved, actual)
        if actual != reserved:
            await self._change(policy, self._book.ask(policy, key, "adjust", actual - reserved, at_ns), store)

    async def reset(self, policy: str, key: Keys) -> None:
        """Forgets what the keys have spent, their slots and their penalties."""
        await self._change(policy, self._book.ask(policy, key, "reset", 0))
        self._lines.freed(policy)

    async def release(self, policy: str, key: Keys, lease: int, store: str = "") -> None:
        """Frees a slot. A lease that is not there any more is no error."""
        await self._lease(policy, key, "release", lease, store)
        self._lines.freed(policy)

    async def renew(self, policy: str, key: Keys, lease: int, store: str = "") -> bool:
        """Keeps a slot for its whole time from now; False where it was lost."""
        return (await self._lease(policy, key, "renew", lease, store)).allowed

    async def keys(self, policy: str, top: int = 50, scanned_max: int = SCANNED_MAX) -> dict[str, list[KeyState]]:
        """By limit, the keys that have spent most of it, of at most `scanned_max` that were looked at."""
        found = {}
        for level in self._book.plan(policy).levels:
            for bucket, limit in level:
                try:
                    found[limit.name] = await self.store.keys(bucket, limit, top, scanned_max)
                except StoreAway as away:
                    raise Unavailable(f"the limiter's store does not answer ({away.reason})") from None
        return found

    # How it is done

    def _changed(self, policy: str) -> None:
        """A policy is different now: what was prepared for its hits is made anew."""
        plan = self._book.plans.get(policy)
        self._hot.pop(policy, None)
        self._local.retain(policy, self._book.buckets(policy))
        if plan is None or self.store is not self._local:
            return

        def slow(key: str, cost: int) -> Decision:
            ask = self._book.ask(policy, key, "hit", cost)
            return self._decision(policy, ask, key, self._local.answer(ask), "memory")

        if not any(limit.shadow for limit in plan.limits):

            def face(limits: tuple[Limit, ...], reading: Reading | None) -> Face:
                return face_of(policy, limits, reading, self._settle)

            quick = self._local.quick(plan, face, slow, self._book.overrides.get(policy, {}))
            self._hot[policy] = quick, self._decided.labels(policy, "allowed"), self._decided.labels(policy, "refused")

    async def _decide(self, policy: str, key: Keys, cost: int) -> Decision:
        ask = self._book.ask(policy, key, "hit", cost)
        decision = self._decision(policy, ask, key, *await self._ask(policy, ask))
        self._decided.labels(policy, "allowed" if decision.allowed else "refused").value += 1
        if any(limit.shadow for limit in decision.face.limits) and decision.shadowed:
            self._decided.labels(policy, "shadowed").value += 1
        for watcher in self.watchers:
            watcher(decision)
        return decision

    async def _ask(self, policy: str, ask: Ask) -> tuple[Outcome, str]:
        """The store's answer, or what the policy chose for when there is none."""
        try:
            return await self.store.ask(ask), self.store.name
        except StoreAway as away:
            choice: Fail = self._book.plan(policy).fail
            self._away.labels(policy, choice, away.reason).value += 1
        if choice == "local":
            return self._local.answer(ask), "local"
        return Outcome(choice == "open", (), 0), choice

    async def _change(self, policy: str, ask: Ask, store: str = "") -> Outcome:
        if store == "local":
            return self._local.answer(ask)
        try:
            return await self.store.ask(ask)
        except StoreAway as away:
            self._away.labels(policy, "none", away.reason).value += 1
            raise Unavailable(f"the limiter's store does not answer ({away.reason})") from None

    async def _lease(self, policy: str, key: Keys, verb: Any, lease: int, store: str) -> Outcome:
        charges = slots(self._book.ask(policy, key, verb, lease).charges)
        if not charges:  # the policy has no slots, or none any more
            return Outcome(verb == "release", (), 0)
        return await self._change(policy, Ask(charges, verb, lease), store)

    async def _settle(self, decision: Decision, actual: int) -> None:
        if decision.store not in ("open", "closed"):
            store = "local" if decision.store == "local" else ""
            await self.settle(decision.policy, decision.keys, decision.cost, actual, decision.at_ns, store)

    def _decision(self, policy: str, ask: Ask, keys: Keys, outcome: Outcome, store: str) -> Decision:
        face = Face(policy, tuple(charge.limit for charge in ask.charges), settle=self._settle)
        held = keys if isinstance(keys, str) else tuple(keys)
        return Decision(outcome.allowed, outcome.verdicts, face, held, outcome.at_ns, ask.amount, store)
