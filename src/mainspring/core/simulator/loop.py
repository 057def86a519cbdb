"""An event loop whose time is virtual and whose threads are chance: for code that awaits, as it is, in the simulator.

Waiting costs nothing: when nothing can run, the loop's time steps to the next timer. What the code gives to threads is run
on the loop instead, all of it at one instant that the seed chooses, and its result is told at a later one; so calls that
threads would make at once are made in any order, and a crash may fall before a call, or between it and its answer.
"""

import asyncio
import contextvars
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from random import Random
from typing import Any, TypeVar

from .simulation import START_NS

T = TypeVar("T")


class Deadlock(AssertionError):
    """Everybody waits and no timer is set: nothing can happen any more."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """`took_s(executor)` says how long a call given to `executor` takes to begin, and again to be told of; by default a
    moment, of which the seed says how long. `now_s` is the time at which the loop begins."""

    def __init__(self, random: Random, now_s: float = 0.0, took_s: Callable[[object], float] | None = None) -> None:
        self.now_s = now_s
        self._random = random
        self._took_s = took_s or self._a_moment
        super().__init__(_Selector(self))
        # Whatever is due within this is due now: sums of doubles miss a moment by more than the clock's nanosecond.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self.now_s

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        # There is no other thread that the selector would have to be woken for.
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        self.call_later(self._took_s(executor), self._call, executor, done, func, args)
        return done

    def _call(
        self, executor: Executor | None, done: asyncio.Future[T], func: Callable[..., T], args: tuple[Any, ...]
    ) -> None:
        try:
            result = func(*args)
        except Exception as error:
            self.call_later(self._took_s(executor), _settle, done, None, error)
        else:
            self.call_later(self._took_s(executor), _settle, done, result, None)

    def _a_moment(self, executor: object) -> float:
        return self._random.random() * 0.002


class SimulatedClock:
    """The clock of a simulated machine: its loop's time, and a wall clock that is off by `offset_s`."""

    def __init__(self, loop: SimulatedLoop, offset_s: float = 0.0) -> None:
        self.offset_s = offset_s
        self._loop = loop

    def wall_ns(self) -> int:
        return START_NS + round((self._loop.now_s + self.offset_s) * 1e9)

    def mono_ns(self) -> int:
        return round(self._loop.now_s * 1e9)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Selector(selectors.SelectSelector):
    """Never waits: time steps instead."""

    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("everybody waits and no timer is set")
        self._loop.now_s += max(0.0, timeout)
        return []


def _settle(done: asyncio.Future[T], result: Any, error: Exception | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
