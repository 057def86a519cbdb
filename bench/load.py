"""A load generator for one core: many HTTP/1.1 connections, each with one request on its way.

It parses no more than it must: the status' first digit and the content length, which every answer must carry.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvloop

SERVER_CPU, CLIENT_CPU = 0, 1


def load(port: int, requests: Sequence[bytes], seconds: float, connections: int = 64) -> float:
    """Answers a second from 127.0.0.1:`port` to `requests` in turn. Raises `RuntimeError` at an answer that is no 2xx."""
    with pinned_to(CLIENT_CPU):
        return uvloop.run(_load(port, itertools.cycle(requests), seconds, connections))


async def _load(port: int, requests: Iterator[bytes], seconds: float, connections: int) -> float:
    loop = asyncio.get_running_loop()
    callers = [_Caller(requests) for _ in range(connections)]
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", port)  # type: ignore[misc]
    started = time.perf_counter()
    for caller in callers:
        caller.ask()
    await asyncio.sleep(seconds)
    elapsed = time.perf_counter() - started
    answered = sum(caller.answered for caller in callers)
    for caller in callers:
        caller.transport.close()
    wrong = [caller.wrong for caller in callers if caller.wrong]
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {connections} connections failed: {wrong[0]!r}")
    return answered / elapsed


class _Caller(asyncio.Protocol):
    transport: asyncio.Transport

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.answered = 0
        self.wrong = b""
        self._requests = requests
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self.wrong = str(error).encode()

    def ask(self) -> None:
        self.transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        end = data.find(b"\r\n\r\n")
        mark = data.find(b"content-length: ", 0, end) if end > 0 else -1
        if mark < 0 or len(data) < end + 4 + int(data[mark + 16 : data.find(b"\r", mark)]):
            self._received = data
            return
        self._received = b""
        if data[9:10] != b"2":
            self.wrong = data[:200]
            return
        self.answered += 1
        self.ask()


@contextmanager
def pinned_to(cpu: int) -> Iterator[None]:
    """Keeps this process on one core, where there are several, so that client and server do not take turns."""
    before = os.sched_getaffinity(0)
    if {SERVER_CPU, CLIENT_CPU} <= before:
        os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
