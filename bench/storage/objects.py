"""The S3 door beside the best of its peers on one disk, by raw sockets and requests that were signed before.

The peers (`objects_sides`) answer a PUT once the file is in the page cache; ours once it is on stable storage. All take turns
in one run, and a line's ratio is to whichever peer is the fastest at it. `BENCH_KEYS` says how many objects the listings are
of (10,000; the specification's figure is 1,000,000, which takes each side minutes to fill), `BENCH_DIRECTORY` on which disk
all of it lies.
"""

import asyncio
import itertools
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import uvloop

from bench.comparison import Comparison
from bench.load import CLIENT_CPU, pinned_to
from bench.storage.objects_sides import BUCKET, Side, ours, peers

CONNECTIONS = 64
SMALL = os.urandom(4 << 10)
MIB = 1 << 20
LARGE_BYTES = 64 * MIB
KEYS = int(os.environ.get("BENCH_KEYS", "10000"))
PREFIXES = 100
HOT_KEYS = 1_000
PARTS = 8
ROUNDS = 3
IDLE_MIB_MAX = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_ETAG = re.compile(rb'\r\netag:[ \t]*("[^"\r]+")', re.IGNORECASE)

Rate = Callable[[Side, float], float]


def run(seconds: float) -> list[Comparison]:
    """The lines of the specification's "Speed" that need no second disk, each side in about `seconds`."""
    starts, absent = peers()
    with ExitStack() as stack:
        sides = [stack.enter_context(ours())]
        idle = _idle(sides[0])
        sides += [stack.enter_context(start()) for start in starts]
        for side in sides:
            uvloop.run(_fill(side))
        lines = [*_small(sides, seconds), *_large(sides, seconds), idle, _memory(sides)]
    lines.append(_start([ours, *starts]))
    if absent:
        lines[0].note = "; ".join([lines[0].note, *absent] if lines[0].note else absent)
    return lines


def _key(number: int) -> str:
    """Keys that are flat where `/` is what divides them, and below a hundred prefixes where it is `-`."""
    return f"keys/{number % PREFIXES:02}-{number:08}"


def _compare(
    name: str, sides: Sequence[Side], rate: Rate, seconds: float, unit: str, target: float | None, scale: float = 1
) -> Comparison:
    """All sides in turn, some rounds. The peer of the line is the fastest; one that refuses is left out, and said."""
    figures: dict[str, list[float]] = {side.name: [] for side in sides}
    refused = []
    for _ in range(ROUNDS):
        for side in sides:
            if side.name not in figures:
                continue
            try:
                figures[side.name].append(rate(side, seconds / ROUNDS) * scale)
            except Refused:
                if side is sides[0]:
                    raise
                del figures[side.name]
                refused.append(f"{side.name} refuses it")
    line = _best(name, figures, unit, target=target)
    line.note = ", ".join([line.note, *refused] if line.note else refused)
    return line


def _best(
    name: str, figures: dict[str, list[float]], unit: str, *, higher_is_better: bool = True, target: float | None = None
) -> Comparison:
    own, *others = figures
    ranked = sorted(others, key=lambda other: statistics.median(figures[other]), reverse=higher_is_better)
    best = ranked[0] if ranked else ""
    note = ", ".join(f"{other} {statistics.median(figures[other]):,.3g}" for other in ranked[1:])
    peer = figures[best] if best else []
    return Comparison(name, figures[own], best, peer, unit, higher_is_better=higher_is_better, target=target, note=note)


def _small(sides: Sequence[Side], seconds: float) -> Iterator[Comparison]:
    numbers = itertools.count()

    def puts(side: Side) -> list[bytes]:
        first = next(numbers) * 2_000
        return [side.signed("PUT", f"/{BUCKET}/put/{first + number:09}", SMALL) for number in range(2_000)]

    def gets(side: Side) -> list[bytes]:
        return [side.signed("GET", f"/{BUCKET}/{_key(number)}") for number in range(HOT_KEYS)]

    def mixed(side: Side) -> list[bytes]:
        """One of ten writes one of the keys that the others read."""
        return [
            side.signed("GET", f"/{BUCKET}/{_key(number)}")
            if number % 10
            else side.signed("PUT", f"/{BUCKET}/{_key(number)}", SMALL)
            for number in range(HOT_KEYS)
        ]

    def heads(side: Side) -> list[bytes]:
        return [side.signed("HEAD", f"/{BUCKET}/{_key(number)}") for number in range(HOT_KEYS)]

    def lists(side: Side) -> list[bytes]:
        places = [(f"{at:02}-{0:08}") for at in range(0, PREFIXES - 10, 10)]
        return [
            side.signed(
                "GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", "keys/"), ("start-after", f"keys/{place}")]
            )
            for place in places
        ]

    def rolled(side: Side) -> list[bytes]:
        return [side.signed("GET", f"/{BUCKET}", query=[("list-type", "2"), ("prefix", "keys/"), ("delimiter", "-")])]

    def folders(side: Side) -> list[bytes]:
        return [side.signed("GET", f"/{BUCKET}", query=[("list-type", "2"), ("delimiter", "/")])]

    kinds: list[tuple[str, Callable[[Side], list[bytes]], int, float | None]] = [
        (f"PUT of 4 KiB, {CONNECTIONS} connections", puts, CONNECTIONS, 3.0),
        (f"GET of 4 KiB, {CONNECTIONS} connections", gets, CONNECTIONS, 1.2),
        ("GET of 4 KiB, one in ten a PUT", mixed, CONNECTIONS, None),
        (f"HEAD, {CONNECTIONS} connections", heads, CONNECTIONS, 1.2),
        (f"list of 1,000 of {KEYS:,} keys", lists, 4, 2.0),
        (f"list with a delimiter over {KEYS:,} flat keys, {PREFIXES} prefixes", rolled, 4, 3.0),
        (f"list with a delimiter over a folder of {KEYS:,}", folders, 4, None),
    ]
    for name, requests, connections, target in kinds:

        def rate(
            side: Side, turn_s: float, requests: Callable[[Side], list[bytes]] = requests, count: int = connections
        ) -> float:
            with pinned_to(CLIENT_CPU):
                return uvloop.run(_load(side.port, requests(side), turn_s, count))

        yield _compare(name, sides, rate, seconds, "requests/s", target)


def _large(sides: Sequence[Side], seconds: float) -> Iterator[Comparison]:
    body = os.urandom(MIB) * (LARGE_BYTES // MIB)

    def gets(side: Side, turn_s: float) -> float:
        return uvloop.run(_load(side.port, [side.signed("GET", f"/{BUCKET}/large")], turn_s, 1))

    def puts(side: Side, turn_s: float) -> float:
        return uvloop.run(_load(side.port, [side.signed("PUT", f"/{BUCKET}/large", body)], turn_s, 1))

    def parts(side: Side, _turn_s: float) -> float:
        started = time.perf_counter()
        uvloop.run(_multipart(side, body))
        return PARTS / (time.perf_counter() - started)

    of_large = LARGE_BYTES / MIB
    yield _compare("PUT of 64 MiB", sides, puts, seconds, "MiB/s", 0.9, of_large)
    yield _compare("GET of 64 MiB", sides, gets, seconds, "MiB/s", 1.0, of_large)
    yield _compare("multipart, 8 parts of 64 MiB in parallel", sides, parts, seconds, "MiB/s", 0.9, of_large)


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


def _idle(side: Side) -> Comparison:
    figure = [_resident_mib(side.process.pid)]
    return Comparison(
        "memory before the load", figure, "asked", [IDLE_MIB_MAX], "MiB", higher_is_better=False, target=1.0
    )


def _memory(sides: Sequence[Side]) -> Comparison:
    figures = {side.name: [_resident_mib(side.process.pid)] for side in sides}
    return _best("memory after the load", figures, "MiB", higher_is_better=False)


def _resident_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def _start(starts: Sequence[Callable[[], AbstractContextManager[Side]]]) -> Comparison:
    figures: dict[str, list[float]] = {}
    for start in (*starts,) * ROUNDS:
        began = time.perf_counter()
        with start() as side:
            figures.setdefault(side.name, []).append(time.perf_counter() - began)
    return _best("start to the first answer", figures, "s", higher_is_better=False, target=5.0)


async def _fill(side: Side) -> None:
    """`KEYS` objects: those that are read of 4 KiB, the others of one byte."""
    numbers = iter(range(KEYS))

    async def some() -> None:
        connection = await _Connection.open(side.port)
        for number in numbers:
            body = SMALL if number < HOT_KEYS else b"x"
            await connection.ask(side.signed("PUT", f"/{BUCKET}/{_key(number)}", body))
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


class Refused(Exception):
    """An answer that is no 2xx."""


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
            raise Refused(f"{answer[:600]!r}")
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
            if found is None and not self._bodiless and _CHUNKED.search(self._kept, 0, end + 2):
                # Only answers that fit into memory come in chunks; one ends where its last chunk does.
                if not self._kept.endswith(b"\r\n0\r\n\r\n"):
                    return
                self._left = 0
            else:
                length = int(found[1]) if found is not None and not self._bodiless else 0
                self._left = length - (len(self._kept) - end - 4)
        else:
            if len(self._kept) < 4_096:
                self._kept += self._buffer[:count]
            self._left -= count
        if self._left <= 0 and self._answer is not None:
            answer, self._kept, self._left = bytes(self._kept), bytearray(), -1
            self._answer.set_result(answer)
