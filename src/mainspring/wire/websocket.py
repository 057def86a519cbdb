"""A WebSocket as the code of a system sees it, wherever it is served; and the one over ASGI, for consoles.

    async with open_channel(channel) as socket:        # a route's `channel: Channel`
        async for text in socket:
            socket.send_json({"echo": text})

Systems whose product is sockets serve the same `Socket` on a listener of their own, at a fraction of the memory: see
`wire.socket_server`. In both, `send` never waits: a reader that is too slow for what it is sent is dropped, so that one of
them cannot hold up, or fill the memory of, a server that has a thousand. Who sends much on its own account awaits `drain`.
"""

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec

from mainspring.core.http.request import Channel, Disconnected, headers_of
from mainspring.core.problems import Problem
from mainspring.core.serve.frames import (
    ABNORMAL,
    GOING_AWAY,
    INTERNAL,
    INVALID_DATA,
    NO_CODE,
    NORMAL,
    POLICY,
    TOO_BIG,
    TRY_LATER,
)

T = TypeVar("T")
log = logging.getLogger(__name__)

PING = '{"type":"ping"}'
"""What a console gets when nothing else was sent for a while: proxies cut what is silent, and a browser sees no real ping."""

REASON_MAX = 30
"""Characters of a closing reason: the frame has room for 123 bytes, however wide they are."""

encode_json = msgspec.json.Encoder().encode


class SocketClosed(Exception):
    """Nothing more comes or goes; `code` and `reason` are those of RFC 6455, section 7.4."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one socket may take: bytes of a message received, messages received and not yet read, bytes sent and not yet
    taken by the client; seconds without a sign of life before a ping, and for the client's part in closing."""

    message_bytes_max: int = 64 << 10
    unread_max: int = 16
    unsent_bytes_max: int = 1 << 20
    ping_s: float = 25.0
    close_timeout_s: float = 5.0


class Socket(ABC):
    """An open WebSocket. Iterating gives messages until it is closed.

    When the client goes, `receive` raises `SocketClosed` once everything that it had sent is read; a handler that never
    receives is cancelled instead.
    """

    __slots__ = ()

    @abstractmethod
    async def receive(self) -> str | bytes:
        """The next message. Raises `SocketClosed`."""

    @abstractmethod
    def send(self, data: str | bytes) -> None:
        """Sends a message, without waiting. Raises `SocketClosed`, also when the client is dropped for being too slow."""

    @abstractmethod
    async def drain(self) -> None:
        """Waits while the client lags behind what it was sent. Raises `SocketClosed`."""

    @abstractmethod
    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Closes the socket, having sent what was to be sent. Does nothing to a closed one."""

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while True:
            try:
                message = await self.receive()
            except SocketClosed:
                return
            yield message

    def send_json(self, value: Any) -> None:
        """Sends anything that msgspec encodes as a text message."""
        self.send(encode_json(value).decode())

    async def receive_json(self, kind: type[T]) -> T:
        """The next message as `kind`. What is none closes the socket (1007) and raises `SocketClosed`."""
        message = await self.receive()
        try:
            return msgspec.json.decode(message, type=kind)
        except msgspec.MsgspecError as error:
            await self.close(INVALID_DATA, str(error))
            raise SocketClosed(INVALID_DATA, str(error)) from None


class Watchers:
    """Bounds how many watch something at once. Each system has a kind of its own, and one of it in an application."""

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self.count = 0

    async def admit(self, socket: Socket) -> bool:
        """As `enter`; who finds no room is told to come later."""
        if self.enter():
            return True
        await socket.close(TRY_LATER, "too many are watching")
        return False

    def enter(self) -> bool:
        """Whether there was room for one more, who must `leave`."""
        if self.count >= self._most:
            return False
        self.count += 1
        return True

    def leave(self) -> None:
        self.count -= 1


@contextlib.asynccontextmanager
async def open_channel(
    channel: Channel, limits: Limits | None = None, *, subprotocol: str | None = None
) -> "AsyncIterator[ChannelSocket]":
    """Accepts the WebSocket of a route. Leaving the block closes it, a `Problem` with its detail (1008); a client that
    leaves ends the block, quietly. Raises `Disconnected` where it left before."""
    if (await channel.receive())["type"] != "websocket.connect":
        raise Disconnected
    await channel.send({"type": "websocket.accept", "subprotocol": subprotocol})
    socket = ChannelSocket(channel, limits or Limits())
    end: tuple[int, str] = (NORMAL, "")
    try:
        yield socket
    except SocketClosed:
        pass
    except Problem as problem:
        end = (POLICY, problem.detail)
    except asyncio.CancelledError:
        end = (GOING_AWAY, "")
        if not socket.has_ended_its_handler():
            raise
    except Exception:
        end = (INTERNAL, "")
        raise
    finally:
        await socket.close(*end)


class ChannelSocket(Socket):
    """A socket over an accepted ASGI channel; made by `open_channel`, in the task that handles it."""

    def __init__(self, channel: Channel, limits: Limits) -> None:
        self.headers = headers_of(channel.scope)
        self._closed: tuple[int, str] | None = None
        self._channel = channel
        self._limits = limits
        self._handler: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]
        self._gone = False
        self._cancels_handler = True
        self._cancelled_handler = False
        self._unread: asyncio.Queue[str | bytes | None] = asyncio.Queue(limits.unread_max)
        self._unsent: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._unsent_bytes = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._reading = asyncio.create_task(self._read())
        self._writing = asyncio.create_task(self._write())

    async def receive(self) -> str | bytes:
        self._cancels_handler = False
        message = None if self._closed and self._unread.empty() else await self._unread.get()
        if message is None:
            self._refuse_closed()
        assert message is not None, "the reader's last word comes after the end"
        return message

    def send(self, data: str | bytes) -> None:
        self._refuse_closed()
        self._unsent_bytes += len(data)
        if self._unsent_bytes > self._limits.unsent_bytes_max:
            self._end(TRY_LATER, "too slow for what it is sent")
            self._refuse_closed()
        self._drained.clear()
        self._unsent.put_nowait(data)

    async def drain(self) -> None:
        await self._drained.wait()
        self._refuse_closed()

    async def close(self, code: int = NORMAL, reason: str = "") -> None:
        self._cancels_handler = False
        if self._closed is None:
            self._unsent.put_nowait(None)
            await asyncio.wait([self._writing], timeout=self._limits.close_timeout_s)
        if self._closed is None:
            self._end(code, reason)
        await self._say_goodbye()

    def has_ended_its_handler(self) -> bool:
        """Whether a cancellation of the handler was ours, because its client left; it is then taken back."""
        if self._cancelled_handler:
            self._handler.uncancel()
        return self._cancelled_handler

    def _end(self, code: int, reason: str) -> None:
        """Nothing more is sent or received; whoever waits is told."""
        if self._closed is not None:
            return
        self._closed = (code, reason)
        self._writing.cancel()
        self._drained.set()
        with contextlib.suppress(asyncio.QueueFull):
            self._unread.put_nowait(None)  # Full: the reader finds the end behind what is there.
        if self._cancels_handler and self._handler is not asyncio.current_task():
            self._cancelled_handler = True
            self._handler.cancel()

    def _refuse_closed(self) -> None:
        if self._closed is not None:
            raise SocketClosed(*self._closed)

    async def _say_goodbye(self) -> None:
        """Sends the closing frame, unless it was the client that left; a stuck connection gets a moment for it."""
        self._reading.cancel()
        if self._closed is None or self._gone:
            return
        try:
            async with asyncio.timeout(self._limits.close_timeout_s):
                code, reason = self._closed
                await self._channel.send({"type": "websocket.close", "code": code, "reason": reason[:REASON_MAX]})
        except Exception as error:
            log.debug("a WebSocket was gone before it could be closed: %r", error)

    async def _read(self) -> None:
        while (message := await self._channel.receive())["type"] == "websocket.receive":
            text = message.get("text")
            data: str | bytes = message["bytes"] if text is None else text
            if len(data) > self._limits.message_bytes_max:
                self._end(TOO_BIG, f"a message may have at most {self._limits.message_bytes_max} bytes")
                return
            await self._unread.put(data)
        self._gone = True
        self._end(message.get("code", NO_CODE), message.get("reason") or "")
        # The server writes its part of the closing handshake with whatever is sent next.
        with contextlib.suppress(Exception):
            await self._channel.send({"type": "websocket.close"})

    async def _write(self) -> None:
        try:
            while True:
                try:
                    data = await asyncio.wait_for(self._unsent.get(), self._limits.ping_s)
                except TimeoutError:
                    await self._channel.send({"type": "websocket.send", "text": PING})
                    continue
                if data is None:
                    return
                await self._channel.send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})
                self._unsent_bytes -= len(data)
                if self._unsent.empty():
                    self._drained.set()
        except Exception as error:
            log.debug("a WebSocket broke while it was written to: %r", error)
            self._gone = True
            self._end(ABNORMAL, "")
