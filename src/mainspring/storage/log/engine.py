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
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from mainspring.core.clock import Clock
from mainspring.core.crash import crash_point
from mainspring.core.telemetry.metrics import Metrics

from .cleaner import Cleaner
from .directory import Directory
from .errors import InvalidPartitions, NotOpen, StorageFailed, TopicExists, UnknownPartition
from .files import Files, OpenFiles, RealFiles
from .observing import observe
from .partition import Partition, Surroundings
from .settings import LogSettings, TopicConfig, default_values
from .threads import InlineWriter, ThreadedWriter
from .topics import Topic, TopicFiles, TopicRecord, check_name, folded
from .upkeep import Upkeep, finished, take

T = TypeVar("T")

LOCK_FILE = ".lock"

_log = logging.getLogger(__name__)


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
        self.defaults: Mapping[str, str] = self.settings.topic
        """Settings of topics that have none of their own, where they are not Kafka's."""
        self._defaults = default_values(self.settings.topic)
        self._files: Files = files if files is not None else RealFiles()
        self._paths = [str(path.absolute()) for path in directories]
        self._threaded = threaded
        self._ids: dict[UUID, Topic] = {}
        self._folded: dict[str, str] = {}
        self._changing = asyncio.Lock()
        self._directories: list[Directory] = []
        self._topic_files = TopicFiles(self._files, self._paths[0])
        self._around = Surroundings(clock, self.settings, OpenFiles(self._files, self.settings.open_files_max // 2))
        self._around.delete_records = self._delete_records
        self._partitions = 0
        self.on_deleted: Callable[[str], Awaitable[object]] | None = None
        """Awaited with the name of a topic that has gone, before whoever deleted it is answered."""
        self._locks: list[int] = []
        self.upkeep = Upkeep(self._directories, self._around)
        """Checkpoints, retention and mending, for those who want them now."""
        self.cleaner = Cleaner(self._directories, self._around, threaded=threaded)
        """Compaction, likewise."""
        if metrics is not None:
            observe(metrics, self._directories, self.cleaner)

    # Life

    async def start(self) -> None:
        """Opens what is there. After a clean stop no segment is read.

        Raises `OSError`, as a `BlockingIOError` where another process has a directory open.
        """
        try:
            await self._open()
        except BaseException:
            await self._abandon()
            raise
        self.upkeep.start()
        self.cleaner.start()

    async def stop(self) -> None:
        """Writes everything down, so that the next start need not read it again."""
        await self.cleaner.stop()
        await self.upkeep.stop()
        for directory in self._directories:
            partitions = tuple(directory.partitions.values())
            for partition in partitions:
                if partition.failure is None:
                    partition.failure = NotOpen("the log has stopped")
            try:
                await directory.writer.call(directory.leave, partitions)
            except OSError:
                _log.exception("the next start must read what it need not", extra={"path": directory.path})
            await directory.writer.stop()
            for partition in partitions:
                partition.notify()
        self._let_go()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        deliver: Callable[[Callable[[], None]], object] = loop.call_soon_threadsafe if self._threaded else _at_once
        make = ThreadedWriter if self._threaded else InlineWriter
        for path in self._paths:
            self._files.make_folder(path)
            self._files.sync_folder(path.rpartition("/")[0] or "/")
            self._locks.append(self._files.lock(f"{path}/{LOCK_FILE}"))
            writer = make(path, self._files, self.settings, deliver, finished)
            self._directories.append(Directory(path, self._files, writer, self._around))
        first = self._directories[0]
        self._topic_files.prepare(first.path)
        self.cluster_id = await first.writer.call(first.cluster_id, self._random, self.node_id)
        records = await first.writer.call(self._topic_files.read)
        topics = [(self._add_topic(record), record) for record in records]
        for directory in self._directories:
            for partition, loaded in await directory.writer.call(directory.load, topics):
                take(partition, loaded)
                directory.partitions[partition.name] = partition
                partition.topic.partitions.append(partition)
                self._partitions += 1
        for topic in self.topics.values():
            topic.partitions.sort(key=lambda partition: partition.index)

    async def _abandon(self) -> None:
        """A start that failed or was given up: ends the threads, and leaves the files to the next start as they are."""
        for directory in self._directories:
            await directory.writer.stop()
        self._let_go()

    def _let_go(self) -> None:
        self._directories.clear()
        self._around.opened.close_all()
        while self._locks:
            self._files.close(self._locks.pop())

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

        Raises `InvalidTopic`, `TopicExists`, `InvalidPartitions` or `InvalidConfig`, having changed nothing.
        """
        return await self._alone(self._create(name, partitions, dict(config or {})))

    async def add_partitions(self, name: str, total: int) -> None:
        """Grows a topic to `total` partitions. Raises `UnknownPartition` and `InvalidPartitions`."""
        await self._alone(self._grow(name, total))

    async def configure(self, name: str, changes: Mapping[str, str | None]) -> None:
        """Changes settings of a topic; None gives one back to the default. Raises `UnknownPartition` and `InvalidConfig`."""
        await self._alone(self._configure(name, dict(changes)))

    def set_defaults(self, changes: Mapping[str, str]) -> None:
        """Replaces what holds beside the section's for topics that have no setting of their own.

        Raises `InvalidConfig`, having changed nothing. What becomes of old records (`cleanup.policy`) must not be in it.
        """
        defaults = {**self.settings.topic, **changes}
        if defaults == self.defaults:
            return
        configs = self.configs_with(changes)
        self.defaults, self._defaults = defaults, default_values(defaults)
        for name, config in configs.items():
            self.topics[name].config = config

    def configs_with(self, changes: Mapping[str, str]) -> dict[str, TopicConfig]:
        """The topics' settings as `set_defaults` would make them. Raises `InvalidConfig`."""
        values = default_values({**self.settings.topic, **changes})
        TopicConfig({}, values)
        return {name: TopicConfig(topic.config.given, values) for name, topic in self.topics.items()}

    async def delete_topic(self, name: str) -> None:
        """Ends a topic at once; its files go after `file.delete.delay.ms`. Raises `UnknownPartition`."""
        await self._alone(self._delete(name))
        if self.on_deleted is not None:
            await self.on_deleted(name)

    async def _alone(self, change: Coroutine[Any, Any, T]) -> T:
        """One change of topics at a time, to its end even where its caller has gone: half a topic must not be."""

        async def whole() -> T:
            async with self._changing:
                return await change

        return await asyncio.shield(asyncio.ensure_future(whole()))

    async def _create(self, name: str, partitions: int, config: dict[str, str]) -> Topic:
        check_name(name, self._folded)
        if name in self.topics:
            raise TopicExists(f"there is a topic {name!r}")
        self._check_partitions(partitions)
        TopicConfig(config, self._defaults)
        record = TopicRecord(name, UUID(int=self._random.getrandbits(128), version=4), partitions, config)
        places = self._places(partitions)
        await self._make_folders(name, range(partitions), places)
        crash_point("log.topic.folders")
        await self._write(record)
        topic = self._add_topic(record)
        self._add_partitions(topic, range(partitions), places)
        return topic

    async def _grow(self, name: str, total: int) -> None:
        topic = self._topic(name)
        there = len(topic.partitions)
        if total <= there:
            raise InvalidPartitions(f"{name!r} has {there} partitions already", partitions=there)
        self._check_partitions(total - there)
        places = self._places(total - there)
        await self._make_folders(name, range(there, total), places)
        await self._write(topic.record(partitions=total))
        self._add_partitions(topic, range(there, total), places)

    async def _configure(self, name: str, changes: dict[str, str | None]) -> None:
        topic = self._topic(name)
        merged = {**topic.config.given, **changes}
        given = {key: value for key, value in merged.items() if value is not None}
        config = TopicConfig(given, self._defaults)
        if config.is_compacted != topic.config.is_compacted:
            # What a restart reads must not have gaps that its topic's settings do not explain.
            await self.upkeep.checkpoint()
        await self._write(topic.record(config=given))
        topic.config = config

    async def _delete(self, name: str) -> None:
        topic = self._topic(name)
        await self._on_disk(self._directories[0], self._topic_files.delete, topic.id)
        crash_point("log.topic.deleted")
        del self.topics[name], self._ids[topic.id], self._folded[folded(name)]
        for partition in topic.partitions:
            partition.end_with(UnknownPartition(f"the topic {name!r} was deleted"))
        for directory in self._directories:
            gone = [partition for partition in topic.partitions if partition.writer is directory.writer]
            for partition in gone:
                del directory.partitions[partition.name]
            self._partitions -= len(gone)
            aside = await self._on_disk(directory, directory.set_aside, gone)
            self.upkeep.delete_later(directory, aside, topic.config.file_delete_delay_ms)

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
        for directory in self._directories:
            names = [f"{name}-{index}" for index, place in zip(indexes, places, strict=True) if place is directory]
            if names:
                await self._on_disk(directory, directory.make_folders, names)

    async def _write(self, record: TopicRecord) -> None:
        await self._on_disk(self._directories[0], self._topic_files.write, record)

    async def _on_disk(self, directory: Directory, function: Callable[..., T], *args: Any) -> T:
        try:
            return await directory.writer.call(function, *args)
        except OSError as error:
            raise StorageFailed(str(error)) from error

    async def _delete_records(self, partition: Partition, before: int) -> int:
        for directory in self._directories:
            if directory.writer is partition.writer:
                return await self.upkeep.delete_records(directory, partition, before)
        raise NotOpen("the log has stopped")

    def _add_partitions(self, topic: Topic, indexes: Iterable[int], places: Sequence[Directory]) -> None:
        for index, directory in zip(indexes, places, strict=True):
            partition = Partition(
                topic, index, f"{directory.path}/{topic.name}-{index}", self._around, directory.writer
            )
            topic.partitions.append(partition)
            directory.partitions[partition.name] = partition
            self._partitions += 1


def _at_once(call: Callable[[], None]) -> None:
    call()
