"""HTTP/1.1 and WebSockets on an asyncio protocol: what `serve` runs on plain text, and systems on listeners of their own.

A request as nearly every client writes it is read without a parser (`heads`) and answered directly (`direct`). Chunked bodies,
HTTP/1.0, heads in pieces and whatever looks odd go by way of h11 (`odd`, imported for the first of them), and the connection
comes back once that is idle. An upgrade leaves HTTP for good (`sockets`).

Two short cuts, in which no task runs, are for systems whose speed is the point. `ready(head, client)` sees the bytes of a whole
GET or HEAD in which nothing changes how the connection is read: such heads are remembered, because a browser sends the same one
again and again. `quick(head, client)` sees a request without a body once its head is read.

Bounded: connections, bytes of a head, unread bytes of a body, requests sent ahead, the time for a head and between two, unsent
bytes, and the time in which nobody takes any.
"""

import asyncio
import logging
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from mainspring.core.clock import Clock
from mainspring.core.http.request import Application, Disconnected
from mainspring.core.serve.direct import CONTINUE, DirectExchange
from mainspring.core.serve.exchange import Exchanges, PlainExchange, within
from mainspring.core.serve.heads import Head, HeadReader, SimpleHeads

if TYPE_CHECKING:
    from mainspring.core.serve.odd import OddReader

IDLE_S = 75.0
"""Above the 60 s for which a usual proxy keeps its own connections."""
UNSENT_BYTES_MAX = 1 << 20
CONNECTIONS_MAX = 8192

Quick = Callable[[Head, str], bytes | None]
"""`(head, client)` → a whole answer, or None. `head` is a request without a body, after which the connection stays."""
Ready = Callable[[bytes, str], bytes | None]
"""`(head, client)` → a whole answer, or None. The head is `GET /path HTTP/1.1`, its headers, and the empty line."""

FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

log = logging.getLogger(__name__)


class Http1Server:
    """A factory of protocols for `loop.create_server`."""

    def __init__(
        self,
        application: Application,
        clock: Clock,
        *,
        quick: Quick | None = None,
        ready: Ready | None = None,
        idle_s: float = IDLE_S,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """`idle_s` is how long a connection may take for a request's head, and stay idle between two."""
        self.exchanges = Exchanges(application)
        self.connections: set[Http1Connection] = set()
        self.quick = quick
        self.ready = ready
        self.read_head = HeadReader().read
        self.is_simple = SimpleHeads().is_simple
        self.idle_s = idle_s
        self._connections_max = connections_max
        self._clock = clock
        self._date_s = 0
        self._date = b""
        self._sweep: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    def __call__(self) -> "Http1Connection":
        return Http1Connection(self)

    def date(self) -> bytes:
        """The `date` line of an answer, without its end."""
        now_s = self._clock.wall_ns() // 1_000_000_000
        if now_s != self._date_s:
            self._date_s, self._date = now_s, b"date: %b" % formatdate(now_s, usegmt=True).encode()
        return self._date

    def has_room_for(self, connection: "Http1Connection") -> bool:
        """Counts a new connection in, if there is room."""
        if len(self.connections) >= self._connections_max:
            return False
        self.connections.add(connection)
        if self._sweep is None:
            self._sweep = connection.loop.call_later(self.idle_s / 5, self._cut_stale, connection.loop)
        return True

    def left(self, connection: "Http1Connection") -> None:
        self.connections.discard(connection)
        if not self.connections:
            self._empty.set()

    async def gone(self, timeout_s: float) -> None:
        """Waits until all have closed, having sent what was to be sent; then the others are cut off."""
        if self.connections:
            self._empty.clear()
            await within(timeout_s, self._empty.wait())
        for connection in list(self.connections):
            connection.cut()

    def _cut_stale(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        for connection in [one for one in self.connections if one.is_stale(now_s)]:
            connection.cut()
        self._sweep = loop.call_later(self.idle_s / 5, self._cut_stale, loop) if self.connections else None


class Http1Connection(asyncio.Protocol):
    """One connection. While `exchange` is there its answer is being made; what comes behind its request waits in `_ahead`, or
    in h11's buffer."""

    scheme = "http"

    def __init__(self, server: Http1Server) -> None:
        self.server = server
        self.loop = asyncio.get_running_loop()
        self.exchange: PlainExchange | None = None
        self.finishing = False
        """The answer that is being made is the last one."""
        self.heard_s = self.loop.time()
        """When a request was last complete: who sends a head too slowly is cut off as if silent."""
        self.peer = ("", 0)
        self._transport: Any = None
        self.odd: OddReader | None = None
        """Reads until it is idle, where it is there."""
        self._ahead = b""
        self._is_deaf = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._full_since_s: float | None = None

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = peer[:2]
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        if not self.server.has_room_for(self):
            self._transport.write(FULL)
            self._transport.close()
            return
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None:
            self._ahead += exchange.hear(data)
            if self._ahead or exchange.is_full:
                self.stop_listening()
        elif self.odd is not None:
            self.odd.read(data)
        else:
            self._begin(data)

    def eof_received(self) -> bool:
        exchange = self.exchange
        if isinstance(exchange, DirectExchange) and not exchange.left and not exchange.streams:
            # It sends no more, but may well wait for the answer to what it sent.
            exchange.closes = True
            return True
        if exchange is not None:
            exchange.gone()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.server.left(self)
        self._writable.set()
        exchange = self.exchange
        if exchange is not None:
            # What it asked for is done all the same: nobody can tell whether it was done before the client left. But who
            # streams to nobody is stopped.
            exchange.gone()
            if exchange.streams:
                exchange.cancel()

    def pause_writing(self) -> None:
        # Who does not read its answers is not listened to.
        self._full_since_s = self.loop.time()
        self._writable.clear()
        self.stop_listening()

    def resume_writing(self) -> None:
        self._full_since_s = None
        self._writable.set()
        self.go_on()

    # What servers call.

    def finish(self) -> None:
        """Closes when the answer that is being made is done: at once where there is none."""
        self.finishing = True
        if self.exchange is None:
            self._transport.close()

    def go_away(self) -> None:
        """Finishes, and ends what would never end."""
        self.finish()
        if self.exchange is not None:
            self.exchange.end_if_endless()

    def is_stale(self, now_s: float) -> bool:
        """Whether it has said nothing, or nothing whole, or taken nothing, for too long."""
        if self._full_since_s is not None:
            return now_s - self._full_since_s > self.server.idle_s
        return self.exchange is None and now_s - self.heard_s > self.server.idle_s

    def cut(self) -> None:
        if self.exchange is not None:
            self.exchange.cancel()
        self._transport.abort()

    # What exchanges call.

    def write_now(self, data: bytes | memoryview) -> None:
        """Raises `Disconnected` where nobody is there any more."""
        if self._transport.is_closing():
            raise Disconnected
        self._transport.write(data)

    async def written(self) -> None:
        """Waits while too much is unsent."""
        if not self._writable.is_set():
            await self._writable.wait()

    def shut(self, last: bytes = b"") -> None:
        """Closes once everything is written, and this as well."""
        if not self._transport.is_closing():
            self._transport.write(last)
            self._transport.close()
            self.close_within(self.server.idle_s)

    def close_within(self, seconds: float) -> None:
        """Cuts off a client that has not closed by then, or not taken what was sent."""
        self.loop.call_later(seconds, self._transport.abort)

    def listen(self) -> None:
        """Reads on, where there is room for what may come."""
        if (
            self._is_deaf
            and self._writable.is_set()
            and not self._ahead
            and not (self.exchange and self.exchange.is_full)
        ):
            self._is_deaf = False
            self._transport.resume_reading()

    def stop_listening(self) -> None:
        self._is_deaf = True
        self._transport.pause_reading()

    def run(self, exchange: PlainExchange) -> None:
        """Begins an exchange, as a task of its own."""
        self.exchange = exchange
        exchange.task = self.loop.create_task(self.server.exchanges.run(exchange))

    def answered(self, *, whole: bool, usable: bool) -> None:
        """The end of an exchange: whether its answer went out `whole`, and whether another request may follow it."""
        self.exchange = None
        self.heard_s = self.loop.time()
        if self._transport.is_closing():
            return
        if not whole:
            self._transport.abort()
        elif self.finishing or not usable:
            self._transport.close()
        else:
            self.go_on()

    # How requests begin.

    def go_on(self) -> None:
        """Begins what was sent ahead, unless the client takes no answers: it could ask for more than memory holds."""
        if self._writable.is_set() and self.exchange is None:
            if self.odd is not None:
                self.odd.advance()
            elif self._ahead:
                ahead, self._ahead = self._ahead, b""
                self._begin(ahead)
        self.listen()

    def _begin(self, data: bytes) -> None:
        server = self.server
        if server.ready is not None and (answer := self._ready_answer(server.ready, data)) is not None:
            self.heard_s = self.loop.time()
            self._transport.write(answer)
            return
        head = server.read_head(data)
        if head is None:
            from mainspring.core.serve.odd import OddReader

            self.odd = OddReader(self)
            self.odd.read(data)
            return
        begins, ends = head.head_bytes, head.head_bytes + head.body_bytes
        if begins == ends == len(data) and not head.closes and server.quick is not None:
            answer = server.quick(head, self.peer[0])
            if answer is not None:
                self.heard_s = self.loop.time()
                self._transport.write(answer)
                return
        if head.expects_continue and not head.body_bytes:
            # Needless, but botocore takes a final answer here for the end of its patience with this connection.
            self._transport.write(CONTINUE)
        exchange = DirectExchange(self, head, data[begins:ends])
        if len(data) > ends:
            self._ahead = data[ends:]
            self.stop_listening()
        self.run(exchange)

    def _ready_answer(self, ready: Ready, data: bytes) -> bytes | None:
        return ready(data, self.peer[0]) if self.server.is_simple(data) else None
