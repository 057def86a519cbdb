"""The HTTP server behaves under idle, slow, rude and vanished clients, and when it is told to stop."""

import asyncio
import json
import os
import socket
import ssl
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import websockets

from mainspring.core.http.request import Message, Receive, Scope, Send
from mainspring.core.serve import Server, serve
from mainspring.core.tls import Tls, TlsError
from tests.core.certificates import make_certificate
from tests.core.raw_http import PATIENCE_S, Wire, bound, get, serving, unverified


async def answer(send: Send, body: bytes, kind: bytes = b"text/plain") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


class House:
    """An application with one room for each kind of trouble; its events are what the tests wait for."""

    def __init__(self) -> None:
        self.started, self.cancelled, self.ended, self.go = (asyncio.Event() for _ in range(4))
        self.seen: list[Message] = []
        self.sent_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await getattr(self, scope["path"].strip("/"))(scope, receive, send)

    async def hello(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"hello")

    async def order(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, scope["query_string"])

    async def wait(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers once it may; remembers a cancellation."""
        self.started.set()
        try:
            await self.go.wait()
            await answer(send, b"waited")
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def stubborn(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Swallows its first cancellation."""
        self.started.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
        await answer(send, b"after all")

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A stream of events, the first of which is sent and none follows."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        self.started.set()
        try:
            await self.go.wait()
        finally:
            self.ended.set()

    async def flood(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An answer without end."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                self.sent_bytes += 65536
                self.started.set()
        finally:
            self.ended.set()

    async def duplex(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Streams its answer before it has read the request's body."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.body", "body": str(len(body)).encode()})

    async def early(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a secret of ours")

    async def late(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("in the middle")

    async def upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            self.started.set()
            if message["type"] == "http.disconnect":
                self.ended.set()
                return
            if not message["more_body"]:
                await answer(send, b"stored")
                return

    async def socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": message["text"]})
            self.seen.append(message)
        finally:
            self.ended.set()

    async def failing_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["query_string"] == b"accepted":
            await send({"type": "websocket.accept"})
        raise RuntimeError("a secret of ours")


@pytest.fixture
async def house() -> House:
    return House()


Way = dict[str, Tls]


@pytest.fixture(params=["plain", "tls"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """Plain text and TLS are served by different servers, which behave alike."""
    return {"tls": make_certificate(tmp_path)} if request.param == "tls" else {}


def url(server: Server, path: str) -> str:
    host, port = server.address[:2]
    return f"{'ws' if unverified(server) is None else 'wss'}://{host}:{port}{path}"


async def within(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), PATIENCE_S)


async def until_none_is_open(server: Server) -> bool:
    """Whether the server comes to know that every handler has ended."""
    async with asyncio.timeout(PATIENCE_S):
        while server.open_exchanges:  # noqa: ASYNC110  what the server has got to is no event of the test's
            await asyncio.sleep(0)
    return True


async def test_a_thousand_idle_connections_do_not_block_a_new_one(house: House) -> None:
    async with serving(house) as server:
        idle = await asyncio.gather(*(Wire.connect(server) for _ in range(1000)))
        assert (await get(server, "/hello"))[::2] == (200, b"hello")
        idle[500].ask("/hello")
        assert (await idle[500].answer())[0] == 200
        for wire in idle:
            wire.writer.close()


async def test_pipelined_requests_are_answered_in_order(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        wire = await Wire.connect(server)
        for number in range(50):
            wire.ask(f"/order?{number}")
        assert [(await wire.answer())[2] for _ in range(50)] == [str(number).encode() for number in range(50)]
        wire.writer.close()


@pytest.mark.parametrize("path", ["/events", "/flood"], ids=["while_it_waits", "while_it_writes"])
async def test_a_stream_is_cancelled_when_its_client_vanishes(house: House, way: Way, path: str) -> None:
    async with serving(house, **way) as server:
        wire = await Wire.connect(server)
        wire.ask(path)
        await within(house.started)
        wire.vanish()
        await within(house.ended)
        assert await until_none_is_open(server)


async def test_a_slow_reader_holds_its_handler_back(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, server.address)
        trust = unverified(server)
        name = None if trust is None else "localhost"
        wire = Wire(*await asyncio.open_connection(sock=sock, ssl=trust, server_hostname=name))
        wire.writer.transport.pause_reading()
        wire.ask("/flood")
        await within(house.started)
        # Other requests are served meanwhile, and the flood stops at what the kernel holds for one socket.
        before = -1
        while house.sent_bytes != before:
            before = house.sent_bytes
            for _ in range(20):
                assert (await get(server, "/hello"))[0] == 200
        assert house.sent_bytes < 32 << 20
        wire.vanish()
        await within(house.ended)


async def test_an_upload_that_breaks_off_is_a_disconnect_for_its_reader(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        wire = await Wire.connect(server)
        wire.writer.write(b"POST /upload HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\npart")
        await within(house.started)
        wire.vanish()
        await within(house.ended)
        assert await until_none_is_open(server)


async def test_a_body_can_be_read_after_its_answer_has_begun(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        wire = await Wire.connect(server)
        wire.ask("/duplex", "POST", b"x" * 300_000, headers="connection: close\r\n")
        assert b"300000" in await wire.rest()


async def test_a_fault_before_the_answer_is_a_problem_without_our_text(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        status, headers, body = await get(server, "/early")
        assert (status, headers["content-type"]) == (500, "application/problem+json")
        assert json.loads(body)["status"] == 500 and b"secret" not in body


async def test_a_fault_in_the_middle_of_an_answer_never_looks_like_its_end(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        wire = await Wire.connect(server)
        wire.ask("/late")
        text = await wire.rest()
        assert text.endswith(b"4\r\nhalf\r\n"), "a whole answer would end with a chunk of length 0"


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"\0" * 5000, b"GET / HTTP/9.9\r\n\r\n"]
)
async def test_what_is_not_http_is_refused_and_the_server_goes_on(house: House, junk: bytes) -> None:
    async with serving(house) as server:
        wire = await Wire.connect(server)
        wire.writer.write(junk)
        wire.writer.write_eof()
        reply = await wire.rest()
        assert not reply or reply.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 505"))
        assert (await get(server, "/hello"))[0] == 200


async def test_a_head_without_end_is_refused_at_the_limit(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        wire = await Wire.connect(server)
        wire.ask("/hello", headers="".join(f"x-{n}: {'v' * 1000}\r\n" for n in range(300)))
        assert (await wire.rest())[:12] in (b"HTTP/1.1 431", b"")
        assert (await get(server, "/hello"))[0] == 200


async def test_a_head_that_never_ends_is_given_up(house: House) -> None:
    async with serving(house, header_timeout_s=0.2) as server:
        wire = await Wire.connect(server)
        wire.writer.write(b"GET /hello HTTP/1.1\r\nhost: te")
        assert await wire.rest() == b""


async def test_a_running_request_finishes_when_the_server_closes(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        wire, idle = await Wire.connect(server), await Wire.connect(server)
        wire.ask("/wait")
        await within(house.started)
        closing = asyncio.create_task(server.close(grace_s=PATIENCE_S))
        assert await idle.rest() == b"", "an idle connection is closed at once"
        with pytest.raises(ConnectionRefusedError):
            await Wire.connect(server)
        house.go.set()
        status, headers, body = await wire.answer()
        assert (status, headers["connection"], body) == (200, "close", b"waited")
        await asyncio.wait_for(closing, PATIENCE_S)
        assert server.open_exchanges == 0


async def test_what_does_not_finish_in_the_grace_is_cancelled_and_told_to_ask_again(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        wire = await Wire.connect(server)
        wire.ask("/wait")
        await within(house.started)
        await server.close(grace_s=0.01)
        assert house.cancelled.is_set()
        status, headers, body = await wire.answer()
        assert (status, headers["retry-after"]) == (503, "1") and json.loads(body)[
            "type"
        ] == "/problems/core/unavailable"


async def test_a_handler_that_answers_on_cancellation_is_heard(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        wire = await Wire.connect(server)
        wire.ask("/stubborn")
        await within(house.started)
        await server.close(grace_s=0.01)
        assert (await wire.answer())[2] == b"after all"


async def test_an_event_stream_ends_cleanly_and_at_once_when_the_server_closes(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        wire = await Wire.connect(server)
        wire.ask("/events")
        await within(house.started)
        await asyncio.wait_for(server.close(grace_s=600), PATIENCE_S)
        assert (await wire.rest()).endswith(b"data: 1\n\n\r\n0\r\n\r\n")
        assert house.ended.is_set()


async def test_websockets_are_closed_with_1001_when_the_server_closes(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        async with websockets.connect(url(server, "/socket"), ssl=unverified(server)) as client:
            await client.send("there?")
            assert await client.recv() == "there?"
            closing = asyncio.create_task(server.close(grace_s=600))
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()
            assert client.close_code == 1001
            await asyncio.wait_for(closing, PATIENCE_S)
        assert [message["type"] for message in house.seen] == ["websocket.disconnect"]


async def test_a_websocket_whose_client_vanishes_ends_its_handler(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        client = await websockets.connect(url(server, "/socket"), ssl=unverified(server))
        client.transport.abort()
        await within(house.ended)
        assert await until_none_is_open(server)


async def test_a_websocket_handler_that_fails_closes_with_1011_or_refuses_with_a_problem(
    house: House, way: Way
) -> None:
    async with serving(house, **way) as server:
        address = url(server, "/failing_socket")
        async with websockets.connect(address + "?accepted", ssl=unverified(server)) as client:
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()
            assert client.close_code == 1011
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(address, ssl=unverified(server))
        assert refused.value.response.status_code == 500 and b"secret" not in refused.value.response.body


async def test_closing_twice_is_closing_once(house: House, way: Way) -> None:
    async with serving(house, **way) as server:
        await asyncio.gather(server.close(0.1), server.close(0.1))
        await server.close(0.1)
        with pytest.raises(ConnectionRefusedError):
            await Wire.connect(server)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a policy")
async def test_native_threads_do_not_push_the_loop_off_its_core(house: House, tmp_path: Path) -> None:
    try:
        await asyncio.to_thread(lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)))
    except OSError:
        pytest.skip("this sandbox does not let a process choose how its threads are scheduled")
    before = patient_threads()
    async with serving(house, tls=make_certificate(tmp_path)):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
        assert patient_threads() - before


def patient_threads() -> set[str]:
    patient = set()
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):
            if os.sched_getscheduler(int(thread)) == os.SCHED_BATCH:
                patient.add(thread)
    return patient


async def test_it_serves_a_unix_socket(house: House, tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "control"))
    server = await serve(house, sock)
    wire = Wire(*await asyncio.open_unix_connection(str(tmp_path / "control")))
    wire.ask("/hello")
    assert (await wire.answer())[2] == b"hello"
    await server.close(grace_s=0)


async def test_it_speaks_tls_and_names_a_certificate_it_cannot_use(house: House, tmp_path: Path) -> None:
    tls = make_certificate(tmp_path)
    async with serving(house, tls=tls) as server:
        trust = ssl.create_default_context(cafile=str(tls.certificate))
        wire = Wire(*await asyncio.open_connection(*server.address, ssl=trust, server_hostname="localhost"))
        wire.ask("/hello")
        assert (await wire.answer())[2] == b"hello"
        wire.writer.close()
    for wrong in (Tls(tmp_path / "none.pem", tls.key), Tls(tls.key, tls.certificate)):
        with bound() as sock, pytest.raises(TlsError, match=str(wrong.certificate)):
            await serve(house, sock, tls=wrong)
