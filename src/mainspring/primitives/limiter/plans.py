"""Policies under their names, ready to be asked: what each limit is called, and where its states live."""

import re
from collections.abc import Iterator, Sequence

from mainspring.primitives.limiter.decide import Limit
from mainspring.primitives.limiter.model import BadKey, BadPolicy
from mainspring.primitives.limiter.notation import format_clause, parse
from mainspring.primitives.limiter.penalties import Penalty
from mainspring.primitives.limiter.policies import LEVELS_MAX, AnyRule, Clause, Policy

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

Written = str | AnyRule | Policy | Sequence["str | AnyRule"]
"""The ways to write a policy: text, a rule, a `Policy`, or one text or rule for each level."""


def policy(written: Written) -> Policy:
    """The policy that was written. Raises `BadPolicy`."""
    if isinstance(written, Policy):
        return written
    if isinstance(written, str):
        return parse(written)
    if isinstance(written, AnyRule):
        return Policy(((Clause(written),),))
    parts = [policy(one) for one in written]
    if any(len(part.levels) != 1 or part.fail != parts[0].fail for part in parts):
        raise BadPolicy("each entry of a list is one level")
    return Policy(tuple(part.levels[0] for part in parts), parts[0].fail if parts else "local")


class Plan:
    """A policy under its name, ready to be asked: limits with the names that callers see, and where their states live.

    Changing how much a limit allows keeps what its keys have spent; changing its algorithm, its window or the unit in
    which its rate can be kept exactly begins anew, for the old states mean nothing under the new rule.
    """

    def __init__(self, name: str, policy: Policy) -> None:
        self.name = name
        self.policy = policy
        self.fail = policy.fail
        names = _names(name, policy)
        named = [[Limit(next(names), clause.rule, clause.shadow) for clause in level] for level in policy.levels]
        self.limits = tuple(limit for level in named for limit in level)
        self.levels = tuple(_buckets(name, depth, level) for depth, level in enumerate(named))

    @property
    def buckets(self) -> list[str]:
        return [bucket for level in self.levels for bucket, _ in level]

    def at(self, depth: int) -> Sequence[tuple[str, Limit]]:
        """The only level of an override, as it stands in for the one at `depth`."""
        return self.levels[0] if depth == 0 else _buckets(self.name, depth, [limit for _, limit in self.levels[0]])

    def placed(self, keys: Sequence[str]) -> list[tuple[int, str]]:
        """Which level each key is for: key n for level n, or every key for the only level. Raises `BadKey`."""
        if len(self.levels) == 1:
            if not keys or len(keys) > LEVELS_MAX or len(set(keys)) != len(keys):
                raise BadKey(f"{self.name} takes one to {LEVELS_MAX} different keys")
            return [(0, key) for key in keys]
        if len(keys) != len(self.levels):
            raise BadKey(f"{self.name} has {len(self.levels)} levels and takes one key for each, not {len(keys)}")
        return list(enumerate(keys))


def _buckets(name: str, depth: int, level: Sequence[Limit]) -> tuple[tuple[str, Limit], ...]:
    return tuple((f"{name}/{depth}/{at}/{limit.rule.fingerprint}", limit) for at, limit in enumerate(level))


def _names(name: str, policy: Policy) -> Iterator[str]:
    """The policy's own name where it has one limit, else its name and the limit's text."""
    clauses = [clause for level in policy.levels for clause in level]
    if len(clauses) == 1:
        yield name
        return
    seen: dict[str, int] = {}
    for clause in clauses:
        text = f"{name} penalty" if isinstance(clause.rule, Penalty) else f"{name} {format_clause(Clause(clause.rule))}"
        seen[text] = seen.get(text, 0) + 1
        yield text if seen[text] == 1 else f"{text} #{seen[text]}"
