"""Waiting for room, first come first served for each key on this node.

Whoever comes takes a place in the line before anything is asked. Only the head of a line spends; the others wait for the
lock that it holds, which is fair. Whoever joins is told at once where the costs of all before it and its own cannot pass in
time. What was only foreseen never counts as having passed, for it has charged nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from mainspring.core.clock import Clock
from mainspring.core.problems import Unavailable
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

    @asynccontextmanager
    async def place(self) -> AsyncIterator[asyncio.Future[bool]]:
        """A place in the line, taken at once and given up at the end; the future is done when it is the first one."""
        came: asyncio.Future[bool]
        if self.waiters == 1:
            came = asyncio.get_running_loop().create_future()
            came.set_result(await self.head.acquire())
        else:
            came = asyncio.ensure_future(self.head.acquire())
        try:
            yield came
        finally:
            if came.done() and not came.cancelled():
                self.head.release()
            else:
                came.cancel()


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
        crowded = self._waiting >= WAITERS_MAX
        line = self._lines.setdefault((policy, keys), _Line())
        line.waiters += 1
        line.cost += cost
        self._waiting += 1
        try:
            decision = await self._stand(policy, keys, line, cost, deadline_ns, crowded)
        finally:
            self._waiting -= 1
            line.waiters -= 1
            line.cost -= cost
            if not line.waiters:
                self._lines.pop((policy, keys), None)
        return await self._delayed(decision, deadline_ns)

    async def _stand(
        self, policy: str, keys: Keys, line: _Line, cost: int, deadline_ns: int, crowded: bool
    ) -> Decision:
        """Joins the line, and asks the store once it is the head of it. Whoever finds nobody there is the head at once."""
        clock = self._limiter.clock
        async with line.place() as came:
            if line.waiters > 1:
                foreseen = await self._limiter.foresee(policy, keys, line.cost)
                if crowded or self._hopeless(foreseen, deadline_ns):
                    return _turned_away(foreseen)
            if not came.done() and not await _within(clock, came, (deadline_ns - clock.mono_ns()) / 1e9):
                return _turned_away(await self._limiter.foresee(policy, keys, cost))
            while True:
                line.freed.clear()
                decision = await self._limiter.hit(policy, keys, cost)
                left_s = (deadline_ns - clock.mono_ns()) / 1e9
                if decision or crowded or left_s <= 0 or self._hopeless(decision, deadline_ns):
                    return decision
                pause_s = min(decision.retry_after, left_s)
                freed = asyncio.ensure_future(line.freed.wait())
                try:
                    await _within(clock, freed, min(pause_s, RELEASE_S) if _has_slots(decision) else pause_s)
                finally:
                    freed.cancel()

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
            with suppress(Unavailable):  # it stays charged then, which is too much and never too little
                await decision.settle(0)
            return decision.refused_for(delay_s)
        await clock.sleep(delay_s)
        return decision


def _turned_away(foreseen: Decision) -> Decision:
    """What was only foreseen has charged nothing: it never passes, also where there is room for who is before it in line."""
    return foreseen.refused_for(0.0) if foreseen.allowed else foreseen


def _has_slots(decision: Decision) -> bool:
    return any(limit.rule.kind == "concurrency" for limit in decision.face.limits)


async def _within(clock: Clock, awaited: asyncio.Future[Any], seconds: float) -> bool:
    """Waits for something for at most so many seconds of `clock`; gives whether it came."""
    timer = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((awaited, timer), return_when=asyncio.FIRST_COMPLETED)
        return awaited.done()
    finally:
        timer.cancel()
