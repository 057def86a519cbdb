"""What every face of the limiter has: policies by name, exceptions by key, and the checks that come before a decision."""

from collections.abc import Callable, Sequence
from typing import Any

from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.decide import Ask, Charge, Verb
from mainspring.primitives.limiter.model import BadCost, BadKey, BadPolicy, UnknownPolicy
from mainspring.primitives.limiter.penalties import Penalty
from mainspring.primitives.limiter.plans import NAME, Plan, Written, policy

Keys = str | Sequence[str]


class Book:
    """Policies and overrides. `changed` is called with the name of a policy that became different."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self.plans: dict[str, Plan] = {}
        """What is in force: amendments before definitions."""
        self._defined: dict[str, Plan] = {}
        self._amended: dict[str, Plan] = {}
        self.overrides: dict[str, dict[str, Plan]] = {}
        """By policy, then by key; each plan has the one level that the key gets instead."""
        self._changed = changed

    def define(self, name: str, written: Written) -> None:
        """Makes or changes a policy, at once. Raises `BadPolicy`."""
        self._put(self._defined, name, written)

    def undefine(self, name: str) -> None:
        self._remove(self._defined, name)

    def amend(self, name: str, written: Written) -> None:
        """Puts a policy in the place of the one that is defined, or will be, until `repeal`. Raises `BadPolicy`."""
        self._put(self._amended, name, written)

    def repeal(self, name: str) -> None:
        self._remove(self._amended, name)

    def _put(self, layer: dict[str, Plan], name: str, written: Written) -> None:
        if not NAME.fullmatch(name):
            raise BadPolicy("a policy's name is a-z, 0-9, dots, dashes and underscores, at most 64 of them")
        wanted = policy(written)
        if name not in layer or layer[name].policy != wanted:
            layer[name] = Plan(name, wanted)
            self._enforce(name)

    def _remove(self, layer: dict[str, Plan], name: str) -> None:
        if layer.pop(name, None):
            self._enforce(name)

    def _enforce(self, name: str) -> None:
        plan = self._amended.get(name) or self._defined.get(name)
        if plan is self.plans.get(name):
            return
        if plan is None:
            del self.plans[name]
        else:
            self.plans[name] = plan
        self._changed(name)

    def override(self, name: str, key: str, written: Written) -> None:
        """Gives `key` limits of its own wherever it is asked about under this policy. Raises `BadPolicy`."""
        wanted = policy(written)
        if len(wanted.levels) != 1:
            raise BadPolicy("an override is for one key and so has one level")
        self.overrides.setdefault(name, {})[key] = Plan(name, wanted)
        self._changed(name)

    def restore(self, name: str, key: str) -> None:
        """Ends an override."""
        exceptions = self.overrides.get(name, {})
        if exceptions.pop(key, None):
            if not exceptions:
                del self.overrides[name]
            self._changed(name)

    def plan(self, name: str) -> Plan:
        found = self.plans.get(name)
        if found is None:
            raise UnknownPolicy(f"there is no policy {name[:64]!r}")
        return found

    def buckets(self, name: str) -> set[str]:
        """Where the policy's states live, those of overrides included."""
        plan = self.plans.get(name)
        if plan is None:
            return set()
        exceptions = self.overrides.get(name, {}).values()
        depths = range(len(plan.levels))
        return {*plan.buckets, *(bucket for one in exceptions for depth in depths for bucket, _ in one.at(depth))}

    def ask(self, name: str, keys: Keys, verb: Verb, amount: int, at_ns: int = 0) -> Ask:
        """The question for a store. Raises `UnknownPolicy`, `BadKey` and `BadCost`."""
        plan = self.plan(name)
        charges = self.charges(plan, as_tuple(keys))
        if verb in ("hit", "peek"):
            check_cost(charges, amount)
        return Ask(charges, verb, amount, at_ns)

    def charges(self, plan: Plan, keys: tuple[str, ...]) -> tuple[Charge, ...]:
        """What to ask: key n of level n, or every key of the only level, each with its own limits where it has any."""
        exceptions = self.overrides.get(plan.name)
        return tuple(
            Charge(bucket, limit, key)
            for depth, key in plan.placed(keys)
            for bucket, limit in (exceptions[key].at(depth) if exceptions and key in exceptions else plan.levels[depth])
        )


def as_tuple(keys: Any) -> tuple[str, ...]:
    """One key or several, as several. Raises `BadKey` where one is no string."""
    several = (keys,) if isinstance(keys, str) else tuple(keys) if isinstance(keys, Sequence) else (keys,)
    for key in several:
        if type(key) is not str:
            raise BadKey(f"a key is a string, not {type(key).__name__}")
    return several


def check_cost(charges: Sequence[Charge], cost: Any) -> None:
    """Raises `BadCost` unless the cost is a positive whole number that every limit could let pass."""
    if type(cost) is not int or cost < 1:
        raise BadCost("a cost is a positive whole number")
    for charge in charges:
        rule = charge.limit.rule
        if cost > rule.most and not charge.limit.shadow and not isinstance(rule, Penalty):
            raise BadCost(f"a cost of {cost} can never pass {charge.limit.name!r}, which allows {rule.most} at once")


def check_refund(cost: Any) -> None:
    """Raises `BadCost` unless this is something that can be given back."""
    if type(cost) is not int or cost < 1:
        raise BadCost("a cost is a positive whole number")


def check_settlement(reserved: Any, actual: Any) -> None:
    """Raises `BadCost` unless a charge of `reserved` can turn out to have cost `actual`."""
    if type(actual) is not int or actual < 0 or type(reserved) is not int or reserved < 1:
        raise BadCost("what something has cost is a whole number, not below 0")


def slots(charges: Sequence[Charge]) -> tuple[Charge, ...]:
    """The charges that give leases."""
    return tuple(charge for charge in charges if isinstance(charge.limit.rule, Concurrency))
