"""The one thread that writes to a SQLite file: durable group commit.

Whatever is waiting when the thread comes round is run in ONE transaction and made durable by one commit; then all are
answered at once. At 256 callers a commit's fsync is shared by 256.

A function that fails must leave no trace, and must not take the others with it. A savepoint around each would do, but
costs twice what a small write itself costs, so a group is first run without. When one fails, all is rolled back and the
group is run again with savepoints, as are the next groups, since failures come in series. That is allowed, because a
function may run more than once.

What the functions of such a group emit becomes rows at its end, all together; where savepoints are taken, with each function.

An interrupt (a deadline) or a full disk ends the whole transaction in SQLite, savepoints and all. Then the others are run
again without the culprit. When the commit itself fails, each is run alone, so that the culprit is known.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Protocol

import msgspec
import pysqlite3.dbapi2 as dbapi  # type: ignore[import-untyped]

from mainspring.core.clock import Clock
from mainspring.core.database.errors import Timeout
from mainspring.core.database.plans import Plans, function_name, refuse_rows
from mainspring.core.database.sqlite_connection import UNREAD, SqliteConnection, open_connection, translated
from mainspring.core.database.sqlite_disk import Disk
from mainspring.core.database.sqlite_events import REFUSALS, Event
from mainspring.core.problems import StorageFull

logger = logging.getLogger(__name__)

GROUP_JOBS_MAX = 1024
GROUP_S_MAX = 0.05
"""A group takes no more functions once it has run this long, so that those that have run are answered."""

SIBLINGS_S_MAX = 0.001
"""How long a group waits that begins with less than half of what the last one had: those who were answered together ask
again one after the other, and a commit for the first of them alone is nearly as dear as one for all."""

CAREFUL_GROUPS = 64
"""How many groups after a failure are run with savepoints from the start."""

SLOW_S = 0.05
NAME_EVERY_S = 60.0
"""A function that holds everybody else up for longer than this is named in the log, once a minute: it must be split."""

SPARE_PAGES = 64
INSTRUCTIONS_PER_LOOK = 10_000
JOBS_PER_LOOK = 64
IDLE_S = 0.05
FRAMES_WHEN_IDLE = 1000
FRAMES_ALWAYS = 8000
FRAMES_TOO_MANY = 65_536
FRAME_BYTES = 4096
"""Checkpoint at 4 MB of write-ahead log once nothing has come for `IDLE_S`, at 32 MB always; past 256 MB wait for old
readers to go. That nobody waits at the end of a group says little: whoever writes without end was just answered, and would
wait for each of many checkpoints, in which the same pages are written again. Where the floor of free space is low the log
must stay shorter than half of it, because folding it in takes room.

On a disk that is nearly full, after every group, so that the log is written from its start again and does not grow.
"""


class Job(msgspec.Struct, eq=False):
    """One call of `write`, and what came of it."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    future: Any
    result: Any = None
    error: BaseException | None = None
    hooks: Iterable[Callable[[], None]] = ()


class Alone:
    """Work on the driver's own connection, outside of any group: creating and migrating tables."""

    __slots__ = ("future", "work")

    def __init__(self, work: Callable[[Any], Any], future: Any) -> None:
        self.work = work
        self.future = future


class Stop:
    """The last thing in the queue."""


class Answers(Protocol):
    """Where the thread leaves what it has done."""

    def group(self, jobs: list[Job], seconds: float, first: int | None, events: Sequence[Event]) -> None:
        """These are durable, or have failed; `seconds` is from the first function's start to the end of the commit.

        `events` are what was emitted, whose offsets begin with `first` (None: they are not one after the other).
        """

    def alone(self, work: Alone, result: Any, error: BaseException | None) -> None: ...


class Writer:
    """Owns the writing connection. `open`, `submit` and `close` belong to the event loop; the rest to the thread."""

    def __init__(
        self, path: Path, plans: Plans, clock: Clock, disk: Disk, answers: Answers, *, deadline_s: float
    ) -> None:
        self._path = path
        self._plans = plans
        self._clock = clock
        self._disk = disk
        self._answers = answers
        self._deadline_s = deadline_s
        self._deadline = float("inf")
        self._queue: SimpleQueue[list[Job] | Alone | Stop] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._last_group = 0
        self._careful_groups = 0
        self._settles_each = False
        self._one_by_one = 0
        self._unlooked_jobs = 0
        self._looks_when_idle = False
        self._frames_always = min(FRAMES_ALWAYS, disk.floor_bytes // 2 // FRAME_BYTES or FRAMES_ALWAYS)
        self._named: dict[str, float] = {}
        self._raw: Any = None
        self._connection: SqliteConnection

    def open(self) -> None:
        """Opens the file, creating it where there is none. Raises `Damaged` or `Unavailable`."""
        self._raw = open_connection(self._path, cache_kib=16_384, busy_timeout_s=5)
        self._raw.set_progress_handler(self._is_over, INSTRUCTIONS_PER_LOOK)
        self._execute = self._raw.cursor().execute
        self._connection = SqliteConnection(self._raw, self._plans, self._clock, writes=True)
        self._disk.look(perf_counter())
        self._thread.start()

    def submit(self, work: list[Job] | Alone) -> None:
        self._queue.put(work)

    def close(self) -> None:
        """Finishes what was submitted, then closes the file. Blocks, so call it from a thread."""
        self._queue.put(Stop())
        self._thread.join()

    def _is_over(self) -> bool:
        return perf_counter() > self._deadline

    def _run(self) -> None:
        while True:
            work: list[Job] | Alone | Stop | None = self._next()
            if isinstance(work, list):
                jobs, work = self._gather(work)
                self._run_jobs(jobs)
            if isinstance(work, Alone):
                self._run_alone(work)
            if isinstance(work, Stop):
                break
        self._raw.close()

    def _next(self) -> list[Job] | Alone | Stop:
        if self._looks_when_idle:
            try:
                return self._queue.get(timeout=IDLE_S)
            except Empty:
                self._looks_when_idle = False
                self._checkpoint_past(FRAMES_WHEN_IDLE)
        return self._queue.get()

    def _gather(self, jobs: list[Job]) -> tuple[list[Job], Alone | Stop | None]:
        """All jobs that are waiting, or will be in a moment, and what came after them."""
        until: float | None = None
        while len(jobs) < GROUP_JOBS_MAX:
            wait_s = 0.0
            if self._queue.empty():
                if len(jobs) >= self._last_group // 2:
                    break
                until = perf_counter() + SIBLINGS_S_MAX if until is None else until
                wait_s = until - perf_counter()
            try:
                more = self._queue.get(timeout=max(0.0, wait_s))
            except Empty:
                break
            if not isinstance(more, list):
                return jobs, more
            jobs += more
        self._last_group = len(jobs)
        return jobs, None

    def _run_jobs(self, jobs: list[Job]) -> None:
        jobs = [job for job in jobs if not job.future.cancelled()]
        self._unlooked_jobs += len(jobs)
        while jobs:
            try:
                jobs = self._run_group(jobs)
            except Exception as error:
                logger.critical("the writer of %s", self._path, exc_info=True)
                jobs = self._fail(jobs, jobs, error)
        self._looks_when_idle = True
        if self._disk.low or self._unlooked_jobs >= JOBS_PER_LOOK or self._queue.empty():
            self._checkpoint_past(1 if self._disk.low else self._frames_always)

    def _run_group(self, jobs: list[Job]) -> list[Job]:
        """Runs the first of `jobs` in one transaction and answers them; gives those that are still to be run."""
        started = perf_counter()
        measured = self._disk.look(started)
        group = jobs[: 1 if self._one_by_one else GROUP_JOBS_MAX]
        careful = len(group) > 1 and (measured or self._careful_groups > 0)
        self._careful_groups -= self._careful_groups > 0
        self._one_by_one -= self._one_by_one > 0
        try:
            self._execute("BEGIN IMMEDIATE")
        except dbapi.Error as error:
            return self._fail(group, jobs, error)
        emitted = self._connection.emitted
        try:
            ran, culprit = self._call_each(group, started, careful, measured)
            if culprit is None:
                self._deadline = float("inf")
                emitted.write()
                self._execute("COMMIT")
        except REFUSALS as error:
            self._roll_back()
            if self._met_full(error):
                return jobs
            if len(group) == 1:
                return self._fail(group, jobs, error)
            self._one_by_one = len(group)
            return jobs
        if culprit is None:
            self._answers.group(group[:ran], perf_counter() - started, emitted.first, emitted.events)
            return jobs[ran:]
        alone = len(group) == 1
        if not alone:
            self._careful_groups = CAREFUL_GROUPS
        if self._is_final(culprit, alone=alone, careful=careful):
            self._answers.group([culprit], perf_counter() - started, None, ())
            return [job for job in jobs if job is not culprit]
        return jobs

    def _call_each(self, group: list[Job], started: float, careful: bool, measured: bool) -> tuple[int, Job | None]:
        """Calls each function; gives how many ran, and the job that ended the transaction for all, if one did."""
        now = started
        ran = 0
        emitted = self._connection.emitted
        emitted.begin()
        self._settles_each = careful or len(group) == 1
        for job in group:
            self._deadline = now + self._deadline_s
            before_job = len(emitted.events)
            if careful:
                self._execute("SAVEPOINT job")
            if measured:
                self._call_measured(job)
            else:
                self._call(job)
            if job.error is not None:
                if not careful or not self._raw.in_transaction:
                    self._roll_back()
                    return ran, job
                self._deadline = float("inf")
                self._execute("ROLLBACK TO job")
                emitted.forget_after(before_job)
            if careful:
                self._execute("RELEASE job")
            ran += 1
            before, now = now, perf_counter()
            if now - before > SLOW_S:
                self._name_slow(job, now - before, now)
            if now - started > GROUP_S_MAX:
                break
        return ran, None

    def _name_slow(self, job: Job, seconds: float, now: float) -> None:
        name = function_name(job.function)
        if now - self._named.get(name, float("-inf")) > NAME_EVERY_S:
            self._named[name] = now
            logger.warning("%s held all writers for %.0f ms: split it", name, seconds * 1000)

    def _call(self, job: Job) -> None:
        connection = self._connection
        connection.begin_function()
        try:
            result = job.function(connection, *job.args, **job.kwargs)
            if connection.error is not None:
                raise connection.error
            if isinstance(result, UNREAD):
                refuse_rows(job.function)
            if self._settles_each:
                connection.emitted.write()
        except BaseException as error:  # whatever it was belongs to the caller, not to this thread
            job.error = translated(error)
            return
        job.result = result
        job.error = None
        job.hooks = connection.hooks or ()  # an empty list would be the next function's too

    def _call_measured(self, job: Job) -> None:
        """Like `_call`, where the disk is nearly full: fails what grows the file, or would soon.

        An insert may find room in a page that is there, but the next one will not; it is welcome only where deleted rows
        have left whole pages free.
        """
        connection = self._connection
        pages, spare = self._pages(), self._execute("PRAGMA freelist_count").fetchone()[0]
        connection.kinds = set()
        try:
            self._call(job)
        finally:
            kinds, connection.kinds = connection.kinds, None
        inserts = "insert" in kinds and "delete" not in kinds
        if job.error is None and (self._pages() > pages or (inserts and spare < SPARE_PAGES)):
            job.error = StorageFull()

    def _pages(self) -> int:
        pages: int = self._execute("PRAGMA page_count").fetchone()[0]
        return pages

    def _is_final(self, culprit: Job, *, alone: bool, careful: bool) -> bool:
        """Whether the job that ended a transaction has its answer, or is run again with the others."""
        failed = self._connection.error
        if failed is not None and self._met_full(failed):
            return False
        return alone or careful or isinstance(culprit.error, Timeout)

    def _met_full(self, error: BaseException) -> bool:
        """Whether `error` is a disk found full just now, so that another try, with the ballast given up, may do."""
        return isinstance(translated(error), StorageFull) and self._disk.met_full(perf_counter())

    def _fail(self, group: list[Job], jobs: list[Job], error: Exception) -> list[Job]:
        for job in group:
            job.error = translated(error)
        self._answers.group(group, 0.0, None, ())
        return jobs[len(group) :]

    def _roll_back(self) -> None:
        self._deadline = float("inf")
        if self._raw.in_transaction:
            self._execute("ROLLBACK")

    def _run_alone(self, alone: Alone) -> None:
        result, error = None, None
        try:
            result = alone.work(self._raw)
        except BaseException as raised:  # as in `_call`
            error = translated(raised)
        self._roll_back()
        self._answers.alone(alone, result, error)

    def _checkpoint_past(self, frames_min: int) -> None:
        """Folds the write-ahead log into the file, where it has so many frames."""
        self._unlooked_jobs = 0
        try:
            frames = self._execute("PRAGMA wal_checkpoint(NOOP)").fetchone()[1]
            if frames >= frames_min:
                kind = "PASSIVE" if frames < FRAMES_TOO_MANY else "RESTART"
                self._execute(f"PRAGMA wal_checkpoint({kind})").fetchone()
        except dbapi.Error as error:
            logger.error("checkpoint: %s", error)
