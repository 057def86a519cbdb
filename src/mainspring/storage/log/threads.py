"""What drives a directory's writer: a thread of its own, or the event loop itself where a simulation must repeat itself.

Both are handed what came in one turn of the event loop at its end, together: a thread that is woken for each small append takes
the interpreter from the loop each time, and commits one append where it could have committed hundreds.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from .model import Appending
from .trimming import Trimming
from .writer import COMMIT_APPENDS_MAX, SYNCS_AT_ONCE, Job, Writer

T = TypeVar("T")


HAND_OVER_BYTES = 64 << 10
"""What is larger is worth a turn of the thread by itself: the loop then goes on while it is written."""


class _Queued(Writer, ABC):
    """A writer that is given things on the event loop and takes them over together."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._given: deque[Appending | Job] = deque()
        self._given_bytes = 0

    def put(self, appending: Appending) -> None:
        self._give(appending)
        self._given_bytes += len(appending.data)

    def call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Runs `function` after everything that was put before; its result on the loop."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._give(Job(function, args, done))
        return done

    def tell(self, function: Callable[..., object], *args: Any) -> None:
        """Runs `function` some time after what was put before, where nobody waits: an error is logged."""
        self._give(Job(function, args, None))

    def _give(self, item: Appending | Job) -> None:
        if not self._given:
            asyncio.get_running_loop().call_soon(self._hand_over)
        self._given.append(item)

    def _hand_over(self) -> None:
        given, self._given, self._given_bytes = self._given, deque(), 0
        if given:
            self._take(given)

    @abstractmethod
    def _take(self, items: deque[Appending | Job]) -> None:
        """Does these after all that were taken before."""


class ThreadedWriter(_Queued):
    """A writer in its own thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue: SimpleQueue[deque[Appending | Job] | None] = SimpleQueue()
        self._pool: ThreadPoolExecutor | None = None
        self._trimming: tuple[Trimming, Future[None]] | None = None
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, appending: Appending) -> None:
        super().put(appending)
        if self._given_bytes >= HAND_OVER_BYTES:
            self._hand_over()

    def _take(self, items: deque[Appending | Job]) -> None:
        self._queue.put(items)

    async def stop(self) -> None:
        """Ends the thread after everything that was put before."""
        await self.call(self.close)
        self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        if self._pool is not None:
            self._pool.shutdown()

    def _sync_all(self, handles: list[int]) -> Iterable[OSError | None]:
        if len(handles) == 1:
            return map(self._sync_one, handles)
        return self._threads().map(self._sync_one, handles)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(SYNCS_AT_ONCE + 1, "log-sync")
        return self._pool

    def _trim_beside(self) -> None:
        # One at a time: a journal that fills faster than files are synced makes appends wait here.
        self._end_trimming()
        work = self._begin_trimming()
        done = self._threads().submit(work.run, self.files)
        self._trimming = (work, done)
        done.add_done_callback(lambda _: self._queue.put(deque([Job(self._end_trimming, (), None)])))

    def _end_trimming(self) -> None:
        if self._trimming is not None:
            (work, done), self._trimming = self._trimming, None
            done.result()
            self._trimmed(work)

    def _run(self) -> None:
        queue = self._queue
        while (items := queue.get()) is not None:
            while len(items) < COMMIT_APPENDS_MAX and queue.qsize():
                more = queue.get()
                if more is None:
                    self.work(items)
                    return
                items += more
            self.work(items)


class InlineWriter(_Queued):
    """A writer without a thread, which works at the end of the loop's turn: for a simulation that must repeat itself."""

    async def stop(self) -> None:
        await self.call(self.close)

    def _take(self, items: deque[Appending | Job]) -> None:
        self.work(items)
