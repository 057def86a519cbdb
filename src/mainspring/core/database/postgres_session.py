"""One thread's session with PostgreSQL: transactions that are retried, and a COMMIT whose answer was lost.

A function runs SERIALIZABLE (unless it declares less) and again after a serialization failure or a deadlock; once more
after a unique violation, which under SERIALIZABLE may be a race in disguise.

When the connection breaks while COMMIT is under way, nobody knows whether it happened, and running the function again may
do it twice. PostgreSQL's own `pg_xact_status` does not tell, since an id that was given out but not yet written to disk is
given out again after a crash. So each writing transaction also notes a number, one higher each time, in its session's row
of `core_write_marks`. On reconnecting, the session first ends what may be left of its old backend, and then reads the
row: the number is there exactly if the transaction committed.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from random import Random
from time import perf_counter
from typing import Any

import psycopg

from mainspring.core.clock import Clock
from mainspring.core.database.errors import Duplicate, raise_meaning
from mainspring.core.database.isolation import isolation_of
from mainspring.core.database.plans import ListRows, Plans, refuse_rows
from mainspring.core.database.postgres_connection import (
    PlainNumber,
    PostgresConnection,
    is_conflict,
    is_lost,
    translated,
)
from mainspring.core.problems import Unavailable

logger = logging.getLogger(__name__)

BACKOFF_S_MAX = 2.0
CONFLICT_BACKOFF_S = 0.001
CONFLICT_BACKOFF_S_MAX = 0.1

BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {milliseconds}"
SETTINGS = (
    "SELECT set_config('statement_timeout', %s, false), set_config('idle_in_transaction_session_timeout', '60s', false)"
)
END_OLD_BACKENDS = (
    "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity "
    "WHERE application_name = %s AND pid <> pg_backend_pid() AND usename = current_user"
)
FIND_MARK = "SELECT number FROM core_write_marks WHERE writer = %s"
FORGET_MARK = "DELETE FROM core_write_marks WHERE writer = %s"


class Outcome:
    """What a transaction leaves behind besides its result."""

    __slots__ = ("hooks", "result", "topics")

    def __init__(self, result: Any, connection: PostgresConnection) -> None:
        self.result = result
        self.hooks = connection.hooks
        self.topics = connection.topics


class Session:
    """A connection that is opened when first needed and again whenever it breaks. Belongs to one thread.

    `writer` names the session among all that ever use this database. `stopping` ends waiting. Durations are in seconds;
    `patience_s` is how long a function waits for the server to come back, or for others to stop colliding with it.
    """

    def __init__(
        self,
        connection_parameters: Mapping[str, Any],
        writer: str,
        plans: Plans,
        clock: Clock,
        random: Random,
        stopping: threading.Event,
        *,
        read_deadline_s: float,
        write_deadline_s: float,
        patience_s: float,
        count_retry: Callable[[str], None],
    ) -> None:
        self._parameters = {**connection_parameters, "application_name": writer}
        self._writer = writer
        self._plans = plans
        self._clock = clock
        self._random = random
        self._stopping = stopping
        self._read_deadline_s = read_deadline_s
        self._write_deadline_s = write_deadline_s
        self._patience_s = patience_s
        self._count_retry = count_retry
        self._raw: psycopg.Connection[Any] | None = None
        self._number = 0
        self._broken = False
        self.gave_up = False
        self._begin_read = BEGIN_READ.format(milliseconds=round(read_deadline_s * 1000))

    def read(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        """Runs `function` on one snapshot. Raises `Unavailable` where the server does not come back in time."""
        give_up = perf_counter() + self._patience_s
        while True:
            raw = self._connected(give_up)
            connection = PostgresConnection(
                raw, self._plans, self._clock, perf_counter() + self._read_deadline_s, writes=False
            )
            try:
                raw.execute(self._begin_read)
                result = function(connection, *args, **kwargs)
                if isinstance(result, ListRows):
                    refuse_rows(function)
                connection.finish()
                raw.execute("COMMIT")
            except BaseException as error:
                if is_lost(_driver_error(error, connection)):
                    self._lose(raw)
                    self._try_again_before(give_up, error)
                    continue
                self._roll_back(raw)
                raise_meaning(translated(error), error)
            return Outcome(result, connection)

    def write(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
        """Runs `function` until it commits, once. Raises what it raised, and `Unavailable` as `read` does.

        Where the server went away during COMMIT and did not come back, `Unavailable` says that the outcome is not known.
        """
        give_up = perf_counter() + self._patience_s
        isolation = isolation_of(function)
        conflicts = duplicates = 0
        while True:
            raw = self._connected(give_up)
            connection = PostgresConnection(
                raw, self._plans, self._clock, perf_counter() + self._write_deadline_s, writes=True
            )
            committing = False
            try:
                raw.execute(f"BEGIN ISOLATION LEVEL {isolation}".encode())
                result = function(connection, *args, **kwargs)
                if isinstance(result, ListRows):
                    refuse_rows(function)
                connection.finish()
                commit = self._commit_statement(connection)
                committing = True
                raw.execute(commit, prepare=False)
            except BaseException as raised:
                error = _driver_error(raised, connection)
                if is_lost(error):
                    self._lose(raw)
                    if committing and connection.changes and self._committed(give_up):
                        return Outcome(result, connection)
                    self._try_again_before(give_up, raised)
                    continue
                self._roll_back(raw)
                if is_conflict(error) and perf_counter() < give_up:
                    self._count_retry("conflict")
                    conflicts += 1
                    ceiling_s = min(CONFLICT_BACKOFF_S_MAX, CONFLICT_BACKOFF_S * 2**conflicts)
                    self._stopping.wait(self._random.uniform(0, ceiling_s))
                    continue
                if is_conflict(error):
                    raise Unavailable("Others kept changing the same rows") from raised
                if isinstance(connection.error, Duplicate) and isolation == "SERIALIZABLE" and not duplicates:
                    self._count_retry("duplicate")
                    duplicates = 1
                    continue
                raise_meaning(translated(raised), raised)
            return Outcome(result, connection)

    def with_driver(self, work: Callable[[psycopg.Connection[Any]], Any]) -> Any:
        """Runs `work` on the driver's connection, outside of any transaction; not run again when that breaks."""
        give_up = perf_counter() + self._patience_s
        raw = self._connected(give_up)
        try:
            return work(raw)
        except BaseException as error:
            if is_lost(_driver_error(error)):
                self._lose(raw)
            else:
                self._roll_back(raw)
            raise_meaning(translated(error), error)

    def reconnect(self) -> bool:
        """One try to have a connection, where there is none; gives whether there is one now."""
        if self._raw is None:
            try:
                self._raw = self._open()
            except psycopg.Error as error:
                logger.warning("PostgreSQL: %s", str(error).strip())
            else:
                self.gave_up = False
        return self._raw is not None

    def close(self) -> None:
        if self._raw is not None:
            try:
                self._raw.execute(FORGET_MARK, (self._writer,))
            except psycopg.Error as error:
                logger.warning("PostgreSQL at the end of a session: %s", str(error).strip())
            self._raw.close()
            self._raw = None

    def _commit_statement(self, connection: PostgresConnection) -> bytes:
        """COMMIT and, in the same round trip, the mark that proves it.

        `ON CONFLICT` finds the row without the predicate locks that an UPDATE's scan would take, so that marks of
        different sessions never collide.
        """
        if not connection.changes:
            return b"COMMIT"
        self._number += 1
        return (
            f"INSERT INTO core_write_marks (writer, number, at_us) "
            f"VALUES ('{self._writer}', {self._number}, {self._clock.wall_ns() // 1000}) "
            f"ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at_us = excluded.at_us; COMMIT"
        ).encode()

    def _committed(self, give_up: float) -> bool:
        """Whether the transaction with the last number committed, known for certain."""
        while True:
            try:
                raw = self._connected(give_up)
                row = raw.execute(FIND_MARK, (self._writer,)).fetchone()
            except psycopg.Error as error:
                if not is_lost(error):
                    raise
                self._lose(raw)
            except Unavailable as error:
                raise Unavailable(
                    "The database went away while committing; whether it did is not known yet. "
                    "Repeat with the same Idempotency-Key",
                    retry_after_s=2,
                ) from error
            else:
                return row is not None and row[0] == self._number

    def _try_again_before(self, give_up: float, error: BaseException) -> None:
        self._count_retry("lost")
        if perf_counter() > give_up:
            raise Unavailable("PostgreSQL keeps going away", retry_after_s=2) from error

    def _connected(self, give_up: float) -> psycopg.Connection[Any]:
        tries = 0
        while not self.reconnect():
            tries += 1
            wait_s = self._random.uniform(0, min(BACKOFF_S_MAX, 0.05 * 2**tries))
            if perf_counter() + wait_s > give_up or self._stopping.wait(wait_s):
                self.gave_up = True
                raise Unavailable("PostgreSQL cannot be reached right now", retry_after_s=2)
        assert self._raw is not None
        return self._raw

    def _open(self) -> psycopg.Connection[Any]:
        """Connects, and ends what a broken connection may have left on the server: it may hold locks, or commit yet."""
        raw = psycopg.connect(autocommit=True, **self._parameters)
        try:
            raw.adapters.register_loader("numeric", PlainNumber)
            raw.execute(SETTINGS, (str(round(self._write_deadline_s * 1000)),))
            if self._broken and not all(ended for (ended,) in raw.execute(END_OLD_BACKENDS, (self._writer,))):
                raise psycopg.OperationalError("what is left of a broken connection does not end")
        except BaseException:
            raw.close()
            raise
        return raw

    def _lose(self, raw: psycopg.Connection[Any]) -> None:
        raw.close()
        self._raw = None
        self._broken = True

    def _roll_back(self, raw: psycopg.Connection[Any]) -> None:
        try:
            raw.execute("ROLLBACK")
        except psycopg.Error:
            self._lose(raw)


def _driver_error(raised: BaseException, connection: PostgresConnection | None = None) -> BaseException:
    """What the driver said, whatever the function made of it."""
    error = raised if connection is None or connection.error is None else connection.error
    return error.__cause__ if isinstance(error.__cause__, psycopg.Error) else error
