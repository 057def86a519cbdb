"""What the doors cost: a raw answer by our server beside Granian alone, and WebSockets beside the `websockets` library."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from bench.comparison import Comparison, alternate
from bench.load import CLIENT_CPU, load, pinned_to

IDLE_SOCKETS = 1_000
BUSY_SOCKETS = 50
REQUEST = b"GET /links/7 HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\naccept: */*\r\n\r\n"
HANDSHAKE = (
    b"GET /live HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)
TEXT = b"x" * 100
MESSAGE = bytes([0x81, 0x80 | len(TEXT)]) + bytes(4) + TEXT
ECHO_BYTES = 2 + len(TEXT)


def run(seconds: float) -> list[Comparison]:
    """Each side of each pair measured for `seconds`."""
    return [*_requests(seconds), *_echoes(seconds), *_memory()]


def _requests(seconds: float) -> Iterator[Comparison]:
    with _Child.started("seam") as ours, _Child.started("granian") as theirs:
        figures = alternate(
            lambda turn_s: load(ours.port, [REQUEST], turn_s),
            lambda turn_s: load(theirs.port, [REQUEST], turn_s),
            seconds,
        )
    note = "Python on the loop beside a parser in a thread of its own"
    yield Comparison("raw small JSON answers", figures[0], "Granian alone", figures[1], "requests/s", note=note)


def _echoes(seconds: float) -> Iterator[Comparison]:
    with _Child.started("sockets") as ours, _Child.started("websockets") as theirs:
        figures = alternate(
            lambda turn_s: _echo_rate(ours.port, turn_s), lambda turn_s: _echo_rate(theirs.port, turn_s), seconds
        )
    yield Comparison("WebSocket messages of 100 B echoed", figures[0], "websockets", figures[1], "messages/s")


def _memory() -> Iterator[Comparison]:
    theirs = [_idle_kb("websockets") for _ in range(3)]
    for name, server in (("an idle product WebSocket", "sockets"), ("an idle console WebSocket", "seam")):
        ours = [_idle_kb(server) for _ in range(3)]
        yield Comparison(f"memory of {name}", ours, "websockets", theirs, "KB", higher_is_better=False)


class _Child:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.port = self._line()

    @classmethod
    @contextmanager
    def started(cls, name: str) -> "Iterator[_Child]":
        command = [sys.executable, "-m", "bench.core.server_children", name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            try:
                yield cls(process)
            finally:
                process.stdin.close()
                process.wait()

    def _line(self) -> int:
        assert self._process.stdout
        return int(self._process.stdout.readline())

    def resident_bytes(self) -> int:
        assert self._process.stdin
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return self._line()


def _idle_kb(name: str) -> float:
    async def measure(child: _Child) -> float:
        first = await _open(child.port, 20)  # What is allocated once is no cost of a socket.
        before = child.resident_bytes()
        rest = await _open(child.port, IDLE_SOCKETS)
        after = child.resident_bytes()
        for writer in (*first, *rest):
            writer.close()
        return (after - before) / IDLE_SOCKETS / 1000

    with _Child.started(name) as child:
        return uvloop.run(measure(child))


async def _open(port: int, count: int) -> list[asyncio.StreamWriter]:
    writers = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 101 " in head, head
        writers.append(writer)
    return writers


def _echo_rate(port: int, seconds: float) -> float:
    with pinned_to(CLIENT_CPU):
        return uvloop.run(_echo(port, seconds))


async def _echo(port: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    talkers = [_Talker() for _ in range(BUSY_SOCKETS)]
    for talker in talkers:
        await loop.create_connection(lambda talker=talker: talker, "127.0.0.1", port)  # type: ignore[misc]
        await talker.ready
    started = time.perf_counter()
    for talker in talkers:
        talker.talk()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    answered = sum(talker.answered for talker in talkers)
    for talker in talkers:
        talker.transport.abort()
    return answered / elapsed


class _Talker(asyncio.Protocol):
    """Sends a message, waits for its echo, sends the next."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answered = 0
        self._missing = ECHO_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(HANDSHAKE)

    def talk(self) -> None:
        self._missing = ECHO_BYTES
        self.transport.write(MESSAGE)

    def data_received(self, data: bytes) -> None:
        if not self.ready.done():
            assert data.startswith(b"HTTP/1.1 101 ") and data.endswith(b"\r\n\r\n"), data
            self.ready.set_result(None)
            return
        self._missing -= len(data)
        if self._missing == 0:
            self.answered += 1
            self.talk()
