"""Small JSON reads and writes with 400 routes on, random paths and a token: beside FastAPI and Litestar.

First over the same server, then without one, which shows the frameworks alone.
"""

import asyncio
import random
import string
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any

import msgspec
import uvloop

from bench.comparison import Comparison, alternate
from bench.core.http_servers import APPLICATIONS, PATHS, SYSTEMS, TOKEN, NewLink
from bench.load import load

PEERS = {"fastapi": "FastAPI", "litestar": "Litestar"}
BODY = msgspec.json.encode(NewLink("https://example.org/some/long/address?with=query", ["one", "two"], "A title"))
HEADERS = [
    ("host", "127.0.0.1:8080"),
    ("user-agent", "bench"),
    ("accept", "*/*"),
    ("authorization", f"Bearer {TOKEN}"),
]
ROUTES = [
    (method, f"/api/s{number}{path.replace('{id}', 'one')}")
    for number in range(SYSTEMS)
    for method, path in (("POST", "/links"), *(("GET", path) for path in PATHS))
]
WRITE_HEADERS = [*HEADERS, ("content-type", "application/json"), ("content-length", str(len(BODY)))]


def run(seconds: float) -> list[Comparison]:
    """Requests a second, each side of each pair measured for `seconds`."""
    return [*_served(seconds), *_in_process(seconds)]


def _paths(count: int = 20_000) -> list[str]:
    dice = random.Random(1)
    return [
        f"/api/s{dice.randrange(SYSTEMS)}{dice.choice(PATHS).replace('{id}', ''.join(dice.choices(string.ascii_letters, k=9)))}"
        for _ in range(count)
    ]


def _served(seconds: float) -> Iterator[Comparison]:
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS)
    reads = [f"GET {path} HTTP/1.1\r\n{head}\r\n".encode() for path in _paths()]
    head = "".join(f"{name}: {value}\r\n" for name, value in WRITE_HEADERS)
    writes = [f"POST /api/s{number}/links HTTP/1.1\r\n{head}\r\n".encode() + BODY for number in range(SYSTEMS)]
    with _serving("ours") as ours, _serving("fastapi") as fastapi, _serving("litestar") as litestar:
        for peer, port in (("fastapi", fastapi), ("litestar", litestar)):
            for name, requests in (("reads", reads), ("writes", writes)):
                figures = alternate(
                    lambda turn_s, requests=requests: load(ours, requests, turn_s),  # type: ignore[misc]
                    lambda turn_s, requests=requests, port=port: load(port, requests, turn_s),  # type: ignore[misc]
                    seconds,
                )
                yield Comparison(f"small JSON {name} over HTTP", figures[0], PEERS[peer], figures[1], "requests/s")


@contextmanager
def _serving(name: str) -> Iterator[int]:
    """A server in a process of its own that has answered every route once; gives its port."""
    command = [sys.executable, "-m", "bench.core.http_servers", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        try:
            port = int(process.stdout.readline())
            _warm(port)
            yield port
        finally:
            process.stdin.close()
            process.wait()


def _warm(port: int) -> None:
    """FastAPI builds each router at its first request, which takes it longer than a turn and is not what is measured."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for method, path in ROUTES:
        connection.request(method, path, BODY if method == "POST" else None, dict(WRITE_HEADERS[3:5]))
        answer = connection.getresponse()
        answer.read()
        assert 200 <= answer.status < 300, (method, path, answer.status)


def _in_process(seconds: float) -> Iterator[Comparison]:
    reads = [_scope("GET", path, HEADERS) for path in _paths(5_000)]
    writes = [_scope("POST", f"/api/s{number}/links", WRITE_HEADERS) for number in range(SYSTEMS)]
    routes = [_scope(method, path, WRITE_HEADERS) for method, path in ROUTES]
    ours = APPLICATIONS["ours"]()
    uvloop.run(_drive(ours, routes, 0, len(routes)))
    for peer, title in PEERS.items():
        theirs = APPLICATIONS[peer]()
        uvloop.run(_drive(theirs, routes, 0, len(routes)))
        for name, scopes in (("reads", reads), ("writes", writes)):
            figures = alternate(
                lambda turn_s, scopes=scopes: uvloop.run(_drive(ours, scopes, turn_s)),  # type: ignore[misc]
                lambda turn_s, scopes=scopes, theirs=theirs: uvloop.run(_drive(theirs, scopes, turn_s)),  # type: ignore[misc]
                seconds,
            )
            yield Comparison(f"small JSON {name} in process", figures[0], title, figures[1], "requests/s")


def _scope(method: str, path: str, headers: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", "50000"),
        "server": ("127.0.0.1", "8080"),
    }


async def _drive(
    app: Callable[..., Awaitable[None]], scopes: list[dict[str, Any]], seconds: float, calls_min: int = 0
) -> float:
    """Calls `app` again and again and counts; every answer must be a 2xx."""
    statuses: set[int] = set()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if "status" in message:
            statuses.add(message["status"])

    answered, position = 0, 0
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or answered < calls_min:
        for _ in range(100):
            await app({**scopes[position], "state": {}}, receive, send)
            position = (position + 1) % len(scopes)
        answered += 100
        await asyncio.sleep(0)
    assert all(200 <= status < 300 for status in statuses), statuses
    return answered / elapsed
