"""A hierarchical timer wheel: adding, cancelling and firing cost the same however many timers there are.

Varghese and Lauck 1987, scheme 7: four wheels of 64 slots; a slot of one wheel is a turn of the one below. A timer lies in the
slot that its distance asks for and moves down as its time comes near, so most timers that are cancelled or replaced (sessions,
time limits) never move at all. A bit for each slot that holds something says at once when to look next.

`TimerWheel` is pure: the time goes in. `Timers` drives one by a clock. A timer never fires early, and at most one tick late.
"""

import asyncio
import logging
from collections.abc import Callable

from .clock import Clock

TICK_MS = 20
LEVELS = 4
BITS = 6
SLOTS = 1 << BITS
_SPAN_TICKS = 1 << (BITS * LEVELS)

log = logging.getLogger(__name__)


class Timer:
    """What is to be called, and when. `cancel` leaves an empty place that the wheel clears as it passes."""

    __slots__ = ("at_ms", "call")

    def __init__(self, at_ms: int, call: Callable[[], object]) -> None:
        self.at_ms = at_ms
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        self.call = None


class TimerWheel:
    """Times are milliseconds of any clock that never goes back."""

    def __init__(self, now_ms: int) -> None:
        self._tick = now_ms // TICK_MS
        self._slots: list[list[list[Timer]]] = [[[] for _ in range(SLOTS)] for _ in range(LEVELS)]
        self._taken = [0] * LEVELS

    def add(self, at_ms: int, call: Callable[[], object]) -> Timer:
        """Calls `call` in the first `advance` to `at_ms` or later; what is past already in the next tick."""
        timer = Timer(at_ms, call)
        self._place(timer)
        return timer

    def next_ms(self) -> int | None:
        """When to advance next: nothing is due before. None while the wheel is empty."""
        tick = self._next_tick()
        return None if tick is None else tick * TICK_MS

    def advance(self, now_ms: int) -> list[Timer]:
        """Moves to `now_ms`; the timers that are due, the earliest tick first."""
        due: list[Timer] = []
        target = now_ms // TICK_MS
        while (tick := self._next_tick()) is not None and tick <= target:
            self._tick = tick
            for level in range(LEVELS - 1, 0, -1):
                if tick & ((1 << (BITS * level)) - 1) == 0:
                    for timer in self._take(level, tick >> (BITS * level)):
                        if timer.call is not None:
                            self._place(timer, due)
            due += [timer for timer in self._take(0, tick) if timer.call is not None]
        self._tick = max(self._tick, target)
        return due

    def _place(self, timer: Timer, due: list[Timer] | None = None) -> None:
        tick = -(-timer.at_ms // TICK_MS)
        if due is not None and tick <= self._tick:
            due.append(timer)
            return
        distance = min(max(1, tick - self._tick), _SPAN_TICKS - 1)
        tick = self._tick + distance
        level = (distance.bit_length() - 1) // BITS
        slot = (tick >> (BITS * level)) & (SLOTS - 1)
        self._slots[level][slot].append(timer)
        self._taken[level] |= 1 << slot

    def _take(self, level: int, position: int) -> list[Timer]:
        slot = position & (SLOTS - 1)
        timers = self._slots[level][slot]
        if timers:
            self._slots[level][slot] = []
            self._taken[level] &= ~(1 << slot)
        return timers

    def _next_tick(self) -> int | None:
        found = None
        for level, taken in enumerate(self._taken):
            if not taken:
                continue
            position = self._tick >> (BITS * level)
            turn = (position + 1) & (SLOTS - 1)
            ahead = (taken >> turn) | (taken << (SLOTS - turn)) & ((1 << SLOTS) - 1)
            distance = (ahead & -ahead).bit_length()
            tick = (position + distance) << (BITS * level)
            found = tick if found is None else min(found, tick)
        return found


class Timers:
    """A wheel on a clock's monotonic time: `call_at` and `call_after` call on the event loop, between `start` and `stop`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wheel = TimerWheel(self.now_ms())
        self._earlier = asyncio.Event()
        self._sleeps_until_ms: int | None = None
        self._task: asyncio.Task[None] | None = None

    def now_ms(self) -> int:
        return self._clock.mono_ns() // 1_000_000

    def call_at(self, at_ms: int, call: Callable[[], object]) -> Timer:
        timer = self._wheel.add(at_ms, call)
        if self._sleeps_until_ms is None or at_ms < self._sleeps_until_ms:
            self._earlier.set()
        return timer

    def call_after(self, ms: int, call: Callable[[], object]) -> Timer:
        return self.call_at(self.now_ms() + ms, call)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="timers")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            for timer in self._wheel.advance(self.now_ms()):
                call, timer.call = timer.call, None
                try:
                    if call is not None:
                        call()
                except Exception:
                    log.exception("a timer's call failed")
            self._earlier.clear()
            self._sleeps_until_ms = self._wheel.next_ms()
            if self._sleeps_until_ms is None:
                await self._earlier.wait()
            elif (left_ms := self._sleeps_until_ms - self.now_ms()) > 0:
                await self._sleep(left_ms / 1000)
            else:
                await asyncio.sleep(0)

    async def _sleep(self, seconds: float) -> None:
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        earlier = asyncio.ensure_future(self._earlier.wait())
        try:
            await asyncio.wait((sleeper, earlier), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            earlier.cancel()
