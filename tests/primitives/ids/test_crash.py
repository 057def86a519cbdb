"""Real processes that die: killed while they mint, restarted with a clock set back, and forked."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from array import array
from pathlib import Path
from uuid import uuid4

import numpy
import pytest

from mainspring.core.clock import SystemClock
from mainspring.primitives.ids import Ids, IdsSettings, NotReserved
from tests.fixtures_database import PostgresServer
from tests.needs import REPOSITORY, need_program

from .minting import open_database

PROCESSES = 8
PATIENCE_S = 240


class Bearer:
    """Bears minting processes on one database; with `words` in front of its command line, under another clock."""

    def __init__(self, database: str, *words: str) -> None:
        command = [*words, sys.executable, "-m", "tests.primitives.ids.minting", database]
        environment = {**os.environ, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": str(REPOSITORY)}
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def bear(self, file: Path) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{file}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def end(self) -> None:
        self._process.kill()
        self._process.wait(30)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def killed_and_restarted(
    database: str, folder: Path, ids_wanted: int, kills_wanted: int, *words: str, processes: int = PROCESSES
) -> list[Path]:
    """Runs processes on one database; every 200 ms one that has minted is killed and another born, behind `words`.

    Gives the files with what they minted once both wishes are met.
    """
    asyncio.run(_create(database))
    first, later = Bearer(database), Bearer(database, *words)
    files: list[Path] = []
    alive: list[tuple[int, Path]] = []

    def born(bearer: Bearer) -> None:
        files.append(folder / f"minted-{len(files):04}")
        alive.append((bearer.bear(files[-1]), files[-1]))

    def size(file: Path) -> int:
        return file.stat().st_size if file.exists() else 0

    try:
        for _ in range(processes):
            born(first)
        kills, deadline_s = 0, time.monotonic() + PATIENCE_S
        while kills < kills_wanted or sum(map(size, files)) < 8 * ids_wanted:
            assert time.monotonic() < deadline_s, f"{kills} kills, {sum(map(size, files)) // 8} ids"
            time.sleep(0.2)
            victim = next((one for one in alive if size(one[1])), None)
            if victim is not None:
                alive.remove(victim)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim[0], signal.SIGKILL)
                kills += 1
                born(later)
    finally:
        for process, _ in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        first.end()
        later.end()
    return [file for file in files if size(file)]


async def _create(database: str) -> None:
    await (await open_database(database)).stop()


def minted(file: Path) -> numpy.ndarray:
    """The ids of one process, which must increase; what its death cut off in the middle is left out."""
    data = file.read_bytes()
    ids = numpy.frombuffer(data[: len(data) // 8 * 8], numpy.int64)
    assert (ids[:-1] < ids[1:]).all()
    return ids


def check(files: list[Path], ids_wanted: int) -> None:
    ids = numpy.sort(numpy.concatenate([minted(file) for file in files]))
    twice = ids[:-1][ids[:-1] == ids[1:]]
    assert not len(twice), f"{twice[:9]} were minted twice"
    assert len(ids) >= ids_wanted


def on_one_file(folder: Path, ids_wanted: int, kills_wanted: int) -> list[Path]:
    """Eight processes on one SQLite file; those that are born later live five minutes in the past."""
    need_program("faketime")
    return killed_and_restarted(str(folder / "ids.db"), folder, ids_wanted, kills_wanted, "faketime", "-f", "-5m")


@pytest.mark.peer
def test_no_id_of_300_000_is_minted_twice_by_processes_that_are_killed_and_set_back(tmp_path: Path) -> None:
    check(on_one_file(tmp_path, 300_000, 20), 300_000)


@pytest.mark.peer
@pytest.mark.slow
def test_no_id_of_10_million_is_minted_twice_by_processes_that_are_killed_and_set_back(tmp_path: Path) -> None:
    check(on_one_file(tmp_path, 10_000_000, 100), 10_000_000)


@pytest.mark.postgres
def test_nodes_on_a_shared_postgresql_mint_on_while_others_are_killed(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    schema = f"t_{uuid4().hex}"
    postgres_server.execute(f"CREATE SCHEMA {schema}")
    try:
        files = killed_and_restarted(postgres_server.dsn(schema), tmp_path, 100_000, 6, processes=2)
    finally:
        postgres_server.execute(f"DROP SCHEMA {schema} CASCADE")
    assert len(files) >= 6
    check(files, 100_000)


class Switch:
    """The way to whichever database is open in this process now."""

    dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    async def __aenter__(self) -> "Switch":
        self._database = await open_database(self.path)
        self.read, self.write, self.write_once = self._database.read, self._database.write, self._database.write_once
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._database.stop()

    def unready(self) -> str | None:
        return None


def test_a_forked_child_mints_only_after_it_has_a_range_of_its_own(tmp_path: Path) -> None:
    switch = Switch(tmp_path / "ids.db")
    ids = Ids(switch, SystemClock(), IdsSettings(reserve_ms=60_000))

    async def start_and_take(count: int) -> list[int]:
        async with switch:
            await ids.start()
            return ids.take(count)

    ours = asyncio.run(start_and_take(1_000))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                ids.next()
                first = -1
            except NotReserved:
                first = 0
            answer = array(
                "q", [first, ids.worker if ids.worker is not None else -1, *asyncio.run(start_and_take(1_000))]
            )
        except BaseException:
            answer = array("q", [-2])
        os.write(write, answer.tobytes())
        os._exit(0)
    os.close(write)
    ours += ids.take(1_000)
    with os.fdopen(read, "rb") as pipe:
        theirs = array("q")
        theirs.frombytes(pipe.read())
    os.waitpid(child, 0)
    refused, worker, *minted_there = theirs
    assert (refused, worker) == (0, -1)
    assert len(minted_there) == 1_000 and set(ours).isdisjoint(minted_there)
