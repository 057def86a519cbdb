"""A data directory: what lies in it beside the partitions, and the work on it that is not appending.

    <topic>-<partition>/                the partitions, as Kafka lays them out
    <topic>-<partition>.<id>-delete/    one that was deleted, for `file.delete.delay.ms`
    recovery-point-offset-checkpoint    below these offsets everything is durable (Kafka's form)
    log-start-offset-checkpoint         where partitions begin whose first records were deleted (Kafka's form)
    commit-journal-<generation>         see `journal`
    clean-stop                          the state of all partitions, only while no process has them open
    topics/, meta.properties            in the first directory: the topics, the cluster's id

The methods run in the writer's thread, through `writer.call`, but for `offsets`.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from mainspring.core.crash import crash_point

from .checkpoints import EPOCHS_FILE, first_files, format_epochs, format_offsets, parse_offsets
from .files import Files, read_all, replace
from .journal import entries_in, generations
from .journal import name as journal_name
from .partition import Partition, Surroundings
from .recovery import (
    CleanPartition,
    Loaded,
    decode_clean,
    from_clean,
    recover,
    to_clean,
)
from .segments import SNAPSHOT, SUFFIXES, Segment
from .settings import FlushPolicy
from .threads import InlineWriter, ThreadedWriter
from .topics import TopicRecord

if TYPE_CHECKING:
    from .topics import Topic

CLEAN_FILE = "clean-stop"
POINTS_FILE = "recovery-point-offset-checkpoint"
STARTS_FILE = "log-start-offset-checkpoint"
META_FILE = "meta.properties"
DELETE_SUFFIX = "-delete"

_log = logging.getLogger(__name__)

Offsets = tuple[int, int, Partition]
"""From where a restart must read, where the log starts, and of which partition."""


class Directory:
    """A directory, its writer, and its partitions by the names of their folders."""

    __slots__ = ("_around", "_files", "partitions", "path", "writer")

    def __init__(self, path: str, files: Files, writer: ThreadedWriter | InlineWriter, around: Surroundings) -> None:
        self.path = path
        self.writer = writer
        self.partitions: dict[str, Partition] = {}
        self._files = files
        self._around = around

    # Opening and closing

    def load(self, topics: Sequence[tuple[Topic, TopicRecord]]) -> list[tuple[Partition, Loaded]]:
        """The partitions that lie here, mended. Raises `OSError`."""
        files, path = self._files, self.path
        names = set(files.names(path))
        clean = self._take_clean(names)
        points, starts = self._offsets(POINTS_FILE), self._offsets(STARTS_FILE)
        journals = generations(sorted(names))
        entries = self._journaled(journals)
        self.writer.next_generation = journals[-1] + 1 if journals else 0
        found = []
        for topic, record in topics:
            for index in range(record.partitions):
                name = f"{record.name}-{index}"
                if name not in names:
                    continue
                names.discard(name)
                partition = Partition(topic, index, f"{path}/{name}", self._around, self.writer)
                loaded = from_clean(files, partition.folder, clean[name]) if clean and name in clean else None
                if loaded is None:
                    journal = entries.get((record.id, index), ())
                    loaded = self._recover(partition, points.get(name, 0), starts.get(name, 0), journal)
                found.append((partition, loaded))
        self._write_offsets((_point(loaded.segments, loaded.end), loaded.log_start, p) for p, loaded in found)
        crash_point("log.start.recovered")
        self._clear(names)
        for generation in journals:
            files.delete(f"{path}/{journal_name(generation)}")
        return found

    def _recover(
        self, partition: Partition, point: int, log_start: int, journal: Sequence[bytes | memoryview]
    ) -> Loaded:
        opened = self.writer.opened
        interval_bytes = partition.topic.config.index_interval_bytes
        loaded = recover(
            opened,
            partition.folder,
            point=point,
            log_start=log_start,
            interval_bytes=interval_bytes,
            has_gaps=partition.topic.config.is_compacted,
            journal=journal,
        )
        if self._around.settings.flush_policy is FlushPolicy.ASYNC and loaded.segments:
            # What consumers saw may have been lost: a new epoch lets them find out.
            older = tuple(entry for entry in loaded.epochs if entry[1] < loaded.end)
            loaded.epochs = (*older, (loaded.epochs[-1][0] + 1, loaded.end))
            replace(self._files, f"{partition.folder}/{EPOCHS_FILE}", format_epochs(loaded.epochs))
        return loaded

    def _journaled(self, journals: Sequence[int]) -> dict[tuple[UUID, int], list[bytes]]:
        entries: dict[tuple[UUID, int], list[bytes]] = {}
        for generation in journals:
            data = read_all(self._files, f"{self.path}/{journal_name(generation)}")
            for id, index, batches in entries_in(data, generation):
                entries.setdefault((id, index), []).append(bytes(batches))
        return entries

    def _take_clean(self, names: set[str]) -> dict[str, CleanPartition] | None:
        if CLEAN_FILE not in names:
            return None
        path = f"{self.path}/{CLEAN_FILE}"
        try:
            clean = decode_clean(read_all(self._files, path))
        except msgspec.DecodeError:
            _log.warning("the record of the last stop is damaged", extra={"path": path})
            clean = None
        # From here on the files change: its word must not count again.
        self._files.delete(path)
        self._files.sync_folder(self.path)
        return clean

    def _offsets(self, name: str) -> dict[str, int]:
        try:
            return parse_offsets(read_all(self._files, f"{self.path}/{name}").decode())
        except FileNotFoundError:
            return {}
        except ValueError:
            _log.warning("a checkpoint is damaged", extra={"path": f"{self.path}/{name}"})
            return {}

    def _clear(self, names: Iterable[str]) -> None:
        """Deletes what no topic has: partitions of topics that were deleted or never quite made."""
        for name in names:
            stem, _, index = name.rpartition("-")
            if name.endswith(DELETE_SUFFIX) or (stem and index.isdigit() and not name.startswith("commit-journal-")):
                self._files.delete_folder(f"{self.path}/{name}")

    def leave(self, partitions: Sequence[Partition]) -> None:
        """Writes everything down for the next start. Raises `OSError`."""
        clean = {}
        for partition in partitions:
            if partition.write_error is not None:
                continue
            states, active = partition.producer_states, partition.segments[-1] if partition.segments else None
            if active is not None and active.index is not None and active.created:
                left = active.index_files()
                if len(partition.segments) == 1:
                    left += first_files(partition.folder, partition.topic.id, partition.epochs)
                if states is not None:
                    left.append((f"{partition.folder}/{partition.end:020}{SNAPSHOT}", states.to_snapshot()))
                self.writer.write_index_files(partition, left)
            clean[partition.name] = to_clean(
                partition.segments, partition.log_start, partition.end, partition.epochs, states
            )
        self.checkpoint(self.offsets())
        replace(self._files, f"{self.path}/{CLEAN_FILE}", msgspec.msgpack.encode(clean))

    # While open

    def offsets(self) -> list[Offsets]:
        """On the loop: from where a restart must read each partition once all that is queued by now has been synced."""
        return [(_point(p.segments, p.high_watermark), p.log_start, p) for p in self.partitions.values()]

    def checkpoint(self, offsets: list[Offsets]) -> None:
        """Syncs what is dirty and writes down `offsets`, which were taken before. Raises `OSError`."""
        self.writer.write_beside()
        self.writer.trim()
        crash_point("log.checkpoint.synced")
        self._write_offsets(offsets)

    def write_starts(self) -> None:
        self._write_starts((p.log_start, p) for p in tuple(self.partitions.values()))

    def _write_offsets(self, offsets: Iterable[Offsets]) -> None:
        offsets = list(offsets)
        # Of a partition that cannot be written all must be read again.
        points = format_offsets((p.name, point) for point, _, p in offsets if point and p.write_error is None)
        replace(self._files, f"{self.path}/{POINTS_FILE}", points)
        self._write_starts((start, p) for _, start, p in offsets)

    def _write_starts(self, starts: Iterable[tuple[int, Partition]]) -> None:
        data = format_offsets((p.name, start) for start, p in starts if start)
        replace(self._files, f"{self.path}/{STARTS_FILE}", data)

    def make_folders(self, names: Sequence[str]) -> None:
        for name in names:
            # One that is there is what a crash left of a topic that never came to be.
            self._files.delete_folder(f"{self.path}/{name}")
            self._files.make_folder(f"{self.path}/{name}")
        self._files.sync_folder(self.path)

    def set_aside(self, gone: Sequence[Partition]) -> list[str]:
        """Renames partitions of a deleted topic, so that its name is free; gives what is to be deleted later."""
        paths = []
        for partition in gone:
            self.writer.forget([segment.path() for segment in partition.segments])
            aside = f"{partition.topic.name[:200]}-{partition.index}.{partition.topic.id.hex}{DELETE_SUFFIX}"
            paths.append(f"{self.path}/{aside}")
            self._files.rename(partition.folder, paths[-1])
        self._files.sync_folder(self.path)
        # A topic of the same name must not begin with the offsets of this one.
        names = {partition.name for partition in gone}
        for file in (POINTS_FILE, STARTS_FILE):
            kept = [entry for entry in self._offsets(file).items() if entry[0] not in names]
            replace(self._files, f"{self.path}/{file}", format_offsets(kept))
        return paths

    def retire(self, folder: str, paths: Sequence[str], is_last: bool) -> list[str]:
        """Renames files that are to be deleted later; gives their new names. `is_last`: the log starts must be kept first."""
        if is_last:
            self.write_starts()
        self.writer.forget(paths)
        there = set(self._files.names(folder))
        renamed = []
        for path in paths:
            if path.rpartition("/")[2] in there:
                self._files.rename(path, path + ".deleted")
                renamed.append(path + ".deleted")
                crash_point("log.retire.renamed")
        self._files.sync_folder(folder)
        return renamed

    def delete(self, paths: Sequence[str]) -> None:
        for path in paths:
            if path.endswith(DELETE_SUFFIX):
                self._files.delete_folder(path)
            else:
                self._files.delete(path)

    def mend(self, partition: Partition, high_watermark: int) -> Loaded:
        """Brings a partition that failed back to what is durable. Raises `OSError` while it cannot be."""
        opened = self.writer.opened
        kept = max((segment.base for segment in partition.segments if segment.base <= high_watermark), default=0)
        for segment in partition.segments:
            opened.close(segment.path())
            if segment.base >= kept:
                # What was to be written of segments and snapshots that will have been cut must not come later.
                self.writer.forget([segment.path(suffix) for suffix in SUFFIXES])
            if segment.base > kept:
                self.writer.forget([segment.path(SNAPSHOT)])
        loaded = recover(
            opened,
            partition.folder,
            point=high_watermark,
            log_start=partition.log_start,
            interval_bytes=partition.topic.config.index_interval_bytes,
            has_gaps=partition.topic.config.is_compacted,
            before=high_watermark,
        )
        partition.write_error = None
        return loaded

    def cluster_id(self, random: Random, node_id: int) -> str:
        """The cluster's id, made at the first start."""
        path = f"{self.path}/{META_FILE}"
        try:
            lines = read_all(self._files, path).decode().split("\n")
        except FileNotFoundError:
            made = base64.urlsafe_b64encode(random.randbytes(16)).decode().rstrip("=")
            replace(self._files, path, f"version=1\ncluster.id={made}\nnode.id={node_id}\n".encode())
            return made
        return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))


def _point(segments: Sequence[Segment], end: int) -> int:
    """Below it nothing need be read: what is durable, and in a closed segment, whose indexes were written."""
    return min(end, segments[-1].base) if segments else end
