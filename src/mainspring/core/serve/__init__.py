"""HTTP and WebSockets on a socket that we bound.

`serve(app, socket)` is the one seam between listeners and servers. Plain text speaks HTTP/1.1, by a protocol of ours on the
running loop (`http1`): nothing is handed from thread to thread. TLS offers HTTP/2 as well, by Granian's native server
(`native`), which is imported where it is used. Around the application both do the same (`exchange`).
"""

import asyncio
import socket
from typing import Any

from mainspring.core.clock import SystemClock
from mainspring.core.http.request import Application
from mainspring.core.serve.exchange import LAST_WORDS_S
from mainspring.core.serve.http1 import CONNECTIONS_MAX, IDLE_S, Http1Server
from mainspring.core.serve.server import Server
from mainspring.core.tls import Tls

__all__ = ["BACKLOG", "PlainServer", "Server", "serve"]

BACKLOG = 1024


async def serve(
    app: Application,
    sock: socket.socket,
    *,
    tls: Tls | None = None,
    connections_max: int = CONNECTIONS_MAX,
    backlog: int = BACKLOG,
    header_timeout_s: float = IDLE_S,
) -> Server:
    """Serves `app` on `sock`, a bound TCP or Unix stream socket, which then belongs to the server.

    `connections_max` are open at most, idle ones included; `header_timeout_s` is how long one may take to send a request's
    head or stay idle between two. Raises `TlsError`.
    """
    if tls is not None:
        tls.context()
    sock.listen(backlog)
    sock.setblocking(False)
    if tls is None:
        protocols = Http1Server(app, SystemClock(), idle_s=header_timeout_s, connections_max=connections_max)
        return await PlainServer.listen(protocols, sock, backlog)
    from mainspring.core.serve.native import NativeServer

    return NativeServer(
        app, sock, tls, connections_max=connections_max, backlog=backlog, header_timeout_s=header_timeout_s
    )


class PlainServer(Server):
    """A socket served by `http1`."""

    def __init__(self, protocols: Http1Server, address: Any, listening: asyncio.AbstractServer) -> None:
        super().__init__(address, protocols.exchanges)
        self._protocols = protocols
        self._listening = listening

    @classmethod
    async def listen(cls, protocols: Http1Server, sock: socket.socket, backlog: int) -> "PlainServer":
        address, loop = sock.getsockname(), asyncio.get_running_loop()
        if sock.family == socket.AF_UNIX:
            return cls(protocols, address, await loop.create_unix_server(protocols, sock=sock, backlog=backlog))
        return cls(protocols, address, await loop.create_server(protocols, sock=sock, backlog=backlog))

    async def _drain(self, grace_s: float) -> None:
        self._listening.close()
        for connection in list(self._protocols.connections):
            connection.finish()
        await self._exchanges.end_the_endless()
        await self._exchanges.finish(grace_s)
        await self._protocols.gone(LAST_WORDS_S)
