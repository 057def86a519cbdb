"""Accepted connections of a listener whose protocol is built by the first of them.

A connection that comes before its system is built waits; the build is shared. From then on its protocol's own
methods are what the loop calls: nothing stands between them but the count, which bounds the listener and drains it.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from mainspring.core.lazy import Lazy

log = logging.getLogger(__name__)

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
DATAGRAMS_WAITING_MAX = 64
BACKLOG = 1024
HANDSHAKE_TIMEOUT_S = 10.0


class Connections:
    """The open connections of one listener. A protocol may have `go_away()`: it is asked to finish what runs and to close;
    one without is closed once what it has written is sent."""

    def __init__(self, name: str, factories: Lazy[ProtocolFactory], connections_max: int) -> None:
        self.refused = 0
        self._name = name
        self._factories = factories
        self._connections_max = connections_max
        self._open: dict[asyncio.BaseProtocol, asyncio.Transport] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._idle = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    async def listen(self, sock: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Accepts on a bound socket, which then belongs to this object."""
        timeout_s = None if tls is None else HANDSHAKE_TIMEOUT_S
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._protocol, sock=sock, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=timeout_s
        )

    def _protocol(self) -> asyncio.BaseProtocol:
        factory = self._factories.built.get(self._name)
        return _Waiting(self) if factory is None else self.counted(factory())

    def counted(self, inner: asyncio.BaseProtocol) -> "_Counted | _CountedBuffered":
        kind = _CountedBuffered if isinstance(inner, asyncio.BufferedProtocol) else _Counted
        return kind(inner, self)

    def enter(self, protocol: asyncio.BaseProtocol, transport: asyncio.Transport) -> bool:
        """Whether there was room for one more; if not, it is cut off."""
        if len(self._open) >= self._connections_max:
            self.refused += 1
            transport.abort()
            return False
        self._open[protocol] = transport
        return True

    def leave(self, protocol: asyncio.BaseProtocol) -> None:
        self._open.pop(protocol, None)
        if not self._open:
            self._idle.set()

    def build_for(self, waiting: "_Waiting", transport: asyncio.Transport) -> None:
        task = asyncio.create_task(self._hand_over(waiting, transport))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over(self, waiting: "_Waiting", transport: asyncio.Transport) -> None:
        try:
            factory = await self._factories.get(self._name)
        except Exception as error:
            log.info("%s: a connection is closed because its system could not be built: %s", self._name, error)
            transport.abort()
            return
        self.leave(waiting)
        if transport.is_closing():
            return
        protocol = self.counted(factory())
        transport.pause_reading()  # uvloop keeps to the kind of protocol for which it began to read.
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        feed(protocol, waiting.received)
        if waiting.at_eof and not protocol.eof_received():
            transport.close()
        else:
            transport.resume_reading()

    async def close(self, grace_s: float = 10.0) -> None:
        """Accepts no more; asks all to go away, and cuts off what has not gone when the grace is over."""
        if self._server is not None:
            self._server.close()
        for protocol, transport in list(self._open.items()):
            getattr(protocol, "go_away", transport.close)()
        await self._until_idle(grace_s)
        for transport in list(self._open.values()):
            transport.abort()
        await self._until_idle(1.0)
        for task in self._tasks:
            task.cancel()

    async def _until_idle(self, timeout_s: float) -> None:
        self._idle.clear()
        if self._open:
            try:
                await asyncio.wait_for(self._idle.wait(), timeout_s)
            except TimeoutError:
                log.debug("%s: %d connections are still open", self._name, len(self._open))


class _Waiting(asyncio.Protocol):
    """A connection whose system is being built. It is read once at most meanwhile: uvloop begins to read whatever
    `connection_made` says."""

    def __init__(self, connections: Connections) -> None:
        self.received = b""
        self.at_eof = False
        self._connections = connections

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        if self._connections.enter(self, transport):
            transport.pause_reading()
            self._connections.build_for(self, transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._transport.pause_reading()

    def eof_received(self) -> bool:
        self.at_eof = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self)


_FORWARDED = (
    "pause_writing",
    "resume_writing",
    "eof_received",
    "go_away",
    "data_received",
    "get_buffer",
    "buffer_updated",
)


class _Count(asyncio.BaseProtocol):
    """Counts a connection; every other call goes straight to the inner protocol's bound method."""

    def __init__(self, inner: asyncio.BaseProtocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._entered = False
        for name in _FORWARDED:
            method = getattr(inner, name, None)
            if method is not None:
                setattr(self, name, method)

    def connection_made(self, transport: Any) -> None:
        self._entered = self._connections.enter(self, transport)
        if self._entered:
            self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._entered:
            self._connections.leave(self)
            self._inner.connection_lost(exc)


class _Counted(_Count, asyncio.Protocol):
    """A loop tells the two kinds of protocol apart by their base classes."""


class _CountedBuffered(_Count, asyncio.BufferedProtocol):
    pass


def feed(protocol: Any, data: bytes) -> None:
    """Gives a protocol of either kind what was received for it."""
    if not isinstance(protocol, asyncio.BufferedProtocol):
        if data:
            protocol.data_received(data)
        return
    while data:
        buffer = memoryview(protocol.get_buffer(len(data)))
        taken = min(len(buffer), len(data))
        buffer[:taken] = data[:taken]
        protocol.buffer_updated(taken)
        data = data[taken:]


class LazyDatagrams(asyncio.DatagramProtocol):
    """Holds the first few datagrams while the system is built, then gives them and the socket to its protocol."""

    def __init__(self, name: str, factories: Lazy[ProtocolFactory]) -> None:
        self._name = name
        self._factories = factories
        self._waiting: list[tuple[bytes, Any]] = []
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(self._waiting) < DATAGRAMS_WAITING_MAX:
            self._waiting.append((data, addr))
        if self._task is None:
            self._task = asyncio.create_task(self._hand_over())

    async def _hand_over(self) -> None:
        try:
            factory = await self._factories.get(self._name)
        except Exception as error:
            log.info("%s: datagrams are dropped because their system could not be built: %s", self._name, error)
            self._waiting.clear()
            self._task = None
            return
        protocol: Any = factory()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        for data, address in self._waiting:
            protocol.datagram_received(data, address)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
