"""WebSockets on a listener of their own, for systems whose product is sockets: some kilobytes each while idle.

    async def room(socket: ServedSocket) -> None:      # one task a socket
        await socket.accept()
        async for message in socket: ...

    SocketServer(room)                                 # an asyncio protocol factory

One object is protocol and socket at once, frames are read and written by `core.serve.frames` without a buffer between
messages, and one timer pings all sockets, a few at a time. Unread messages stop the reading of their socket; unsent bytes are
the transport's, up to a limit.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

from mainspring.core.http.response import problem_response
from mainspring.core.problems import Problem, Unavailable
from mainspring.core.serve import frames
from mainspring.core.serve.frames import ABNORMAL, CLOSE, GOING_AWAY, INTERNAL, NORMAL, PING, POLICY, PONG, Reader
from mainspring.core.serve.handshake import Handshake, Refusal, Upgrade, accepted, refused
from mainspring.wire.websocket import Limits, Socket, SocketClosed

log = logging.getLogger(__name__)

Handler = Callable[["ServedSocket"], Awaitable[None]]
BUCKETS = 64
"""The sockets are looked after in so many groups, one after the other, so that no turn of the loop pings all."""

_HEAD, _OPENING, _OPEN, _CLOSING, _CLOSED = range(5)


class SocketServer:
    """Makes a `ServedSocket` for each connection and runs `handler` for each handshake."""

    def __init__(self, handler: Handler, limits: Limits | None = None) -> None:
        self.handler = handler
        self.limits = limits or Limits()
        self._buckets: list[set[ServedSocket]] = [set() for _ in range(BUCKETS)]
        self._next = 0
        self._made = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> "ServedSocket":
        self._made += 1
        return ServedSocket(self, self._made % BUCKETS)

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def enter(self, socket: "ServedSocket") -> None:
        self._buckets[socket.bucket].add(socket)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.limits.ping_s / BUCKETS, self._turn)

    def leave(self, socket: "ServedSocket") -> None:
        self._buckets[socket.bucket].discard(socket)

    def run(self, socket: "ServedSocket") -> "asyncio.Task[None]":
        task = asyncio.create_task(socket.handle(self.handler))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def tick(self) -> None:
        """Looks after the next group: pings who was silent since it was last looked at, drops who did not answer."""
        self._next = (self._next + 1) % BUCKETS
        for socket in list(self._buckets[self._next]):
            socket.look_after()

    def _turn(self) -> None:
        self._timer = None
        self.tick()
        if len(self):
            self._timer = asyncio.get_running_loop().call_later(self.limits.ping_s / BUCKETS, self._turn)


class ServedSocket(Socket, asyncio.Protocol):
    """One connection. Its handler reads `upgrade` (path, query, headers, offered subprotocols), then accepts or refuses."""

    __slots__ = (
        "_alive", "_closed", "_handler", "_handshake", "_pinged", "_reader", "_reads", "_rest", "_server", "_state",
        "_transport", "_unread", "_wake", "_writable", "bucket", "upgrade",
    )  # fmt: skip

    def __init__(self, server: SocketServer, bucket: int) -> None:
        self.bucket = bucket
        self.upgrade: Upgrade
        self._server = server
        self._transport: Any = None
        self._state = _HEAD
        self._handshake: Handshake | None = Handshake()
        self._reader: Reader | None = None
        self._rest = b""
        self._handler: asyncio.Task[None] | None = None
        self._unread: list[str | bytes] = []
        self._wake: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closed: tuple[int, str] | None = None
        self._reads = False
        self._alive = True
        self._pinged = False

    @property
    def client(self) -> str:
        """The address of the other side."""
        return str(self._transport.get_extra_info("peername")[0])

    async def accept(self, subprotocol: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Opens the socket. Raises `SocketClosed` where the client has left already."""
        self._refuse_closed()
        assert self._state == _OPENING, "a socket is accepted once"
        assert subprotocol is None or subprotocol in self.upgrade.subprotocols, "a subprotocol that was not offered"
        self._transport.write(accepted(self.upgrade, subprotocol, headers))
        self._state, self._reader = _OPEN, Reader(self._server.limits.message_bytes_max)
        rest, self._rest = self._rest, b""
        self._transport.resume_reading()
        if rest:
            self.data_received(rest)

    def refuse(self, problem: Problem) -> None:
        """Answers the handshake with a problem and closes."""
        answer = problem_response(problem)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
        self._refuse(answer.status, answer.body, headers)

    async def receive(self) -> str | bytes:
        self._reads = True
        while not self._unread:
            self._refuse_closed()
            assert self._wake is None or self._wake.done(), "one receives at a time"
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        message = self._unread.pop(0)
        if len(self._unread) == self._server.limits.unread_max - 1 and self._state == _OPEN:
            self._transport.resume_reading()
        return message

    def send(self, data: str | bytes) -> None:
        self.send_frame(frames.message(data))

    def send_frame(self, frame: bytes) -> None:
        """Sends a frame made by `core.serve.frames.message`: who sends one message to many makes it once."""
        self._refuse_closed()
        assert self._state == _OPEN, "a socket is accepted before it is written to"
        self._write(frame)
        self._refuse_closed()

    async def drain(self) -> None:
        if self._writable is not None:
            await asyncio.shield(self._writable)
        self._refuse_closed()

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        if self._state == _OPEN:
            self._begin_closing(code, reason)

    def go_away(self) -> None:
        """The server is stopping."""
        if self._state == _OPEN:
            self._begin_closing(GOING_AWAY, "the server is stopping")
        elif self._state == _OPENING:
            self.refuse(Unavailable("The server is stopping; connect again"))
        elif self._state == _HEAD:
            self._transport.close()

    async def handle(self, handler: Handler) -> None:
        """Runs the handler, and ends the socket as it ended."""
        code = NORMAL
        try:
            await handler(self)
        except SocketClosed as closed:
            code = closed.code
        except asyncio.CancelledError:
            code = GOING_AWAY
        except Problem as problem:
            code = POLICY
            if self._state == _OPENING:
                self.refuse(problem)
        except Exception as error:
            code = INTERNAL
            log.error("the handler of a WebSocket at %s failed", self.upgrade.path, exc_info=error)
            if self._state == _OPENING:
                self.refuse(Problem())
        if self._state == _OPENING:
            self._refuse(HTTPStatus.FORBIDDEN)
        elif self._state == _OPEN:
            self._begin_closing(code, "")

    def look_after(self) -> None:
        """Called once in `ping_s`."""
        if self._alive:
            self._alive = False
            self._pinged = False
            if self._state == _HEAD:
                self._pinged = True  # A head that takes longer than this is not waited for.
        elif self._pinged:
            self._end(ABNORMAL, "no sign of life")
            self._transport.abort()
        elif self._state == _OPEN:
            self._pinged = True
            self._transport.write(frames.frame(PING, b""))

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._server.enter(self)

    def data_received(self, data: bytes) -> None:
        if self._reader is not None:
            self._alive = True
            for event in self._reader.feed(data):
                self._take(event)
        elif self._handshake is not None:
            self._begin(self._handshake, data)
        elif self._state == _OPENING:
            self._rest += data
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """The transport then closes itself."""

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.leave(self)
        self._end(ABNORMAL, "")
        self._state = _CLOSED
        self._reader = self._handshake = None
        self.resume_writing()

    # One step of the protocol each.

    def _begin(self, handshake: Handshake, data: bytes) -> None:
        try:
            whole = handshake.feed(data)
        except Refusal as refusal:
            self._refuse(refusal.status, str(refusal).encode(), refusal.headers)
            return
        if whole is not None:
            self.upgrade, self._rest = whole
            self._handshake = None
            self._state = _OPENING
            self._alive = True
            self._transport.pause_reading()
            self._handler = self._server.run(self)

    def _refuse(self, status: int, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> None:
        self._handshake = None
        self._state = _CLOSED
        self._transport.write(refused(status, body, headers))
        self._transport.close()

    def _take(self, event: frames.Received | frames.Violation) -> None:
        if isinstance(event, frames.Violation):
            self._fail(event.code, event.reason)
        elif event.opcode == CLOSE:
            code, reason = event.data
            if self._state == _OPEN:
                self._transport.write(frames.closing(code))
            self._end(code, reason)
            self._state = _CLOSED
            self._transport.close()
        elif event.opcode == PING:
            if self._state == _OPEN:
                self._write(frames.frame(PONG, event.data))
        elif event.opcode != PONG and self._state == _OPEN:
            self._unread.append(event.data)
            if len(self._unread) >= self._server.limits.unread_max:
                self._transport.pause_reading()
            self._wake_up()

    def _write(self, frame: bytes) -> None:
        """Writes, and drops a client that is too slow for what is written."""
        self._transport.write(frame)
        if self._transport.get_write_buffer_size() > self._server.limits.unsent_bytes_max:
            self._fail(POLICY, "too slow for what it is sent")

    def _begin_closing(self, code: int, reason: str) -> None:
        """Sends our closing frame and gives the client a moment for its own."""
        self._transport.write(frames.closing(code, reason))
        self._state = _CLOSING
        self._end(code, reason)
        self._transport.resume_reading()
        self._abort_later()

    def _fail(self, code: int, reason: str) -> None:
        """Section 7.1.7: closes without waiting for the client's part, having sent what was to be sent."""
        if self._state == _OPEN:
            self._transport.write(frames.closing(code, reason))
        self._state = _CLOSED
        self._end(code, reason)
        self._transport.close()
        self._abort_later()

    def _abort_later(self) -> None:
        asyncio.get_running_loop().call_later(self._server.limits.close_timeout_s, self._transport.abort)

    def _end(self, code: int, reason: str) -> None:
        """Tells the handler, once."""
        if self._closed is None:
            self._closed = (code, reason)
            self._wake_up()
            if not self._reads and self._handler is not None and self._handler is not asyncio.current_task():
                self._handler.cancel()

    def _refuse_closed(self) -> None:
        if self._closed is not None:
            raise SocketClosed(*self._closed)

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
