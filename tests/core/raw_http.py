"""Bytes on a socket: a client for the tests that must be rude, slow or gone, which no HTTP library is willing to be."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

from mainspring.core.http.request import Application
from mainspring.core.serve import Server, serve
from mainspring.core.serve.native import NativeServer

PATIENCE_S = 30


def bound(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.bind((host, 0))
    return sock


@contextlib.asynccontextmanager
async def serving(app: Application, **options: object) -> AsyncIterator[Server]:
    server = await serve(app, bound(), **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        await server.close(grace_s=0)


def unverified(server: Server) -> ssl.SSLContext | None:
    """What to speak TLS with, where it does, without asking who it is."""
    if not isinstance(server, NativeServer):
        return None
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Wire:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, server: Server) -> "Wire":
        return cls(*await asyncio.open_connection(*server.address[:2], ssl=unverified(server)))

    def ask(self, path: str, method: str = "GET", body: bytes = b"", headers: str = "") -> None:
        length = f"content-length: {len(body)}\r\n" if body else ""
        self.writer.write(f"{method} {path} HTTP/1.1\r\nhost: test\r\n{length}{headers}\r\n".encode() + body)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer, which must carry its length."""
        async with asyncio.timeout(PATIENCE_S):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return int(lines[0].split(" ")[1]), headers, body

    async def rest(self) -> bytes:
        """Everything until the server closes; a reset may swallow the end, which is the network's good right."""
        received = b""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionResetError):
                while piece := await self.reader.read(65536):
                    received += piece
        return received

    def vanish(self) -> None:
        """Resets the connection, as a machine that lost power would look after a while."""
        transport = self.writer.transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        transport.abort()


async def get(server: Server, path: str) -> tuple[int, dict[str, str], bytes]:
    wire = await Wire.connect(server)
    wire.ask(path)
    try:
        return await wire.answer()
    finally:
        wire.writer.close()
