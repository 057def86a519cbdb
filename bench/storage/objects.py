"""The S3 door beside `versitygw` on a directory of the same disk, by raw sockets and requests that were signed before.

The peer answers a PUT once the file is in the page cache; ours once it is on stable storage. It is started with keep-alive, as
every S3 client wants it. Without the peer (`go install github.com/versity/versitygw/cmd/versitygw@latest`, on the path or
named by `VERSITYGW`) only our figures are shown.
"""

import asyncio
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import uvloop

from bench.comparison import Comparison, alternate
from bench.load import CLIENT_CPU, pinned_to
from mainspring.wire.aws import sigv4

CONNECTIONS = 64
SMALL = os.urandom(4 << 10)
MIB = 1 << 20
LARGE_BYTES = 64 * MIB
KEYS = 10_000
PARTS = 8
BUCKET = "bench"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_ETAG = re.compile(rb'\r\netag:[ \t]*("[^"\r]+")', re.IGNORECASE)


class Side:
    """A server under load: its port and the key pair that requests to it are signed with."""

    def __init__(self, name: str, port: int, access_key: str, secret: str, process: subprocess.Popen[str]) -> None:
        self.name = name
        self.port = port
        self.process = process
        self._access_key = access_key
        self._secret = secret

    def signed(
        self, method: str, path: str, body: bytes = b"", query: Sequence[tuple[str, str]] = (), **headers: str
    ) -> bytes:
        """A whole request."""
        now_s = time.time()
        given = {"host": f"127.0.0.1:{self.port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        scope = sigv4.Scope(self._access_key, sigv4.date_of(now_s)[:8], "us-east-1", "s3")
        made = sigv4.authorize(method, path, query, given, scope, self._secret, now_s, sigv4.UNSIGNED)
        target = f"{path}?{sigv4.canonical_query(query)}" if query else path
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in made.items())]
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def run(seconds: float) -> list[Comparison]:
    """The lines of the specification's "Speed" that need no second disk, each side in about `seconds`."""
    with ExitStack() as stack:
        ours = stack.enter_context(_ours())
        peer = stack.enter_context(_peer())
        sides = [ours] if peer is None else [ours, peer]
        for side in sides:
            uvloop.run(_fill(side))
        lines = [*_small(ours, peer, seconds), *_large(ours, peer, seconds)]
        lines.append(_memory(sides))
    lines.append(_start())
    return lines


def _compare(
    name: str,
    ours: Side,
    peer: Side | None,
    rate: Callable[[Side, float], float],
    seconds: float,
    unit: str,
    target: float,
) -> Comparison:
    if peer is None:
        return Comparison(name, [rate(ours, seconds)], "", [], unit, target=target, note="versitygw is not installed")
    figures = alternate(partial(rate, ours), partial(rate, peer), seconds)
    return Comparison(name, figures[0], peer.name, figures[1], unit, target=target)


def _small(ours: Side, peer: Side | None, seconds: float) -> Iterator[Comparison]:
    numbers = itertools.count()

    def puts(side: Side) -> list[bytes]:
        first = next(numbers) * 2_000
        return [side.signed("PUT", f"/{BUCKET}/put/{first + number:09}", SMALL) for number in range(2_000)]

    def gets(side: Side) -> list[bytes]:
        return [side.signed("GET", f"/{BUCKET}/keys/{number:06}") for number in range(0, KEYS, 10)]

    def heads(side: Side) -> list[bytes]:
        return [side.signed("HEAD", f"/{BUCKET}/keys/{number:06}") for number in range(0, KEYS, 10)]

    def lists(side: Side) -> list[bytes]:
        return [
            side.signed(
                "GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", "keys/"), ("start-after", f"keys/{at:06}")]
            )
            for at in range(0, KEYS - 1_000, 1_000)
        ]

    def folders(side: Side) -> list[bytes]:
        return [side.signed("GET", f"/{BUCKET}", query=[("list-type", "2"), ("delimiter", "/")])]

    for name, requests, connections, target in (
        (f"PUT of 4 KiB, {CONNECTIONS} connections", puts, CONNECTIONS, 3.0),
        (f"GET of 4 KiB, {CONNECTIONS} connections", gets, CONNECTIONS, 1.2),
        (f"HEAD, {CONNECTIONS} connections", heads, CONNECTIONS, 1.2),
        (f"list of 1,000 of {KEYS:,} keys", lists, 4, 2.0),
        (f"list with a delimiter over {KEYS:,} flat keys", folders, 4, 3.0),
    ):

        def rate(
            side: Side, turn_s: float, requests: Callable[[Side], list[bytes]] = requests, count: int = connections
        ) -> float:
            with pinned_to(CLIENT_CPU):
                return uvloop.run(_load(side.port, requests(side), turn_s, count))

        yield _compare(name, ours, peer, rate, seconds, "requests/s", target)


def _large(ours: Side, peer: Side | None, seconds: float) -> Iterator[Comparison]:
    body = os.urandom(MIB) * (LARGE_BYTES // MIB)

    def gets(side: Side, turn_s: float) -> float:
        request = side.signed("GET", f"/{BUCKET}/large")
        return uvloop.run(_load(side.port, [request], turn_s, 1)) * LARGE_BYTES / MIB

    def puts(side: Side, turn_s: float) -> float:
        request = side.signed("PUT", f"/{BUCKET}/large", body)
        return uvloop.run(_load(side.port, [request], turn_s, 1)) * LARGE_BYTES / MIB

    def parts(side: Side, _turn_s: float) -> float:
        started = time.perf_counter()
        uvloop.run(_multipart(side, body))
        return PARTS * LARGE_BYTES / MIB / (time.perf_counter() - started)

    yield _compare("PUT of 64 MiB", ours, peer, puts, seconds, "MiB/s", 0.9)
    yield _compare("GET of 64 MiB", ours, peer, gets, seconds, "MiB/s", 1.0)
    yield _compare("multipart, 8 parts of 64 MiB in parallel", ours, peer, parts, seconds, "MiB/s", 0.9)


async def _multipart(side: Side, body: bytes) -> None:
    path = f"/{BUCKET}/parts"
    begun = await _once(side.port, side.signed("POST", path, query=[("uploads", "")]))
    id = re.search(rb"<UploadId>([^<]+)<", begun)
    assert id is not None
    upload = id[1].decode()
    requests = [
        side.signed("PUT", path, body, query=[("partNumber", str(number)), ("uploadId", upload)])
        for number in range(1, PARTS + 1)
    ]
    answers = await asyncio.gather(*(_once(side.port, request) for request in requests))
    listed = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{_etag(answer)}</ETag></Part>"
        for number, answer in enumerate(answers, 1)
    )
    done = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
    await _once(side.port, side.signed("POST", path, done, query=[("uploadId", upload)]))


def _etag(answer: bytes) -> str:
    found = _ETAG.search(answer)
    assert found is not None
    return found[1].decode()


def _memory(sides: list[Side]) -> Comparison:
    figures = [[_resident_mib(side.process.pid)] for side in sides]
    return Comparison(
        "memory after the load",
        figures[0],
        sides[-1].name if len(sides) > 1 else "",
        figures[1] if len(sides) > 1 else [],
        "MiB",
        higher_is_better=False,
    )


def _resident_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def _start() -> Comparison:
    ours, peers = [], []
    for _ in range(3):
        started = time.perf_counter()
        with _ours():
            ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        with _peer() as peer:
            if peer is not None:
                peers.append(time.perf_counter() - started)
    return Comparison(
        "start to the first answer", ours, "versitygw" if peers else "", peers, "s", higher_is_better=False, target=5.0
    )


@contextmanager
def _ours() -> Iterator[Side]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as data:
        options = ["--data", data, "--port", "0", "--set", "ports.s3=0", "--quiet"]
        process = subprocess.Popen(
            [sys.executable, "-m", "mainspring", "up", "objects", *options], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            address, _, token = ready.removeprefix("ready ").strip().partition("?token=")
            request = urllib.request.Request(address + "-/systems", headers={"authorization": f"Bearer {token}"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                systems = json.load(answer)["systems"]
            door = next(door for one in systems for door in one["listeners"] if door["name"] == "s3")
            port = int(door["address"].rstrip("/").rpartition(":")[2])
            words = [sys.executable, "-m", "mainspring", "token", "create", "objects", "--json", "--data", data]
            keys = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
            side = Side("mainspring", port, keys["access_key"], keys["secret_key"], process)
            uvloop.run(_once(port, side.signed("PUT", f"/{BUCKET}")))
            yield side
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def _peer() -> Iterator[Side | None]:
    program = os.environ.get("VERSITYGW") or shutil.which("versitygw")
    if program is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIRECTORY")) as data:
        keys = ["--access", "bench", "--secret", "benchbench"]
        process = subprocess.Popen(
            [program, "--port", f"127.0.0.1:{port}", *keys, "--quiet", "--keep-alive", "posix", data],
            stdout=subprocess.DEVNULL,
            text=True,
        )
        try:
            side = Side("versitygw", port, "bench", "benchbench", process)
            deadline = time.monotonic() + 30
            while True:
                try:
                    uvloop.run(_once(port, side.signed("PUT", f"/{BUCKET}")))
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            yield side
        finally:
            process.terminate()
            process.wait(30)


async def _fill(side: Side) -> None:
    """Ten thousand objects of 4 KiB."""
    names = iter(range(KEYS))

    async def some() -> None:
        connection = await _Connection.open(side.port)
        for number in names:
            await connection.ask(side.signed("PUT", f"/{BUCKET}/keys/{number:06}", SMALL))
        connection.transport.close()

    await asyncio.gather(*(some() for _ in range(CONNECTIONS)))


async def _load(port: int, requests: list[bytes], seconds: float, connections: int) -> float:
    """Answers a second; raises at one that is no 2xx."""
    turns = itertools.cycle(requests)
    ends = time.perf_counter() + seconds
    answered = 0

    async def caller() -> None:
        nonlocal answered
        connection = await _Connection.open(port)
        while time.perf_counter() < ends:
            await connection.ask(next(turns))
            answered += 1
        connection.transport.close()

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(connections)))
    return answered / (time.perf_counter() - started)


async def _once(port: int, request: bytes) -> bytes:
    connection = await _Connection.open(port)
    try:
        return await connection.ask(request)
    finally:
        connection.transport.close()


class _Connection(asyncio.BufferedProtocol):
    """One HTTP/1.1 connection that keeps no more of an answer than its beginning."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._buffer = bytearray(1 << 20)
        self._kept = bytearray()
        self._left = -1
        self._answer: asyncio.Future[bytes] | None = None
        self._bodiless = False

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self._bodiless = request.startswith(b"HEAD ")
        self.transport.write(request)
        answer = await self._answer
        if answer[9:10] != b"2":
            raise RuntimeError(f"an answer that is no 2xx: {answer[:600]!r}")
        return answer

    def get_buffer(self, _hint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        if self._left < 0:
            self._kept += self._buffer[:count]
            end = self._kept.find(b"\r\n\r\n")
            if end < 0:
                return
            found = _LENGTH.search(self._kept, 0, end + 2)
            length = int(found[1]) if found is not None and not self._bodiless else 0
            self._left = length - (len(self._kept) - end - 4)
        else:
            if len(self._kept) < 4_096:
                self._kept += self._buffer[:count]
            self._left -= count
        if self._left <= 0 and self._answer is not None:
            answer, self._kept, self._left = bytes(self._kept), bytearray(), -1
            self._answer.set_result(answer)
