"""A policy as data: levels of rules, and what to answer while the store is away."""

from typing import Literal

import msgspec

from mainspring.primitives.limiter.buckets import LeakyBucket, TokenBucket
from mainspring.primitives.limiter.concurrency import Concurrency
from mainspring.primitives.limiter.model import BadPolicy
from mainspring.primitives.limiter.penalties import Penalty
from mainspring.primitives.limiter.quota import Quota
from mainspring.primitives.limiter.windows import FixedWindow, SlidingLog, SlidingWindow

LEVELS_MAX = 8
LIMITS_MAX = 16

Fail = Literal["open", "closed", "local"]
AnyRule = TokenBucket | LeakyBucket | FixedWindow | SlidingWindow | SlidingLog | Concurrency | Quota | Penalty
Level = tuple["Clause", ...]


class Clause(msgspec.Struct, frozen=True):
    """One rule of a level; in `shadow` it decides and counts but never refuses."""

    rule: AnyRule
    shadow: bool = False


class Policy(msgspec.Struct, frozen=True):
    """Levels of a hierarchy, innermost first, each with its rules; and what to answer while the store is away.

    `open` admits, `closed` refuses, `local` decides on this node alone until the store is back.
    """

    levels: tuple[Level, ...]
    fail: Fail = "local"

    def __post_init__(self) -> None:
        if not self.levels or not all(any(not isinstance(one.rule, Penalty) for one in level) for level in self.levels):
            raise BadPolicy("a policy has at least one limit in each level")
        if len(self.levels) > LEVELS_MAX or sum(map(len, self.levels)) > LIMITS_MAX:
            raise BadPolicy(f"a policy has at most {LEVELS_MAX} levels and {LIMITS_MAX} limits")
