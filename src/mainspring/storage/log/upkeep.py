"""What a log does by itself: checkpoints, retention, mending what a full disk broke, forgetting silent producers.

One task wakes once a second and does what is due. Each duty is a method of its own, so that a test or an operator can ask for
it now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from .directory import Directory
from .errors import OffsetOutOfRange, StorageFailed
from .model import Appending
from .partition import Partition, Surroundings
from .recovery import Loaded
from .retention import expired
from .segments import SNAPSHOT, SUFFIXES, Segment
from .writer import SyncFailed

_log = logging.getLogger(__name__)

TICK_S = 1.0
EXPIRY_INTERVAL_MS = 600_000
FREE_BYTES_MIN = 1 << 20
"""Below this a full disk is not tried again."""
PARTITIONS_AT_ONCE = 1_000
"""Between so many partitions others get their turn."""


class Upkeep:
    """The duties of an engine's directories."""

    def __init__(self, directories: Sequence[Directory], around: Surroundings) -> None:
        self._directories = directories
        self._around = around
        self._clock = around.clock
        self._waiting: list[tuple[int, Directory, list[str]]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="log-upkeep")

    async def stop(self) -> None:
        """Ends the task and deletes what was waiting for it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.delete_due(all=True)

    async def _run(self) -> None:
        settings = self._around.settings
        duties = [
            (TICK_S * 1_000, self.restore),
            (TICK_S * 1_000, self.delete_due),
            (settings.checkpoint_interval_ms, self.checkpoint),
            (settings.retention_check_interval_ms, self.retain),
            (EXPIRY_INTERVAL_MS, self.expire_producers),
        ]
        due_ns = [self._clock.mono_ns() + int(interval_ms * 1e6) for interval_ms, _ in duties]
        while True:
            await self._clock.sleep(TICK_S)
            for at, (interval_ms, duty) in enumerate(duties):
                if self._clock.mono_ns() < due_ns[at]:
                    continue
                due_ns[at] = self._clock.mono_ns() + int(interval_ms * 1e6)
                try:
                    await duty()
                except Exception:
                    _log.exception("%s failed and will be tried again", duty.__name__)

    async def checkpoint(self) -> None:
        """What is durable by now need not be read at the next start. Raises `OSError`."""
        for directory in self._directories:
            await directory.writer.call(directory.checkpoint, directory.offsets())

    # Retention

    async def retain(self) -> None:
        """Drops the segments that have had their time."""
        for directory, partition in await self._partitions():
            self.retain_one(directory, partition)

    def retain_one(self, directory: Directory, partition: Partition) -> None:
        if partition.failure is not None:
            return
        config = partition.topic.config
        count = expired(
            partition.segments,
            config,
            now_ms=self._clock.wall_ns() // 1_000_000,
            log_start=partition.log_start,
            high_watermark=partition.high_watermark,
            end=partition.end,
        )
        if not count:
            return
        if count == len(partition.segments):
            partition.roll()
        gone = partition.segments[:count]
        del partition.segments[:count]
        partition.log_start = max(partition.log_start, partition.segments[0].base)
        self.retire(directory, partition, gone)
        partition.notify()

    def retire(self, directory: Directory, partition: Partition, gone: Sequence[Segment]) -> None:
        """Takes files out of the way; they are deleted after the topic's delay."""
        paths = [segment.path(suffix) for segment in gone for suffix in (*SUFFIXES, SNAPSHOT)]
        for segment in gone:
            self._around.opened.close(segment.path())
        delay_ns = partition.topic.config.file_delete_delay_ms * 1_000_000

        def renamed(done: asyncio.Future[list[str]]) -> None:
            if not done.cancelled() and done.exception() is None:
                self._waiting.append((self._clock.mono_ns() + delay_ns, directory, done.result()))

        # Where no file is left to tell how far the log had come, that is written down first.
        is_empty = not any(segment.created for segment in partition.segments)
        directory.writer.call(directory.retire, partition.folder, paths, is_empty).add_done_callback(renamed)

    def delete_later(self, directory: Directory, paths: list[str], delay_ms: int) -> None:
        self._waiting.append((self._clock.mono_ns() + delay_ms * 1_000_000, directory, paths))

    async def delete_due(self, *, all: bool = False) -> None:
        now_ns = self._clock.mono_ns()
        due = [entry for entry in self._waiting if all or entry[0] <= now_ns]
        self._waiting = [entry for entry in self._waiting if not all and entry[0] > now_ns]
        for _, directory, paths in due:
            try:
                await directory.writer.call(directory.delete, paths)
            except OSError:
                _log.exception("deleted files stay on the disk", extra={"path": paths[0]})

    async def delete_records(self, directory: Directory, partition: Partition, before: int) -> int:
        """Moves the log start, durably; -1 for the high watermark. Raises `OffsetOutOfRange` and `StorageFailed`."""
        if partition.failure is not None:
            raise partition.failure
        if before == -1:
            before = partition.high_watermark
        if not 0 <= before <= partition.high_watermark:
            raise OffsetOutOfRange(f"{before} is not between 0 and {partition.high_watermark}")
        if before > partition.log_start:
            partition.log_start = before
            try:
                await directory.writer.call(directory.write_starts)
            except OSError as error:
                raise StorageFailed(str(error)) from error
            self.retain_one(directory, partition)
            partition.notify()
        return partition.log_start

    # Mending

    async def restore(self) -> None:
        """Opens again what a full disk closed, once there is room."""
        for directory in self._directories:
            failed = [p for p in directory.partitions.values() if _may_be_mended(p)]
            if not failed or self._around.opened.files.free_bytes(directory.path) < FREE_BYTES_MIN:
                continue
            for partition in failed:
                try:
                    loaded = await directory.writer.call(directory.mend, partition, partition.high_watermark)
                except OSError as error:
                    _log.warning("a partition stays closed: %s", error, extra={"partition": partition.name})
                    continue
                if not _may_be_mended(partition):
                    continue
                for segment in partition.segments:
                    self._around.opened.close(segment.path())
                take(partition, loaded)
                partition.failure = None
                partition.notify()

    async def expire_producers(self) -> None:
        """Forgets the producers that have been silent for long."""
        settings = self._around.settings
        before_ms = self._clock.wall_ns() // 1_000_000 - settings.producer_id_expiration_ms
        for _, partition in await self._partitions():
            states = partition.producer_states
            if states is not None:
                states.expire(before_ms, settings.producers_per_partition_max)
                if not states.by_id:
                    partition.producer_states = None

    async def _partitions(self) -> Sequence[tuple[Directory, Partition]]:
        await asyncio.sleep(0)
        return [(directory, p) for directory in self._directories for p in directory.partitions.values()]


def take(partition: Partition, loaded: Loaded) -> None:
    """Puts what the files tell into the partition."""
    partition.segments = loaded.segments
    partition.log_start, partition.end, partition.high_watermark = loaded.log_start, loaded.end, loaded.end
    partition.producer_states = loaded.producers
    if loaded.producers is not None:
        loaded.producers.advance(loaded.end)
    partition.epochs = loaded.epochs
    partition.leader_epoch = loaded.epochs[-1][0]


def finished(appends: Iterable[Appending]) -> None:
    """On the loop: what a commit has settled. Watermarks move before anybody is answered."""
    appends = list(appends)
    ends: dict[Partition, int] = {}
    for item in appends:
        partition = item.partition
        partition.writer.queued_bytes -= len(item.data)
        if item.error is not None:
            partition.fail(item.error)
        elif isinstance(partition.failure, StorageFailed):
            item.error = partition.failure
        else:
            ends[partition] = item.next_offset
    for partition, end in ends.items():
        partition.advance(end)
    for item in appends:
        item.data = b""
        item.settle(item.error)


def _may_be_mended(partition: Partition) -> bool:
    return isinstance(partition.failure, StorageFailed) and not isinstance(partition.failure, SyncFailed)
