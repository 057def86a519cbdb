"""What drives a directory's writer: a thread of its own, or the event loop itself where a simulation must repeat itself."""

from __future__ import annotations

import asyncio
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


class ThreadedWriter(Writer):
    """A writer in its own thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue: SimpleQueue[Appending | Job | None] = SimpleQueue()
        self._pool: ThreadPoolExecutor | None = None
        self._trimming: tuple[Trimming, Future[None]] | None = None
        self._thread = Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def put(self, appending: Appending) -> None:
        self._queue.put(appending)

    def call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Runs `function` after everything that was put before; its result on the loop."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put(Job(function, args, done))
        return done

    def tell(self, function: Callable[..., object], *args: Any) -> None:
        """Runs `function` some time after what was put before, where nobody waits: an error is logged."""
        self._queue.put(Job(function, args, None))

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
        done.add_done_callback(lambda _: self.tell(self._end_trimming))

    def _end_trimming(self) -> None:
        if self._trimming is not None:
            (work, done), self._trimming = self._trimming, None
            done.result()
            self._trimmed(work)

    def _run(self) -> None:
        queue = self._queue
        items: deque[Appending | Job] = deque()
        while True:
            item = queue.get()
            if item is None:
                return
            items.append(item)
            for _ in range(min(queue.qsize(), COMMIT_APPENDS_MAX)):
                item = queue.get()
                if item is None:
                    self.work(items)
                    return
                items.append(item)
            self.work(items)


class InlineWriter(Writer):
    """A writer without a thread, which works at the loop's next turn: for a simulation that must repeat itself."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._items: deque[Appending | Job] = deque()
        self._scheduled = False

    def put(self, appending: Appending) -> None:
        self._push(appending)

    def call(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._push(Job(function, args, done))
        return done

    def tell(self, function: Callable[..., object], *args: Any) -> None:
        self._push(Job(function, args, None))

    async def stop(self) -> None:
        await self.call(self.close)

    def _push(self, item: Appending | Job) -> None:
        self._items.append(item)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self.work(self._items)
