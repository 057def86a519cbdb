"""What one subscriber has not read yet: bounded, oldest lost first, so that a slow reader costs nobody but itself."""

import asyncio
from collections import deque
from collections.abc import Callable

from mainspring.core.cache.limits import BACKLOG_MESSAGES_MAX


class Mailbox:
    """An iterator over messages for one reading task; it ends once `close` is called."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._waiting: deque[bytes] = deque(maxlen=BACKLOG_MESSAGES_MAX)
        self._lost = lost
        self._news = asyncio.Event()
        self._closed = False

    def put(self, message: bytes) -> None:
        if len(self._waiting) == BACKLOG_MESSAGES_MAX:
            self._lost()
        self._waiting.append(message)
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._news.set()

    def __aiter__(self) -> "Mailbox":
        return self

    async def __anext__(self) -> bytes:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()
