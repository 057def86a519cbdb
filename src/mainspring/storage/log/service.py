"""`Log`: the engine, its groups and its transactions as Python in this process uses them; the port `Log` of the core.

Appends build whole batches and hand them to the same partitions that Kafka clients write to, over no network (`appending`). A
record with a key goes to the partition that every Kafka client would choose; without one, all records of a call go to one
partition. Topics that are missing come into being with one partition.

What this promises is the engine's: a record is synced when `append` returns, and never reordered or altered.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Concatenate, ParamSpec, TypeVar

from mainspring.core.clock import Clock
from mainspring.core.outbox import idle
from mainspring.core.outbox.model import NOWHERE
from mainspring.core.outbox.steps import commits
from mainspring.core.ports import Connection, Database, Position, Record
from mainspring.core.telemetry import Metrics
from mainspring.storage.log.appending import Appender, Positions, split, spread
from mainspring.storage.log.consumer import Callback, LogConsumer
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.errors import InvalidTopic, TopicExists
from mainspring.storage.log.gate import Gate
from mainspring.storage.log.groups.consumer import LEAVES, ConsumerGroup
from mainspring.storage.log.groups.errors import GroupIdNotFound, UnknownMemberId
from mainspring.storage.log.groups.messages import ConsumerHeartbeat
from mainspring.storage.log.groups.service import Groups
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.image import Image
from mainspring.storage.log.internal_topics import CONSUMER_OFFSETS
from mainspring.storage.log.model import Appending
from mainspring.storage.log.packing import (
    HEADER_BYTES_AROUND,
    RECORD_BYTES_AROUND,
    Item,
    New,
    Pair,
    batches_of_items,
)
from mainspring.storage.log.partitioner import partitions_of
from mainspring.storage.log.positions import Owned
from mainspring.storage.log.reader import Isolation, Reader, as_record, read_some
from mainspring.storage.log.records import HEADER_BYTES
from mainspring.storage.log.settings import LogSettings, default_values
from mainspring.storage.log.sharing import ShareConsumer
from mainspring.storage.log.topics import Topic, check_name, folded
from mainspring.storage.log.transactions import Transactions

P = ParamSpec("P")
T = TypeVar("T")

EVENT_BYTES_AROUND = HEADER_BYTES + RECORD_BYTES_AROUND + 64
"""What a batch of one event has beside its key, value and headers: that it was an event takes a header."""

FETCH_RECORDS = 500
IN_PROCESS = "in process"
"""Where members of groups are that `Groups.member` made; those of the wire are at an address."""


class Log:
    """The log in `directory` (or several), between `start` and `stop`. `database` is needed for `commit_in` only."""

    def __init__(
        self,
        directory: Path | Sequence[Path],
        clock: Clock,
        database: Database | None = None,
        *,
        settings: LogSettings | None = None,
        groups: GroupSettings | None = None,
        random: Random | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.clock = clock
        self.directories = [directory] if isinstance(directory, Path) else list(directory)
        self.random = random or Random()
        self.engine = Engine(self.directories, clock, settings, metrics=metrics, random=self.random)
        self.groups = Groups(self.engine, clock, groups or GroupSettings(), self.random)
        self.transactions = Transactions(self.engine, self.groups, clock, random=self.random)
        self.commits = Gate()
        """Every commit of a position outside of the database passes here; a backup closes it for a moment."""
        self._may_append = asyncio.Event()
        self._may_append.set()
        self.engine.on_deleted = self._forget_positions
        self._database = database
        self._consumers: set[LogConsumer | ShareConsumer] = set()
        self._bytes_max: int = default_values(self.engine.settings.topic)["max.message.bytes"]
        self._making = asyncio.Lock()
        self._appender = Appender(self.engine, clock, self.random, self.topic)
        if metrics is not None:
            members = metrics.gauge("log_consumers", "Members of consumer groups in this process")
            members.follow(lambda: len(self._consumers))

    async def start(self) -> None:
        await self.engine.start()
        try:
            if self._database is not None:
                for topic in await self._database.read(idle.committed_topics) - self.engine.topics.keys():
                    await self._forget_positions(topic)
            await self.groups.start()
            await self._dismiss()
            await self.transactions.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ends every consumer's iterator, then closes all files: the next start reads no segment."""
        for consumer in tuple(self._consumers):
            await consumer.close()
        await self.transactions.stop()
        await self.groups.stop()
        await self.engine.stop()

    async def _dismiss(self) -> None:
        """Lets members leave that were in this process when it crashed: nobody need wait until their sessions end."""
        if CONSUMER_OFFSETS not in self.engine.topics:
            return
        coordinator = await self.groups.opened()
        for name, group in tuple(coordinator.groups.items()):
            if isinstance(group, ConsumerGroup):
                for member in tuple(group.members.values()):
                    if member.client.host == IN_PROCESS:
                        await self.dismiss(name, member.id)

    async def dismiss(self, group: str, member_id: str) -> None:
        """Lets a member leave its group; nothing happens where it is not in it."""
        with contextlib.suppress(UnknownMemberId, GroupIdNotFound):
            await self.groups.ask(ConsumerHeartbeat(group=group, member_id=member_id, member_epoch=LEAVES))

    # Topics

    async def create_topic(self, name: str, partitions: int = 1, replicas: int = 1, **config: str | int) -> Topic:
        """Makes a topic; settings are Kafka's with `_` for `.` (`retention_ms=3600000`).

        Raises `TopicExists`, `InvalidTopic`, `InvalidPartitions`, `InvalidConfig`. There is one node, so one replica.
        """
        given = {setting.replace("_", "."): str(value) for setting, value in config.items()}
        return await self.engine.create_topic(name, partitions, given)

    async def delete_topic(self, name: str) -> None:
        """Deletes a topic, and all positions that groups have in it. Raises `UnknownPartition`."""
        await self.engine.delete_topic(name)

    async def _forget_positions(self, topic: str) -> None:
        """A topic has gone, through whichever door: one of the same name begins at 0."""
        if self._database is not None:
            await self._database.write(commits.forget_topic, topic)

    async def topic(self, name: str) -> Topic:
        """The topic of this name, made where it is missing. Raises `InvalidTopic`."""
        found = self.engine.topics.get(name)
        if found is not None:
            return found
        async with self._making:
            found = self.engine.topics.get(name)
            if found is not None:
                return found
            with contextlib.suppress(TopicExists):
                return await self.engine.create_topic(name, 1, {})
        return self.engine.topics[name]

    # Appending

    async def append(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Position:
        """Appends one record; it is durable when this returns. Raises `LogError`."""
        await self.may_append()
        return await self._appender.append(topic, New(value, key, headers, timestamp_ms, partition))

    async def append_many(self, topic: str, records: Iterable[Pair]) -> Sequence[Position]:
        """Appends keys and values in order. Raises as `append_records` does."""
        await self.may_append()
        return await self._appender.append_pairs(topic, list(records))

    async def append_records(self, topic: str, records: Sequence[New]) -> Sequence[Position]:
        """Appends in order. Those that go to one partition are appended together: all or none.

        Raises `MessageTooLarge`, having appended nothing, where one record alone is larger than the topic accepts, and
        what the partition raises.
        """
        await self.may_append()
        return await self._appender.append_records(topic, records)

    # Reading

    def consumer(
        self,
        group: str,
        topics: Sequence[str],
        batch_records_max: int = 500,
        *,
        isolation: Isolation = "read_committed",
        on_assigned: Callback | None = None,
        on_revoked: Callback | None = None,
    ) -> LogConsumer:
        """A new member of `group`, which begins with the oldest records kept. Close it when done.

        `on_assigned` and `on_revoked` get (topic, partition) pairs and are awaited before anything is read of a partition,
        or before another member gets it: what its owner keeps in memory is loaded and released there.
        """
        if not group or not topics or batch_records_max < 1:
            raise ValueError("a consumer needs a group, a topic, and batches of at least one record")
        consumer = LogConsumer(self, group, topics, batch_records_max, isolation, on_assigned, on_revoked)
        self._consumers.add(consumer)
        return consumer

    def reader(
        self,
        topic: str,
        partition: int = 0,
        offset: int = 0,
        *,
        isolation: Isolation = "read_committed",
        batch_records_max: int = 500,
    ) -> Reader:
        """Reads one partition without a group, and waits for what comes. Raises `UnknownPartition`."""
        return Reader(self.engine.partition(topic, partition), offset, isolation, batch_records_max)

    def share(self, group: str, topics: Sequence[str], batch_records_max: int = 500) -> ShareConsumer:
        """A new member of a share group: records one by one to whoever is free, until accepted. Close it when done."""
        if not group or not topics or batch_records_max < 1:
            raise ValueError("a consumer needs a group, a topic, and batches of at least one record")
        consumer = ShareConsumer(self, group, topics, batch_records_max)
        self._consumers.add(consumer)
        return consumer

    def forget(self, consumer: LogConsumer | ShareConsumer) -> None:
        """A consumer has closed."""
        self._consumers.discard(consumer)

    async def positions(self, group: str, partitions: Collection[Owned]) -> dict[Owned, tuple[int, int]]:
        """For each partition the next offset that the group reads, and the position in the database or `NOWHERE`."""
        stored = dict.fromkeys(partitions, NOWHERE)
        if self._database is not None:
            stored.update(await self._database.read(commits.positions, group, list(partitions)))
        elsewhere = [where for where, position in stored.items() if position == NOWHERE]
        committed = await self.groups.committed(group, elsewhere) if elsewhere else {}
        return {
            where: (committed.get(where) or 0 if position == NOWHERE else position, position)
            for where, position in stored.items()
        }

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """A transaction of the database that keeps positions."""
        if self._database is None:
            raise ValueError("this log was made without a database, which alone can keep positions in transactions")
        return await self._database.write(function, *args, **kwargs)

    # Transactions

    @asynccontextmanager
    async def transaction(self, id: str) -> AsyncIterator["Transaction"]:
        """All or nothing, across partitions and the positions of consumers. Whoever held `id` before is fenced.

        Commits at the end of the block; an error in it aborts. Raises `LogError` where the transaction cannot commit.
        """
        async with self.transactions.transaction(id) as inner:
            transaction = Transaction(self, inner)
            yield transaction
            await self.may_append()
        transaction.committed()

    # Backups

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Meanwhile this process appends nothing, whatever rows it follows from, and positions move in the database only."""
        async with self.commits.closed():
            self._may_append.clear()
            try:
                yield
            finally:
                self._may_append.set()

    async def may_append(self) -> None:
        """Returns once no backup wants to have it quiet, which is mostly at once."""
        if not self._may_append.is_set():
            await self._may_append.wait()

    def image(self) -> Image:
        """What the log holds now, for a backup. On the event loop."""
        return Image(self.engine, self.directories)

    # The relay's destination

    async def take_over(self, history: int) -> None:
        """Nobody else writes here: one process owns the directories."""

    def unfit(self, topic: str, records: Sequence[Record]) -> dict[int, str]:
        found = self.engine.topics.get(topic)
        bytes_max = self._bytes_max if found is None else found.config.max_message_bytes
        if found is None:
            try:
                check_name(topic, {folded(name): name for name in self.engine.topics})
            except InvalidTopic as error:
                return dict.fromkeys((record.offset for record in records), error.detail)
        elif found.internal:
            return dict.fromkeys((record.offset for record in records), f"{topic} is the log's own")
        reasons = {}
        for record in records:
            size_bytes = EVENT_BYTES_AROUND + len(record.value) + (len(record.key) if record.key else 0)
            for name, given in record.headers:
                size_bytes += HEADER_BYTES_AROUND + 4 * len(name) + len(given)
            if size_bytes > bytes_max:
                reasons[record.offset] = f"{size_bytes} bytes are more than the {bytes_max} of the topic"
            elif record.key is None and found is not None and found.config.is_compacted:
                reasons[record.offset] = f"{topic} is compacted and the event has no key"
        return reasons

    async def relay(self, items: Mapping[str, Sequence[Item]]) -> dict[Owned, int]:
        appended: dict[Owned, Appending] = {}
        for topic, some in items.items():
            found = self.engine.topics.get(topic) or await self.topic(topic)
            chosen = partitions_of([key for _, key, _, _ in some], len(found.partitions), anywhere=0)
            for index, share in split(chosen, some).items():
                appended[topic, index] = found.partitions[index].append(batches_of_items(found, share))
        for appending in appended.values():
            await appending.durable()
        return {where: appending.next_offset for where, appending in appended.items()}

    async def partitions(self, topic: str) -> int:
        found = self.engine.topics.get(topic)
        return len(found.partitions) if found is not None else 0

    async def fetch(self, topic: str, partition: int, offset: int) -> list[Record]:
        found = self.engine.partition(topic, partition)
        while True:
            if offset >= found.high_watermark:
                return []
            seen = read_some(found, offset, "read_committed", FETCH_RECORDS)
            if seen.records or seen.next_offset <= offset:
                return [as_record(found, read) for read in seen.records]
            offset = seen.next_offset
            await asyncio.sleep(0)


class Transaction:
    """A transaction that is open; see `Log.transaction`."""

    def __init__(self, log: Log, inner: Any) -> None:
        self._log, self._inner = log, inner
        self._passed: list[tuple[LogConsumer, Mapping[Owned, int]]] = []

    async def append(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Position:
        return (await self.append_records(topic, [New(value, key, headers, timestamp_ms, partition)]))[0]

    async def append_many(self, topic: str, records: Iterable[Pair]) -> Sequence[Position]:
        return await self.append_records(topic, [New(value, key) for key, value in records])

    async def append_records(self, topic: str, records: Sequence[New]) -> Sequence[Position]:
        await self._log.may_append()
        found = await self._log.topic(topic)
        chosen = spread(found, records, self._log.random)
        bases = {}
        for index, share in split(chosen, records).items():
            fields = [(new.key, new.value, new.headers, _ms(new)) for new in share]
            bases[index] = count(await self._inner.append(topic, index, fields))
        return Positions(topic, chosen, [next(bases[index]) for index in chosen])

    async def commit_offsets(self, consumer: LogConsumer) -> None:
        """Moves the consumer's group past the batch that it gave last, if and only if this transaction commits."""
        if ends := dict(consumer.ends):
            await self._inner.commit_offsets(consumer.member, ends)
            self._passed.append((consumer, ends))

    async def abort(self) -> None:
        """Ends it here; the block then commits nothing."""
        self._passed.clear()
        await self._inner.abort()

    def committed(self) -> None:
        for consumer, ends in self._passed:
            consumer.passed(ends)


def _ms(record: New) -> int:
    return -1 if record.timestamp_ms is None else record.timestamp_ms
