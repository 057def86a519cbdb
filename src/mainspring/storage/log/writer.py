"""The one writer of a data directory: everything that changes its files happens here, in order, in one thread.

Appends queue up while a commit is on its way to the disk; the next commit takes them all. A commit writes every partition's
batches in one call each and then makes them durable: up to four files are synced one by one, more go to the commit journal as
well and cost one sync. Under `flush.policy=async` a commit ends with the write.

A failed write or sync spoils its partition, not the others: nothing of it is written again until the engine has brought the
file back to what is known to be durable. A failed sync is never repeated as if it had not happened, since the kernel may
have dropped the pages that it could not write.

Other work on the files (rolls, deletions, checkpoints) comes through `call` and keeps its place in the queue.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from mainspring.core.crash import crash_point

from .errors import LogError, StorageFailed
from .files import Files, OpenFiles, write_all
from .journal import Journal
from .model import ACKS_LEADER, Appending
from .settings import FlushPolicy, LogSettings
from .trimming import Trimming

if TYPE_CHECKING:
    from .partition import Partition

T = TypeVar("T")
_log = logging.getLogger(__name__)

COMMIT_APPENDS_MAX = 16_384
COMMIT_BYTES_MAX = 32 << 20
COMMIT_SIZES = tuple(1 << power for power in range(15))
SYNCS_AT_ONCE = 4


class SyncFailed(StorageFailed):
    """What was written may or may not be on the disk: the partition stays closed for this process's life."""


class Job:
    """Work on the files that is not appending; its result goes to `done` on the loop, where there is one."""

    __slots__ = ("args", "done", "function")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], done: asyncio.Future[Any] | None) -> None:
        self.function, self.args, self.done = function, args, done


class _Run:
    """The batches of one segment in one commit."""

    __slots__ = ("at", "buffers", "items", "partition", "segment")

    def __init__(self, item: Appending) -> None:
        assert item.segment is not None
        self.partition, self.segment, self.at = item.partition, item.segment, item.position
        self.items: list[Appending] = []
        self.buffers: list[bytes] = []


class Writer:
    """The writer's work, without its thread: those in `threads` drive it."""

    def __init__(
        self,
        folder: str,
        files: Files,
        settings: LogSettings,
        deliver: Callable[[Callable[[], None]], object],
        finished: Callable[[Sequence[Appending]], None],
    ) -> None:
        """`deliver` runs a call on the event loop; `finished` is called there with the appends that are settled."""
        self.folder = folder
        self.files = files
        self.opened = OpenFiles(files, max(16, settings.open_files_max // 2))
        self.queued_bytes = 0
        """Of appends that are not settled; kept by the loop."""
        self.commits = self.syncs = self.appends = self.appended_records = self.appended_bytes = 0
        self.commit_sizes = [0] * (len(COMMIT_SIZES) + 1)
        """How many commits held how many batches, by the bounds of `COMMIT_SIZES`; the last is what is above them."""
        self.next_generation = 0
        self._settings = settings
        self._syncs_commit = settings.flush_policy is FlushPolicy.COMMIT
        self._deliver = deliver
        self._finished = finished
        self._journal: Journal | None = None
        self._spare: str | None = None
        """The file of a journal that was trimmed, for the next one."""
        self._dirty: dict[str, Partition | None] = {}
        self._dirty_folders: set[str] = set()
        self._beside: dict[str, tuple[Partition, bytes]] = {}
        """Small files of closed segments that are still to be written."""

    def work(self, items: deque[Appending | Job]) -> None:
        """Does all of `items` in order: appends in as few commits as may be, and what nobody waits for behind them."""
        appends: list[Appending] = []
        later: list[Job] = []
        size = 0
        while items:
            item = items.popleft()
            if type(item) is Appending:
                appends.append(item)
                size += len(item.data)
                if len(appends) >= COMMIT_APPENDS_MAX or size >= COMMIT_BYTES_MAX:
                    self._commit(appends)
                    appends, size = [], 0
                continue
            assert isinstance(item, Job)
            later.append(item)
            if item.done is None:
                continue
            if appends:
                self._commit(appends)
                appends, size = [], 0
            self._run_jobs(later)
        if appends:
            self._commit(appends)
        self._run_jobs(later)

    def _run_jobs(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._run_job(job)
        jobs.clear()

    def _run_job(self, job: Job) -> None:
        result, error = None, None
        try:
            result = job.function(*job.args)
        except Exception as raised:
            error = raised
            if job.done is None:
                _log.exception("work on the log's files failed")
        done = job.done
        if done is not None:
            self._deliver(lambda: _answer(done, result, error))

    # Appends

    def _commit(self, appends: list[Appending]) -> None:
        try:
            self._write_and_sync(appends)
        except Exception as error:
            # Whatever it was: nobody may wait for ever, and nothing of which nothing is known may be written on.
            _log.exception("a commit failed", extra={"folder": self.folder})
            for item in appends:
                if item.partition.write_error is None:
                    self._spoil(item.partition, SyncFailed(f"the commit failed: {error}"))
                item.error = item.partition.write_error
        self._done(appends)
        journal = self._journal
        if journal is not None and (journal.size > self._settings.journal_bytes or not journal.intact):
            try:
                self._trim_beside()
            except Exception:
                _log.exception("the journal stays until the next checkpoint", extra={"folder": self.folder})

    def _write_and_sync(self, appends: list[Appending]) -> None:
        self.commits += 1
        self.appends += len(appends)
        self.commit_sizes[min((len(appends) - 1).bit_length(), len(COMMIT_SIZES))] += 1
        self.appended_records += sum(item.next_offset - item.base_offset for item in appends)
        self.appended_bytes += sum(len(item.data) for item in appends)
        runs: dict[int, _Run] = {}
        for item in appends:
            run = runs.get(id(item.segment))
            if run is None:
                run = runs[id(item.segment)] = _Run(item)
            run.items.append(item)
            run.buffers.append(item.data)
        written = [run for run in runs.values() if self._write(run)]
        crash_point("log.append.written")
        if not self._syncs_commit:
            self._mark_dirty(written)
            return
        early = [item for item in appends if item.acks == ACKS_LEADER and item.error is None]
        if early:
            self._deliver(lambda: _settle(early))
        journal = self._journal
        if len(written) <= self._settings.journal_files_min or (journal is not None and not journal.intact):
            self._sync_each(written)
        else:
            self._sync_journal(written)
        crash_point("log.append.synced")

    def _done(self, appends: list[Appending]) -> None:
        self._deliver(lambda: self._finished(appends))

    def _write(self, run: _Run) -> bool:
        partition, segment = run.partition, run.segment
        if partition.write_error is None:
            try:
                if not segment.created:
                    self._dirty_folders.add(segment.folder)
                self.files.write(self.opened.handle(segment.path(), create=not segment.created), run.buffers, run.at)
                segment.created = True
            except OSError as error:
                self._spoil(partition, StorageFailed(why(error)))
        if partition.write_error is None:
            return True
        for item in run.items:
            item.error = partition.write_error
        return False

    def _spoil(self, partition: Partition, error: LogError) -> None:
        partition.write_error = error
        _log.error("a partition cannot be written: %s", error, extra={"partition": partition.name})

    def _sync_each(self, runs: list[_Run]) -> None:
        # No more at once than surely stay open together.
        for first in range(0, len(runs), SYNCS_AT_ONCE):
            self._sync_few(runs[first : first + SYNCS_AT_ONCE])

    def _sync_few(self, runs: list[_Run]) -> None:
        errors = list(self._sync_all([self.opened.handle(run.segment.path()) for run in runs]))
        self.syncs += len(runs)
        for run, error in zip(runs, errors, strict=True):
            folder = run.segment.folder
            if error is None and folder in self._dirty_folders:
                crash_point("log.roll.created")
                error = self._sync_folder(folder)
            if error is None and run.partition.write_error is None:
                self._dirty.pop(run.segment.path(), None)
                continue
            self._sync_failed(run, error)

    def _sync_all(self, handles: list[int]) -> Iterable[OSError | None]:
        return map(self._sync_one, handles)

    def _sync_one(self, handle: int) -> OSError | None:
        try:
            self.files.sync(handle)
        except OSError as error:
            return error
        return None

    def _sync_folder(self, folder: str) -> OSError | None:
        try:
            self.files.sync_folder(folder)
        except OSError as error:
            return error
        self._dirty_folders.discard(folder)
        return None

    def _sync_journal(self, runs: list[_Run]) -> None:
        try:
            if self._journal is None:
                spare, self._spare = self._spare, None
                self.next_generation += 1
                self._journal = Journal(self.files, self.folder, self.next_generation - 1, spare)
            self._journal.write([(run.partition.topic.id, run.partition.index, run.buffers) for run in runs])
            crash_point("log.journal.written")
            self.syncs += 1
            self._journal.sync()
        except OSError as error:
            # Nothing behind a damaged entry would be read: this journal is written no more, and trimmed as soon as may be.
            _log.error("the commit journal cannot be written: %s", error, extra={"folder": self.folder})
            if self._journal is not None:
                self._journal.intact = False
            self._sync_each(runs)
            return
        self._mark_dirty(runs)

    def _sync_failed(self, run: _Run, error: OSError | None) -> None:
        if error is not None:
            self._spoil(run.partition, SyncFailed(why(error)))
            try:
                # The kernel may show what is not on the disk: the next start must not take it for durable.
                self.files.truncate(self.opened.handle(run.segment.path()), run.at)
            except OSError:
                _log.exception("what could not be synced stays in the file", extra={"path": run.segment.path()})
        for item in run.items:
            item.error = run.partition.write_error

    def _mark_dirty(self, runs: list[_Run]) -> None:
        for run in runs:
            self._dirty[run.segment.path()] = run.partition

    # Jobs

    def write_index_files(self, partition: Partition, found: list[tuple[str, bytes]]) -> None:
        """Writes what a segment that is closed leaves beside it; synced by the next checkpoint. Raises `OSError`."""
        for path, data in found:
            self._beside[path] = (partition, data)
        self.write_beside()

    def write_beside(self) -> None:
        """Writes what was to be written by now, and what could not be before. Raises `OSError`."""
        for path, (partition, data) in tuple(self._beside.items()):
            try:
                write_all(self.files, path, data, sync=False)
            except OSError:
                # Half an index says less than none: none is made again.
                self.files.delete(path)
                raise
            del self._beside[path]
            self._dirty[path] = partition
            self._dirty_folders.add(partition.folder)
        crash_point("log.roll.indexed")

    def forget(self, paths: Sequence[str]) -> None:
        """Closes files that are going to be renamed or deleted, and syncs them no more."""
        for path in paths:
            self.opened.close(path)
            self._dirty.pop(path, None)
            self._beside.pop(path, None)

    def trim(self) -> None:
        """Syncs every dirty file; what the journal has is then needed no more.

        A file that cannot be synced spoils its partition; a folder that cannot raises `OSError`.
        """
        self._end_trimming()
        work = self._begin_trimming()
        work.run(self.files)
        self._trimmed(work)
        if work.unsynced:
            raise OSError(errno.EIO, "a folder cannot be synced", work.unsynced[0])

    def _trim_beside(self) -> None:
        """As `trim`, where appends need not wait for it."""
        self.trim()

    def _begin_trimming(self) -> Trimming:
        """Takes what is dirty by now, and ends the journal that covers it: the next append to many files begins another."""
        work = Trimming(self._dirty, self._dirty_folders, self._journal)
        self._dirty, self._dirty_folders, self._journal = {}, set(), None
        if work.journal is not None:
            work.journal.close()
        return work

    def _end_trimming(self) -> None:
        """Waits for trimming that is on its way."""

    def _trimmed(self, work: Trimming) -> None:
        self.syncs += work.syncs
        for partition, error in work.failed:
            self._spoil(partition, SyncFailed(why(error)))
        crash_point("log.journal.trimmed")
        self._dirty_folders.update(work.unsynced)
        if work.journal is None or work.failed or work.unsynced:
            # A journal whose files could not be synced stays: the next start reads it.
            return
        if self._spare is None and work.journal.intact:
            self._spare = work.journal.path
        else:
            self.files.delete(work.journal.path)

    def close(self) -> None:
        """Closes all files. A checkpoint came before: what is left of journals is a spare one."""
        if self._spare is not None:
            self.files.delete(self._spare)
        self.opened.close_all()


def _settle(appends: Sequence[Appending]) -> None:
    for item in appends:
        item.settle()


def _answer(done: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)


def why(error: OSError) -> str:
    return f"{error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'unknown')})"
