"""Two nodes on one PostgreSQL and one S3 server: one is stopped for a while, then killed; the promise holds for all of it."""

import asyncio
import json
import signal
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mainspring.core.linear import UNKNOWN, History, Operation, check, compare_and_set
from tests.fixtures_database import PostgresServer
from tests.fixtures_server import run_command
from tests.needs import REPOSITORY, need_module
from tests.storage.objects.s3.conftest import started
from tests.storage.objects.s3.running import aside

pytestmark = [pytest.mark.postgres]

PATIENCE_S = 300


class Node:
    """One process, and what it says that it saw."""

    def __init__(self, process: Process, history: History, seed: int) -> None:
        self.process = process
        self.answers = 0
        self._history = history
        self._seed = seed
        self._open: Operation | None = None
        self._more = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if not line.endswith(b"\n"):
                return  # it was killed as it spoke
            said: dict[str, Any] = json.loads(line)
            if "name" in said:
                argument = tuple(said["argument"]) if isinstance(said["argument"], list) else said["argument"]
                self._open = self._history.call(said["key"], said["name"], argument, at=said["at"])
            else:
                assert self._open is not None
                self._history.returned(self._open, said["result"], at=said["at"])
                self.answers += 1
                self._more.set()

    async def answered(self, more: int) -> None:
        """Waits until it has been answered so often again."""
        until = self.answers + more
        while self.answers < until:
            assert not self._listening.done(), "a node has ended"
            self._more.clear()
            waiting = asyncio.create_task(self._more.wait())
            await asyncio.wait((waiting, self._listening), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()

    async def end(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.wait()
        await self._listening


@asynccontextmanager
async def node(folder: Path, database: str, blobs: str, history: History, seed: int) -> AsyncIterator[Node]:
    command = ("-m", "tests.storage.objects.blob_node", str(folder / f"node{seed}"), database, blobs, str(seed))
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=REPOSITORY, stdin=PIPE, stdout=PIPE)
    try:
        yield Node(process, history, seed)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_what_two_nodes_saw_is_one_history_though_one_is_stopped_and_killed(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    need_module("obstore")
    schema = f"t_{uuid.uuid4().hex}"
    await aside(postgres_server.execute, f"CREATE SCHEMA {schema}")
    database, history = postgres_server.dsn(schema), History()
    await aside(run_command, "migrate", "--data", str(tmp_path / "migrating"), "--set", f"database={database}")
    (tmp_path / "s3").mkdir()
    try:
        async with started(tmp_path / "s3") as door, asyncio.timeout(PATIENCE_S):
            await aside(door.client().create_bucket, Bucket="shared")
            keys = f"{quote(door.access_key)}:{quote(door.secret_key, safe='')}"
            blobs = f"s3://{keys}@shared?endpoint={door.address}"
            async with (
                node(tmp_path, database, blobs, history, 1) as one,
                node(tmp_path, database, blobs, history, 2) as two,
            ):
                await asyncio.gather(one.answered(12), two.answered(12))
                one.process.send_signal(signal.SIGSTOP)
                await two.answered(12)
                one.process.send_signal(signal.SIGCONT)
                await asyncio.gather(one.answered(12), two.answered(12))
                one.process.kill()
                await two.answered(25)
                await two.end()
                await one.end()
    finally:
        await aside(postgres_server.execute, f"DROP SCHEMA {schema} CASCADE")
    lost = [one for one in history.operations if one.result is UNKNOWN]
    assert len(lost) <= 1, "only the killed node has a call without an answer"
    assert len(history.operations) >= 80
    assert str(check(history, compare_and_set(None))) == "None"
