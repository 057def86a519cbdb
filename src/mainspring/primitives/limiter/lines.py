"""Waiting for room, first come first served for each key on this node.

Only the head of a line asks the store; the others wait for the lock that it holds, which is fair. Whoever joins is told at
once where the costs of all before it and its own cannot pass in time.
"""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from mainspring.core.clock import Clock
from mainspring.primitives.limiter.book import Keys
from mainspring.primitives.limiter.decision import Decision

if TYPE_CHECKING:
    from mainspring.primitives.limiter.limiter import Limiter

WAITERS_MAX = 10_000
"""Over all lines; who comes after that is refused at once."""

RELEASE_S = 0.25
"""How long the head of a line for slots sleeps at most: another node may have released one without telling us."""


class _Line:
    __slots__ = ("cost", "freed", "head", "waiters")

    def __init__(self) -> None:
        self.head = asyncio.Lock()
        self.freed = asyncio.Event()
        self.waiters = 0
        self.cost = 0

    async def come_up(self, clock: Clock, seconds: float) -> bool:
        """Waits to be the head; gives whether that came in time. Whoever got there calls `head.release`."""
        came = asyncio.ensure_future(self.head.acquire())
        timer = asyncio.ensure_future(clock.sleep(seconds))
        try:
            await asyncio.wait((came, timer), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if came.done():
                self.head.release()
            raise
        finally:
            timer.cancel()
            came.cancel()
        return came.done() and not came.cancelled()


class Lines:
    """The lines of one limiter. A line exists while somebody stands in it."""

    def __init__(self, limiter: "Limiter") -> None:
        self._limiter = limiter
        self._lines: dict[tuple[str, Keys], _Line] = {}
        self._waiting = 0

    def freed(self, policy: str) -> None:
        """Wakes the heads of the policy's lines, because a slot was released."""
        for (name, _), line in self._lines.items():
            if name == policy:
                line.freed.set()

    async def wait(self, policy: str, keys: Keys, cost: int, timeout: float) -> Decision:
        keys = keys if isinstance(keys, str) else tuple(keys)
        deadline_ns = self._limiter.clock.mono_ns() + round(timeout * 1e9)
        if (policy, keys) not in self._lines:
            decision = await self._limiter.hit(policy, keys, cost)
            if decision or timeout <= 0:
                return await self._delayed(decision, deadline_ns)
        line = self._lines.setdefault((policy, keys), _Line())
        line.waiters += 1
        line.cost += cost
        self._waiting += 1
        try:
            return await self._stand(policy, keys, line, cost, deadline_ns)
        finally:
            self._waiting -= 1
            line.waiters -= 1
            line.cost -= cost
            if not line.waiters:
                self._lines.pop((policy, keys), None)

    async def _stand(self, policy: str, keys: Keys, line: _Line, cost: int, deadline_ns: int) -> Decision:
        clock = self._limiter.clock
        foreseen = await self._limiter.foresee(policy, keys, line.cost)
        if self._waiting > WAITERS_MAX or self._hopeless(foreseen, deadline_ns):
            return foreseen
        if not await line.come_up(clock, (deadline_ns - clock.mono_ns()) / 1e9):
            return await self._limiter.foresee(policy, keys, cost)
        try:
            while True:
                line.freed.clear()
                decision = await self._limiter.hit(policy, keys, cost)
                left_s = (deadline_ns - clock.mono_ns()) / 1e9
                if decision or left_s <= 0 or self._hopeless(decision, deadline_ns):
                    return await self._delayed(decision, deadline_ns)
                pause_s = min(decision.retry_after, left_s)
                await _within(clock, line.freed.wait(), min(pause_s, RELEASE_S) if _has_slots(decision) else pause_s)
        finally:
            line.head.release()

    def _hopeless(self, decision: Decision, deadline_ns: int) -> bool:
        """Whether it is certain that the wait would take too long. A slot may be released at any time."""
        if decision.allowed or _has_slots(decision):
            return False
        return self._limiter.clock.mono_ns() + round(decision.retry_after * 1e9) > deadline_ns

    async def _delayed(self, decision: Decision, deadline_ns: int) -> Decision:
        """Waits as a leaky bucket asks; where there is no time for that, gives back what it has charged and refuses."""
        delay_s = decision.delay
        if not decision.allowed or not delay_s:
            return decision
        clock = self._limiter.clock
        if clock.mono_ns() + round(delay_s * 1e9) > deadline_ns:
            await decision.settle(0)
            return decision.refused_for(delay_s)
        await clock.sleep(delay_s)
        return decision


def _has_slots(decision: Decision) -> bool:
    return any(limit.rule.kind == "concurrency" for limit in decision.face.limits)


async def _within(clock: Clock, waiting: Coroutine[Any, Any, Any], seconds: float) -> bool:
    """Awaits something for at most so many seconds of `clock`; gives whether it came."""
    task, timer = asyncio.ensure_future(waiting), asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((task, timer), return_when=asyncio.FIRST_COMPLETED)
        return task.done()
    finally:
        task.cancel()
        timer.cancel()
