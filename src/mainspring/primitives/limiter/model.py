"""What every algorithm and every store of the limiter speaks: states, verdicts, and the errors a caller can act on.

A `Rule` is one limit as a pure function: it takes the state that a key had and the time, and gives the state that it has
now and a verdict. States are tuples of integers, `()` being a key that nothing remembers. Every store runs these rules
(the Redis one in a Lua transcription that a differential test holds to them), so no promise depends on the store.
"""

from typing import Any, ClassVar, Protocol

import msgspec

from mainspring.core.problems import Problem

State = tuple[int, ...]
FRESH: State = ()

EXACT = 1 << 53
"""Below this, integers are exact in Lua's doubles; every number of a rule stays below it so that Redis decides alike."""

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What one rule says of one cost.

    `remaining` is what could still be spent at once; `reset_ns` until the whole limit is there again if nothing more is
    spent; `retry_ns` until this cost could pass (0 where it passes); `delay_ns` is how long a leaky bucket asks an
    admitted caller to wait; `lease` names the slot that a concurrency limit gave.
    """

    allowed: bool
    remaining: int
    reset_ns: int
    retry_ns: int = 0
    delay_ns: int = 0
    lease: int = 0


class Rule(Protocol):
    """One limit. All times are integer nanoseconds of the deciding side's clock; all costs are positive integers."""

    kind: ClassVar[str]
    calendar: ClassVar[bool]
    """Whether `now_ns` must be wall time because the windows are those of a calendar."""

    @property
    def most(self) -> int:
        """The greatest cost that can ever pass."""

    @property
    def span_ns(self) -> int:
        """The window that the limit speaks of, for headers; 0 where there is none."""

    @property
    def fingerprint(self) -> str:
        """States written under the same fingerprint mean the same thing."""

    def hit(self, state: State, now_ns: int, cost: int) -> tuple[State, Verdict]:
        """Asks to spend `cost`. A cost of 0 passes always and tells how things stand.

        Where the verdict is a refusal the state given back is uncharged, but may be tidied. Any cost gets a truthful
        `retry_ns`, also one above `most`, as the sum of several callers who wait in line.
        """

    def adjust(self, state: State, now_ns: int, delta: int, at_ns: int) -> State:
        """Charges `delta` whether there is room or not, down to one whole limit of debt.

        Where it is negative, gives back what was charged at `at_ns` as far as it still counts: the state is then never
        better than if that much less had been charged in the first place, so that bounds hold for what was truly spent.
        """

    def expires_ns(self, state: State) -> int:
        """When `state` will mean no more than `()` does."""

    def bound(self, length_ns: int) -> int:
        """The most that is ever admitted in any half-open window of this length."""


class BadCost(Problem):
    status, type, title = 422, "limiter/bad-cost", "This cost cannot be charged"


class BadKey(Problem):
    status, type, title = 422, "limiter/bad-key", "These keys do not fit the policy"


class BadPolicy(Problem):
    status, type, title = 422, "limiter/bad-policy", "This policy cannot be kept"


class UnknownPolicy(Problem):
    status, type, title = 404, "limiter/unknown-policy", "There is no policy of this name"


class QuotaExceeded(Problem):
    """The refusal itself, for callers that want an error instead of a falsy decision."""

    status, type, title = 429, "limiter/quota-exceeded", "The quota of this caller is spent"

    def body(self) -> dict[str, Any]:
        return {**super().body(), "type": QUOTA_EXCEEDED}


class StoreAway(Exception):
    """The store gave no answer in time, or refused to decide; `reason` is one word for metrics."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
