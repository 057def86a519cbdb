"""HTTP/1.1 requests as nearly every client writes them, read without h11, bodies included; all others are left to it.

One regular expression holds a head against the grammar (RFC 9112): a method, a path, plain header lines, each name once. Such a
head says in one way only where its body ends: by `Content-Length`, or at once. Then a request is a scope, its body the pieces
that the socket gives, and an answer the bytes that go out: nothing is copied between them but what a piece and a body share.
Chunked bodies, HTTP/1.0, connections to be closed, heads in pieces and whatever looks odd go h11's way (`wire.http1`), and the
connection comes back here once that is idle.

A request without a body is first shown to `quick`, which may answer from what is at hand; no task runs then. An answer is
framed by its `content-length`, or in chunks; one that ends early, or whose headers would break its framing, cuts the
connection. A client that has left is no reason to stop what it asked for, but for an answer that is being streamed to it.

Bounded: bytes of a head, unread bytes of a body, requests sent ahead, unsent bytes, and the time in which nobody takes any.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from email.utils import formatdate
from http.client import responses
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from mainspring.core.clock import Clock
from mainspring.core.http.request import Application, Disconnected, Message, Scope
from mainspring.wire.http1 import HEAD_BYTES_MAX, IDLE_S, Http1Connection, Http1Server

BODY_BYTES_WAITING_MAX = 1 << 20
UNSENT_BYTES_MAX = 1 << 20
JOINED_BYTES_MAX = 64 << 10
"""Up to this size a body is joined to its head: one packet costs less than two."""

WHOLE_BODY = "mainspring.body"
"""In the scope of a request whose body has come whole with its head; `receive` gives it all the same."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_HEAD = re.compile(
    rb"([A-Z]{1,16}) (/[!->@-~]*)(?:\?([!-~]*))? HTTP/1\.1\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)+)\r\n"
)
_BODILESS = frozenset({204, 304})
_STATUS_LINES = {status: b"HTTP/1.1 %d %b\r\n" % (status, text.encode()) for status, text in responses.items()}

log = logging.getLogger(__name__)


class Head(NamedTuple):
    """A request up to its body. `fields` are the headers in order, `headers` the same by name, names in lower case."""

    method: str
    raw_path: bytes
    query_string: bytes
    fields: list[tuple[bytes, bytes]]
    headers: dict[bytes, bytes]
    body_bytes: int
    expects_continue: bool
    head_bytes: int


Quick = Callable[[Head, str], bytes | None]
"""`(head, client)` → a whole answer, or None. `head` is a request without a body."""


def read_head(data: bytes) -> Head | None:
    """The head that `data` begins with; None where it is not whole, or not written in the plain way."""
    found = _HEAD.match(data)
    if found is None or found.end() > HEAD_BYTES_MAX:
        return None
    method, raw_path, query, lines = found.groups()
    fields = []
    for line in lines[:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip()))
    headers = dict(fields)
    if (
        len(headers) != len(fields)
        or b"host" not in headers
        or b"transfer-encoding" in headers
        or b"upgrade" in headers
    ):
        return None
    if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    expects = headers.get(b"expect")
    if expects is not None and expects.lower() != b"100-continue":
        return None
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 18:
        return None
    return Head(method.decode(), raw_path, query or b"", fields, headers, int(length), expects is not None, found.end())


class DirectServer(Http1Server):
    """A factory of protocols for `loop.create_server`: `quick` for what is at hand, `application` for the rest."""

    def __init__(self, application: Application, clock: Clock, quick: Quick | None = None) -> None:
        super().__init__(_nothing_ready, application)
        self.direct = quick or _nothing_at_hand
        self.left_behind: set[asyncio.Task[None]] = set()
        """Requests whose clients have gone: the loop itself keeps no task alive."""

        self._clock = clock
        self._date_s = 0
        self._date = b""

    def __call__(self) -> "DirectConnection":
        return DirectConnection(self)

    def date(self) -> bytes:
        """The `date` line of an answer."""
        now_s = self._clock.wall_ns() // 1_000_000_000
        if now_s != self._date_s:
            self._date_s, self._date = now_s, b"date: %b\r\n" % formatdate(now_s, usegmt=True).encode()
        return self._date


class DirectConnection(Http1Connection):
    """One connection. While `_current` is there its answer is being made; what comes behind its body waits in `_ahead`."""

    def __init__(self, server: DirectServer) -> None:
        super().__init__(server)
        self.server = server
        self._current: _Exchange | None = None
        self._ahead = b""
        self._full_since_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        if self._http is not None:
            self._read(data)
        elif self._current is not None:
            self._ahead += self._current.hear(data)
            if not self._current.wants_more or self._ahead:
                self._transport.pause_reading()
        else:
            self._begin(data)

    def _begin(self, data: bytes) -> None:
        head = read_head(data)
        if head is None:
            self._read(data)
            return
        whole = len(data) == head.head_bytes
        if whole and not head.body_bytes and (answer := self.server.direct(head, self.client)) is not None:
            self.heard_s = self.loop.time()
            self._transport.write(answer)
            return
        if head.expects_continue and not head.body_bytes:
            # Needless, but botocore takes a final answer here for the end of its patience with this connection.
            self._transport.write(CONTINUE)
        exchange = self._current = _Exchange(self, head)
        if not whole:
            self._ahead = exchange.hear(data[head.head_bytes :])
            if not exchange.left:
                exchange.offer_whole()
            if self._ahead:
                self._transport.pause_reading()
        self.task = self.loop.create_task(self._answer_directly(exchange))

    async def _answer_directly(self, exchange: "_Exchange") -> None:
        try:
            await self.server.application(exchange.scope, exchange.receive, exchange.send)
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except Disconnected:
            log.debug("the client left before its request was complete")
        except Exception:
            log.exception("unhandled error at %s", exchange.scope["path"])
        self.task = self._current = None
        self.heard_s = self.loop.time()
        if self._transport.is_closing():
            return
        if not exchange.answered:
            self._transport.abort()
        elif exchange.left or exchange.closes or self._finishing:
            self._transport.close()
        elif self._ahead:
            ahead, self._ahead = self._ahead, b""
            self._listen()
            self._begin(ahead)
        else:
            self._listen()

    def eof_received(self) -> bool:
        current = self._current
        if current is not None and not current.left:
            # It sends no more, but may well wait for the answer to what it sent.
            current.closes = True
            return True
        if current is not None:
            current.gone()
        return super().eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        current = self._current
        if current is not None and not current.streams:
            # What it asked for is done all the same: nobody can tell whether it was done before the client left.
            current.gone()
            if self.task is not None:
                self.server.left_behind.add(self.task)
                self.task.add_done_callback(self.server.left_behind.discard)
                self.task = None
        super().connection_lost(error)

    def pause_writing(self) -> None:
        self._full_since_s = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._full_since_s = None
        self._writable.set()
        self._listen()

    def is_stale(self, now_s: float) -> bool:
        stalled = self._full_since_s is not None and now_s - self._full_since_s > IDLE_S
        return stalled or (self._current is None and super().is_stale(now_s))

    def want_more(self) -> None:
        if self._writable.is_set():
            self._listen()

    def write_now(self, data: bytes | memoryview) -> None:
        """Raises `Disconnected` where nobody is there any more."""
        if self._transport.is_closing():
            raise Disconnected
        self._transport.write(data)

    async def written(self) -> None:
        """Waits while too much is unsent."""
        if not self._writable.is_set():
            await self._writable.wait()

    def _listen(self) -> None:
        if not self._ahead and (self._current is None or self._current.wants_more):
            self._transport.resume_reading()


class _Exchange:
    """One request with its answer, as ASGI sees them. `left` bytes of the body are still to come."""

    def __init__(self, connection: DirectConnection, head: Head) -> None:
        self.left = head.body_bytes
        self.answered = self.closes = self.streams = False
        self._connection = connection
        self._is_head = head.method == "HEAD"
        self._expects_continue = head.expects_continue and head.body_bytes > 0
        self._pieces: list[bytes] = []
        self._waiting = 0
        self._told = self._gone = False
        self._news: asyncio.Future[None] | None = None
        self._start: Message | None = None
        self._due: int | None = None
        """How many bytes of the answer are still to go out; None for one in chunks."""
        raw_path = head.raw_path
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": head.method,
            "scheme": connection.scheme,
            "path": (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path,
            "query_string": head.query_string,
            "headers": head.fields,
            "mainspring.headers": head.headers,
            "client": (connection.client, 0),
            "server": None,
        }

    @property
    def wants_more(self) -> bool:
        """Whether more of the body is to be read from the socket now."""
        return self.left > 0 and self._waiting < BODY_BYTES_WAITING_MAX

    def hear(self, data: bytes) -> bytes:
        """Takes its share of what came; gives the rest, which belongs to the next request."""
        rest = b""
        if len(data) > self.left:
            data, rest = data[: self.left], data[self.left :]
        if data:
            self.left -= len(data)
            self._waiting += len(data)
            self._pieces.append(data)
            self._expects_continue = False  # it did not wait
            self._wake()
        return rest

    def offer_whole(self) -> None:
        """The body is there: whoever likes may take it from the scope."""
        self.scope[WHOLE_BODY] = self._pieces[0] if self._pieces else b""

    def gone(self) -> None:
        self._gone = True
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def receive(self) -> Message:
        if self._expects_continue:
            self._expects_continue = False
            if self.left and not self._pieces:
                self._connection.write_now(CONTINUE)
        while not self._pieces:
            if self._gone or self._told:
                if not self._gone:
                    await self._wait()
                return {"type": "http.disconnect"}
            if not self.left:
                break
            await self._wait()
        body = self._pieces.pop(0) if self._pieces else b""
        self._waiting -= len(body)
        self._told = not self.left and not self._pieces
        if self.left:
            self._connection.want_more()
        return {"type": "http.request", "body": body, "more_body": not self._told}

    async def _wait(self) -> None:
        self._news = self._connection.loop.create_future()
        await self._news

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        body: bytes | memoryview = message.get("body", b"")
        more = bool(message.get("more_body"))
        if self._start is not None:
            start, self._start = self._start, None
            head = self._head_of(start, len(body), more)
            if self._due is not None and len(body) <= JOINED_BYTES_MAX:
                self._count(body, more)
                self._connection.write_now(head + body if body else head)
                await self._sent(more)
                return
            self._connection.write_now(head)
        if self._due is None:
            if body:
                self._connection.write_now(b"".join((b"%x\r\n" % len(body), body, b"\r\n")))
            if not more:
                self._connection.write_now(b"0\r\n\r\n")
            self.answered = not more
        else:
            self._count(body, more)
            if body:
                self._connection.write_now(body)
        await self._sent(more)

    def _count(self, body: bytes | memoryview, more: bool) -> None:
        assert self._due is not None
        self._due -= len(body)
        if self._due < 0 or (not more and self._due):
            raise RuntimeError("the body of an answer is not as long as its head said")
        self.answered = not more

    async def _sent(self, more: bool) -> None:
        if not more:
            return
        self.streams = True
        if self._gone:
            raise Disconnected
        await self._connection.written()
        # A socket that takes everything at once would otherwise let a long answer keep the loop to itself.
        await asyncio.sleep(0)

    def _head_of(self, start: Message, body_bytes: int, more: bool) -> bytes:
        """The status line and headers; sets how the body is framed."""
        status: int = start["status"]
        lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status]
        length = dated = None
        for name, value in start["headers"]:
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                length = int(value)
            elif name == b"date":
                dated = value
            elif name == b"connection":
                self.closes = value.lower() == b"close"
        if self._expects_continue and not self.closes:
            # It may send the body all the same, or not: what follows could be read in two ways.
            self.closes = True
            lines.append(b"connection: close\r\n")
        if dated is None:
            lines.append(self._connection.server.date())
        if self._is_head or status in _BODILESS:
            self._due = 0
        elif length is not None:
            self._due = length
        elif more:
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            self._due = body_bytes
            lines.append(b"content-length: %d\r\n" % body_bytes)
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("a header of the answer would break its framing")
        return head + b"\r\n"


def _nothing_ready(_head: bytes, _client: str) -> bytes | None:
    return None


def _nothing_at_hand(_head: Head, _client: str) -> bytes | None:
    return None
