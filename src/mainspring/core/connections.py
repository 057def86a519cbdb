"""Accepted connections of a listener whose protocol is built by the first of them.

A connection that comes before its system is built waits unread; the build is shared. From then on its protocol's own
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

    def counted(self, inner: asyncio.BaseProtocol) -> asyncio.BaseProtocol:
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
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
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
    """A connection whose system is being built; it is not read meanwhile."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._connections.enter(self, transport):
            transport.pause_reading()
            self._connections.build_for(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.leave(self)


_FORWARDED = ("pause_writing", "resume_writing", "eof_received", "go_away")


class _Counted(asyncio.Protocol):
    """Counts a connection; every other call goes straight to the inner protocol's bound method."""

    _forwarded: tuple[str, ...] = (*_FORWARDED, "data_received")

    def __init__(self, inner: asyncio.BaseProtocol, connections: Connections) -> None:
        self._inner = inner
        self._connections = connections
        self._entered = False
        forward(self, inner, self._forwarded)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._entered = self._connections.enter(self, transport)  # type: ignore[arg-type]
        if self._entered:
            self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._entered:
            self._connections.leave(self)
            self._inner.connection_lost(exc)


class _CountedBuffered(_Counted, asyncio.BufferedProtocol):
    _forwarded = (*_FORWARDED, "get_buffer", "buffer_updated")


def forward(outer: Any, inner: Any, names: tuple[str, ...]) -> None:
    for name in names:
        method = getattr(inner, name, None)
        if method is not None:
            setattr(outer, name, method)


class LazyDatagrams(asyncio.DatagramProtocol):
    """Holds the first few datagrams while the system is built, then gives them and the socket to its protocol."""

    def __init__(self, name: str, factories: Lazy[ProtocolFactory]) -> None:
        self._name = name
        self._factories = factories
        self._waiting: list[tuple[bytes, Any]] = []
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

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
