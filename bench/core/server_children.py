"""Servers in processes of their own for `bench.core.server`.

python -m bench.core.server_children seam     # prints its port, then its memory in bytes for every line it gets
"""

import asyncio
import contextlib
import gc
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from bench.load import SERVER_CPU

BODY = b'{"id":"7","url":"https://example.org/","visits":3}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
PAGE_BYTES = os.sysconf("SC_PAGESIZE")


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        from mainspring.core.http.request import Channel
        from mainspring.wire.websocket import open_channel

        async with open_channel(Channel(scope, receive, send)) as opened:
            async for message in opened:
                opened.send(message)
        return
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


async def seam(sock: socket.socket) -> None:
    """Our server: every request known, its end and its client watched."""
    from mainspring.core.serve import serve

    await serve(application, sock)


async def granian(sock: socket.socket) -> None:
    """Granian as it comes, embedded in the same loop, with the same limit of connections."""
    from granian.constants import HTTPModes, Interfaces
    from granian.server.embed import Server

    port = sock.getsockname()[1]
    sock.close()
    server = Server(
        application,
        port=port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        backpressure=8192,
        log_enabled=False,
    )
    RUNNING.append(asyncio.ensure_future(server.serve()))
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return


async def sockets(sock: socket.socket) -> None:
    """Our server for product sockets, behind its listener."""
    from mainspring.core.connections import Connections, ProtocolFactory
    from mainspring.core.lazy import Lazy
    from mainspring.wire.socket_server import ServedSocket, SocketServer

    async def echo(socket: ServedSocket) -> None:
        await socket.accept()
        async for message in socket:
            socket.send(message)

    async def build(name: str) -> ProtocolFactory:
        return SocketServer(echo)

    connections = Connections("sockets", Lazy(build), 100_000)
    await connections.listen(sock, None)
    RUNNING.append(connections)


async def websockets(sock: socket.socket) -> None:
    """The `websockets` library."""
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    async def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    RUNNING.append(await serve(echo, sock=sock))


SERVERS: dict[str, Callable[[socket.socket], Awaitable[None]]] = {
    "seam": seam,
    "granian": granian,
    "sockets": sockets,
    "websockets": websockets,
}
RUNNING: list[Any] = []


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


async def main(name: str) -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await SERVERS[name](sock)
    print(port, flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(resident_bytes(), flush=True)
    os._exit(0)


if __name__ == "__main__":
    if SERVER_CPU in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {SERVER_CPU})
    uvloop.run(main(sys.argv[1]))
