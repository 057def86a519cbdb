"""HTTP/1.1 read directly: the same answers as by h11 however the bytes come, and never two ways to read a request."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.clock import SystemClock
from mainspring.core.http.request import WHOLE_ANSWER, WHOLE_BODY, Receive, Scope, Send
from mainspring.core.serve.direct import BODY_BYTES_WAITING_MAX
from mainspring.core.serve.heads import REMEMBERED_BYTES_MAX, REMEMBERED_MAX, Head, HeadReader
from mainspring.core.serve.http1 import IDLE_S, UNSENT_BYTES_MAX, Http1Server
from tests.core.raw_http import PATIENCE_S, Wire
from tests.core.serve.test_http1 import echo, until

PLAIN = b"GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\nX-Y:  z \r\n\r\n"


def quick(head: Head, client: str) -> bytes | None:
    assert client == "127.0.0.1"
    return b"HTTP/1.1 204 No Content\r\n\r\n" if head.raw_path == b"/quick" else None


class Listening:
    def __init__(self, server: asyncio.Server, protocols: Http1Server) -> None:
        self.address = server.sockets[0].getsockname()
        self.protocols = protocols

    @property
    def connection(self) -> Any:
        (one,) = self.protocols.connections
        return one


@contextlib.asynccontextmanager
async def listening(app: Any = echo) -> AsyncIterator[Any]:
    protocols = Http1Server(app, SystemClock(), quick=quick)
    server = await asyncio.get_running_loop().create_server(protocols, "127.0.0.1", 0)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield Listening(server, protocols)
    finally:
        server.close()
        for connection in list(protocols.connections):
            connection.cut()


def answering(headers: list[tuple[bytes, bytes]], *pieces: bytes | memoryview, status: int = 200) -> Callable[..., Any]:
    """An application that answers with these pieces."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return app


def test_a_plain_head_is_read_as_it_was_written() -> None:
    head = HeadReader().read(PLAIN + b"rest")
    assert head is not None and head.head_bytes == len(PLAIN)
    assert (head.method, head.raw_path, head.query_string) == ("GET", b"/a%20b", b"c=d")
    assert (head.headers, head.body_bytes) == ({b"host": b"x", b"x-y": b"z"}, 0)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /x HTTP/1.0\r\nhost: x\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /x y HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"get /x HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /x HTTP/1.1\nhost: x\n\n",
        b"GET /x HTTP/1.1\r\n\r\n",
        b"GET /x HTTP/1.1\r\nhost: x\r\n",
        *(
            b"POST /x HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n" % line
            for line in (
                b"content-length: 5\r\ncontent-length: 5",
                b"content-length: 5, 5",
                b"content-length: +5",
                b"content-length: -1",
                b"content-length: 5\x00",
                b"content-length : 5",
                b" content-length: 5",
                b"content-length: 9999999999999999999",
                b"content-length: 5\r\ntransfer-encoding: chunked",
                b"Transfer-Encoding: identity",
                b"connection: keep-alive, upgrade",
                b"upgrade: websocket",
                b"expect: everything",
                b"x: a\n b",
                b"x: a\r\n b: c",
                b"x: \x01",
                b"host: y",
            )
        ),
        b"GET /x HTTP/1.1\r\nhost: x\r\nx: " + b"y" * (64 << 10) + b"\r\n\r\n",
    ],
)
def test_what_might_be_read_in_two_ways_is_not_read_here(head: bytes) -> None:
    assert HeadReader().read(head) is None


class Collected(asyncio.Transport):
    """What a connection writes, without a socket."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


async def spoken(server: Http1Server, pieces: list[bytes]) -> tuple[list[bytes], bool]:
    """What `server` says to bytes that come in these pieces, without dates, and whether it closes the connection."""
    connection, transport = server(), Collected()
    connection.connection_made(transport)
    for piece in pieces:
        if not transport.closed:
            connection.data_received(piece)
        while connection.exchange is not None and not transport.closed:
            before = len(transport.written), connection.exchange
            for _ in range(8):
                await asyncio.sleep(0)
            if (len(transport.written), connection.exchange) == before:
                break  # it waits for the rest of a body
    connection.connection_lost(None)
    await asyncio.sleep(0)
    lines = transport.written.split(b"\r\n")
    return [line.lower() for line in lines if not line.lower().startswith((b"date:", b"http/1.1 "))], transport.closed


REQUESTS = st.sampled_from(
    [
        b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a?b=c HTTP/1.1\r\nhost: x\r\nconnection: keep-alive\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
        b"PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        b"PUT /a HTTP/1.1\r\nhost: x\r\ncontent-length: 30\r\n\r\nGET /b HTTP/1.1\r\nhost: x\r\n\r\n??",
        b"PUT /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET /a HTTP/1.0\r\nhost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
    ]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(REQUESTS, min_size=1, max_size=5), st.lists(st.integers(1, 400), max_size=6))
def test_whatever_is_sent_in_whatever_pieces_the_answers_are_those_of_h11(
    requests: list[bytes], cuts: list[int]
) -> None:
    whole = b"".join(requests)
    places = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    pieces = [whole[start:stop] for start, stop in itertools.pairwise(places)]

    async def both() -> None:
        direct = await spoken(Http1Server(echo, SystemClock()), pieces)
        odd = Http1Server(echo, SystemClock())
        odd.read_head = lambda data: None
        assert direct == await spoken(odd, pieces)

    asyncio.run(both())


async def test_ready_answers_and_made_ones_take_turns_on_one_connection() -> None:
    async with listening() as server:
        wire = await Wire.connect(server)
        for path, status in (("/quick", 204), ("/slow", 200), ("/quick", 204), ("/slow?a=b", 200)):
            wire.ask(path)
            assert (await wire.answer())[0] == status


async def test_a_large_body_comes_whole_and_unread_it_stops_the_socket() -> None:
    go_on = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await echo(scope, receive, send)

    async with listening(waits) as server:
        wire = await Wire.connect(server)
        wire.ask("/x", "PUT", b"z" * (16 << 20))
        await until(lambda: bool(server.protocols.connections) and server.connection.exchange is not None)
        await until(lambda: server.connection.exchange.is_full)
        assert not server.connection._transport.is_reading()
        # Not stopped before the limit, and then by the read that passed it.
        assert BODY_BYTES_WAITING_MAX <= server.connection.exchange.waiting <= BODY_BYTES_WAITING_MAX + (256 << 10)
        go_on.set()
        assert (await wire.answer())[2] == b"PUT /x? " + b"z" * (16 << 20)


async def test_a_body_that_came_with_its_head_is_offered_whole_and_told_all_the_same() -> None:
    offered: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        offered.append(scope.get(WHOLE_BODY))
        await echo(scope, receive, send)

    connection, transport = Http1Server(app, SystemClock())(), Collected()
    connection.connection_made(transport)
    for pieces in ([b"ab"], [b"a", b"b"], [b"", b"ab"]):
        connection.data_received(b"PUT /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n" + pieces[0])
        for piece in pieces[1:]:
            await asyncio.sleep(0)
            connection.data_received(piece)
        await until(lambda: connection.exchange is None)
        assert transport.written.endswith(b"PUT /x? ab")
        transport.written = b""
    assert offered == [b"ab", None, None]


async def test_a_client_that_asks_whether_to_go_on_is_told_to_once_its_body_is_wanted() -> None:
    async with listening() as server:
        wire = await Wire.connect(server)
        wire.writer.write(b"PUT /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        wire.writer.write(b"ok")
        assert (await wire.answer())[2] == b"PUT /x? ok"


async def test_a_body_that_nobody_wanted_ends_the_connection_after_the_answer() -> None:
    async with listening(answering([(b"content-length", b"0")], status=403)) as server:
        wire = await Wire.connect(server)
        wire.writer.write(b"PUT /x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert (await wire.rest()).startswith(b"HTTP/1.1 403 ")


async def test_an_answer_goes_out_by_its_length_or_in_chunks_from_any_buffer() -> None:
    piece = memoryview(b"_" * 100_000 + b"x" * 100_000)[50_000:150_000]
    async with listening(answering([(b"content-length", b"200000")], piece, piece)) as server:
        wire = await Wire.connect(server)
        wire.ask("/x")
        assert (await wire.answer())[2] == bytes(piece) * 2
    async with listening(answering([], piece, piece)) as server:
        wire = await Wire.connect(server)
        wire.ask("/x")
        assert b"\r\ntransfer-encoding: chunked\r\n" in await wire.reader.readuntil(b"\r\n\r\n")
        expected = (b"%x\r\n%b\r\n" % (len(piece), bytes(piece))) * 2 + b"0\r\n\r\n"
        assert await wire.reader.readexactly(len(expected)) == expected


@pytest.mark.parametrize(
    "app",
    [
        answering([(b"content-length", b"3")], b"ab"),
        answering([(b"content-length", b"3")], b"abcd"),
        answering([(b"x", b"a\r\nset-cookie: b"), (b"content-length", b"0")]),
        answering([(b"x", b"a\nb"), (b"content-length", b"0")]),
        answering([(b"x", b"a\0"), (b"content-length", b"0")]),
    ],
)
async def test_an_answer_that_is_not_what_its_head_says_is_cut_off(app: Any) -> None:
    async with listening(app) as server:
        wire = await Wire.connect(server)
        wire.ask("/x")
        with contextlib.suppress(ConnectionError):
            assert not (await wire.rest()).endswith((b"abc", b"b\r\n\r\n"))
        wire = await Wire.connect(server)
        wire.ask("/quick")
        assert (await wire.answer())[0] == 204


async def test_what_a_client_asked_for_is_done_also_if_it_left_meanwhile() -> None:
    began, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def works(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"ab"
        began.set()
        await go_on.wait()
        assert (await receive())["type"] == "http.disconnect"
        await echo(scope, receive, send)
        done.set()

    async with listening(works) as server:
        wire = await Wire.connect(server)
        wire.ask("/x", "PUT", b"ab")
        await began.wait()
        wire.vanish()
        await until(lambda: not server.protocols.connections)
        assert len(server.protocols.exchanges.open) == 1
        go_on.set()
        await done.wait()
        await until(lambda: not server.protocols.exchanges.open)


async def test_who_ends_its_side_of_the_connection_still_gets_its_answer() -> None:
    async with listening() as server:
        wire = await Wire.connect(server)
        wire.ask("/x", "PUT", b"ab")
        wire.writer.write_eof()
        assert (await wire.rest()).endswith(b"\r\n\r\nPUT /x? ab")


async def test_an_answer_that_streams_to_nobody_is_stopped() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def streams(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
                began.set()
        finally:
            ended.set()

    async with listening(streams) as server:
        wire = await Wire.connect(server)
        wire.ask("/x")
        await began.wait()
        wire.vanish()
        await ended.wait()
        await until(lambda: not server.protocols.exchanges.open)
        assert not server.protocols.connections


async def test_who_takes_nothing_of_an_answer_holds_little_memory_and_is_cut_off_in_the_end() -> None:
    piece = b"x" * (1 << 20)
    async with listening(answering([], *[piece] * 64)) as server:
        wire = await Wire.connect(server)
        wire.ask("/x")
        await until(lambda: bool(server.protocols.connections) and server.connection._full_since_s is not None)
        connection = server.connection
        assert connection._transport.get_write_buffer_size() <= UNSENT_BYTES_MAX + len(piece) + 64
        full_s = connection._full_since_s
        assert not connection.is_stale(full_s + IDLE_S) and connection.is_stale(full_s + IDLE_S + 1)
        wire.vanish()


@pytest.mark.parametrize("more", [b"", b"x: 1\r\nx: 2\r\n"], ids=["plain", "odd"])
async def test_who_asks_ahead_and_takes_nothing_is_answered_no_more_than_memory_holds(more: bytes) -> None:
    asked, calls, piece = 200, 0, b"x" * UNSENT_BYTES_MAX

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal calls
        calls += 1
        length = [(b"content-length", b"%d" % len(piece))]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": piece})

    async with listening(large) as server:
        wire = await Wire.connect(server)
        wire.writer.transport.pause_reading()
        wire.writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\n%b\r\n" % more * asked)
        await until(lambda: bool(server.protocols.connections) and server.connection._full_since_s is not None)
        before = -1
        while calls != before:
            before = calls
            for _ in range(50):
                await asyncio.sleep(0)
        assert calls < asked / 2
        assert server.connection._transport.get_write_buffer_size() < 3 * len(piece)
        wire.writer.transport.resume_reading()
        for _ in range(asked):
            assert (await wire.answer())[2] == piece


async def test_going_away_lets_the_running_answer_finish() -> None:
    go_on = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await echo(scope, receive, send)

    async with listening(waits) as server:
        busy, idle = await Wire.connect(server), await Wire.connect(server)
        busy.ask("/x")
        await until(lambda: len(server.protocols.connections) == 2)
        await until(lambda: any(one.exchange for one in server.protocols.connections))
        for connection in list(server.protocols.connections):
            connection.go_away()
        assert await idle.rest() == b""
        go_on.set()
        assert b"GET /x?" in await busy.rest()


async def test_past_the_most_connections_a_new_one_is_told_to_come_later() -> None:
    protocols = Http1Server(echo, SystemClock(), connections_max=2)
    async with await asyncio.get_running_loop().create_server(protocols, "127.0.0.1", 0) as server:
        address = Listening(server, protocols)
        first, second = [await Wire.connect(address) for _ in range(2)]  # type: ignore[arg-type]
        await until(lambda: len(protocols.connections) == 2)
        third = await Wire.connect(address)  # type: ignore[arg-type]
        assert b"\r\nretry-after: 1\r\n" in await third.rest()
        first.vanish()
        await until(lambda: len(protocols.connections) == 1)
        for wire in (await Wire.connect(address), second):  # type: ignore[arg-type]
            wire.ask("/x")
            assert (await wire.answer())[0] == 200
            wire.vanish()


def test_the_lines_of_a_head_are_read_once_and_only_so_many_are_remembered() -> None:
    reader = HeadReader()
    first, second = reader.read(PLAIN), reader.read(PLAIN.replace(b"/a%20b", b"/c"))
    assert first is not None and second is not None and second.raw_path == b"/c"
    assert first.headers is second.headers
    for number in range(REMEMBERED_MAX * 2):
        reader.read(b"GET /x HTTP/1.1\r\nhost: %d\r\n\r\n" % number)
    reader.read(b"GET /x HTTP/1.1\r\nhost: x\r\nx: " + b"y" * REMEMBERED_BYTES_MAX + b"\r\n\r\n")
    assert len(reader._remembered) <= REMEMBERED_MAX
    assert all(len(text) <= REMEMBERED_BYTES_MAX for text in reader._remembered)


async def test_a_quick_answer_is_for_connections_that_stay() -> None:
    async with listening() as server:
        wire = await Wire.connect(server)
        wire.ask("/quick", headers="connection: close\r\n")
        assert (await wire.rest()).startswith(b"HTTP/1.1 200 ")


async def test_every_answer_is_dated_once_however_its_request_was_read() -> None:
    dated = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"content-length", b"0")]
    for headers in ([], dated):
        async with listening(answering(headers)) as server:
            for line in (b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close", b"GET /x HTTP/1.0\r\nhost: x"):
                wire = await Wire.connect(server)
                wire.writer.write(line + b"\r\n\r\n")
                assert (await wire.rest()).lower().count(b"\r\ndate: ") == 1


async def test_an_answer_may_be_one_message_where_the_scope_says_so() -> None:
    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        assert WHOLE_ANSWER in scope
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "body": b"whole"})

    async with listening(whole) as server:
        wire = await Wire.connect(server)
        for _ in range(2):
            wire.ask("/x", "POST", b"ab")
            assert (await wire.answer())[2] == b"whole"
        wire.ask("/x", "HEAD")
        assert (await wire.reader.readuntil(b"\r\n\r\n")).count(b"content-length: 5") == 1
        wire.ask("/x")
        assert (await wire.answer())[2] == b"whole"
