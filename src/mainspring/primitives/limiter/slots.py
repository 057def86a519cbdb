"""A slot of a concurrency limit as a context manager: taken, kept alive while held, and freed."""

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING

from mainspring.core.problems import Unavailable
from mainspring.primitives.limiter.book import Keys
from mainspring.primitives.limiter.decision import Decision
from mainspring.primitives.limiter.model import UnknownPolicy

if TYPE_CHECKING:
    from mainspring.primitives.limiter.limiter import Limiter

log = logging.getLogger(__name__)


class Slot:
    """`async with limiter.slot(...) as slot:`; `slot.lost` is set where the lease could not be kept.

    A third of the lease's life apart it is renewed, so it is lost only where the store was away for the other two thirds,
    somebody reset the key, or the policy has no slots any more; then others may hold the slot too, and the holder should stop.
    """

    def __init__(self, limiter: "Limiter", policy: str, keys: Keys, cost: int, timeout: float, ttl_s: float) -> None:
        self.lost = asyncio.Event()
        self._limiter = limiter
        self._policy = policy
        self._keys = keys
        self._cost = cost
        self._timeout = timeout
        self._ttl_s = ttl_s
        self._decision: Decision | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def lease(self) -> int:
        """The number that the slot was given; 0 where the store was away and the policy fails open."""
        return self._decision.lease if self._decision else 0

    async def __aenter__(self) -> "Slot":
        decision = await self._limiter.wait(self._policy, self._keys, self._cost, self._timeout)
        if not decision:
            raise decision.exceeded()
        self._decision = decision
        if decision.lease:
            self._renewing = asyncio.create_task(self._renew(decision), name=f"slot of {self._policy}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        decision = self._decision
        if self._renewing is None or decision is None:
            return
        self._renewing.cancel()
        try:
            await self._limiter.release(self._policy, self._keys, decision.lease, decision.store)
        except Unavailable as away:
            log.warning("a slot was not released and runs out by itself: %s", away, extra={"policy": self._policy})
        except UnknownPolicy:
            log.info("a slot is left whose policy is gone", extra={"policy": self._policy})

    async def _renew(self, decision: Decision) -> None:
        while True:
            await self._limiter.clock.sleep(self._ttl_s / 3)
            try:
                kept = await self._limiter.renew(self._policy, self._keys, decision.lease, decision.store)
            except Unavailable as away:
                log.warning("a slot was not renewed: %s", away, extra={"policy": self._policy})
                continue
            except UnknownPolicy:
                kept = False
            if not kept:
                self.lost.set()
                return
