"""Console sockets, over the real server: bounded both ways, and ended on whichever side leaves."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import websockets

from mainspring.core.http.request import Channel, Disconnected, Message, Receive, Scope, Send
from mainspring.core.problems import Forbidden
from mainspring.core.serve import Server
from mainspring.core.serve.frames import TEXT
from mainspring.wire.websocket import PING, ChannelSocket, Limits, SocketClosed, open_channel
from tests.core.raw_http import PATIENCE_S, Wire, serving
from tests.wire.client_frames import client_close, client_frame

CALM = Limits(ping_s=3600, close_timeout_s=PATIENCE_S)


class Console:
    """An application whose WebSocket handler does `act`; a test can follow its course."""

    def __init__(self, act: Callable[[ChannelSocket], Awaitable[None]], limits: Limits = CALM) -> None:
        self.act, self.limits = act, limits
        self.started, self.left = asyncio.Event(), asyncio.Event()
        self.error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with open_channel(Channel(scope, receive, send), self.limits) as socket:
            self.started.set()
            try:
                await self.act(socket)
            except BaseException as error:
                self.error = error
                raise
        self.left.set()

    async def end(self) -> BaseException | None:
        """How the block ended, once the code behind it was reached."""
        await asyncio.wait_for(self.left.wait(), PATIENCE_S)
        return self.error


def url(server: Server) -> str:
    return "ws://{}:{}/live".format(*server.address)


async def echo(socket: ChannelSocket) -> None:
    async for message in socket:
        socket.send(message)


async def idle(socket: ChannelSocket) -> None:
    await asyncio.Event().wait()


async def test_messages_go_both_ways_in_order_and_a_close_ends_the_loop() -> None:
    console = Console(echo)
    async with serving(console) as server:
        async with websockets.connect(url(server)) as client:
            for message in ("hello", b"\x00\xff", "ünï€", ""):
                await client.send(message)
                assert await client.recv() == message
            for number in range(200):
                await client.send(str(number))
            assert [await client.recv() for _ in range(200)] == [str(number) for number in range(200)]
        assert await console.end() is None


async def test_json_is_typed_and_what_does_not_fit_closes_with_1007() -> None:
    async def double(socket: ChannelSocket) -> None:
        while True:
            socket.send_json({"twice": 2 * await socket.receive_json(int)})

    console = Console(double)
    async with serving(console) as server, websockets.connect(url(server)) as client:
        await client.send("21")
        assert await client.recv() == '{"twice":42}'
        await client.send('"many"')
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
        assert client.close_code == 1007
        assert isinstance(await console.end(), SocketClosed)


async def test_a_handler_that_returns_closes_with_1000_after_what_it_sent() -> None:
    async def speak(socket: ChannelSocket) -> None:
        for number in range(100):
            socket.send(str(number))

    async with serving(Console(speak)) as server, websockets.connect(url(server)) as client:
        assert [message async for message in client] == [str(number) for number in range(100)]
        assert client.close_code == 1000


async def test_a_handler_may_close_with_a_code_and_a_reason_of_its_own() -> None:
    async def refuse(socket: ChannelSocket) -> None:
        await socket.close(4003, "not in this room, " + "€" * 100)

    async with serving(Console(refuse)) as server, websockets.connect(url(server)) as client:
        await client.wait_closed()
        assert client.close_code == 4003 and str(client.close_reason).startswith("not in this room")


async def test_a_feed_that_never_receives_ends_quietly_when_its_client_leaves() -> None:
    console = Console(idle)
    async with serving(console) as server:
        client = await websockets.connect(url(server))
        await asyncio.wait_for(console.started.wait(), PATIENCE_S)
        client.transport.abort()
        assert isinstance(await console.end(), asyncio.CancelledError)


async def test_what_a_client_sent_before_it_left_is_read() -> None:
    heard: list[str | bytes] = []
    may_read = asyncio.Event()

    async def slow(socket: ChannelSocket) -> None:
        heard.append(await socket.receive())
        await may_read.wait()
        async for message in socket:
            heard.append(message)

    console = Console(slow)
    async with serving(console) as server:
        async with websockets.connect(url(server)) as client:
            for number in range(10):
                await client.send(str(number))
        may_read.set()
        assert await console.end() is None
        assert heard == [str(number) for number in range(10)]


async def test_a_cancellation_from_elsewhere_is_not_swallowed() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        if not sent:
            return {"type": "websocket.connect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    console = Console(idle)
    scope: Scope = {"type": "websocket", "path": "/", "headers": []}
    task = asyncio.create_task(console(scope, receive, send))
    await asyncio.wait_for(console.started.wait(), PATIENCE_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not console.left.is_set() and sent[-1]["type"] == "websocket.close"


async def test_a_client_that_left_before_it_was_accepted_starts_nothing() -> None:
    async def receive() -> Message:
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    console = Console(idle)
    with pytest.raises(Disconnected):
        await console({"type": "websocket", "path": "/", "headers": []}, receive, send)
    assert not console.started.is_set()


async def test_an_error_of_the_handler_closes_with_1011_and_a_problem_with_1008_and_its_detail() -> None:
    async def fail(socket: ChannelSocket) -> None:
        raise RuntimeError("a secret of ours")

    async def forbid(socket: ChannelSocket) -> None:
        raise Forbidden("not in this room")

    for act, end in ((fail, (1011, "")), (forbid, (1008, "not in this room"))):
        async with serving(Console(act)) as server, websockets.connect(url(server)) as client:
            await client.wait_closed()
            assert (client.close_code, client.close_reason) == end


@contextlib.asynccontextmanager
async def deaf_client(server: Server) -> AsyncIterator[Wire]:
    """A client that opens a WebSocket and reads nothing of what it is sent."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, server.address)
    wire = Wire(*await asyncio.open_connection(sock=sock, limit=4096))
    wire.ask(
        "/live",
        headers="upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n"
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    )
    await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    try:
        yield wire
    finally:
        wire.vanish()


async def test_a_slow_reader_is_dropped_and_its_sender_told() -> None:
    async def flood(socket: ChannelSocket) -> None:
        while True:
            socket.send("x" * 10_000)
            await asyncio.sleep(0)

    console = Console(flood, Limits(ping_s=3600, unsent_bytes_max=100_000, close_timeout_s=0.05))
    async with serving(console) as server, deaf_client(server):
        ended = await console.end()
        assert isinstance(ended, SocketClosed) and ended.code == 1013


async def test_drain_lets_a_sender_keep_to_the_pace_of_its_reader() -> None:
    async def feed(socket: ChannelSocket) -> None:
        for number in range(200):
            socket.send(f"{number} " + "x" * 20_000)
            await socket.drain()

    console = Console(feed, Limits(ping_s=3600, unsent_bytes_max=50_000))
    async with serving(console) as server, websockets.connect(url(server), max_queue=1) as client:
        assert [str(message).split()[0] async for message in client] == [str(number) for number in range(200)]
        assert await console.end() is None


async def test_a_message_that_is_too_large_closes_with_1009() -> None:
    console = Console(echo, Limits(ping_s=3600, message_bytes_max=1000))
    async with serving(console) as server, websockets.connect(url(server)) as client:
        await client.send("x" * 1000)
        assert len(await client.recv()) == 1000
        await client.send("x" * 1001)
        await client.wait_closed()
        assert client.close_code == 1009
        assert await console.end() is None


async def test_unread_messages_are_few_and_hold_their_sender_back() -> None:
    go = asyncio.Event()

    async def late(socket: ChannelSocket) -> None:
        await go.wait()
        assert socket._unread.qsize() <= 3
        async for _ in socket:
            pass

    console = Console(late, Limits(ping_s=3600, unread_max=3))
    async with serving(console) as server, deaf_client(server) as wire:
        for _ in range(500):
            wire.writer.write(client_frame(TEXT, b"hello"))
        wire.writer.write(client_close(1000))
        await asyncio.wait_for(console.started.wait(), PATIENCE_S)
        go.set()
        assert await console.end() is None


async def test_a_silent_feed_is_kept_open_by_pings() -> None:
    async with serving(Console(idle, Limits(ping_s=0.01))) as server, websockets.connect(url(server)) as client:
        for _ in range(3):
            assert await client.recv() == PING


async def test_a_stopping_server_ends_every_handler_and_closes_with_1001() -> None:
    for act in (echo, idle):
        console = Console(act)
        async with serving(console) as server, websockets.connect(url(server)) as client:
            await asyncio.wait_for(console.started.wait(), PATIENCE_S)
            closing = asyncio.create_task(server.close(grace_s=PATIENCE_S))
            await client.wait_closed()
            assert client.close_code == 1001
            await console.end()
            await asyncio.wait_for(closing, PATIENCE_S)
