"""When compaction runs, and how its segments take the place of the old ones.

A partition is cleaned once enough of it was never cleaned (`min.cleanable.dirty.ratio`) or something in that part is too old
(`max.compaction.lag.ms`). Up to the last stable offset, never the active segment, nothing younger than
`min.compaction.lag.ms`. The copying is done in a thread, one partition at a time.

A new segment is written as `<base>.log.cleaned`, made durable, and renamed to `<base>-<upper>.swap`: from then on it counts.
The old ones go, it takes its name; a crash in between is finished by recovery, which knows from the name what it replaces.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from mainspring.core.crash import crash_point

from .checkpoints import format_offsets, parse_offsets
from .compaction import Outcome, Task, clean
from .directory import Directory
from .files import OpenFiles, read_all, replace
from .partition import Partition, Surroundings
from .segments import SNAPSHOT, Segment, finish_swap, swap_name

CLEANED_FILE = "cleaner-offset-checkpoint"

_log = logging.getLogger(__name__)


class Cleaner:
    """Compacts the partitions of an engine's directories."""

    def __init__(self, directories: Sequence[Directory], around: Surroundings, *, threaded: bool = True) -> None:
        self._directories = directories
        self._around = around
        self._threaded = threaded
        self._cleaned: dict[str, dict[str, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._current: Task | None = None
        self._one_at_a_time = asyncio.Lock()
        self._is_stopping = self._is_busy = False
        self.runs = self.batches_unreadable = 0

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name="log-cleaner")

    async def stop(self) -> None:
        """Breaks off the copying, but no swap."""
        self._is_stopping = True
        if self._current is not None:
            self._current.is_cancelled = True
        if self._task is not None:
            if not self._is_busy:
                self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while not self._is_stopping:
            await self._around.clock.sleep(self._around.settings.cleaner_interval_ms / 1_000)
            self._is_busy = True
            await self.clean_due()
            self._is_busy = False

    async def clean_due(self) -> None:
        """Cleans every partition that is worth it."""
        for directory in self._directories:
            for partition in tuple(directory.partitions.values()):
                if not partition.topic.config.is_compacted or partition.failure is not None or self._is_stopping:
                    continue
                try:
                    async with self._one_at_a_time:
                        task = self._task_for(directory, partition)
                        if task is not None and self._is_worth_it(partition, task):
                            await self._clean(directory, partition, task)
                except (OSError, ValueError):
                    _log.exception("compaction failed and will be tried again", extra={"partition": partition.name})

    async def clean_one(self, partition: Partition) -> Outcome | None:
        """Cleans this partition now, whether it is worth it or not; None where there is nothing to clean."""
        for directory in self._directories:
            if directory.writer is partition.writer:
                async with self._one_at_a_time:
                    task = self._task_for(directory, partition)
                    return await self._clean(directory, partition, task) if task is not None else None
        return None

    def first_dirty(self, directory: Directory, partition: Partition) -> int:
        """Where the last cleaning of this partition ended."""
        cleaned = self._cleaned.get(directory.path)
        if cleaned is None:
            try:
                text = read_all(self._around.opened.files, f"{directory.path}/{CLEANED_FILE}").decode()
                cleaned = parse_offsets(text)
            except (FileNotFoundError, ValueError):
                cleaned = {}
            self._cleaned[directory.path] = cleaned
        known = cleaned.get(partition.name, 0)
        # A topic that was deleted and made again begins anew.
        return max(partition.log_start, known) if known <= partition.end else partition.log_start

    def _task_for(self, directory: Directory, partition: Partition) -> Task | None:
        config = partition.topic.config
        now_ms = self._around.clock.wall_ns() // 1_000_000
        segments: list[Segment] = []
        for at, segment in enumerate(partition.segments[:-1]):
            if partition.segments[at + 1].base > partition.last_stable:
                break
            if config.min_compaction_lag_ms and segment.max_timestamp > now_ms - config.min_compaction_lag_ms:
                break
            if segment.created:
                segments.append(segment)
        if not segments:
            return None
        upper = partition.segments[len(segments)].base
        first_dirty = self.first_dirty(directory, partition)
        if first_dirty >= upper:
            return None
        files = self._around.opened.files
        return Task(
            segments=segments,
            first_dirty=first_dirty,
            upper=upper,
            now_ms=now_ms,
            delete_retention_ms=config.delete_retention_ms,
            segment_bytes_max=config.segment_bytes,
            interval_bytes=config.index_interval_bytes,
            map_bytes_max=self._around.settings.cleaner_dedupe_bytes,
            aborted=[entry for segment in partition.segments for entry in segment.aborted_in(files)],
            last_batches={
                id: (known.last.last_offset if known.last is not None else -1, known.epoch)
                for id, known in partition.producers.items()
            },
        )

    def _is_worth_it(self, partition: Partition, task: Task) -> bool:
        config = partition.topic.config
        dirty = [segment for segment in task.segments if segment.base >= task.first_dirty]
        total_bytes = sum(segment.size for segment in task.segments)
        if sum(segment.size for segment in dirty) >= config.min_cleanable_dirty_ratio * max(1, total_bytes) and dirty:
            return True
        return any(0 <= segment.first_timestamp < task.now_ms - config.max_compaction_lag_ms for segment in dirty)

    async def _clean(self, directory: Directory, partition: Partition, task: Task) -> Outcome:
        opened = OpenFiles(self._around.opened.files, 16)
        self._current = task
        try:
            outcome = await asyncio.to_thread(clean, opened, task) if self._threaded else clean(opened, task)
        finally:
            self._current = None
            opened.close_all()
        crash_point("log.compact.cleaned")
        self.runs += 1
        self.batches_unreadable += outcome.batches_unreadable
        for group, into, path in outcome.groups:
            if not await self._swap(directory, partition, group, into, path):
                return outcome
        self._cleaned[directory.path][partition.name] = outcome.cleaned_to
        await directory.writer.call(self._write_down, directory)
        return outcome

    def _write_down(self, directory: Directory) -> None:
        known = [entry for entry in self._cleaned[directory.path].items() if entry[0] in directory.partitions]
        replace(self._around.opened.files, f"{directory.path}/{CLEANED_FILE}", format_offsets(known))

    async def _swap(
        self, directory: Directory, partition: Partition, group: Sequence[Segment], into: Segment, path: str
    ) -> bool:
        """Puts a new segment in the place of the old ones; False where these are not all there any more."""
        files = self._around.opened.files
        upper = self._upper(partition, group)
        if upper is None:
            files.delete(path)
            return False
        swap = swap_name(into.base, upper)
        await directory.writer.call(_commit, directory, partition.folder, path, swap)
        if self._upper(partition, group) is None:
            files.delete(f"{partition.folder}/{swap}")
            return False
        # From here to the end of the list's change nothing else runs on the loop: a reader sees the old files or the new one.
        for segment in group:
            self._around.opened.close(segment.path())
            directory.writer.tell(directory.writer.forget, [segment.path()])
        finish_swap(files, partition.folder, swap)
        crash_point("log.compact.swapped")
        into.first_timestamp = group[0].first_timestamp
        at = partition.segments.index(group[0])
        partition.segments[at : at + len(group)] = [into]
        await directory.writer.call(directory.writer.write_index_files, partition, into.index_files())
        aborted = into.aborted
        into.drop_indexes()
        into.aborted = aborted
        gone = [segment.path(SNAPSHOT) for segment in group[1:]]
        await directory.writer.call(directory.delete, gone)
        return True

    @staticmethod
    def _upper(partition: Partition, group: Sequence[Segment]) -> int | None:
        """Where the group ends; None where a segment of it is gone."""
        if partition.failure is not None:
            return None
        for at, segment in enumerate(partition.segments):
            if segment is group[0]:
                end = at + len(group)
                is_whole = end < len(partition.segments) and partition.segments[at:end] == list(group)
                return partition.segments[end].base if is_whole else None
        return None


def _commit(directory: Directory, folder: str, cleaned: str, swap: str) -> None:
    """In the writer's thread: from now on the new segment counts."""
    files = directory.writer.files
    files.rename(cleaned, f"{folder}/{swap}")
    crash_point("log.compact.renamed")
    files.sync_folder(folder)
    crash_point("log.compact.committed")
