"""Reads of a SQLite file: first on the event loop's own connection, and in a thread where that takes too long.

A small read takes a few microseconds, a tenth of what handing it to a thread would cost. So each read starts here, in a
transaction of its own, and a progress handler stops it after a millisecond; then it starts again in a thread that has a
connection, and so a snapshot, of its own. A function that had to move starts in a thread for its next calls.

A snapshot keeps the write-ahead log from being folded into the file, so none lives longer than `deadline_s`.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import pysqlite3.dbapi2 as dbapi  # type: ignore[import-untyped]

from mainspring.core.clock import Clock
from mainspring.core.database.errors import Timeout, raise_meaning
from mainspring.core.database.plans import Plans, refuse_rows
from mainspring.core.database.sqlite_connection import UNREAD, SqliteConnection, open_connection, translated
from mainspring.core.problems import Unavailable

T = TypeVar("T")

INSTRUCTIONS_PER_LOOK = 500
THREADS = 4
WAITING_MAX = 1024
CALLS_ELSEWHERE = 32
"""How many calls a function that took too long on the loop makes in threads before the loop is tried again."""

FUNCTIONS_MAX = 1024


class Reader:
    """A connection that only reads. `run` calls one function on one snapshot until `deadline_s` from now.

    Afterwards `interrupted` says whether the deadline stopped it.
    """

    def __init__(self, path: Path, plans: Plans, clock: Clock, *, cache_kib: int, busy_timeout_s: float) -> None:
        self._raw = open_connection(path, cache_kib=cache_kib, busy_timeout_s=busy_timeout_s)
        self._raw.execute("PRAGMA query_only=ON").close()
        self._raw.set_progress_handler(self._is_over, INSTRUCTIONS_PER_LOOK)
        self._execute = self._raw.cursor().execute
        self._connection = SqliteConnection(self._raw, plans, clock, writes=False)
        self._deadline = float("inf")
        self.interrupted = False

    def run(self, deadline_s: float, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        connection = self._connection
        if connection.error is not None:
            connection.begin_function()
        self.interrupted = False
        self._execute("BEGIN")
        self._deadline = perf_counter() + deadline_s
        try:
            result = function(connection, *args, **kwargs)
            if connection.error is not None:
                raise connection.error
            if self.interrupted:
                raise Timeout  # the function made something of rows that were cut short
            if isinstance(result, UNREAD):
                refuse_rows(function)
        except dbapi.Error as error:
            raise_meaning(translated(error), error)
        else:
            return result
        finally:
            self._deadline = float("inf")  # one that has passed would stop the ROLLBACK, or the next BEGIN, as well
            if self._raw.in_transaction:
                self._execute("ROLLBACK")

    def damage(self) -> list[str]:
        """Reads every page; gives what is damaged."""
        self._deadline = float("inf")
        try:
            found = [row[0] for row in self._raw.execute("PRAGMA integrity_check").fetchall()]
        except dbapi.DatabaseError as error:
            return [str(error)]
        return [] if found == ["ok"] else found

    def copy_to(self, target: Path) -> None:
        """Copies the database in one step, which is one snapshot, to the new file `target`, and syncs it."""
        self._deadline = float("inf")
        copy = dbapi.connect(str(target), isolation_level=None)
        try:
            self._raw.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE").close()
        except dbapi.Error as error:
            raise_meaning(translated(error), error)
        finally:
            copy.close()

    def close(self) -> None:
        self._raw.close()

    def _is_over(self) -> bool:
        over = perf_counter() > self._deadline
        self.interrupted |= over
        return over


class Readers:
    """All reading connections of one database. Belongs to the event loop."""

    def __init__(
        self,
        path: Path,
        plans: Plans,
        clock: Clock,
        *,
        loop_budget_s: float,
        deadline_s: float,
        count_moved: Callable[[float], None],
    ) -> None:
        self._path = path
        self._plans = plans
        self._clock = clock
        self._loop_budget_s = loop_budget_s
        self._deadline_s = deadline_s
        self._elsewhere: dict[Any, int] = {}
        self._threads = ThreadPoolExecutor(THREADS, "database-reader")
        self._mine = threading.local()
        self._opened: list[Reader] = []
        self._waiting = 0
        self._count_moved = count_moved
        self._here: Reader

    def open(self) -> None:
        """Opens the loop's own connection; those of the threads are opened when first needed."""
        self._here = Reader(self._path, self._plans, self._clock, cache_kib=8192, busy_timeout_s=0)
        self._opened.append(self._here)

    async def read(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """Runs `function` here or in a thread. Raises `Timeout` past the deadline and `Unavailable` when all is full."""
        key = getattr(function, "__code__", function)
        if not self._starts_elsewhere(key):
            here = self._here
            compiled = self._plans.compiled
            try:
                return here.run(self._loop_budget_s, function, args, kwargs)
            except Exception as error:
                if not here.interrupted and not _is_busy(error):
                    raise
            self._count_moved(1)
            if compiled == self._plans.compiled:
                self._remember(key)
        return await self.in_thread(lambda reader: reader.run(self._deadline_s, function, args, kwargs))

    def at_once(self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        """Runs `function` here, with no thread to move to. Raises `Timeout` where it takes too long, `Unavailable` where the
        file is busy."""
        return self._here.run(self._loop_budget_s, function, args, kwargs)

    async def in_thread(self, work: Callable[[Reader], T]) -> T:
        """Runs `work` with a thread's own reader."""
        if self._waiting >= WAITING_MAX:
            raise Unavailable("Too many long reads are waiting")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._with_reader, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Waits for reads in progress. Blocks, so call it from a thread."""
        self._threads.shutdown()
        for reader in self._opened:
            reader.close()

    def _with_reader(self, work: Callable[[Reader], T]) -> T:
        reader: Reader | None = getattr(self._mine, "reader", None)
        if reader is None:
            reader = self._mine.reader = Reader(self._path, self._plans, self._clock, cache_kib=2048, busy_timeout_s=5)
            self._opened.append(reader)
        return work(reader)

    def _starts_elsewhere(self, key: Any) -> bool:
        calls = self._elsewhere.get(key) if self._elsewhere else None
        if calls is None:
            return False
        if calls > 1:
            self._elsewhere[key] = calls - 1
        else:
            del self._elsewhere[key]
        return True

    def _remember(self, key: Any) -> None:
        if len(self._elsewhere) >= FUNCTIONS_MAX:
            self._elsewhere.clear()
        self._elsewhere[key] = CALLS_ELSEWHERE


def _is_busy(error: Exception) -> bool:
    return isinstance(error, Unavailable) and getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF == 5
