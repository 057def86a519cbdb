"""Pastes when things break: a server killed at every point of a burning read, a full disk."""

import asyncio
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.database import SqliteDatabase
from mainspring.core.problems import StorageFull
from mainspring.social.links.paste_model import NewPaste, UnknownPaste
from tests.fixtures_database import PATIENCE_S
from tests.needs import REPOSITORY
from tests.social.links.conftest import pastes_beside, prepare, started
from tests.social.links.sealing import JSON_HEADERS, envelope

KEY = bytes(range(5, 37))


class Server:
    """A server in a process of its own, which dies at `point`."""

    def __init__(self, path: Path, point: str) -> None:
        command = [sys.executable, "-m", "tests.social.links.paste_server", str(path), point]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
        watchdog = threading.Timer(PATIENCE_S, self._process.kill)
        watchdog.start()
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        watchdog.cancel()
        assert port, "the server did not start"
        self.address = f"http://127.0.0.1:{port}/"

    def kill(self) -> None:
        self._process.kill()
        self.await_end()

    def await_end(self) -> None:
        self._process.wait(PATIENCE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def send(self, text: str) -> str:
        """Sends a burning paste; gives its id."""
        body = json.dumps(envelope(text, KEY, burn=1)).encode()
        answer = self._answered(urllib.request.Request(self.address, body, JSON_HEADERS))
        assert answer["status"] == 0
        return str(answer["id"])

    def read(self, id: str) -> Any:
        """The answer to a read, or None where the server died over it."""
        try:
            return self._answered(urllib.request.Request(f"{self.address}?{id}", headers=JSON_HEADERS))
        except (OSError, HTTPException, ValueError):
            return None

    @staticmethod
    def _answered(request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.loads(answer.read())


@contextmanager
def serving(path: Path, point: str = "never") -> Iterator[Server]:
    server = Server(path, point)
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize(("point", "deliveries"), [("before", 1), ("after", 0)])
def test_killed_over_a_burning_read_the_paste_is_delivered_once_or_never(
    tmp_path: Path, point: str, deliveries: int
) -> None:
    with serving(tmp_path / "pastes.db", point) as server:
        id = server.send("once")
        assert server.read(id) is None, "it died before it answered"
        server.await_end()
    with serving(tmp_path / "pastes.db") as server:
        delivered = [one for _ in range(3) if (one := server.read(id))["status"] == 0]
    assert len(delivered) == deliveries


@pytest.mark.parametrize("answers_before_the_kill", [1, 8])
def test_killed_in_the_middle_of_many_reads_nothing_is_delivered_twice(
    tmp_path: Path, answers_before_the_kill: int
) -> None:
    answered = threading.Semaphore(0)

    def read(id: str) -> bool:
        answer = server.read(id)
        answered.release()
        return answer is not None and answer["status"] == 0

    with ThreadPoolExecutor(8) as readers, serving(tmp_path / "pastes.db") as server:
        ids = [server.send("x" * 10_000) for _ in range(24)]
        first = [readers.submit(read, id) for id in ids]
        for _ in range(answers_before_the_kill):
            assert answered.acquire(timeout=PATIENCE_S)
        server.kill()
        delivered = {id for id, reading in zip(ids, first, strict=True) if reading.result(PATIENCE_S)}
        assert len(delivered) >= answers_before_the_kill
    with serving(tmp_path / "pastes.db") as again:
        twice = [id for id in ids if again.read(id)["status"] == 0 and id in delivered]
        assert twice == []
        assert all(again.read(id)["status"] == 1 for id in ids)


async def test_on_a_full_disk_nothing_new_is_taken_and_the_old_is_read_burned_and_deleted(tmp_path: Path) -> None:
    free = [1 << 40]
    database = SqliteDatabase(
        tmp_path / "test.db",
        floor_bytes=1 << 20,
        ballast_bytes=0,
        free_bytes=lambda: free[0],
        read_deadline_s=PATIENCE_S,
        write_deadline_s=PATIENCE_S,
    )
    await database.start()
    try:
        await prepare(database)
        async with started(database) as links, pastes_beside(links, database) as pastes:
            kept = await pastes.paste("kept")
            burning = await pastes.paste("once", burn_after=1)
            deleted = await pastes.paste("x" * 100_000)
            free[0] = 0
            async with asyncio.timeout(PATIENCE_S):
                while database.unready() is None:
                    try:
                        await pastes.add(NewPaste(body="no room " * 10_000))
                    except StorageFull:
                        break
            with pytest.raises(StorageFull):
                await pastes.paste("no room " * 10_000)
            assert (await pastes.read(kept.id)).text == "kept"
            assert (await pastes.reveal(burning.id)).text == "once"
            await pastes.delete(deleted.id)
            await pastes.sweep()
            for gone in (burning, deleted):
                with pytest.raises(UnknownPaste):
                    await pastes.find(gone.id)
            free[0] = 1 << 40
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    try:
                        await pastes.paste("room again")
                        break
                    except StorageFull:
                        await asyncio.sleep(0.05)
    finally:
        await database.stop()
