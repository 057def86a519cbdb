"""Time, passed in. No other code reads a clock, so that a test or the simulator can own time."""

import asyncio
import time
from heapq import heappop, heappush
from typing import Protocol


class Clock(Protocol):
    """Two readings and one wait.

    `wall_ns` is nanoseconds since 1970 UTC and may step backwards; `mono_ns` never goes back and means nothing
    outside this process. Data carries integer microseconds UTC: `wall_ns() // 1000`.
    """

    def wall_ns(self) -> int: ...

    def mono_ns(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clocks."""

    wall_ns = staticmethod(time.time_ns)
    mono_ns = staticmethod(time.monotonic_ns)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """A clock that moves only when told to; sleepers wake in order of their deadlines.

    `advance` moves both readings; `set_wall` steps the wall clock alone, as an administrator or NTP would.
    """

    def __init__(self, wall_ns: int = 1_767_225_600_000_000_000, mono_ns: int = 0) -> None:
        self._offset_ns = wall_ns - mono_ns
        self._mono_ns = mono_ns
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = 0

    def wall_ns(self) -> int:
        return self._mono_ns + self._offset_ns

    def mono_ns(self) -> int:
        return self._mono_ns

    def set_wall(self, wall_ns: int) -> None:
        self._offset_ns = wall_ns - self._mono_ns

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._order += 1
        wake = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self._mono_ns + round(seconds * 1e9), self._order, wake))
        await wake

    async def advance(self, seconds: float) -> None:
        """Moves time forward, waking each sleeper at its own instant and letting it run before the next."""
        target_ns = self._mono_ns + round(seconds * 1e9)
        while self._sleepers and self._sleepers[0][0] <= target_ns:
            self._mono_ns, _, wake = heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)
                await self._settle()
        self._mono_ns = target_ns
        await self._settle()

    @staticmethod
    async def _settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
