"""HTTP over TLS, with HTTP/2: Granian's native server inside the running event loop.

Its `Server` class is not used (it binds by itself, so that a taken port becomes a second server in the dark, and it
reconfigures logging); its worker is started directly. Sockets, HTTP parsing and TLS live on one native thread; the application
runs as tasks of this loop. What it lacks is added here: a handler that streams to a client which went away is cancelled
(Granian would let it write into the void).

Memory is bounded by backpressure: `send` waits while a slow reader's socket is full, and past the most connections that may be
open new ones wait in the kernel's backlog.
"""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from granian import _futures, _granian
from granian.http import HTTP1Settings, HTTP2Settings

from mainspring.core.http.request import Application, Message
from mainspring.core.serve.exchange import LAST_WORDS_S, Exchange, Exchanges, within
from mainspring.core.serve.server import Server
from mainspring.core.tls import Tls

log = logging.getLogger(__name__)

# Granian's stubs trail its code, so its two private modules are used untyped; the version is pinned.
_native: Any = _granian
_new_scheduler: Any = _futures._new_cbscheduler


class NativeServer(Server):
    """A socket being served; made by `serve`."""

    def __init__(
        self,
        app: Application,
        sock: socket.socket,
        tls: Tls,
        *,
        connections_max: int,
        backlog: int,
        header_timeout_s: float,
    ) -> None:
        super().__init__(sock.getsockname(), Exchanges(app))
        self._loop = asyncio.get_running_loop()
        self._signal = _native.WorkerSignal()
        self._stopped = asyncio.Event()
        unix = sock.family == socket.AF_UNIX
        worker = _native.ASGIWorker(
            worker_id=1,
            sock=(None, _native.SocketHolder(sock.detach(), unix, backlog)),
            ipc=None,
            threads=1,
            blocking_threads=1,
            py_threads=1,
            backpressure=connections_max,
            http_mode="auto",
            http1_opts=HTTP1Settings(header_read_timeout=round(header_timeout_s * 1000), max_buffer_size=64 << 10),
            http2_opts=HTTP2Settings(max_headers_size=64 << 10, keep_alive_interval=30_000),
            websockets_enabled=True,
            ssl_enabled=True,
            ssl_cert=str(tls.certificate),
            ssl_key=str(tls.key),
            ssl_protocol_min="tls1.2",
            metrics=(None, None),
        )
        self._start(worker.serve_async_uds if unix else worker.serve_async)

    async def _drain(self, grace_s: float) -> None:
        # Before the native side is told to stop: it then drops every WebSocket without a closing frame.
        await self._exchanges.end_the_endless()
        self._signal.set()
        await self._exchanges.finish(grace_s)
        await within(LAST_WORDS_S, self._stopped.wait())

    def _start(self, listen: Callable[..., None]) -> None:
        def stopped() -> None:  # called on a native thread, maybe after the loop has ended
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._stopped.set)

        self._signal.add_cb(stopped)
        with _patient_threads():
            listen(_new_scheduler(self._loop, self._handle, impl_asyncio=True), self._loop, self._signal)

    async def _handle(self, watcher: Any) -> None:
        """One request or WebSocket, start to end, as its own task. Granian's own path for errors only logs: unused."""
        await self._exchanges.run(NativeExchange(watcher))


class NativeExchange(Exchange):
    """What Granian brought, and the watch on its client."""

    __slots__ = ("_inbox", "_proto", "_watch", "_watcher")

    def __init__(self, watcher: Any) -> None:
        super().__init__(watcher.scope)
        self.task = asyncio.current_task()
        self._watcher = watcher
        self._proto = watcher.proto
        self._inbox: asyncio.Queue[Message] | None = None
        self._watch: asyncio.Task[None] | None = None

    def receive(self) -> Awaitable[Message]:
        waits: Awaitable[Message] = self._proto.receive() if self._inbox is None else self._inbox.get()
        return waits

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
            self.head = message
        elif message.get("more_body") and not self.is_websocket:
            return self._send_piece(message)
        sent: Awaitable[None] = self._proto.send(message)
        return sent

    def done(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watcher.done()

    async def _send_piece(self, message: Message) -> None:
        """A piece of a streamed answer. Without a client, Granian's `send` returns without ever suspending: a handler
        that only writes would then hold the loop, its own cancellation included, so the loop gets its turn here."""
        if self._watch is None:
            self._inbox = asyncio.Queue(1)
            self._watch = asyncio.create_task(self._watch_client(self._inbox))
        await self._proto.send(message)
        await asyncio.sleep(0)

    async def _watch_client(self, inbox: asyncio.Queue[Message]) -> None:
        """Cancels the handler when its client goes away while an answer is being streamed. What is left of the
        request's body passes through the inbox, one piece at a time."""
        while (message := await self._proto.receive())["type"] != "http.disconnect":
            await inbox.put(message)
        self.cancel()
        await inbox.put(message)
        self._inbox = None  # Granian repeats the disconnect to whoever asks again.


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
