"""One SQLite connection: how it is opened, how a function sees it, and what its errors mean.

The `pysqlite3` wheel brings its own SQLite, because Debian's 3.40 has the WAL-reset fault that 3.51.3 mended.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pysqlite3.dbapi2 as dbapi  # type: ignore[import-untyped]

from mainspring.core.clock import Clock
from mainspring.core.database.errors import Damaged, Duplicate, ReadOnly, Timeout, Violation, raise_meaning
from mainspring.core.database.plans import NONE, ListRows, Plan, Plans
from mainspring.core.database.sqlite_events import Emitted
from mainspring.core.ports import Row, Rows, Statement
from mainspring.core.problems import StorageFull, Unavailable

CODES = {
    5: "BUSY",
    8: "READONLY",
    9: "INTERRUPT",
    10: "IOERR",
    11: "CORRUPT",
    13: "FULL",
    14: "CANTOPEN",
    18: "TOOBIG",
    19: "CONSTRAINT",
    20: "MISMATCH",
    26: "NOTADB",
}
"""SQLite's primary result codes, https://sqlite.org/rescode.html; the wheel exports only some of them."""

# For every other kind of value than text and numbers the driver looks for an adapter, and where none is registered for two
# methods more, which costs 3 µs a value. These give the value itself.
for _kind, _same in ((type(None), {}.get), (bool, int), (bytes, bytes)):
    dbapi.register_adapter(_kind, _same)


def open_connection(path: Path, *, cache_kib: int, busy_timeout_s: float) -> Any:
    """A driver's connection with the pragmas that every connection needs; transactions are begun by hand."""
    raw = dbapi.connect(
        str(path), timeout=busy_timeout_s, isolation_level=None, check_same_thread=False, cached_statements=1024
    )
    try:
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",  # what is deleted is overwritten; a deletion costs no measurable time more
            "wal_autocheckpoint=0",  # only the writer checkpoints, between groups
            "journal_size_limit=67108864",
            f"cache_size=-{cache_kib}",
        ):
            raw.execute(f"PRAGMA {pragma}").close()
    except dbapi.Error as error:
        raw.close()
        raise_meaning(translated(error), error)
    return raw


def translated(error: BaseException) -> BaseException:
    """The error of ours that says what the driver's error means; programming errors come back as they are."""
    message = str(error)
    match CODES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF):
        case "CONSTRAINT":
            kind, _, key = message.partition(" constraint failed: ")
            return Duplicate(message, key) if kind == "UNIQUE" else Violation(message)
        case "TOOBIG" | "MISMATCH":
            return Violation(message)
        case "INTERRUPT":
            return Timeout()
        case "FULL":
            return StorageFull()
        case "CORRUPT" | "NOTADB":
            return Damaged(f"{message}: restore a backup")
        case "READONLY":
            return ReadOnly(message)
        case "BUSY" | "IOERR" | "CANTOPEN":
            return Unavailable(f"The database file: {message}")
    if isinstance(error, OverflowError | UnicodeEncodeError):
        return Violation(message)
    return error


class LazyRows(dbapi.Cursor):  # type: ignore[misc]
    """Rows of a read, fetched as they are asked for, while the function runs."""

    all = dbapi.Cursor.fetchall
    first = dbapi.Cursor.fetchone

    def scalar(self) -> Any:
        row = self.fetchone()
        return None if row is None else row[0]


class ConvertedRows(LazyRows):
    """Like `LazyRows`, with values that the driver's types do not give."""

    convert: Callable[[Row], Row]

    def __iter__(self) -> Iterator[Row]:
        return map(self.convert, iter(self.fetchone, None))

    def all(self) -> list[Row]:
        return [self.convert(row) for row in self.fetchall()]

    def first(self) -> Row | None:
        row = self.fetchone()
        return None if row is None else self.convert(row)

    def scalar(self) -> Any:
        row = self.first()
        return None if row is None else row[0]


UNREAD = (dbapi.Cursor, ListRows)


class SqliteConnection:
    """What a function is given. One object lives as long as its driver connection; `begin_function` starts it afresh.

    `error` is set by the first statement that fails, and every later one is then refused. `emitted` holds the events of the
    transaction. `kinds` is a set while the disk is nearly full, and then collects which kinds of statement (`insert`,
    `delete`, …) the function ran.
    """

    dialect = "sqlite"

    def __init__(self, raw: Any, plans: Plans, clock: Clock, *, writes: bool) -> None:
        self.error: BaseException | None = None
        self.hooks: list[Callable[[], None]] = []
        self.emitted = Emitted(raw)
        self.kinds: set[str] | None = None
        self._plans = plans
        self._lookup = plans.get
        self._cursor = raw.cursor
        self._changing = raw.cursor()
        self._wall_ns = clock.wall_ns
        self._writes = writes

    def begin_function(self) -> None:
        self.error = None
        self._lookup = self._plans.get if self.kinds is None else self._noting_kinds
        if self.hooks:
            self.hooks = []

    def execute(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> Rows:
        given = NONE if parameters is None else parameters
        plan = self._lookup(statement)
        if plan is None or (plan.keys is not None and plan.keys != given.keys()):
            plan = self._plan(statement, given, plan)
        try:
            if plan.special or (self._writes and not plan.changes):
                return self._execute_specially(plan, given)
            if self._writes:
                changing = self._changing
                changing.execute(plan.sql, plan.bind(given))
                return ListRows([], changing.rowcount)
            cursor: LazyRows = self._cursor(LazyRows)
            cursor.execute(plan.sql, plan.bind(given))
        except Exception as error:
            self._fail(error)
        else:
            return cursor

    def execute_many(self, statement: Statement, parameters: Sequence[Mapping[str, Any]]) -> int:
        if not parameters:
            return 0
        plan = self._lookup(statement)
        if plan is None or (plan.keys is not None and plan.keys != parameters[0].keys()):
            plan = self._plan(statement, parameters[0], plan)
        if plan.expand is not None:
            return sum(self.execute(statement, each).rowcount for each in parameters)
        try:
            if plan.outbox:
                self._write_events()
            cursor = self._cursor()
            cursor.executemany(plan.sql, map(plan.bind, parameters))
        except Exception as error:
            self._fail(error)
        else:
            changed: int = cursor.rowcount
            return changed

    def after_commit(self, hook: Callable[[], None]) -> None:
        if not self._writes:
            self._fail(ReadOnly("a read commits nothing, so nothing can follow it"))
        self.hooks.append(hook)

    def emit(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        if self.error is not None:
            self._refuse(None)
        if not self._writes:
            self._fail(ReadOnly("a read emits nothing"))
        try:
            self.emitted.emit(topic, value, key, headers, self._wall_ns() // 1000)
        except Exception as error:
            self._fail(error)
        if self.kinds is not None:
            self.kinds.add("insert")

    def _execute_specially(self, plan: Plan, given: Mapping[str, Any]) -> Rows:
        """Runs what expands, converts or returns rows of a change; and, in a write, every SELECT.

        A write's rows are fetched at once, as they are on PostgreSQL: while they are looked through, the function may
        change the table that they come from. SQLite also checks foreign keys only when a statement has finished.
        """
        if plan.outbox:
            self._write_events()
        sql, values = plan.expand(given) if plan.expand is not None else (plan.sql, plan.bind(given))
        if not (plan.changes or self._writes):
            lazy: LazyRows = self._cursor(LazyRows if plan.convert is None else ConvertedRows)
            lazy.execute(sql, values)
            if isinstance(lazy, ConvertedRows) and plan.convert is not None:
                lazy.convert = plan.convert
            return lazy
        cursor = self._cursor()
        cursor.execute(sql, values)
        rows = cursor.fetchall()
        if plan.convert is not None:
            rows = [plan.convert(row) for row in rows]
        return ListRows(rows, cursor.rowcount if cursor.description is None else len(rows))

    def _write_events(self) -> None:
        """Before a statement that reads the outbox, or changes it: what was emitted is there."""
        if self._writes:
            self.emitted.write()

    def _plan(self, statement: Statement, given: Mapping[str, Any], known: Plan | None) -> Plan:
        plan = self._plans.compile(statement, given) if known is None else self._plans.variant(statement, given)
        if self.kinds is not None:
            self.kinds.add(plan.kind)
        return plan

    def _noting_kinds(self, statement: Statement) -> Plan | None:
        plan = self._plans.get(statement)
        if plan is not None and self.kinds is not None:
            self.kinds.add(plan.kind)
        return plan

    def _fail(self, error: BaseException) -> NoReturn:
        if isinstance(error, KeyError):
            error = TypeError(f"the statement needs the parameter {error}")
        self._lookup = self._refuse
        self.error = translated(error)
        try:
            raise_meaning(self.error, error)
        finally:
            del error

    def _refuse(self, statement: Any) -> Plan | None:
        raise RuntimeError("a statement of this transaction has failed, so nothing more can run in it") from self.error
