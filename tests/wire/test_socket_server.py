"""Product sockets: the `websockets` client understands them, and rude, slow, silent or vanished clients cost little."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import websockets

from mainspring.core.connections import Connections
from mainspring.core.lazy import Lazy
from mainspring.core.problems import Forbidden
from mainspring.core.serve.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT
from mainspring.wire.socket_server import BUCKETS, Handler, ServedSocket, SocketServer
from mainspring.wire.websocket import Limits, SocketClosed
from tests.core.raw_http import PATIENCE_S, Wire
from tests.wire.client_frames import client_close, client_frame


class Place:
    """A running socket server and what its handlers tell."""

    def __init__(self, server: SocketServer, connections: Connections, port: int) -> None:
        self.server, self.connections, self.port = server, connections, port
        self.url = f"ws://127.0.0.1:{port}/room"

    async def raw(self, *, greet: bool = True, small_buffer: bool = False) -> Wire:
        """A connection of plain bytes, its handshake done."""
        sock = socket.socket()
        if small_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        wire = Wire(*await asyncio.open_connection(sock=sock, limit=4096))
        if greet:
            wire.writer.write(HANDSHAKE)
            head = await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
            assert head.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        return wire

    def full_turn(self) -> None:
        """What the timer does in one `ping_s`."""
        for _ in range(BUCKETS):
            self.server.tick()


HANDSHAKE = (
    b"GET /room?x=1 HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CALM = Limits(ping_s=3600, close_timeout_s=PATIENCE_S)


@contextlib.asynccontextmanager
async def place(handler: Handler, limits: Limits = CALM) -> AsyncIterator[Place]:
    server = SocketServer(handler, limits)

    async def build(name: str) -> SocketServer:
        return server

    lazy: Lazy[Callable[[], asyncio.BaseProtocol]] = Lazy(build)
    await lazy.get("sockets")
    connections = Connections("sockets", lazy, 1000)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    await connections.listen(sock, None)
    try:
        yield Place(server, connections, port)
    finally:
        await connections.close(grace_s=0)


async def echo(socket: ServedSocket) -> None:
    await socket.accept()
    async for message in socket:
        socket.send(message)


class Watched:
    """A handler whose course a test can follow: `act` is what it does, `ended` holds how it ended."""

    def __init__(self, act: Callable[[ServedSocket], Awaitable[None]]) -> None:
        self.act = act
        self.started = asyncio.Event()
        self.ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.socket: ServedSocket

    async def __call__(self, socket: ServedSocket) -> None:
        self.socket = socket
        await socket.accept()
        self.started.set()
        try:
            await self.act(socket)
        except BaseException as error:
            self.ended.set_result(error)
            raise
        self.ended.set_result(None)

    async def end(self) -> BaseException | None:
        return await asyncio.wait_for(self.ended, PATIENCE_S)


async def listen(socket: ServedSocket) -> None:
    while True:
        await socket.receive()


async def idle(socket: ServedSocket) -> None:
    await asyncio.Event().wait()


async def closing_of(wire: Wire) -> tuple[int, bytes]:
    """Code and reason of the closing frame with which everything ends."""
    rest = await wire.rest()
    at = rest.rindex(bytes([0x80 | CLOSE]))
    assert rest[at + 1] == len(rest) - at - 2
    return int.from_bytes(rest[at + 2 : at + 4], "big"), rest[at + 4 :]


async def test_the_websockets_client_and_this_server_understand_each_other() -> None:
    async with place(echo) as there:
        async with websockets.connect(there.url, compression="deflate", max_size=None) as client:
            assert client.protocol.extensions == [], "compression is not offered"
            for message in ("hello", "", "ünï€ 🙂", b"", b"\x00\xff" * 200, "x" * 60_000):
                await client.send(message)
                assert await client.recv() == message
            await client.send([b"one ", b"two ", b"three"])
            assert await client.recv() == b"one two three"
            await asyncio.wait_for(await client.ping(b"there?"), PATIENCE_S)
            await client.close(4001, "enough")
            assert client.close_code == 4001


async def test_many_clients_at_once_and_a_burst_in_order() -> None:
    async def burst(url: str, number: int) -> None:
        async with websockets.connect(url) as client:
            for count in range(50):
                await client.send(f"{number} {count}")
            assert [await client.recv() for _ in range(50)] == [f"{number} {count}" for count in range(50)]

    async with place(echo) as there:
        await asyncio.gather(*(burst(there.url, number) for number in range(20)))


async def test_a_handler_sees_the_request_and_chooses_a_subprotocol() -> None:
    async def handler(socket: ServedSocket) -> None:
        assert socket.client == "127.0.0.1"
        await socket.accept(socket.upgrade.subprotocols[1], [("x-node", "7")])
        socket.send_json([socket.upgrade.path, socket.upgrade.query.decode(), socket.upgrade.headers["x-token"]])

    async with place(handler) as there:
        async with websockets.connect(
            there.url + "/a%20b?c=d", subprotocols=["one", "two"], additional_headers={"X-Token": "secret"}
        ) as client:  # type: ignore[list-item]
            assert client.subprotocol == "two" and client.response.headers["x-node"] == "7"
            assert json.loads(await client.recv()) == ["/room/a b", "c=d", "secret"]
            await client.wait_closed()
            assert client.close_code == 1000, "a handler that returns has closed its socket"


async def test_frames_that_come_with_the_handshake_are_read() -> None:
    async with place(echo) as there:
        wire = await there.raw(greet=False)
        wire.writer.write(HANDSHAKE + client_frame(TEXT, b"early"))
        await asyncio.wait_for(wire.reader.readuntil(b"\x81\x05early"), PATIENCE_S)


async def test_a_handler_may_refuse_or_fail_and_the_client_gets_an_http_answer() -> None:
    async def forbid(socket: ServedSocket) -> None:
        raise Forbidden("not in this room")

    async def fail(socket: ServedSocket) -> None:
        raise RuntimeError("a secret of ours")

    async def leave(socket: ServedSocket) -> None:
        pass

    for handler, status in ((forbid, 403), (fail, 500), (leave, 403)):
        async with place(handler) as there:
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(there.url)
            assert refused.value.response.status_code == status
            assert b"secret" not in refused.value.response.body


async def test_a_handler_that_fails_later_closes_with_1011() -> None:
    async def fail(socket: ServedSocket) -> None:
        await socket.accept()
        await socket.receive()
        raise RuntimeError("a secret of ours")

    async with place(fail) as there, websockets.connect(there.url) as client:
        await client.send("x")
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (1011, "")


BAD_HANDSHAKES = {
    b"POST /room HTTP/1.1": (b"GET /room?x=1 HTTP/1.1", 405),
    b"GET /room?x=1 HTTP/1.0": (b"GET /room?x=1 HTTP/1.1", 405),
    b"Upgrade: h2c": (b"Upgrade: websocket", 426),
    b"Connection: close": (b"Connection: keep-alive, Upgrade", 426),
    b"Sec-WebSocket-Version: 8": (b"Sec-WebSocket-Version: 13", 426),
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZQ==": (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
    b"Sec-WebSocket-Key: !": (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
    b"X: y": (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
    b"Host: test\r\nContent-Length: 5": (b"Host: test", 400),
    b"X: y\r\nX": (b"Host", 400),
    b"nonsense": (b"GET /room?x=1 HTTP/1.1", 400),
}


@pytest.mark.parametrize("replacement", BAD_HANDSHAKES)
async def test_a_request_that_is_no_handshake_gets_the_right_refusal(replacement: bytes) -> None:
    original, status = BAD_HANDSHAKES[replacement]
    async with place(echo) as there:
        wire = await there.raw(greet=False)
        wire.writer.write(HANDSHAKE.replace(original, replacement))
        assert (await wire.rest()).startswith(b"HTTP/1.1 %d " % status)


async def test_a_head_without_end_is_refused() -> None:
    async with place(echo) as there:
        wire = await there.raw(greet=False)
        wire.writer.write(HANDSHAKE[:-2] + b"X: " + b"y" * 20_000)
        assert (await wire.rest())[:12] in (b"HTTP/1.1 431", b"")


async def test_a_head_that_never_ends_is_given_up_after_a_while() -> None:
    async with place(echo) as there:
        wire = await there.raw(greet=False)
        wire.writer.write(HANDSHAKE[:50])
        async with asyncio.timeout(PATIENCE_S):
            while not len(there.server):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for _ in range(3):
            there.full_turn()
        assert await wire.rest() == b""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x02hi", 1002),
        (client_frame(3, b""), 1002),
        (client_frame(TEXT, b"\xff"), 1007),
        (client_frame(TEXT, b"x" * 1001), 1009),
        (client_frame(BINARY, b"x" * 600, fin=False) + client_frame(CONTINUATION, b"x" * 600), 1009),
        (client_close(1006), 1002),
    ],
)
async def test_a_violation_is_answered_with_its_code_and_ends_the_handler(data: bytes, code: int) -> None:
    watched = Watched(listen)
    async with place(watched, Limits(ping_s=3600, message_bytes_max=1000)) as there:
        wire = await there.raw()
        wire.writer.write(data)
        assert (await closing_of(wire))[0] == code
        ended = await watched.end()
        assert isinstance(ended, SocketClosed) and ended.code == code


async def test_a_close_is_answered_with_its_code_and_everything_sent_before_is_read() -> None:
    heard: list[str | bytes] = []
    may_read = asyncio.Event()

    async def slow(socket: ServedSocket) -> None:
        heard.append(await socket.receive())
        await may_read.wait()
        async for message in socket:
            heard.append(message)

    watched = Watched(slow)
    async with place(watched) as there:
        wire = await there.raw()
        wire.writer.write(b"".join(client_frame(TEXT, b"%d" % n) for n in range(5)) + client_close(4000, "done"))
        assert (await closing_of(wire))[0] == 4000
        may_read.set()
        assert await watched.end() is None
        assert heard == ["0", "1", "2", "3", "4"]


async def test_a_client_that_vanishes_ends_a_receiver_and_cancels_one_who_never_receives() -> None:
    for act, kind in ((listen, SocketClosed), (idle, asyncio.CancelledError)):
        watched = Watched(act)
        async with place(watched) as there:
            wire = await there.raw()
            await asyncio.wait_for(watched.started.wait(), PATIENCE_S)
            wire.vanish()
            assert isinstance(await watched.end(), kind)
            assert len(there.server) == 0


async def test_a_slow_reader_is_dropped_at_the_limit_with_1008_and_its_sender_is_told() -> None:
    sent_bytes = 0

    async def flood(socket: ServedSocket) -> None:
        nonlocal sent_bytes
        while True:
            socket.send(b"x" * 10_000)
            sent_bytes += 10_000
            await asyncio.sleep(0)

    watched = Watched(flood)
    async with place(watched, Limits(ping_s=3600, unsent_bytes_max=100_000, close_timeout_s=PATIENCE_S)) as there:
        wire = await there.raw(small_buffer=True)
        ended = await watched.end()
        assert isinstance(ended, SocketClosed) and ended.code == 1008
        assert sent_bytes < 16 << 20, "what the kernel takes for one socket, and our limit"
        assert (await closing_of(wire))[0] == 1008, "it would have got everything, had it read"


async def test_a_slow_reader_who_never_reads_is_cut_off() -> None:
    async def flood(socket: ServedSocket) -> None:
        while True:
            socket.send(b"x" * 10_000)
            await asyncio.sleep(0)

    watched = Watched(flood)
    async with place(watched, Limits(ping_s=3600, unsent_bytes_max=100_000, close_timeout_s=0.01)) as there:
        wire = await there.raw(small_buffer=True)
        await watched.end()
        async with asyncio.timeout(PATIENCE_S):
            while len(there.connections):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        wire.vanish()


async def test_drain_waits_for_a_reader_that_lags() -> None:
    async def feed(socket: ServedSocket) -> None:
        for _ in range(300):
            socket.send(b"x" * 10_000)
            await socket.drain()

    watched = Watched(feed)
    async with place(watched, Limits(ping_s=3600, unsent_bytes_max=200_000)) as there:
        async with websockets.connect(there.url, max_queue=1) as client:
            received = [message async for message in client]
        assert len(received) == 300 and client.close_code == 1000
        assert await watched.end() is None


async def test_unread_messages_hold_their_sender_back_and_none_is_lost() -> None:
    may_read = asyncio.Event()

    async def late(socket: ServedSocket) -> None:
        await may_read.wait()
        for number in range(20_000):
            message = await socket.receive()
            assert message == f"{number:06}" + "x" * 2000
        socket.send("all there")

    watched = Watched(late)
    async with place(watched) as there:
        wire = await there.raw()
        sending = asyncio.create_task(send_all(wire, 20_000))
        await asyncio.wait_for(watched.started.wait(), PATIENCE_S)
        # Forty megabytes are on their way: they stop in the kernel's buffers and ours, until somebody reads.
        done, _ = await asyncio.wait([sending], timeout=0.2)
        assert not done and len(watched.socket._unread) < 2000
        may_read.set()
        await asyncio.wait_for(wire.reader.readuntil(b"all there"), PATIENCE_S)
        await sending


async def send_all(wire: Wire, count: int) -> None:
    for number in range(count):
        wire.writer.write(b"\x81\xfe\x07\xd6" + bytes(4) + b"%06d" % number + b"x" * 2000)
        if number % 50 == 0:
            await wire.writer.drain()


async def test_a_silent_client_is_pinged_and_dropped_when_it_does_not_answer() -> None:
    watched = Watched(listen)
    async with place(watched) as there:
        wire = await there.raw()
        there.full_turn()
        there.full_turn()
        assert await asyncio.wait_for(wire.reader.readexactly(2), PATIENCE_S) == bytes([0x80 | PING, 0])
        there.full_turn()
        assert await wire.rest() == b""
        ended = await watched.end()
        assert isinstance(ended, SocketClosed) and ended.code == 1006


async def test_a_client_that_answers_pings_or_sends_is_left_alone() -> None:
    async with place(echo) as there:
        async with websockets.connect(there.url) as client:
            for _ in range(10):
                there.full_turn()
                await client.send("alive")
                assert await client.recv() == "alive", "pings were answered in between"


async def test_the_timer_goes_on_pinging_by_itself() -> None:
    async with place(echo, Limits(ping_s=0.05)) as there:
        wire = await there.raw()
        assert await asyncio.wait_for(wire.reader.readexactly(2), PATIENCE_S) == bytes([0x80 | PING, 0])


async def test_closing_the_listener_closes_sockets_with_1001() -> None:
    for act in (listen, idle):
        watched = Watched(act)
        async with place(watched) as there, websockets.connect(there.url) as client:
            await asyncio.wait_for(watched.started.wait(), PATIENCE_S)
            closing = asyncio.create_task(there.connections.close(grace_s=PATIENCE_S))
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()
            assert client.close_code == 1001
            await asyncio.wait_for(closing, PATIENCE_S)
            await watched.end()


async def test_a_client_that_ignores_our_close_is_cut_off() -> None:
    async def leave(socket: ServedSocket) -> None:
        await socket.accept()

    async with place(leave, Limits(ping_s=3600, close_timeout_s=0.01)) as there:
        wire = await there.raw()
        assert await closing_of(wire) == (1000, b"")


async def test_json_that_does_not_fit_closes_with_1007() -> None:
    numbers: list[int] = []

    async def add(socket: ServedSocket) -> None:
        while True:
            numbers.append(await socket.receive_json(int))

    watched = Watched(add)
    async with place(watched) as there, websockets.connect(there.url) as client:
        await client.send("7")
        await client.send('"seven"')
        await client.wait_closed()
        assert client.close_code == 1007 and "Expected `int`" in str(client.close_reason)
        await watched.end()
        assert numbers == [7]


async def test_sending_to_a_closed_socket_is_an_error_that_says_so() -> None:
    async def talk(socket: ServedSocket) -> None:
        with pytest.raises(SocketClosed):
            await socket.receive()
        with pytest.raises(SocketClosed) as closed:
            socket.send("too late")
        assert closed.value.code == 4000

    watched = Watched(talk)
    async with place(watched) as there:
        wire = await there.raw()
        wire.writer.write(client_close(4000))
        assert await watched.end() is None
