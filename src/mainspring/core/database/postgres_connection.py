"""A PostgreSQL transaction as a function sees it, and what the server's errors mean."""

import re
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NoReturn

import msgspec
import psycopg
from psycopg.adapt import Buffer, Loader

from mainspring.core.clock import Clock
from mainspring.core.database.core_tables import OFFSET_BITS
from mainspring.core.database.errors import Damaged, Duplicate, ReadOnly, Timeout, Violation, raise_meaning
from mainspring.core.database.plans import NONE, ListRows, Plan, Plans
from mainspring.core.ports import Rows, Statement
from mainspring.core.problems import StorageFull, Unavailable

EMIT = (
    f"INSERT INTO log_records (id, topic, key, value, headers, at_us) "
    f"VALUES ((pg_current_xact_id()::text::bigint << {OFFSET_BITS}) | %s, %s, %s, %s, %s, %s)"
)
EVENTS_MAX = 1 << OFFSET_BITS

encode_headers = msgspec.msgpack.Encoder().encode

_COLUMNS = re.compile(r"\(([^)]*)\)=\(")


class PlainNumber(Loader):
    """`numeric`, which PostgreSQL makes of a sum of integers, as the int or float that SQLite gives."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return float(text) if b"." in text or b"N" in text or b"I" in text else int(text)


def translated(error: BaseException) -> BaseException:
    """The error of ours that says what the server's or driver's error means; programming errors come back as they are."""
    if isinstance(error, UnicodeEncodeError):
        return Violation(str(error))
    if not isinstance(error, psycopg.Error):
        return error
    state = error.sqlstate or ""
    message = str(error)
    if state == "23505":
        return Duplicate(message, _duplicate_key(error))
    if state.startswith(("23", "22")) or (isinstance(error, psycopg.DataError) and not state):
        return Violation(message)
    if state == "25006":
        return ReadOnly(message)
    if state == "57014":
        return Timeout()
    if state == "53100":
        return StorageFull()
    if state in ("XX001", "XX002"):
        return Damaged(message)
    if is_lost(error) or state.startswith("53"):
        return Unavailable("PostgreSQL cannot be reached right now")
    return error


def is_conflict(error: BaseException | None) -> bool:
    """Serialization failure or deadlock: the same function may well succeed when run again."""
    return isinstance(error, psycopg.Error) and error.sqlstate in ("40001", "40P01")


def is_lost(error: BaseException | None) -> bool:
    """The connection is gone, or the server is starting, stopping or recovering."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    state = error.sqlstate
    return state is None or state.startswith(("08", "57P"))


class PostgresConnection:
    """One transaction. `error` is set by the first statement that fails, and every later one is then refused.

    `changes` says whether anything was written; `events` are put into the outbox at the end, in one round trip.
    """

    dialect = "postgresql"

    def __init__(
        self, raw: psycopg.Connection[Any], plans: Plans, clock: Clock, deadline: float, *, writes: bool
    ) -> None:
        self.error: BaseException | None = None
        self.hooks: list[Callable[[], None]] = []
        self.topics: set[str] = set()
        self.changes = False
        self._events: list[tuple[int, str, bytes | None, bytes, bytes | None, int]] = []
        self._raw = raw
        self._plans = plans
        self._clock = clock
        self._deadline = deadline
        self._writes = writes

    def execute(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> Rows:
        given = NONE if parameters is None else parameters
        plan = self._plan(statement, given)
        try:
            sql, values = plan.expand(given) if plan.expand is not None else (plan.sql, plan.bind(given))
            cursor = self._raw.execute(sql.encode(), values)
            rows = cursor.fetchall() if cursor.description is not None else []
        except Exception as error:
            self._fail(error)
        if plan.convert is not None:
            rows = [plan.convert(row) for row in rows]
        return ListRows(rows, cursor.rowcount)

    def execute_many(self, statement: Statement, parameters: Sequence[Mapping[str, Any]]) -> int:
        if not parameters:
            return 0
        plan = self._plan(statement, parameters[0])
        if plan.expand is not None:
            return sum(self.execute(statement, each).rowcount for each in parameters)
        try:
            cursor = self._raw.cursor()
            cursor.executemany(plan.sql.encode(), [plan.bind(each) for each in parameters])
        except Exception as error:
            self._fail(error)
        return cursor.rowcount

    def after_commit(self, hook: Callable[[], None]) -> None:
        if not self._writes:
            self._fail(ReadOnly("a read commits nothing, so nothing can follow it"))
        self.hooks.append(hook)

    def emit(
        self, topic: str, value: bytes, key: bytes | None = None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        self._refuse_after_error()
        if len(self._events) >= EVENTS_MAX:
            raise ValueError(f"a transaction emits at most {EVENTS_MAX} events")
        packed = encode_headers(headers) if headers else None
        self._events.append((len(self._events), topic, key, value, packed, self._clock.wall_ns() // 1000))
        self.topics.add(topic)

    def finish(self) -> None:
        """Puts the events into the outbox. Raises what any statement of the function raised."""
        if self.error is not None:
            raise self.error
        if not self._events:
            return
        self.changes = True
        try:
            self._raw.cursor().executemany(EMIT, self._events)
        except Exception as error:
            self._fail(error)

    def _plan(self, statement: Statement, given: Mapping[str, Any]) -> Plan:
        self._refuse_after_error()
        plan = self._plans.get(statement)
        if plan is None:
            plan = self._plans.compile(statement, given)
        elif plan.keys is not None and plan.keys != given.keys():
            plan = self._plans.variant(statement, given)
        self.changes |= plan.changes or plan.kind == "textclause"
        return plan

    def _refuse_after_error(self) -> None:
        if self.error is not None:
            raise RuntimeError(
                "a statement of this transaction has failed, so nothing more can run in it"
            ) from self.error
        if perf_counter() > self._deadline:
            self._fail(Timeout())

    def _fail(self, error: BaseException) -> NoReturn:
        if isinstance(error, KeyError):
            error = TypeError(f"the statement needs the parameter {error}")
        self.error = translated(error)
        raise_meaning(self.error, error)


def _duplicate_key(error: psycopg.Error) -> str:
    columns = _COLUMNS.search(error.diag.message_detail or "")
    table = error.diag.table_name
    if columns is None or table is None:
        return error.diag.constraint_name or ""
    return ", ".join(f"{table}.{column.strip()}" for column in columns[1].split(","))
