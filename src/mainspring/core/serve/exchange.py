"""One request with its answer, or one WebSocket, whatever server brought it: how it runs, how it fails and how it is ended.

What is added to plain ASGI here, for every application behind every server of ours:
- all open exchanges are known, so that a server that stops can end WebSockets (1001) and event streams, let requests finish,
  and cancel what is left after a grace;
- an application that raises becomes a 500 problem, or, once its answer has begun, a connection cut short: never an answer that
  looks complete and is not.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable
from typing import Any

from mainspring.core.http.request import Application, Disconnected, Message, Scope
from mainspring.core.http.response import problem_response
from mainspring.core.problems import Problem, Unavailable

log = logging.getLogger(__name__)

WEBSOCKETS_CLOSE_S = 1.0
"""How long the peers of WebSockets may take to answer our closing frame at shutdown."""
LAST_WORDS_S = 2.0
"""How long cancelled handlers may take to give way."""


class Exchange(ABC):
    """`head` is the first message of the answer, once it has begun; `task` is the one that runs the application."""

    __slots__ = ("head", "scope", "task")

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.head: Message | None = None
        self.task: asyncio.Task[None] | None = None

    @abstractmethod
    def receive(self) -> Awaitable[Message]:
        """What ASGI calls so; the last message is the disconnect, again and again."""

    @abstractmethod
    def send(self, message: Message) -> Awaitable[None]:
        """What ASGI calls so. Sets `head`."""

    @abstractmethod
    def done(self) -> None:
        """The application has returned, whatever it has said."""

    @property
    def is_websocket(self) -> bool:
        return bool(self.scope["type"] == "websocket")

    @property
    def is_event_stream(self) -> bool:
        """Whether the answer has begun and by its kind never ends: Server-Sent Events."""
        if self.head is None or self.is_websocket:
            return False
        headers: Iterable[tuple[bytes, bytes]] = self.head.get("headers", ())
        kinds = [value for name, value in headers if name.lower() == b"content-type"]
        return any(kind.startswith(b"text/event-stream") for kind in kinds)

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def go_away(self) -> None:
        """Closes a WebSocket with 1001 and waits for its handler, which then receives the disconnect."""
        await self._try([{"type": "websocket.close", "code": 1001}])
        if self.task is not None:
            await asyncio.wait([self.task])

    async def was_cancelled(self, *, draining: bool) -> None:
        """The client left, or the server is closing."""
        if self.is_event_stream:
            await self._try([{"type": "http.response.body", "body": b""}])
        elif draining:
            await self.refuse(Unavailable("The server is stopping; ask again"))

    async def has_failed(self, error: Exception) -> None:
        log.error("unhandled error at %s", self.scope["path"], exc_info=error)
        await self.refuse(Problem())

    async def refuse(self, problem: Problem) -> None:
        """Answers with a problem where no answer has begun; else the connection ends without the answer's end."""
        if self.head is None:
            refused = problem_response(problem)
            kind = "websocket.http.response" if self.is_websocket else "http.response"
            head = {"type": f"{kind}.start", "status": refused.status, "headers": refused.headers}
            await self._try([head, {"type": f"{kind}.body", "body": refused.body}])
        elif self.is_websocket:
            await self._try([{"type": "websocket.close", "code": 1011}])

    async def _try(self, messages: Iterable[Message]) -> None:
        try:
            for message in messages:
                await self.send(message)
        except Exception as error:
            log.debug("the client was gone before its answer: %r", error)


class PlainExchange(Exchange):
    """One on a connection that we read ourselves. `streams` says that a piece of the answer has gone out, and more follow."""

    __slots__ = ("streams",)
    streams: bool

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether nothing more is to be read for it now: enough waits to be received."""

    @abstractmethod
    def hear(self, data: bytes) -> bytes:
        """Takes its share of what came; gives the rest, which belongs to the next request."""

    @abstractmethod
    def gone(self) -> None:
        """The client has left."""

    def end_if_endless(self) -> None:
        """The server goes away."""
        if self.is_event_stream:
            self.cancel()


class Exchanges:
    """Those of one server that are open: requests and WebSockets being handled right now. Idle connections do not count."""

    def __init__(self, app: Application) -> None:
        self.draining = False
        self.open: set[Exchange] = set()
        self.app = app

    async def run(self, exchange: Exchange) -> None:
        """One exchange from its start to its end, as the task that is its own."""
        self.open.add(exchange)
        try:
            if self.draining and exchange.is_websocket:
                await exchange.refuse(Unavailable("The server is stopping; connect again"))
            else:
                await self.app(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            await exchange.was_cancelled(draining=self.draining)
        except Disconnected:
            pass
        except Exception as error:
            await exchange.has_failed(error)
        finally:
            self.open.discard(exchange)
            exchange.done()

    async def end_the_endless(self) -> None:
        """Closes WebSockets and ends event streams; what comes from now on is told to come later."""
        self.draining = True
        sockets = [exchange for exchange in self.open if exchange.is_websocket]
        for exchange in self.open:
            if exchange.is_event_stream:
                exchange.cancel()
        await within(WEBSOCKETS_CLOSE_S, *(exchange.go_away() for exchange in sockets))

    async def finish(self, grace_s: float) -> None:
        """Waits for those that run; after the grace they are cancelled (503 where no answer had begun)."""
        if await self._wait_until_none(grace_s):
            return
        for exchange in self.open:
            exchange.cancel()
        if not await self._wait_until_none(LAST_WORDS_S):
            paths = [exchange.scope["path"] for exchange in self.open]
            log.error("handlers ignore their cancellation and are left behind: %s", paths)

    async def _wait_until_none(self, timeout_s: float) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self.open and loop.time() < deadline:
            tasks = [exchange.task for exchange in self.open if exchange.task is not None]
            await asyncio.wait(tasks, timeout=deadline - loop.time())
        return not self.open


async def within(timeout_s: float, *waits: Awaitable[Any]) -> None:
    """Waits for all of them, at most so long; what is then unfinished is cancelled."""
    if not waits:
        return
    _, late = await asyncio.wait([asyncio.ensure_future(wait) for wait in waits], timeout=timeout_s)
    for task in late:
        task.cancel()
