"""The log of one node: its topics and partitions over one or more data directories.

    engine = Engine([Path("data/log")], SystemClock())
    await engine.start()
    await engine.create_topic("orders", partitions=4, config={"retention.ms": "-1"})
    appending = engine.partition("orders", 0).append(batch)
    await appending.durable()

Everything runs on one event loop but the work on the files, which each directory's writer does in its own thread. In process
and over the wire the same objects are used, so that both see the same log at the same time.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from uuid import UUID

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.crash import crash_point
from mainspring.core.telemetry.metrics import Metrics

from .errors import InvalidPartitions, NotOpen, TopicExists, UnknownPartition
from .files import Files, OpenFiles, RealFiles, read_all, replace
from .journal import entries_in, generations
from .journal import name as journal_name
from .model import Appending
from .partition import Partition, Surroundings
from .recovery import CleanPartition, Loaded, decode_clean, format_offsets, from_clean, parse_offsets, recover, to_clean
from .settings import FlushPolicy, LogSettings, TopicConfig, default_values
from .topics import Topic, TopicFiles, TopicRecord, check_name, folded
from .writer import InlineWriter, ThreadedWriter

CLEAN_FILE = "clean-stop"
POINTS_FILE = "recovery-point-offset-checkpoint"
STARTS_FILE = "log-start-offset-checkpoint"
META_FILE = "meta.properties"
DELETE_SUFFIX = "-delete"

_log = logging.getLogger(__name__)
AnyWriter = ThreadedWriter | InlineWriter


class Directory:
    """A data directory, its writer and its partitions by the names of their folders."""

    __slots__ = ("partitions", "path", "writer")

    def __init__(self, path: str, writer: AnyWriter) -> None:
        self.path = path
        self.writer = writer
        self.partitions: dict[str, Partition] = {}

    def points(self) -> bytes:
        return format_offsets((p.topic.name, p.index, p.high_watermark) for p in tuple(self.partitions.values()))

    def starts(self) -> bytes:
        return format_offsets(
            (p.topic.name, p.index, p.log_start) for p in tuple(self.partitions.values()) if p.log_start > 0
        )


class Engine:
    """Topics by name; partitions by topic and number. `cluster_id` is made once and kept."""

    def __init__(
        self,
        directories: Sequence[Path],
        clock: Clock,
        settings: LogSettings | None = None,
        *,
        metrics: Metrics | None = None,
        random: Random | None = None,
        files: Files | None = None,
        threaded: bool = True,
    ) -> None:
        """Raises `InvalidConfig` for defaults of topics that make no sense."""
        self.settings = settings or LogSettings()
        self.topics: dict[str, Topic] = {}
        self.node_id = self.settings.node_id
        self.cluster_id = ""
        self._clock = clock
        self._random = random or Random()
        self._defaults = default_values(self.settings.topic)
        self._files: Files = files if files is not None else RealFiles()
        self._paths = [str(path) for path in directories]
        self._threaded = threaded
        self._ids: dict[UUID, Topic] = {}
        self._folded: dict[str, str] = {}
        self._reserved: set[str] = set()
        self._directories: list[Directory] = []
        self._topic_files = TopicFiles(self._files, self._paths[0])
        self._around = Surroundings(clock, self.settings, OpenFiles(self._files, self.settings.open_files_max // 2))
        self._partitions = 0

    # Life

    async def start(self) -> None:
        """Opens what is there. After a clean stop no segment is read. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        deliver: Callable[[Callable[[], None]], object] = loop.call_soon_threadsafe if self._threaded else _at_once
        make = ThreadedWriter if self._threaded else InlineWriter
        for path in self._paths:
            self._files.make_folder(path)
            writer = make(path, self._files, self.settings, deliver, self._finished)
            self._directories.append(Directory(path, writer))
        first = self._directories[0]
        self._topic_files.prepare(first.path)
        self.cluster_id = await first.writer.call(self._cluster_id)
        records = await first.writer.call(lambda: list(self._topic_files.read()))
        for record in records:
            self._add_topic(record)
        for directory in self._directories:
            for partition, loaded in await directory.writer.call(self._load, directory, records):
                _take(partition, loaded)
                directory.partitions[partition.name] = partition
                partition.topic.partitions.append(partition)
                self._partitions += 1
        for record in records:
            topic = self.topics[record.name]
            topic.partitions.sort(key=lambda partition: partition.index)

    async def stop(self) -> None:
        """Writes everything down, so that the next start need not read it again."""
        for directory in self._directories:
            partitions = tuple(directory.partitions.values())
            for partition in partitions:
                if partition.failure is None:
                    partition.failure = NotOpen("the log is stopping")
            await directory.writer.call(self._leave, directory, partitions)
            await directory.writer.stop()
            for partition in partitions:
                partition.notify()
        self._directories.clear()
        self._around.opened.close_all()

    def topic_by_id(self, id: UUID) -> Topic | None:
        return self._ids.get(id)

    def partition(self, topic: str, index: int) -> Partition:
        """Raises `UnknownPartition`."""
        found = self.topics.get(topic)
        if found is None or not 0 <= index < len(found.partitions):
            raise UnknownPartition(f"{topic}-{index}")
        return found.partitions[index]

    # Topics

    async def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> Topic:
        """Makes a topic, durable when this returns.

        Raises `InvalidTopic`, `TopicExists`, `InvalidPartitions` or `InvalidConfig`.
        """
        check_name(name, self._folded)
        if name in self.topics or name in self._reserved:
            raise TopicExists(f"there is a topic {name!r}")
        self._check_partitions(partitions)
        TopicConfig(config or {}, self._defaults)
        record = TopicRecord(name, UUID(int=self._random.getrandbits(128), version=4), partitions, dict(config or {}))
        self._reserved.add(name)
        try:
            places = self._places(partitions)
            await self._make_folders(name, range(partitions), places)
            crash_point("log.topic.folders")
            await self._directories[0].writer.call(self._topic_files.write, record)
            topic = self._add_topic(record)
            self._add_partitions(topic, range(partitions), places)
        finally:
            self._reserved.discard(name)
        return topic

    async def add_partitions(self, name: str, total: int) -> None:
        """Grows a topic to `total` partitions. Raises `UnknownPartition` and `InvalidPartitions`."""
        topic = self._topic(name)
        there = len(topic.partitions)
        if total <= there:
            raise InvalidPartitions(f"{name!r} has {there} partitions already", partitions=there)
        self._check_partitions(total - there)
        places = self._places(total - there)
        await self._make_folders(name, range(there, total), places)
        await self._directories[0].writer.call(self._topic_files.write, topic.record(partitions=total))
        self._add_partitions(topic, range(there, total), places)

    async def configure(self, name: str, changes: Mapping[str, str | None]) -> None:
        """Changes settings of a topic; None gives one back to the default. Raises `UnknownPartition` and `InvalidConfig`."""
        topic = self._topic(name)
        given = {**topic.config.given, **{key: value for key, value in changes.items() if value is not None}}
        for key, value in changes.items():
            if value is None:
                given.pop(key, None)
        config = TopicConfig(given, self._defaults)
        await self._directories[0].writer.call(self._topic_files.write, topic.record(config=given))
        topic.config = config

    async def delete_topic(self, name: str) -> None:
        """Ends a topic at once; its files go after `file.delete.delay.ms`. Raises `UnknownPartition`."""
        topic = self._topic(name)
        del self.topics[name], self._ids[topic.id], self._folded[folded(name)]
        self._reserved.add(name)
        try:
            for partition in topic.partitions:
                partition.fail(UnknownPartition(f"the topic {name!r} was deleted"))
            await self._directories[0].writer.call(self._topic_files.delete, topic.id)
            crash_point("log.topic.deleted")
            for directory in self._directories:
                gone = [partition for partition in topic.partitions if partition.writer is directory.writer]
                for partition in gone:
                    del directory.partitions[partition.name]
                self._partitions -= len(gone)
                await directory.writer.call(self._set_aside, directory, gone)
        finally:
            self._reserved.discard(name)

    # Inside

    def _topic(self, name: str) -> Topic:
        topic = self.topics.get(name)
        if topic is None:
            raise UnknownPartition(f"there is no topic {name!r}")
        return topic

    def _check_partitions(self, more: int) -> None:
        if more < 1:
            raise InvalidPartitions("a topic has at least one partition")
        if self._partitions + more > self.settings.partitions_max:
            raise InvalidPartitions(f"this node holds at most {self.settings.partitions_max} partitions")

    def _add_topic(self, record: TopicRecord) -> Topic:
        topic = Topic(record.name, record.id, TopicConfig(record.config, self._defaults))
        self.topics[topic.name] = self._ids[topic.id] = topic
        self._folded[folded(topic.name)] = topic.name
        return topic

    def _places(self, partitions: int) -> list[Directory]:
        """A directory for each new partition, always the one with the fewest."""
        counts = [len(directory.partitions) for directory in self._directories]
        places = []
        for _ in range(partitions):
            least = counts.index(min(counts))
            counts[least] += 1
            places.append(self._directories[least])
        return places

    async def _make_folders(self, name: str, indexes: Iterable[int], places: Sequence[Directory]) -> None:
        by_directory: dict[str, tuple[Directory, list[str]]] = {}
        for index, directory in zip(indexes, places, strict=True):
            by_directory.setdefault(directory.path, (directory, []))[1].append(f"{directory.path}/{name}-{index}")
        for directory, folders in by_directory.values():
            await directory.writer.call(self._make, directory.path, folders)

    def _make(self, parent: str, folders: Sequence[str]) -> None:
        for folder in folders:
            self._files.delete_folder(folder)
            self._files.make_folder(folder)
        self._files.sync_folder(parent)

    def _add_partitions(self, topic: Topic, indexes: Iterable[int], places: Sequence[Directory]) -> None:
        for index, directory in zip(indexes, places, strict=True):
            partition = Partition(
                topic, index, f"{directory.path}/{topic.name}-{index}", self._around, directory.writer
            )
            topic.partitions.append(partition)
            directory.partitions[partition.name] = partition
            self._partitions += 1

    def _finished(self, appends: Sequence[Appending]) -> None:
        """On the loop: what a commit has settled. Watermarks move before anybody is answered."""
        ends: dict[Partition, int] = {}
        for item in appends:
            partition = item.partition
            partition.writer.queued_bytes -= len(item.data)
            if item.error is not None:
                partition.fail(item.error)
            elif partition.failure is None or isinstance(partition.failure, NotOpen):
                ends[partition] = item.next_offset
            else:
                item.error = partition.failure
        for partition, end in ends.items():
            partition.advance(end)
        for item in appends:
            item.settle(item.error)

    # In the writer's thread

    def _cluster_id(self) -> str:
        path = f"{self._paths[0]}/{META_FILE}"
        try:
            lines = read_all(self._files, path).decode().split("\n")
        except FileNotFoundError:
            made = base64.urlsafe_b64encode(self._random.randbytes(16)).decode().rstrip("=")
            text = f"version=1\ncluster.id={made}\nnode.id={self.node_id}\n"
            replace(self._files, path, text.encode())
            return made
        return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))

    def _load(self, directory: Directory, records: Sequence[TopicRecord]) -> list[tuple[Partition, Loaded]]:
        files, path, opened = self._files, directory.path, directory.writer.opened
        names = set(files.names(path))
        clean = self._clean(path, names)
        points, starts = self._offsets(f"{path}/{POINTS_FILE}"), self._offsets(f"{path}/{STARTS_FILE}")
        journals = generations(sorted(names))
        entries: dict[tuple[UUID, int], list[bytes]] = {}
        for generation in journals if clean is None else ():
            data = read_all(files, f"{path}/{journal_name(generation)}")
            for id, index, batches in entries_in(data, generation):
                entries.setdefault((id, index), []).append(bytes(batches))
        directory.writer.next_generation = journals[-1] + 1 if journals else 0
        found = []
        wanted = {f"{record.name}-{index}": (record, index) for record in records for index in range(record.partitions)}
        for name, (record, index) in wanted.items():
            if name not in names:
                continue
            names.discard(name)
            topic = self.topics[record.name]
            partition = Partition(topic, index, f"{path}/{name}", self._around, directory.writer)
            loaded = None
            if clean is not None and name in clean:
                loaded = from_clean(files, partition.folder, clean[name])
            if loaded is None:
                loaded = recover(
                    opened,
                    partition.folder,
                    point=points.get(name, 0),
                    log_start=starts.get(name, 0),
                    interval_bytes=topic.config.index_interval_bytes,
                    journal=entries.get((record.id, index), ()),
                )
                if self.settings.flush_policy is FlushPolicy.ASYNC:
                    # What was seen may have been lost: a new epoch lets those who saw it find out.
                    loaded.epochs = _next_epoch(loaded.epochs, loaded.end)
            found.append((partition, loaded))
        self._clear(path, names)
        for generation in journals:
            files.delete(f"{path}/{journal_name(generation)}")
        return found

    def _clean(self, path: str, names: set[str]) -> dict[str, CleanPartition] | None:
        if CLEAN_FILE not in names:
            return None
        try:
            clean = decode_clean(read_all(self._files, f"{path}/{CLEAN_FILE}"))
        except msgspec.DecodeError:
            clean = None
        # From here on the files change: the next stop must be clean again for its word to count.
        self._files.delete(f"{path}/{CLEAN_FILE}")
        self._files.sync_folder(path)
        return clean

    def _offsets(self, path: str) -> dict[str, int]:
        try:
            return parse_offsets(read_all(self._files, path).decode())
        except FileNotFoundError:
            return {}
        except ValueError:
            _log.warning("a checkpoint is damaged", extra={"path": path})
            return {}

    def _clear(self, path: str, names: Iterable[str]) -> None:
        """Deletes folders of partitions that no topic has: of topics that were deleted or never quite made."""
        for name in names:
            stem, _, index = name.rpartition("-")
            if name.endswith(DELETE_SUFFIX) or (stem and index.isdigit() and not name.startswith("commit-journal-")):
                self._files.delete_folder(f"{path}/{name}")

    def _set_aside(self, directory: Directory, gone: Sequence[Partition]) -> None:
        for partition in gone:
            directory.writer.forget([segment.path() for segment in partition.segments])
            aside = f"{partition.topic.name[:200]}-{partition.index}.{partition.topic.id.hex}{DELETE_SUFFIX}"
            self._files.rename(partition.folder, f"{directory.path}/{aside}")
        self._files.sync_folder(directory.path)

    def _leave(self, directory: Directory, partitions: Sequence[Partition]) -> None:
        writer, path = directory.writer, directory.path
        clean = {}
        for partition in partitions:
            if partition.write_error is not None:
                continue
            if partition.segments and partition.segments[-1].index is not None and partition.segments[-1].created:
                writer.write_index_files(partition, partition.segments[-1].index_files())
            clean[partition.name] = to_clean(
                partition.segments, partition.log_start, partition.end, partition.epochs, partition.producer_states
            )
        writer.checkpoint(directory.points, f"{path}/{POINTS_FILE}")
        replace(self._files, f"{path}/{CLEAN_FILE}", msgspec.msgpack.encode(clean))


def _take(partition: Partition, loaded: Loaded) -> None:
    partition.segments = loaded.segments
    partition.log_start, partition.end, partition.high_watermark = loaded.log_start, loaded.end, loaded.end
    partition.producer_states = loaded.producers
    partition.epochs = loaded.epochs
    partition.leader_epoch = loaded.epochs[-1][0]


def _next_epoch(epochs: tuple[tuple[int, int], ...], end: int) -> tuple[tuple[int, int], ...]:
    return (*(entry for entry in epochs if entry[1] < end), (epochs[-1][0] + 1, end))


def _at_once(call: Callable[[], None]) -> None:
    call()
