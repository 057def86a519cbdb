"""HTTP/1.1 on an asyncio protocol, for the one thing that a general server is too slow for: answers ready as bytes.

A request that arrives whole, alone and without a body is shown to `quick(head, client)`; what it gives is written at once: no
task, no scope, no parsed headers. All else (bodies, pipelines, pieces, whatever `quick` leaves alone) goes through h11 to an
ASGI application. A head is only shown to `quick` when nothing in it changes how the connection is read; which heads are so
simple is remembered, because a browser sends the same one again and again.

Bounded: bytes of a head, unread bytes of a body, time for a head and between two, unsent bytes of an answer.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from http.client import responses
from typing import Any
from urllib.parse import unquote_to_bytes

import h11

from mainspring.core.http.request import Application, Message

HEAD_BYTES_MAX = 64 << 10
BODY_BYTES_WAITING_MAX = 256 << 10
IDLE_S = 75.0
SIMPLE_HEADS_MAX = 1_000
SIMPLE_BYTES_MAX = 4_096

Quick = Callable[[bytes, str], bytes | None]
"""`(head, client)` → a whole answer, or None. The head is `GET /path HTTP/1.1`, its headers, and the empty line."""

log = logging.getLogger(__name__)
# Headers that say more than what is asked for: how long the request is, or what becomes of the connection.
_FRAMING = re.compile(
    rb"\r\n(?:content-length|transfer-encoding|connection(?!:[ \t]*keep-alive\r\n)|expect|upgrade)[ \t]*:",
    re.IGNORECASE,
)


class Http1Server:
    """A factory of protocols for `loop.create_server`: `quick` for what is ready, `application` for the rest."""

    def __init__(self, quick: Quick, application: Application) -> None:
        self.quick = quick
        self.application = application
        self.connections: set[Http1Connection] = set()
        self._simple: dict[bytes, bool] = {}
        self._sweep: asyncio.TimerHandle | None = None

    def __call__(self) -> "Http1Connection":
        return Http1Connection(self)

    def is_simple(self, headers: bytes) -> bool:
        """Whether these headers, from the end of the first line to the empty one, leave a request as simple as it looks."""
        known = self._simple.get(headers)
        if known is None:
            lines = headers.count(b"\r\n") == headers.count(b"\n") and b"\r\nhost:" in headers.lower()
            known = lines and len(headers) <= SIMPLE_BYTES_MAX and not _FRAMING.search(headers)
            if len(self._simple) >= SIMPLE_HEADS_MAX:
                self._simple.clear()
            self._simple[headers] = known
        return known

    def opened(self, connection: "Http1Connection") -> None:
        self.connections.add(connection)
        if self._sweep is None:
            self._sweep = connection.loop.call_later(IDLE_S / 5, self._close_idle)

    def _close_idle(self) -> None:
        self._sweep = None
        for connection in list(self.connections):
            if connection.is_stale(connection.loop.time()):
                connection.cut()
        if self.connections:
            loop = next(iter(self.connections)).loop
            self._sweep = loop.call_later(IDLE_S / 5, self._close_idle)


class Http1Connection(asyncio.Protocol):
    """One connection. While `task` runs, an answer is being made; requests behind it wait in h11's buffer."""

    def __init__(self, server: Http1Server) -> None:
        self._server = server
        self._quick = server.quick
        self._http: h11.Connection | None = None
        self._transport: Any = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.client = ""
        self._finishing = False
        self.loop = asyncio.get_running_loop()
        self.heard_s = self.loop.time()
        """When a request was last complete: who sends a head too slowly is cut off as if silent."""
        self.task: asyncio.Task[None] | None = None
        self._exchange: _Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.client = peer[0] if isinstance(peer, tuple) else ""
        self.scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        self._server.opened(self)

    def data_received(self, data: bytes) -> None:
        line = data.find(b"\r\n")
        if (
            self._http is None
            and data.startswith((b"GET /", b"HEAD /"))
            and data.endswith(b" HTTP/1.1", 0, line)
            and data.find(b"\r\n\r\n", line) == len(data) - 4
            and self._server.is_simple(data[line:])
            and (answer := self._quick(data, self.client)) is not None
        ):
            self.heard_s = self.loop.time()
            self._transport.write(answer)
        else:
            self._read(data)

    def eof_received(self) -> bool:
        if self._exchange is not None:
            self._exchange.gone()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._writable.set()
        if self._exchange is not None:
            self._exchange.gone()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        # Who does not read its answers is not listened to.
        self._writable.clear()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable.set()
        self._transport.resume_reading()

    def go_away(self) -> None:
        """Closes when the answer that is being made is done: at once where there is none."""
        self._finishing = True
        if self.task is None:
            self._transport.close()

    def is_stale(self, now_s: float) -> bool:
        """Whether it has said nothing, or nothing whole, for too long."""
        return self.task is None and now_s - self.heard_s > IDLE_S

    def cut(self) -> None:
        if self.task is not None:
            self.task.cancel()
        self._transport.abort()

    def _read(self, data: bytes) -> None:
        if self._http is None:
            self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        try:
            self._http.receive_data(data)
            self._advance(self._http)
        except h11.RemoteProtocolError as error:
            self._refuse(self._http, error.error_status_hint)

    def _advance(self, http: h11.Connection) -> None:
        while (event := http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if isinstance(event, h11.Request):
                self._exchange = _Exchange(self, http, event)
                self.task = self.loop.create_task(self._answer(http, self._exchange))
            elif isinstance(event, h11.Data):
                assert self._exchange is not None, "a body follows its request"
                if self._exchange.put(bytes(event.data)) > BODY_BYTES_WAITING_MAX:
                    self._transport.pause_reading()
            elif isinstance(event, h11.EndOfMessage):
                assert self._exchange is not None, "an end follows its request"
                self._exchange.complete()
            elif isinstance(event, h11.ConnectionClosed):
                self._transport.close()
                return
        # With nothing half read the next request may be a quick one again.
        if http.states == {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE} and not http.trailing_data[0]:
            self._http = None

    async def _answer(self, http: h11.Connection, exchange: "_Exchange") -> None:
        try:
            await self._server.application(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except Exception:
            log.exception("unhandled error at %s", exchange.scope["path"])
        self.task = self._exchange = None
        self.heard_s = self.loop.time()
        if http.our_state is h11.DONE and http.their_state is h11.DONE and not self._finishing:
            http.start_next_cycle()
            self._transport.resume_reading()
            try:
                self._advance(http)
            except h11.RemoteProtocolError as error:
                self._refuse(http, error.error_status_hint)
        elif http.our_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED):
            self._transport.close()
        else:
            self._transport.abort()

    def _refuse(self, http: h11.Connection, status: int) -> None:
        if http.our_state in (h11.IDLE, h11.SEND_RESPONSE) and self.task is None:
            head = h11.Response(status_code=status, headers=[("content-length", "0"), ("connection", "close")])
            self._transport.write((http.send(head) or b"") + (http.send(h11.EndOfMessage()) or b""))
        self._transport.close()

    async def write(self, data: bytes) -> None:
        self._transport.write(data)
        await self._writable.wait()

    def want_more(self) -> None:
        if self._writable.is_set():
            self._transport.resume_reading()


class _Exchange:
    """One request with its answer, as ASGI sees them."""

    def __init__(self, connection: Http1Connection, http: h11.Connection, request: h11.Request) -> None:
        self._connection, self._http = connection, http
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._complete = self._told = self._gone = False
        self._head = b""
        self._news = asyncio.Event()
        target = bytes(request.target)
        raw_path, _, query = target.partition(b"?")
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": request.http_version.decode(),
            "method": request.method.decode(),
            "scheme": connection.scheme,
            "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path,
            "query_string": query,
            "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
            "client": (connection.client, 0),
            "server": None,
        }

    def put(self, piece: bytes) -> int:
        """Adds a piece of the body; gives how many bytes nobody has read yet."""
        self._pieces.append(piece)
        self._waiting += len(piece)
        self._news.set()
        return self._waiting

    def complete(self) -> None:
        self._complete = True
        self._news.set()

    def gone(self) -> None:
        self._gone = True
        self._news.set()

    async def receive(self) -> Message:
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await self._connection.write(self._http.send(go_on) or b"")
        while not (self._pieces or self._gone or (self._complete and not self._told)):
            self._news.clear()
            await self._news.wait()
        if not self._pieces and (self._told or not self._complete):
            return {"type": "http.disconnect"}
        body = b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        self._told = self._complete
        self._connection.want_more()
        return {"type": "http.request", "body": body, "more_body": not self._complete}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            head = h11.Response(status_code=status, headers=list(message["headers"]), reason=responses.get(status, ""))
            # Written with the first piece of the body, in one packet.
            self._head = self._http.send(head) or b""
            return
        data = self._head + (self._http.send(h11.Data(data=message.get("body", b""))) or b"")
        self._head = b""
        if not message.get("more_body"):
            data += self._http.send(h11.EndOfMessage()) or b""
        await self._connection.write(data)
