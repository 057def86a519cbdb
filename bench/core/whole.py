"""The whole server as a user starts it: durable creations over HTTP, the first answer, and what it costs at rest.

Creations are `POST /api/links/links` at 64 connections with a token, accounts, limits, events and metrics on, beside FastAPI
with the usual asynchronous ORM stack on the same table (`whole_peer`).
"""

import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.comparison import Comparison, alternate
from bench.load import SERVER_CPU, load, pinned_to

BODY = b'{"url": "https://example.org/some/long/address?with=query", "title": "A title"}'
START_S, REST_MB = 0.6, 90.0


def run(seconds: float) -> list[Comparison]:
    with _ours() as ours, _peer() as peer:
        creations = alternate(lambda turn_s: _create(ours, turn_s), lambda turn_s: _create(peer, turn_s), seconds)
    starts, memory = zip(*(_start() for _ in range(5)), strict=True)
    return [
        Comparison(
            "durable creations over HTTP, 64 connections", creations[0], "FastAPI, SQLAlchemy ORM, aiosqlite", creations[1],
            "links/s", target=15,
        ),
        Comparison("start to first answer", list(starts), "what is asked", [START_S], "s", higher_is_better=False, target=1),
        Comparison("memory at rest", list(memory), "what is asked", [REST_MB], "MB", higher_is_better=False, target=1),
    ]  # fmt: skip


def _create(address: str, seconds: float) -> float:
    parts = urlsplit(address)
    path = "/api/links/links"
    token = parts.query.removeprefix("token=")
    request = (
        f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    ).encode() + BODY
    assert parts.port is not None
    return load(parts.port, [request], seconds)


@contextmanager
def _started(command: list[str]) -> Iterator[tuple[str, int]]:
    """The address that a server prints when it is ready, and its process id."""
    with pinned_to(SERVER_CPU):  # which its process inherits
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("ready "):
            raise RuntimeError(f"{command} did not start")
        yield line.split()[1], process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def _ours() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, _started(_up(folder)) as (address, _):
        yield address


@contextmanager
def _peer() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        with _started([sys.executable, "-m", "bench.core.whole_peer", folder]) as (address, _):
            yield address


def _up(folder: str) -> list[str]:
    generous = ["--set", "links.token_per_minute=100000000", "--set", "ports.links=0", "--port", "0", "--quiet"]
    return [sys.executable, "-m", "mainspring", "up", "--data", folder, *generous]


def _start() -> tuple[float, float]:
    """Seconds from the command to the first answer, and megabytes resident a moment later."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with _started(_up(folder)) as (address, process):
            urllib.request.urlopen(address.partition("?")[0] + "-/ready", timeout=30).read()
            first_s = time.perf_counter() - began
            status = Path(f"/proc/{process}/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return first_s, int(kilobytes) / 1000
