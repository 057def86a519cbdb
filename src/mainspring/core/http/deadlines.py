"""One timer for all open requests, in place of one each.

A request's deadline is a number that it moves as it gets on; twice a second at most the timer looks for those that have
passed theirs and cancels their tasks. It stops when nothing is open.
"""

import asyncio
from asyncio import current_task
from collections.abc import Callable
from typing import Any, Protocol

NEVER = 1 << 63


class Timed(Protocol):
    """What is watched: its task is cancelled once `deadline_ns` has passed, and `overdue` says that this is why."""

    deadline_ns: int
    overdue: bool
    task: "asyncio.Task[Any] | None"


class Deadlines:
    """The open requests of one loop."""

    def __init__(self, now_ns: Callable[[], int], tick_s: float) -> None:
        self._now_ns = now_ns
        self._tick_s = tick_s
        self._open: set[Timed] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.discard = self._open.discard

    def add(self, timed: Timed) -> None:
        """Watches `timed` until it is discarded; its task is the running one."""
        loop = self._loop
        task = None if loop is None else current_task(loop)
        if task is None:
            loop = self._loop = asyncio.get_running_loop()
            loop.call_later(self._tick_s, self._tick)
            task = current_task(loop)
        timed.task = task
        self._open.add(timed)

    def _tick(self) -> None:
        now_ns = self._now_ns()
        for timed in self._open:
            if timed.deadline_ns < now_ns:
                timed.deadline_ns = NEVER
                timed.overdue = True
                if timed.task is not None:
                    timed.task.cancel()
        if self._open and self._loop is not None:
            self._loop.call_later(self._tick_s, self._tick)
        else:
            self._loop = None
