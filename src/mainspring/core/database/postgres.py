"""`PostgresDatabase`: the `Database` port where one machine is outgrown.

Functions run in threads, each with a session of its own (`postgres_session`), which retries what collided and settles what
was lost. While the server cannot be reached, everything is answered `Unavailable` (503) at once, and one thread keeps
trying. Hooks run after their commit and before the caller is answered; between threads their order is that of the answers.

Other nodes learn of events by NOTIFY, sent apart from the transactions (inside them it would make commits wait for each
other) and at most fifty times a second; whoever follows a topic must also look from time to time.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from queue import Empty, SimpleQueue
from random import Random
from time import perf_counter
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mainspring.core.clock import Clock, SystemClock
from mainspring.core.database import core_tables, idempotency, sweeping
from mainspring.core.database.errors import SchemaError
from mainspring.core.database.isolation import read_committed
from mainspring.core.database.plans import Plans
from mainspring.core.database.postgres_notices import Notices
from mainspring.core.database.postgres_session import Outcome, Session
from mainspring.core.database.revisions import Prepared, metadata_of, prepare_postgres
from mainspring.core.database.steps import Step
from mainspring.core.database.watch import Watchers, call_hook
from mainspring.core.ports import Connection, Record, Tables
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Metrics

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

RETRY_EVERY_S = 1.0
OLD_MARKS_US = 24 * 3600 * 1_000_000


class Job:
    """One call of `read` or `write`: `work(session)` gives an `Outcome`."""

    __slots__ = ("future", "submitted", "work")

    def __init__(self, work: Callable[[Session], Outcome], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.submitted = perf_counter()


class PostgresDatabase:
    """A database on the server that the libpq connection string `dsn` names; tables are in its first schema.

    `pool_size` threads, each with a connection, opened when first needed. Durations are in seconds; `patience_s` is how
    long a function waits for a lost server before its caller is told to try later.
    """

    dialect = "postgresql"

    def __init__(
        self,
        dsn: str,
        *,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
        pool_size: int = 16,
        read_deadline_s: float = 30.0,
        write_deadline_s: float = 5.0,
        patience_s: float = 5.0,
        waiting_max: int = 8192,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self._random = random or Random()
        self._parameters = _connection_parameters(dsn)
        self._pool_size = pool_size
        self._waiting_max = waiting_max
        self._read_deadline_s = read_deadline_s
        self._write_deadline_s = write_deadline_s
        self._patience_s = patience_s
        self._plans = Plans(self.dialect)
        self._prepared = Prepared()
        self._watchers = Watchers()
        self._stopping = threading.Event()
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._node = os.urandom(6).hex()
        self._threads: list[threading.Thread] = []
        self._waiting = 0
        self._down = False
        self._running = False
        self._sweeper: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._notices = Notices(self._parameters, self._node, self._stopping, self._wake_from_afar)
        self._observe_seconds, self._count_retry = _instruments(metrics)
        if metrics is not None:
            metrics.gauge("database_transactions_waiting", "Not answered yet", sample=lambda: self._waiting)

    async def start(self) -> None:
        """Connects and prepares the tables of the database itself. Raises `Unavailable` where no server answers."""
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._serve, args=(number,), name=f"database-{number}", daemon=True)
            for number in range(self._pool_size)
        ]
        for thread in self._threads:
            thread.start()
        self._running = True
        try:
            await self.prepare("core", core_tables.tables, Path(__file__).parent / "migrations")
            await self.prepare("core_postgres", core_tables.postgres_tables)
            await self.write(_refuse_offsets_of_another_server)
            await self.write(_forget_old_marks, self.clock.wall_ns() // 1000 - OLD_MARKS_US)
        except BaseException:
            await self.stop()
            raise
        self._sweeper = self._loop.create_task(self._sweep())

    async def stop(self) -> None:
        """Refuses new work, finishes what was accepted, and closes all connections."""
        if not self._running:
            return
        self._running = False
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        for _ in self._threads:
            self._queue.put(None)
        if self._down:
            self._stopping.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        self._stopping.set()
        await asyncio.to_thread(self._notices.close)
        await asyncio.sleep(0)  # the last answers

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if isinstance(function, Step):  # its isolation is the function's own
            function = await function.function()
        result: T = await self._submit(lambda session: session.read(function, args, kwargs))
        return result

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if isinstance(function, Step):
            function = await function.function()
        result: T = await self._submit(lambda session: session.write(function, args, kwargs))
        return result

    async def write_once(
        self,
        key: str,
        digest: bytes,
        function: Callable[Concatenate[Connection, P], bytes],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> tuple[bytes, bool]:
        return await self.write(idempotency.run_once, self.clock, key, digest, function, args, kwargs)

    async def prepare(self, name: str, tables: Tables, folder: Path | None = None) -> None:
        """Creates the tables of the system `name`, or brings them to the newest revision in `folder`.

        Nodes that start together take turns. Raises `SchemaError`.
        """
        metadata = metadata_of(tables)
        self._prepared.claim(name, metadata.tables)

        def work(raw: psycopg.Connection[Any]) -> None:
            prepare_postgres(raw, lambda: psycopg.connect(**self._parameters), name, metadata, folder)

        await self._submit(lambda session: session.with_driver(work))

    def recent_events(
        self, offset: int, records_max: int, topics: Collection[str] | None = None
    ) -> tuple[list[Record], int] | None:
        """None: other nodes commit too, so that only the rows tell."""
        return None

    def watch(self, topic: str, callback: Callable[[], None]) -> Callable[[], None]:
        """As `SqliteDatabase.watch`; commits of other nodes count as well."""
        self._notices.listen()
        return self._watchers.watch(topic, callback)

    @property
    def parameters(self) -> dict[str, Any]:
        """What psycopg needs to connect to this database, for a backup's own connection."""
        return dict(self._parameters)

    async def scrub(self) -> bool:
        """Nothing: deleted rows go when the server's own vacuum comes round, and its log as it is set up."""
        return True

    def unready(self) -> str | None:
        """Why this database cannot be relied on now, or None where it can."""
        if not self._running:
            return "the database is not running"
        return "PostgreSQL cannot be reached" if self._down else None

    async def _submit(self, work: Callable[[Session], Any]) -> Any:
        if not self._running:
            raise Unavailable("The database is not running")
        if self._down or self._waiting >= self._waiting_max:
            await asyncio.sleep(0)  # whoever tries again at once must not keep the loop from what would help
            if self._down:
                raise Unavailable("PostgreSQL cannot be reached right now", retry_after_s=2)
            raise Unavailable("Too many transactions are waiting")
        self._waiting += 1
        job = Job(work, self._loop.create_future())
        self._queue.put(job)
        try:
            return await job.future
        finally:
            self._waiting -= 1

    def _serve(self, number: int) -> None:
        """One thread's life."""
        session = Session(
            self._parameters,
            f"mainspring/{self._node}/{number}",
            self._plans,
            self.clock,
            self._random,
            self._stopping,
            read_deadline_s=self._read_deadline_s,
            write_deadline_s=self._write_deadline_s,
            patience_s=self._patience_s,
            count_retry=lambda reason: self._on_loop(self._count_retry, reason),
        )
        while (job := self._queue.get()) is not None:
            if job.future.cancelled():
                continue
            try:
                outcome = job.work(session)
            except BaseException as error:  # whatever it was belongs to the caller, not to this thread
                self._on_loop(self._finish, job, None, error)
                if session.gave_up:
                    self._wait_for_server(session)
            else:
                self._on_loop(self._finish, job, outcome, None)
        session.close()

    def _wait_for_server(self, session: Session) -> None:
        """The server has been gone for longer than anybody waits: refuses everything until it is back."""
        self._down = True
        logger.error("PostgreSQL cannot be reached")
        while not self._stopping.is_set() and not session.reconnect():
            self._refuse_waiting()
            self._stopping.wait(RETRY_EVERY_S)
        self._down = False

    def _refuse_waiting(self) -> None:
        while True:
            try:
                job = self._queue.get_nowait()
            except Empty:
                return
            if job is None:
                self._queue.put(None)
                self._stopping.set()
                return
            self._on_loop(
                self._finish, job, None, Unavailable("PostgreSQL cannot be reached right now", retry_after_s=2)
            )

    def _finish(self, job: Job, outcome: Any, error: BaseException | None) -> None:
        self._observe_seconds(perf_counter() - job.submitted)
        result = outcome
        if isinstance(outcome, Outcome):
            result = outcome.result
            for hook in outcome.hooks:
                call_hook(hook)
            if outcome.topics:
                self._watchers.wake(outcome.topics)
                self._notices.send_soon(outcome.topics, self._loop, self._queue_notice)
        if not job.future.done():
            if error is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(error)

    def _queue_notice(self, work: Callable[[psycopg.Connection[Any]], None]) -> None:
        if self._running and not self._down:
            future = self._loop.create_future()
            future.add_done_callback(_log_failure)
            self._queue.put(Job(lambda session: session.with_driver(work), future))

    def _wake_from_afar(self, topics: list[str] | None) -> None:
        """Called by the listening thread; None where it may have missed some."""
        if topics is None:
            self._on_loop(self._watchers.wake_all)
        else:
            self._on_loop(self._watchers.wake, topics)

    def _on_loop(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            logger.warning("the event loop closed before the database was stopped")

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(sweeping.EVERY_S)
            try:
                while await self.write(sweeping.sweep, self.clock):
                    pass
            except Exception:
                logger.exception("sweeping stored results")


def _connection_parameters(dsn: str) -> dict[str, Any]:
    """The parts of `dsn`, and what finds a dead server soon and, after a fail-over, the one that can write."""
    given: dict[str, Any] = conninfo_to_dict(dsn)
    return {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "target_session_attrs": "read-write",
        **given,
    }


@read_committed
def _forget_old_marks(connection: Connection, before_us: int) -> None:
    connection.execute(core_tables.FORGET_MARKS, {"before_us": before_us})


@read_committed
def _refuse_offsets_of_another_server(connection: Connection) -> None:
    """Offsets of events are made of transaction ids: behind those that are there, new events would never be read."""
    newest, next_offset = connection.execute(core_tables.NEWEST_AND_NEXT_OFFSET).all()[0]
    if newest >= next_offset:
        raise SchemaError(
            f"this server's transaction ids are behind those of the events it holds, as after a restore from a dump: "
            f"stop it and run pg_resetwal with a next transaction id above {newest >> core_tables.OFFSET_BITS}"
        )


def _log_failure(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and future.exception() is not None:
        logger.warning("a notice to other nodes was not sent: %s", future.exception())


def _instruments(metrics: Metrics | None) -> tuple[Callable[[float], None], Callable[[str], None]]:
    if metrics is None:
        return lambda seconds: None, lambda reason: None
    seconds = metrics.histogram("database_transaction_seconds", "From the call to the answer, waiting included")
    retries = metrics.counter("database_retries", "Transactions run again", ("reason",))
    return seconds.observe, lambda reason: retries.labels(reason).inc()
