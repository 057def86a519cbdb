"""WebSockets on the main port, as an application sees them and as their clients do, also rude ones."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import websockets
from websockets.typing import Subprotocol

from mainspring.core.http.request import Disconnected, Message, Receive, Scope, Send
from mainspring.core.serve import Server
from mainspring.core.serve.frames import CLOSE, PING, PONG, TEXT
from mainspring.core.serve.sockets import MESSAGE_BYTES_MAX, UNREAD_MAX
from tests.core.raw_http import PATIENCE_S, Wire, serving
from tests.wire.client_frames import client_frame

HANDSHAKE = (
    b"GET /room?a=b HTTP/1.1\r\nhost: test\r\nupgrade: WebSocket\r\nconnection: keep-alive, Upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: chat, v2\r\n\r\n"
)


CHAT = Subprotocol("chat")


class Room:
    """Accepts, then echoes once it may; remembers what it was told."""

    def __init__(self) -> None:
        self.scope: Scope = {}
        self.told: list[Message] = []
        self.ended = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        assert await receive() == {"type": "websocket.connect"}
        await send({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-room", b"7")]})
        try:
            while True:
                await self.go_on.wait()
                message = await receive()
                self.told.append(message)
                if message["type"] != "websocket.receive":
                    assert await receive() == message, "the end is told again and again"
                    return
                await send({**message, "type": "websocket.send"})
        finally:
            self.ended.set()


@pytest.fixture
async def room() -> Room:
    return Room()


@pytest.fixture
async def server(room: Room) -> AsyncIterator[Server]:
    async with serving(room) as server, asyncio.timeout(PATIENCE_S):
        yield server


async def opened(server: Server, early: bytes = b"") -> tuple[Wire, bytes]:
    wire = await Wire.connect(server)
    wire.writer.write(HANDSHAKE + early)
    return wire, await wire.reader.readuntil(b"\r\n\r\n")


async def test_a_handshake_is_answered_as_the_application_says(room: Room, server: Server) -> None:
    wire, head = await opened(server)
    assert head.startswith(b"HTTP/1.1 101 ")
    for line in (b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", b"sec-websocket-protocol: chat", b"x-room: 7"):
        assert b"\r\n" + line + b"\r\n" in head
    assert (room.scope["path"], room.scope["query_string"], room.scope["scheme"]) == ("/room", b"a=b", "ws")
    assert room.scope["subprotocols"] == ["chat", "v2"] and room.scope["client"][0] == "127.0.0.1"
    wire.vanish()


async def test_messages_go_both_ways_whole_or_in_fragments_and_pings_are_answered(room: Room, server: Server) -> None:
    async with websockets.connect("ws://{}:{}/room".format(*server.address), subprotocols=[CHAT]) as client:
        for message in ("text", b"bytes", "ü" * 40_000, ""):
            await client.send(message)
            assert await client.recv() == message
        await client.send(["in ", "three ", "parts"])
        assert await client.recv() == "in three parts"
        await (await client.ping())
        await client.close(4001, "enough")
    assert client.close_code == 4001
    await room.ended.wait()
    assert room.told[-1] == {"type": "websocket.disconnect", "code": 4001, "reason": "enough"}


async def test_what_a_client_sends_before_it_is_accepted_is_not_lost(room: Room, server: Server) -> None:
    wire, _ = await opened(server, early=client_frame(TEXT, b"early"))
    assert await wire.reader.readexactly(7) == b"\x81\x05early"
    wire.vanish()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"sec-websocket-version: 13", b"sec-websocket-version: 8"), b"426"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), b"400"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"?"), b"400"),
        ((b"GET ", b"PUT "), b"405"),
        ((b"keep-alive, Upgrade", b"keep-alive"), b"426"),
        ((b"host: test", b"host: test\r\ncontent-length: 5"), b"400"),
    ],
)
async def test_what_is_no_proper_handshake_is_told_so(
    server: Server, change: tuple[bytes, bytes], status: bytes
) -> None:
    wire = await Wire.connect(server)
    wire.writer.write(HANDSHAKE.replace(*change))
    assert (await wire.rest()).startswith(b"HTTP/1.1 " + status)


async def test_another_upgrade_is_a_plain_request() -> None:
    async def hello(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["type"].encode()})

    async with serving(hello) as server:
        wire = await Wire.connect(server)
        wire.ask("/", headers="upgrade: h2c\r\nconnection: upgrade, http2-settings\r\n")
        assert b"http" in await wire.reader.readuntil(b"http")
        wire.vanish()


async def test_who_breaks_the_protocol_is_told_and_closed(room: Room, server: Server) -> None:
    wire, _ = await opened(server)
    wire.writer.write(b"\x81\x05plain")  # A client's frame must be masked.
    assert (await wire.rest())[:4] == b"\x88" + bytes([2 + len(b"a client's frame is not masked")]) + b"\x03\xea"
    await room.ended.wait()
    assert room.told[-1]["code"] == 1002


async def test_a_message_over_the_limit_is_refused_before_it_is_waited_for(room: Room, server: Server) -> None:
    wire, _ = await opened(server)
    wire.writer.write(b"\x82\xff" + (MESSAGE_BYTES_MAX + 1).to_bytes(8, "big") + bytes(4))
    assert (await wire.rest())[2:4] == b"\x03\xf1"
    await room.ended.wait()


async def test_unread_messages_stop_the_reading_until_they_are_read(room: Room, server: Server) -> None:
    room.go_on.clear()
    wire, _ = await opened(server)
    frame = client_frame(TEXT, b"x" * 50_000)
    sending = asyncio.create_task(pour(wire, frame * 400))
    (connection,) = server._protocols.connections  # type: ignore[attr-defined]
    while connection._transport.is_reading():  # noqa: ASYNC110  how far the server has got is no event of the test's
        await asyncio.sleep(0)
    # The read that passed the limit may have brought some more.
    assert UNREAD_MAX <= len(connection.exchange._unread) < 2 * UNREAD_MAX
    room.go_on.set()
    for _ in range(400):
        assert len(await wire.reader.readexactly(4 + 50_000)) == 4 + 50_000
    await sending
    wire.vanish()


async def pour(wire: Wire, data: bytes) -> None:
    wire.writer.write(data)
    await wire.writer.drain()


async def test_a_client_that_vanishes_ends_its_room(room: Room, server: Server) -> None:
    wire, _ = await opened(server)
    wire.vanish()
    await room.ended.wait()
    assert room.told == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


async def test_a_client_that_does_not_answer_our_closing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainspring.core.serve.sockets.CLOSE_S", 0.05)

    async def brief(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000, "reason": "brief"})
        with pytest.raises(Disconnected):
            await send({"type": "websocket.send", "text": "late"})

    async with serving(brief) as server, asyncio.timeout(PATIENCE_S):
        wire, _ = await opened(server)
        wire.writer.write(client_frame(PING, b"?"))  # It lives, but says no goodbye; a closed socket answers no pings.
        assert await wire.rest() == bytes([0x80 | CLOSE, 7]) + (4000).to_bytes(2, "big") + b"brief"


async def test_pings_carry_their_payload_back(room: Room, server: Server) -> None:
    wire, _ = await opened(server)
    wire.writer.write(client_frame(PING, b"42"))
    assert await wire.reader.readexactly(4) == bytes([0x80 | PONG, 2]) + b"42"
    wire.vanish()


async def test_a_room_that_says_nothing_refuses(server: Server) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    async def closes(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})

    for app in (silent, closes):
        async with serving(app) as refusing:
            wire = await Wire.connect(refusing)
            wire.writer.write(HANDSHAKE)
            assert (await wire.rest()).startswith(b"HTTP/1.1 403 ")
