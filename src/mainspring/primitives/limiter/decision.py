"""The answer to a hit: truthy where it passed, with what a caller may want to know worked out only when asked.

A hit costs a few hundred nanoseconds in process, so it leaves behind the raw figures and the `Face` that can read them;
most callers never look further than `if decision:`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from mainspring.primitives.limiter.decide import Limit
from mainspring.primitives.limiter.model import BadCost, QuotaExceeded, Verdict


class Face(msgspec.Struct, frozen=True):
    """What the figures of a policy's decisions mean: its limits, how to read verdicts from figures, and who settles."""

    policy: str
    limits: tuple[Limit, ...]
    read: "Callable[[Decision], Sequence[Verdict]]" = lambda decision: decision.figures
    settle: "Callable[[Decision, int], Awaitable[None]] | None" = None
    brief: "Callable[[Decision], tuple[int, int]] | None" = None
    """Of a quick path, whose decisions all have this very face: what remains, and the nanoseconds until all is there."""


class Decision(msgspec.Struct, frozen=True, gc=False):
    """What was decided. `if decision:` is the question that matters; times are seconds.

    Of several limits the one that matters is reported: the refusal that lasts longest, else the one with least left.
    `store` says who decided: `memory`, `redis`, `sql`, or, while the store was away, `local`, `open` or `closed`; `at_ns`
    is that store's time.
    """

    allowed: bool
    figures: Any
    face: Face
    keys: str | tuple[str, ...]
    at_ns: int = 0
    cost: int = 1
    store: str = "memory"

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def verdicts(self) -> Sequence[Verdict]:
        """What each limit said, in the order of the keys and of the policy."""
        return self.face.read(self)

    @property
    def parts(self) -> list[tuple[Limit, Verdict]]:
        """Each limit with its verdict; none where the store was away and nothing was looked at."""
        return list(zip(self.face.limits, self.verdicts, strict=False))

    @property
    def deciding(self) -> tuple[Limit, Verdict] | None:
        """The limit that matters, or None where the store was away and nothing was looked at."""
        parts = self.parts
        refused = [part for part in parts if not part[1].allowed and not part[0].shadow]
        if refused:
            return max(refused, key=lambda part: part[1].retry_ns)
        visible = [part for part in parts if not part[0].shadow and part[0].rule.kind != "penalty"] or parts
        return min(visible, key=lambda part: part[1].remaining, default=None)

    @property
    def policy(self) -> str:
        return self.face.policy

    @property
    def limit(self) -> int:
        """The most that can be spent at once; 0 where unknown."""
        return self.deciding[0].rule.most if self.deciding else 0

    @property
    def remaining(self) -> int:
        """What can still be spent at once."""
        return self.deciding[1].remaining if self.deciding else 0

    @property
    def reset(self) -> float:
        """Seconds until the whole limit is there again, if nothing more is spent."""
        return self.deciding[1].reset_ns / 1e9 if self.deciding else 0.0

    @property
    def retry_after(self) -> float:
        """Seconds until this cost could pass; 0 where it did."""
        if self.allowed:
            return 0.0
        return self.deciding[1].retry_ns / 1e9 if self.deciding else 1.0

    @property
    def delay(self) -> float:
        """Seconds that a leaky bucket asks the caller to wait before it goes on."""
        return max((verdict.delay_ns for verdict in self.verdicts), default=0) / 1e9

    @property
    def violated(self) -> tuple[str, ...]:
        """Names of the limits that refused."""
        return tuple(limit.name for limit, verdict in self.parts if not verdict.allowed and not limit.shadow)

    @property
    def shadowed(self) -> tuple[str, ...]:
        """Names of the limits in shadow that would have refused."""
        return tuple(limit.name for limit, verdict in self.parts if not verdict.allowed and limit.shadow)

    @property
    def lease(self) -> int:
        """The slot that a concurrency limit gave, or 0."""
        return max((verdict.lease for verdict in self.verdicts), default=0)

    async def settle(self, actual: int) -> None:
        """Corrects the cost, once, to what it turned out to be: gives back the rest, or charges the excess as a debt.

        Raises `BadCost` for a negative cost, or for a decision that charged nothing.
        """
        if self.face.settle is None or not self.allowed:
            raise BadCost("this decision charged nothing that could be settled")
        await self.face.settle(self, actual)

    def refused_for(self, seconds: float) -> "Decision":
        """This decision as a refusal that lasts so long, for who cannot wait as long as it asks or may not jump a line."""
        retry_ns = round(seconds * 1e9)
        asks = any(one.delay_ns for one in self.verdicts)
        verdicts = [
            msgspec.structs.replace(one, allowed=False, retry_ns=retry_ns, lease=0) if one.delay_ns or not asks else one
            for one in self.verdicts
        ]
        return msgspec.structs.replace(self, allowed=False, figures=verdicts)

    def exceeded(self) -> QuotaExceeded:
        """The refusal as an error of the HTTP API, with its headers."""
        from mainspring.primitives.limiter.headers import headers

        return QuotaExceeded(
            f"{', '.join(self.violated) or self.policy}: try again in {self.retry_after:.3g} s",
            headers=headers(self),
            **{"violated-policies": list(self.violated) or [self.policy]},
        )
