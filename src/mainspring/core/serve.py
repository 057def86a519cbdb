"""HTTP and WebSockets on a socket that we bound: Granian's native server inside the running event loop.

`serve(app, socket)` is the one seam to Granian. Its `Server` class is not used (it binds by itself, so that a taken
port becomes a second server in the dark, and it reconfigures logging); its worker is started directly. Sockets, HTTP
parsing and TLS live on one native thread; the application runs as tasks of this loop.

What this module adds to plain ASGI, for every application behind it:
- every open exchange is known, so that `close` can end WebSockets (1001) and event streams, let requests finish, and
  cancel what is left after a grace;
- a handler that streams to a client which went away is cancelled (Granian would let it write into the void);
- an application that raises becomes a 500 problem, or, once its answer has begun, a connection cut short: never an
  answer that looks complete and is not.

Memory is bounded by backpressure: `send` waits while a slow reader's socket is full, and past the most connections that
may be open new ones wait in the kernel's backlog.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from granian import _futures, _granian
from granian.http import HTTP1Settings, HTTP2Settings

from mainspring.core.http.request import Application, Disconnected, Message, Receive, Scope
from mainspring.core.http.response import problem_response
from mainspring.core.problems import Problem, Unavailable
from mainspring.core.tls import Tls

log = logging.getLogger(__name__)

# Granian's stubs trail its code, so its two private modules are used untyped; the version is pinned.
_native: Any = _granian
_new_scheduler: Any = _futures._new_cbscheduler

WEBSOCKETS_CLOSE_S = 1.0
"""How long the peers of WebSockets may take to answer our closing frame at shutdown."""
LAST_WORDS_S = 2.0
"""How long cancelled handlers may take to give way, and then native code to write out what is left."""


async def serve(
    app: Application,
    sock: socket.socket,
    *,
    tls: Tls | None = None,
    backpressure: int = 8192,
    backlog: int = 1024,
    header_timeout_s: float = 75,
) -> "Server":
    """Serves `app` on `sock`, a bound TCP or Unix stream socket, which then belongs to the server.

    `backpressure` is how many connections are open at most, idle ones included; `header_timeout_s` how long one may
    take to send a request's head or stay idle between two (above the 60 s for which a usual proxy keeps its own).
    Plain text speaks HTTP/1.1; TLS offers HTTP/2 as well. Raises `TlsError`.
    """
    if tls is not None:
        tls.context()
    sock.listen(backlog)
    sock.setblocking(False)
    server = Server(app, sock.getsockname())
    unix = sock.family == socket.AF_UNIX
    worker = _native.ASGIWorker(
        worker_id=1,
        sock=(None, _native.SocketHolder(sock.detach(), unix, backlog)),
        ipc=None,
        threads=1,
        blocking_threads=1,
        py_threads=1,
        backpressure=backpressure,
        http_mode="1" if tls is None else "auto",
        http1_opts=HTTP1Settings(header_read_timeout=round(header_timeout_s * 1000), max_buffer_size=64 << 10),
        http2_opts=None if tls is None else HTTP2Settings(max_headers_size=64 << 10, keep_alive_interval=30_000),
        websockets_enabled=True,
        ssl_enabled=tls is not None,
        ssl_cert=None if tls is None else str(tls.certificate),
        ssl_key=None if tls is None else str(tls.key),
        ssl_protocol_min="tls1.2",
        metrics=(None, None),
    )
    server._start(worker.serve_async_uds if unix else worker.serve_async)
    return server


class Server:
    """A socket being served; made by `serve`. `address` is the socket's own."""

    def __init__(self, app: Application, address: Any) -> None:
        self.address = address
        self.draining = False
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._signal = _native.WorkerSignal()
        self._stopped = asyncio.Event()
        self._closed = asyncio.Event()
        self._open: set[_Exchange] = set()

    @property
    def open_exchanges(self) -> int:
        """Requests and WebSockets being handled right now; idle connections do not count."""
        return len(self._open)

    async def close(self, grace_s: float = 10.0) -> None:
        """WebSockets are closed with 1001 and event streams ended; nothing more is accepted; running requests get
        `grace_s` to finish and are then cancelled (503 where no answer had begun). A second call waits for the first.
        """
        if self.draining:
            await self._closed.wait()
            return
        self.draining = True
        try:
            await self._end_the_endless()
            self._signal.set()
            if not await self._wait_until_idle(grace_s):
                await self._cancel_the_rest()
            await _within(LAST_WORDS_S, self._stopped.wait())
        finally:
            self._closed.set()

    async def _end_the_endless(self) -> None:
        """Before the native side is told to stop: it then drops every WebSocket without a closing frame."""
        sockets = [exchange for exchange in self._open if exchange.is_websocket]
        for exchange in self._open:
            if exchange.is_event_stream:
                exchange.cancel()
        await _within(WEBSOCKETS_CLOSE_S, *(exchange.go_away() for exchange in sockets))

    async def _wait_until_idle(self, timeout_s: float) -> bool:
        deadline = self._loop.time() + timeout_s
        while self._open and self._loop.time() < deadline:
            await asyncio.wait([exchange.task for exchange in self._open], timeout=deadline - self._loop.time())
        return not self._open

    async def _cancel_the_rest(self) -> None:
        for exchange in self._open:
            exchange.cancel()
        if not await self._wait_until_idle(LAST_WORDS_S):
            paths = [exchange.scope["path"] for exchange in self._open]
            log.error("handlers ignore their cancellation and are left behind: %s", paths)

    def _start(self, listen: Callable[..., None]) -> None:
        def stopped() -> None:  # called on a native thread, maybe after the loop has ended
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stopped.set)

        self._signal.add_cb(stopped)
        with _patient_threads():
            listen(_new_scheduler(self._loop, self._handle, impl_asyncio=True), self._loop, self._signal)

    async def _handle(self, watcher: Any) -> None:
        """One request or WebSocket, start to end, as its own task. Granian's own path for errors only logs: unused."""
        exchange = _Exchange(watcher.scope, watcher.proto)
        self._open.add(exchange)
        try:
            if self.draining and exchange.is_websocket:
                await exchange.refuse(Unavailable("The server is stopping; connect again"))
            else:
                await self._app(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            await exchange.was_cancelled(draining=self.draining)
        except Disconnected:
            pass
        except Exception as error:
            await exchange.has_failed(error)
        finally:
            if exchange.watch is not None:
                exchange.watch.cancel()
            self._open.discard(exchange)
            watcher.done()


class _Exchange:
    """One HTTP request with its answer, or one WebSocket: what `close` must know of it, and the watch on its client."""

    __slots__ = ("_head", "_inbox", "_proto", "scope", "task", "watch")

    def __init__(self, scope: Scope, proto: Any) -> None:
        self.scope = scope
        self.task: asyncio.Task[None] = asyncio.current_task()  # type: ignore[assignment]
        self._proto = proto
        self._head: Message | None = None
        self._inbox: asyncio.Queue[Message] | None = None
        self.watch: asyncio.Task[None] | None = None

    @property
    def is_websocket(self) -> bool:
        return bool(self.scope["type"] == "websocket")

    @property
    def is_event_stream(self) -> bool:
        """Whether the answer has begun and by its kind never ends: Server-Sent Events."""
        if self._head is None or self.is_websocket:
            return False
        headers: Iterable[tuple[bytes, bytes]] = self._head.get("headers", ())
        kinds: list[bytes] = [value for name, value in headers if name.lower() == b"content-type"]
        return any(kind.startswith(b"text/event-stream") for kind in kinds)

    def receive(self) -> Awaitable[Message]:
        receive: Receive = self._proto.receive if self._inbox is None else self._inbox.get
        return receive()

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] in ("http.response.start", "websocket.accept"):
            self._head = message
        elif message.get("more_body") and not self.is_websocket:
            return self._send_piece(message)
        sent: Awaitable[None] = self._proto.send(message)
        return sent

    async def _send_piece(self, message: Message) -> None:
        """A piece of a streamed answer. Without a client, Granian's `send` returns without ever suspending: a handler
        that only writes would then hold the loop, its own cancellation included, so the loop gets its turn here."""
        if self.watch is None:
            self._inbox = asyncio.Queue(1)
            self.watch = asyncio.create_task(self._watch_client(self._inbox))
        await self._proto.send(message)
        await asyncio.sleep(0)

    async def _watch_client(self, inbox: asyncio.Queue[Message]) -> None:
        """Cancels the handler when its client goes away while an answer is being streamed. What is left of the
        request's body passes through the inbox, one piece at a time."""
        while (message := await self._proto.receive())["type"] != "http.disconnect":
            await inbox.put(message)
        self.task.cancel()
        await inbox.put(message)
        self._inbox = None  # Granian repeats the disconnect to whoever asks again.

    def cancel(self) -> None:
        self.task.cancel()

    async def go_away(self) -> None:
        """Closes a WebSocket with 1001 and waits for its handler, which then receives the disconnect."""
        try:
            await self._proto.send({"type": "websocket.close", "code": 1001})
        except Exception as error:
            log.debug("a WebSocket was gone before it could be closed: %r", error)
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
        if self._head is None:
            refused = problem_response(problem)
            kind = "websocket.http.response" if self.is_websocket else "http.response"
            head = {"type": f"{kind}.start", "status": refused.status, "headers": refused.headers}
            await self._try([head, {"type": f"{kind}.body", "body": refused.body}])
        elif self.is_websocket:
            await self._try([{"type": "websocket.close", "code": 1011}])

    async def _try(self, messages: Iterable[Message]) -> None:
        try:
            for message in messages:
                await self._proto.send(message)
        except Exception as error:
            log.debug("the client was gone before its answer: %r", error)


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Threads that are started in here do not push the loop's off its core when they wake (`SCHED_BATCH` of Linux).

    What a native thread has to say must wait for the interpreter's lock anyway, which the loop holds while it works: without
    this each request costs two switches of threads for nothing, a tenth of a small one.
    """
    if sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    usual = os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, usual)
    except OSError as error:  # a sandbox may forbid it
        log.debug("threads cannot be made patient: %r", error)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) == os.SCHED_BATCH:
            os.sched_setscheduler(0, os.SCHED_OTHER, usual)


async def _within(timeout_s: float, *waits: Awaitable[Any]) -> None:
    """Waits for all of them, at most so long; what is then unfinished is cancelled."""
    if not waits:
        return
    _, late = await asyncio.wait([asyncio.ensure_future(wait) for wait in waits], timeout=timeout_s)
    for task in late:
        task.cancel()
