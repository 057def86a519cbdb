"""A socket that is being served, whichever way."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any

from mainspring.core.serve.exchange import Exchanges


class Server(ABC):
    """Made by `serve`. `address` is the socket's own."""

    def __init__(self, address: Any, exchanges: Exchanges) -> None:
        self.address = address
        self._exchanges = exchanges
        self._closed = asyncio.Event()

    @property
    def open_exchanges(self) -> int:
        """Requests and WebSockets being handled right now; idle connections do not count."""
        return len(self._exchanges.open)

    async def close(self, grace_s: float = 10.0) -> None:
        """WebSockets are closed with 1001 and event streams ended; nothing more is accepted; running requests get
        `grace_s` to finish and are then cancelled (503 where no answer had begun). A second call waits for the first.
        """
        if self._exchanges.draining:
            await self._closed.wait()
            return
        try:
            await self._drain(grace_s)
        finally:
            self._closed.set()

    @abstractmethod
    async def _drain(self, grace_s: float) -> None:
        """Does what `close` says, once. Before anything is awaited `draining` is set, by `Exchanges.end_the_endless`."""
