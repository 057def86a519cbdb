"""The `Database` port in the simulator: SQLite in memory, a commit for each group of writes, and crashes between any two.

What a power failure leaves of a database is what its journal makes of it: the state at a commit, at or after the last one
that was answered for. (That SQLite under `synchronous=FULL` keeps this is core.database's to show, on real files.) So here a
write is run and committed at an instant that the seed chooses, with whatever else waits then, and answered at a later one. A
crash falls before a commit, of whose writes some are then committed and none is answered, or between a commit and its answer.
Reads see commits alone, at an instant of their own, and are answered later too.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from random import Random
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec
from sqlalchemy import MetaData

from mainspring.core.clock import Clock
from mainspring.core.database import core_tables, idempotency
from mainspring.core.database.plans import Plans
from mainspring.core.database.revisions import prepare_sqlite, read_baseline
from mainspring.core.database.sqlite_connection import SqliteConnection, open_connection, translated
from mainspring.core.database.watch import Watchers, call_hook
from mainspring.core.ports import Connection, Record, Tables
from mainspring.core.problems import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
Call = Callable[[], Any]
Job = tuple[Call, asyncio.Future[Any]]
Done = tuple[asyncio.Future[Any], Any, BaseException | None, list[Call], set[str]]

_PLANS = Plans("sqlite")
_EMIT = "INSERT INTO log_records (topic, key, value, headers, at_us) VALUES (?, ?, ?, ?, ?)"


class Stored:
    """What lies on the disk of a database, from one life of its machine to the next."""

    def __init__(self) -> None:
        self.raw: Any = open_connection(Path(":memory:"), cache_kib=16_384, busy_timeout_s=0)
        core = Path(str(core_tables.__file__)).parent / "migrations"
        self.prepare("core", core_tables.tables, core)

    def prepare(self, name: str, metadata: MetaData, folder: Path) -> None:
        prepare_sqlite(self.raw, name, read_baseline(name, metadata, folder), folder)

    def close(self) -> None:
        self.raw.close()


class Writing(SqliteConnection):
    """The connection of writes. An event is a row at once; `told` are the topics of those of the last function."""

    def __init__(self, raw: Any, clock: Clock) -> None:
        super().__init__(raw, _PLANS, clock, writes=True)
        self.told: set[str] = set()
        self._now = clock.wall_ns
        self._insert = raw.cursor().execute

    def begin_function(self) -> None:
        super().begin_function()
        self.told = set()

    def emit(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        packed = msgspec.msgpack.encode(headers) if headers else None
        self._insert(_EMIT, (topic, key, value, packed, self._now() // 1000))
        self.told.add(topic)


class SimulatedDatabase:
    """One life of a database on what is `stored`, which `end` ends. Made on the loop that it belongs to."""

    dialect = "sqlite"

    def __init__(self, stored: Stored, clock: Clock, random: Random) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._random = random
        self._watchers = Watchers()
        self.watch = self._watchers.watch
        self._writing = Writing(stored.raw, clock)
        self._reading = SqliteConnection(stored.raw, _PLANS, clock, writes=False)
        self._execute = stored.raw.cursor().execute
        self._waiting: list[Job] = []
        self._ended = False

    def end(self) -> None:
        """The power fails: of what waits to be written some is, and nobody is told."""
        if self._waiting and not self._ended:
            self._commit(self._waiting[: self._random.randrange(len(self._waiting) + 1)])
        self._ended = True

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._random.random() < 0.5:
            await asyncio.sleep(self._moment_s())
        self._ensure_alive()
        self._reading.begin_function()
        result = function(self._reading, *args, **kwargs)
        if self._random.random() < 0.5:
            await asyncio.sleep(self._moment_s())
            self._ensure_alive()
        return result

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._ensure_alive()
        answer: asyncio.Future[T] = self._loop.create_future()
        if not self._waiting:
            self._loop.call_later(self._moment_s(), self._run_waiting)
        self._waiting.append((lambda: function(self._writing, *args, **kwargs), answer))
        return await answer

    async def write_once(
        self,
        key: str,
        digest: bytes,
        function: Callable[Concatenate[Connection, P], bytes],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> tuple[bytes, bool]:
        return await self.write(idempotency.run_once, self._clock, key, digest, function, args, kwargs)

    async def prepare(self, name: str, tables: Tables, folder: Path | None = None) -> None:
        """Tables are made by `Stored.prepare`, before the machine's first life."""

    def recent_events(
        self, offset: int, records_max: int, topics: Collection[str] | None = None
    ) -> tuple[list[Record], int] | None:
        """Nothing is remembered: the rows must be read."""
        return None

    async def scrub(self) -> bool:
        return True

    def unready(self) -> str | None:
        return "the machine is gone" if self._ended else None

    def _ensure_alive(self) -> None:
        if self._ended:
            raise Unavailable("The machine is gone")

    def _moment_s(self) -> float:
        return self._random.random() * 0.004

    def _run_waiting(self) -> None:
        if self._ended:
            for _, answer in self._waiting:
                _tell(answer, None, Unavailable("The machine is gone"))
            return
        waiting, self._waiting = self._waiting, []
        self._loop.call_later(self._moment_s(), self._answer, self._commit(waiting))

    def _commit(self, jobs: list[Job]) -> list[Done]:
        """Runs each in the group's one transaction; what fails leaves no trace."""
        done: list[Done] = []
        self._execute("BEGIN IMMEDIATE")
        for call, answer in jobs:
            if answer.cancelled():
                continue
            self._execute("SAVEPOINT job")
            self._writing.begin_function()
            try:
                result, error = call(), self._writing.error
            except Exception as raised:  # the caller's affair, as on any database
                result, error = None, translated(raised)
            if error is not None:
                self._execute("ROLLBACK TO job")
            self._execute("RELEASE job")
            done.append((answer, result, error, list(self._writing.hooks), self._writing.told))
        self._execute("COMMIT")
        return done

    def _answer(self, done: list[Done]) -> None:
        if self._ended:
            done = [(answer, None, Unavailable("The machine is gone"), [], set()) for answer, *_ in done]
        for _, _, error, hooks, topics in done:
            if error is None:
                for hook in hooks:
                    call_hook(hook)
                if topics:
                    self._watchers.wake(sorted(topics))
        for answer, result, error, _, _ in done:
            _tell(answer, result, error)


def _tell(answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
