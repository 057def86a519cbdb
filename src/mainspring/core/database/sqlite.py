"""`SqliteDatabase`: the embedded side of the `Database` port. One file, one writer, durable group commit.

A write is handed to the writer's thread (`sqlite_writer`) together with all others of the same turn of the event loop, and
answered once it is on the disk. A read runs on the loop itself for at most a millisecond, then in a thread
(`sqlite_readers`). A read that starts after a write was answered sees it.

What this promises: what was answered survives kill -9 and a power cut; a function that failed has changed nothing; queues
are bounded; a full disk refuses only what grows (`sqlite_disk`).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from mainspring.core.clock import Clock, SystemClock
from mainspring.core.database import sweeping
from mainspring.core.database.errors import Damaged
from mainspring.core.database.plans import Plans
from mainspring.core.database.recent import Recent
from mainspring.core.database.revisions import Prepared, prepare_sqlite, read_baseline
from mainspring.core.database.sqlite_disk import Disk
from mainspring.core.database.sqlite_events import Event
from mainspring.core.database.sqlite_readers import Reader, Readers
from mainspring.core.database.sqlite_writer import Alone, Job, Writer
from mainspring.core.database.steps import Step, Steps
from mainspring.core.database.watch import Watchers, call_hook
from mainspring.core.ports import Connection, Tables
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Metrics

P = ParamSpec("P")
T = TypeVar("T")
Observe = Callable[[float], None]

if TYPE_CHECKING:
    from sqlalchemy import MetaData

    from mainspring.core.database import idempotency
else:
    idempotency = Steps("mainspring.core.database.idempotency")

logger = logging.getLogger(__name__)

GROUP_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SECONDS_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0)


class SqliteDatabase:
    """A database in the file `path`, which is created where there is none.

    `free_bytes` gives the free space on the disk (tests pass their
    own). Durations are in seconds; `read_deadline_s` is also the greatest age of a snapshot. Use:

    ```python
    database = SqliteDatabase(Path("links.db"))
    await database.start()
    await database.prepare("links", tables, folder)
    ```
    """

    dialect = "sqlite"

    def __init__(
        self,
        path: Path | str,
        *,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        loop_budget_s: float = 0.001,
        read_deadline_s: float = 30.0,
        write_deadline_s: float = 5.0,
        writes_waiting_max: int = 8192,
        floor_bytes: int = 64 << 20,
        ballast_bytes: int = 16 << 20,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        self.path = Path(path)
        self.clock: Clock = clock or SystemClock()
        self._waiting_max = writes_waiting_max
        self._plans = Plans(self.dialect)
        self._watchers = Watchers()
        self.watch = self._watchers.watch
        self._recent = Recent()
        self.recent_events = self._recent.after
        self._disk = Disk(self.path, floor_bytes=floor_bytes, ballast_bytes=ballast_bytes, free_bytes=free_bytes)
        self._writer = Writer(self.path, self._plans, self.clock, self._disk, self, deadline_s=write_deadline_s)
        self._prepared = Prepared()
        self._handed: list[Job] = []
        self._waiting = 0
        self._running = False
        self._damaged: Damaged | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._observe_group, self._observe_commit, self._count_failed, count_moved = _instruments(metrics)
        self._readers = Readers(
            self.path,
            self._plans,
            self.clock,
            loop_budget_s=loop_budget_s,
            deadline_s=read_deadline_s,
            count_moved=count_moved,
        )
        if metrics is not None:
            metrics.gauge("database_writes_waiting", "Writes not answered yet", sample=lambda: self._waiting)

    async def start(self) -> None:
        """Opens the file and prepares the tables of the database itself. Raises `Damaged` or `Unavailable`."""
        self._loop = asyncio.get_running_loop()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer.open()
        self._running = True
        try:
            self._readers.open()
            await self.prepare("core", _core_tables, Path(__file__).parent / "migrations")
        except BaseException:
            await self.stop()
            raise
        self._sweeper = self._loop.create_task(self._sweep())

    async def stop(self) -> None:
        """Refuses new work, finishes what was accepted, and closes the file."""
        if not self._running:
            return
        self._hand_over()
        self._running = False
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await asyncio.to_thread(self._readers.close)
        await asyncio.to_thread(self._writer.close)
        await asyncio.sleep(0)  # the last group's answers

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if isinstance(function, Step):
            function = await function.function()
        if not self._running:
            raise Unavailable("The database is not running")
        try:
            return await self._readers.read(function, args, kwargs)
        except Damaged as error:
            self._note_damage(error)
            raise

    def read_at_once(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `read`, without leaving the loop's turn: for an answer that is either at hand or made in another way.

        Raises `Timeout` where it takes longer than a read may on the loop, `Unavailable` where the file is busy.
        """
        if not self._running:
            raise Unavailable("The database is not running")
        return self._readers.at_once(function, args, kwargs)

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        if isinstance(function, Step):
            function = await function.function()
        if not self._running:
            raise Unavailable("The database is not running")
        if self._waiting >= self._waiting_max:
            await asyncio.sleep(0)  # whoever tries again at once must not keep the loop from answering others
            raise Unavailable("Too many writes are waiting")
        future = self._loop.create_future()
        self._waiting += 1
        if not self._handed:
            self._loop.call_soon(self._hand_over)
        self._handed.append(Job(function, args, kwargs, future))
        result: T = await future
        return result

    async def write_once(
        self,
        key: str,
        digest: bytes,
        function: Callable[Concatenate[Connection, P], bytes],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> tuple[bytes, bool]:
        if isinstance(function, Step):
            function = await function.function()
        return await self.write(idempotency.run_once, self.clock, key, digest, function, args, kwargs)

    async def prepare(self, name: str, tables: Tables, folder: Path | None = None) -> None:
        """Creates the tables of the system `name`, or brings them to the revision of its `baseline.sql` in `folder`.

        Without a folder they are created as `tables` has them. Raises `SchemaError`.
        """
        baseline = read_baseline(name, tables, folder)
        self._prepared.claim(name, baseline.tables)
        await self._alone(lambda raw: prepare_sqlite(raw, name, baseline, folder))

    async def check(self) -> list[str]:
        """Reads every page of the file; gives what is damaged, nothing where all is well."""
        return await self._readers.in_thread(Reader.damage)

    async def scrub(self) -> bool:
        """Folds the write-ahead log into the file, where deleted bytes have been overwritten, and empties it.

        Gives False where a running read still needs the log; it then waits for nobody.
        """
        return await self._alone(_empty_log)

    async def backup_to(self, target: Path) -> None:
        """Copies the database, as it is now, to the new file `target`, while all goes on. Syncs it before returning."""
        await self._readers.in_thread(lambda reader: reader.copy_to(target))

    def unready(self) -> str | None:
        """Why this database cannot be relied on now, or None where it can."""
        if not self._running:
            return "the database is not running"
        if self._damaged is not None:
            return str(self._damaged)
        return "the disk is nearly full: writes that grow are refused" if self._disk.low else None

    def group(self, jobs: list[Job], seconds: float, first: int | None, events: Sequence[Event]) -> None:
        """Called by the writer's thread: `jobs` are done."""
        self._on_loop(self._finish, jobs, seconds, first, events)

    def alone(self, work: Alone, result: Any, error: BaseException | None) -> None:
        """Called by the writer's thread: `work` is done."""
        self._on_loop(_settle, work.future, result, error)

    def _on_loop(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            logger.warning("the event loop closed before the database was stopped")

    def _hand_over(self) -> None:
        if self._handed:
            self._writer.submit(self._handed)
            self._handed = []

    def _finish(self, jobs: list[Job], seconds: float, first: int | None, events: Sequence[Event]) -> None:
        self._waiting -= len(jobs)
        self._observe_group(len(jobs))
        self._observe_commit(seconds)
        if events:
            self._recent.add(first, events)
        for job in jobs:
            if job.error is None:
                for hook in job.hooks:
                    call_hook(hook)
            else:
                self._count_failed(1)
                if isinstance(job.error, Damaged):
                    self._note_damage(job.error)
        if events:
            self._watchers.wake({event[0] for event in events})
        for job in jobs:
            future = job.future
            if not future.done():
                if job.error is None:
                    future.set_result(job.result)
                else:
                    future.set_exception(job.error)

    async def _alone(self, work: Callable[[Any], T]) -> T:
        if not self._running:
            raise Unavailable("The database is not running")
        self._hand_over()
        future: asyncio.Future[T] = self._loop.create_future()
        self._writer.submit(Alone(work, future))
        return await future

    def _note_damage(self, error: Damaged) -> None:
        if self._damaged is None:
            logger.critical("%s: %s", self.path, error)
        self._damaged = error

    async def _sweep(self) -> None:
        while True:
            await self.clock.sleep(sweeping.EVERY_S)
            try:
                while await self.write(sweeping.sweep, self.clock):
                    pass
            except Exception:
                logger.exception("sweeping stored results")


def _core_tables() -> "MetaData":
    from mainspring.core.database.core_tables import tables

    return tables


def _empty_log(raw: Any) -> bool:
    waits_ms = raw.execute("PRAGMA busy_timeout").fetchone()[0]
    raw.execute("PRAGMA busy_timeout=0").close()
    try:
        busy: int = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    finally:
        raw.execute(f"PRAGMA busy_timeout={waits_ms}").close()
    return not busy


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if not future.done():
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _instruments(metrics: Metrics | None) -> tuple[Observe, Observe, Observe, Observe]:
    if metrics is None:
        return _ignore, _ignore, _ignore, _ignore
    group = metrics.histogram("database_group_size", "Writes that shared one commit", buckets=GROUP_BUCKETS)
    commit = metrics.histogram(
        "database_commit_seconds", "From a group's first function to the end of its commit", buckets=SECONDS_BUCKETS
    )
    failed = metrics.counter("database_writes_failed", "Writes whose function raised")
    moved = metrics.counter("database_reads_moved", "Reads that took too long on the event loop")
    return group.observe, commit.observe, failed.inc, moved.inc


def _ignore(value: float = 1) -> None:
    return None
