"""HTTP/1.1 with ready answers: the quick way never sees what would be read in two ways, and the long way is plain ASGI."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.http.request import Receive, Scope, Send
from mainspring.core.serve.heads import HEAD_BYTES_MAX
from mainspring.core.serve.http1 import Http1Server
from tests.core.raw_http import PATIENCE_S, Wire


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with method, target and body."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message["body"]
        more = message["more_body"]
    text = b"%b %b?%b %b" % (scope["method"].encode(), scope["raw_path"], scope["query_string"], body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else text})


def quick(head: bytes, client: str) -> bytes | None:
    assert client == "127.0.0.1"
    return b"HTTP/1.1 204 No Content\r\n\r\n" if b" /quick" in head else None


class Listening:
    def __init__(self, server: asyncio.Server, protocols: Http1Server) -> None:
        self.address = server.sockets[0].getsockname()
        self.protocols = protocols


@contextlib.asynccontextmanager
async def listening(app: Any = echo) -> AsyncIterator[Any]:
    protocols = Http1Server(app, SystemClock(), ready=quick)
    server = await asyncio.get_running_loop().create_server(protocols, "127.0.0.1", 0)
    try:
        yield Listening(server, protocols)
    finally:
        server.close()
        for connection in list(protocols.connections):
            connection.cut()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  what the server's side has got to is no event of the test's
        await asyncio.sleep(0)


async def test_a_simple_request_is_answered_from_bytes_and_the_connection_stays() -> None:
    async with listening() as server:
        wire = await Wire.connect(server)
        for path, status in (("/quick", 204), ("/slow", 200), ("/quick", 204), ("/slow?a=b", 200)):
            wire.ask(path)
            assert (await wire.answer())[0] == status


async def test_a_head_request_has_no_body() -> None:
    async with listening() as server:
        wire = await Wire.connect(server)
        wire.writer.write(b"HEAD /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        head, _, body = (await wire.rest()).partition(b"\r\n\r\n")
        assert b"content-length: 12" in head and body == b""


@pytest.mark.parametrize(
    "headers",
    ["content-length: 5\r\n", "Content-Length : 5\r\n", "transfer-encoding: chunked\r\n", "connection: close\r\n",
     "Expect: x\r\n", "connection: keep-alive, close\r\n", "x: a\ncontent-length: 5\r\n", "x: " + "y" * 5000 + "\r\n"],
)  # fmt: skip
async def test_what_changes_the_framing_is_never_quick(headers: str) -> None:
    async with listening() as server:
        line = b"GET /quick HTTP/1.1"
        assert not server.protocols.is_simple(line + f"\r\nhost: x\r\n{headers}\r\n".encode())
        assert not server.protocols.is_simple(line + b"\r\naccept: x\r\n\r\n")
        assert server.protocols.is_simple(line + b"\r\nHost: x\r\nconnection: keep-alive\r\n\r\n")


async def test_a_body_cannot_be_taken_for_a_request() -> None:
    smuggled = b"GET /quick HTTP/1.1\r\nhost: x\r\n\r\n"
    async with listening() as server:
        wire = await Wire.connect(server)
        wire.writer.write(b"GET /quick HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(smuggled))
        await wire.writer.drain()
        wire.writer.write(smuggled)
        status, _, body = await wire.answer()
        assert (status, body) == (200, b"GET /quick? " + smuggled)


async def test_requests_in_pieces_and_requests_in_one_piece_are_all_answered_in_order() -> None:
    async with listening() as server:
        wire = await Wire.connect(server)
        both = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /quick HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n"
        for byte in both[:40]:
            wire.writer.write(bytes([byte]))
            await wire.writer.drain()
        wire.writer.write(both[40:])
        assert [(await wire.answer())[2] for _ in range(3)] == [b"GET /a? ", b"GET /quick? ", b"GET /b? "]
        wire.ask("/quick")
        assert (await wire.answer())[0] == 204


async def test_bodies_come_whole_by_length_in_chunks_and_after_a_continue() -> None:
    async with listening() as server:
        wire = await Wire.connect(server)
        wire.ask("/x", "POST", b"z" * 1_000_000)
        assert len((await wire.answer())[2]) == 1_000_009
        wire.writer.write(b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert (await wire.answer())[2] == b"POST /x? abc"
        wire.writer.write(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        wire.writer.write(b"ok")
        assert (await wire.answer())[2] == b"POST /x? ok"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"GET /x HTTP/1.1\r\nhost: x\r\nx: " + b"y" * (HEAD_BYTES_MAX + 1), b"431"),
        (b"GET /x HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n", b"400"),
    ],
)
async def test_what_is_no_http_is_refused_and_the_connection_closed(request_bytes: bytes, status: bytes) -> None:
    async with listening() as server:
        wire = await Wire.connect(server)
        wire.writer.write(request_bytes)
        assert (await wire.rest()).startswith(b"HTTP/1.1 " + status)


async def test_old_clients_and_those_that_say_so_get_their_connection_closed() -> None:
    async with listening() as server:
        for head in (
            b"GET /x HTTP/1.0\r\nhost: x\r\n\r\n",
            b"GET /quick HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        ):
            wire = await Wire.connect(server)
            wire.writer.write(head)
            assert (await wire.rest()).startswith(b"HTTP/1.1 200")


async def test_who_does_not_read_is_not_listened_to() -> None:
    """More than any kernel buffers is answered to a client that reads nothing; what is unsent here stays bounded."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n" + b"x" * (1 << 20)
    heads: list[bytes] = []

    def ready_and_large(head: bytes, client: str) -> bytes:
        heads.append(head)
        return answer

    protocols = Http1Server(echo, SystemClock(), ready=ready_and_large)
    server = await asyncio.get_running_loop().create_server(protocols, "127.0.0.1", 0)
    async with server, asyncio.timeout(PATIENCE_S):
        wire = await Wire.connect(Listening(server, protocols))  # type: ignore[arg-type]
        await until(lambda: bool(protocols.connections))
        (connection,) = protocols.connections
        sent = 0
        while connection._writable.is_set():
            if len(heads) == sent:
                wire.ask("/")
                sent += 1
            await asyncio.sleep(0)
        assert not connection._transport.is_reading()
        # The answer before may have left up to the high-water mark unsent, at which writing is not paused yet.
        _low, high = connection._transport.get_write_buffer_limits()
        assert connection._transport.get_write_buffer_size() <= high + len(answer)
        wire.vanish()
