"""A member of a group on Apache Kafka that behaves as one of our own log: each batch until its position has moved.

All of librdkafka's consumer is used in one thread. It is asked for records only while the caller waits for a batch, so it can
give up a partition only then, or when it closes: a batch in hand is never pulled away, unless its owner takes longer over it
than `max.poll.interval.ms`. Where positions live in the database they are the truth, and Kafka's follow.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from mainspring.core.outbox.model import NOWHERE
from mainspring.core.ports import Connection, Record
from mainspring.storage.log.apache_client import Worker, as_record
from mainspring.storage.log.positions import InHand, Owned
from mainspring.storage.log.reader import Isolation

if TYPE_CHECKING:
    from mainspring.storage.log.apache import KafkaLog

Callback = Callable[[Collection[Owned]], Awaitable[object]]

WAIT_S = 0.25
"""How long the thread waits for records before it looks whether the consumer is to close."""

SESSION_MS = 15_000
"""How long a member may be silent before its partitions go to others."""

CALLBACK_S = 240.0
"""How long a hand-over may wait for the callbacks; less than Kafka's `max.poll.interval.ms`."""

_log = logging.getLogger(__name__)


class KafkaConsumer:
    """See `LogConsumer`, which this is on Kafka. A batch may be of several partitions."""

    def __init__(
        self,
        log: "KafkaLog",
        group: str,
        topics: Sequence[str],
        records_max: int,
        isolation: Isolation,
        on_assigned: Callback | None,
        on_revoked: Callback | None,
    ) -> None:
        self.group, self.topics = group, tuple(topics)
        self._log, self._records_max, self._isolation = log, records_max, isolation
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._hand = InHand(group, self._stored)
        self._read: list[Record] = []
        """What Kafka has given and nobody has committed, in order of each partition."""
        self._owned: set[Owned] = set()
        self._seeks: dict[Owned, int] = {}
        self._mirror: dict[Owned, int] = {}
        self._closed = False
        self._consumer: Consumer | None = None
        self._worker = Worker(f"kafka-{group}")
        self._loop: asyncio.AbstractEventLoop

    @property
    def assignment(self) -> frozenset[Owned]:
        return frozenset(self._owned)

    def __aiter__(self) -> "KafkaConsumer":
        return self

    async def __anext__(self) -> list[Record]:
        self._hand.put_back()
        while not self._closed:
            if self._consumer is None:
                await self._join()
                continue
            if self._hand.too_late:
                await self._look_again()
            if self._seeks:
                await self._go()
            if not self._read and not self._closed:
                await self._worker.call(self._take)
            if self._read and not self._closed:
                batch = self._read[: self._records_max]
                self._hand.take({(record.topic, record.partition): record.offset + 1 for record in batch})
                return batch
        raise StopAsyncIteration

    async def commit(self) -> None:
        """Raises `LogError` where another owns the partition by now."""
        if self._hand.is_stored:
            assert self._log.database is not None
            await self._log.database.write(self.commit_in)
        elif ends := self._hand.ends:
            await self._worker.call(self._commit, ends)
            self.passed(ends)

    def commit_in(self, connection: Connection) -> bool:
        return self._hand.commit_in(connection)

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._seeks[topic, partition] = offset
        self._hand.put_back()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._hand.put_back()
        if self._consumer is not None:
            if self._mirror:
                await self._worker.call(self._follow_database)
            await self._worker.call(self._consumer.close)
        self._worker.end()
        self._log.forget(self)

    # For a transaction that commits this consumer's offsets

    @property
    def ends(self) -> Mapping[Owned, int]:
        """The offsets after the batch in hand."""
        return self._hand.ends

    async def metadata(self) -> Any:
        """Which member of the group this is, as a producer says it to Kafka."""
        assert self._consumer is not None
        return await self._worker.call(self._consumer.consumer_group_metadata)

    def passed(self, ends: Mapping[Owned, int]) -> None:
        """The group's positions have moved to these offsets."""
        self._passed(ends)
        self._hand.put_back()

    # The group

    async def _join(self) -> None:
        await self._log.make(self.topics)
        if self._closed:
            return
        self._loop = asyncio.get_running_loop()
        self._consumer = Consumer(
            self._log.settings
            | {
                "group.id": self.group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": self._isolation,
                "session.timeout.ms": SESSION_MS,
                "partition.assignment.strategy": "cooperative-sticky",
                "topic.metadata.refresh.interval.ms": 10_000,
            }
        )
        self._consumer.subscribe(
            list(self.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lose
        )

    # In the thread

    def _take(self) -> None:
        assert self._consumer is not None
        if self._mirror:
            self._follow_database()
        first = self._consumer.poll(WAIT_S)
        if first is None:
            return
        for message in (
            (first, *self._consumer.consume(self._records_max - 1, 0)) if self._records_max > 1 else (first,)
        ):
            error = message.error()
            if error is None:
                self._read.append(as_record(message))
            elif error.code() not in (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART):
                raise KafkaException(error)

    def _commit(self, ends: Mapping[Owned, int]) -> None:
        assert self._consumer is not None
        wanted = [KafkaPartition(topic, partition, end) for (topic, partition), end in ends.items()]
        for one in self._consumer.commit(offsets=wanted, asynchronous=False) or ():
            if one.error is not None:
                raise KafkaException(one.error)

    def _follow_database(self) -> None:
        """Tells Kafka where the database says the group is: for those who look at the lag, so a failure does no harm."""
        mirror, self._mirror = self._mirror, {}
        ends = {where: end for where, end in mirror.items() if where in self._owned}
        if not ends:
            return
        try:
            self._commit(ends)
        except KafkaException as error:
            _log.debug("the lag of %s is not up to date: %s", self.group, error)

    def _on_assign(self, consumer: Consumer, partitions: Sequence[KafkaPartition]) -> None:
        where = [(one.topic, one.partition) for one in partitions]
        offsets = self._on_the_loop(self._assigned(where))
        for one in partitions:
            offset = offsets.get((one.topic, one.partition), NOWHERE)
            if offset != NOWHERE:
                one.offset = offset
        consumer.incremental_assign(list(partitions))
        self._owned.update(where)

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[KafkaPartition]) -> None:
        where = [(one.topic, one.partition) for one in partitions]
        self._drop(where)
        self._on_the_loop(self._revoked(where))
        consumer.incremental_unassign(list(partitions))

    def _on_lose(self, consumer: Consumer, partitions: Sequence[KafkaPartition]) -> None:
        self._drop([(one.topic, one.partition) for one in partitions])
        consumer.incremental_unassign(list(partitions))

    def _drop(self, partitions: Collection[Owned]) -> None:
        self._owned.difference_update(partitions)
        self._read = [record for record in self._read if (record.topic, record.partition) not in partitions]

    def _on_the_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALLBACK_S)

    # On the loop

    async def _assigned(self, partitions: Sequence[Owned]) -> dict[Owned, int]:
        stored = await self._log.stored(self.group, partitions)
        self._hand.stored.update(stored)
        if self._on_assigned is not None:
            await self._on_assigned(partitions)
        return stored | {where: self._seeks.pop(where) for where in partitions if where in self._seeks}

    async def _revoked(self, partitions: Collection[Owned]) -> None:
        await self._hand.given_back(partitions)
        if self._on_revoked is not None:
            await self._on_revoked(partitions)

    async def _look_again(self) -> None:
        """Another member has passed what this one held: the database knows how far the group has come."""
        stored = await self._log.stored(self.group, tuple(self._owned))
        self._hand.stored.update(stored)
        self._hand.too_late = False
        self._seeks.update({where: position for where, position in stored.items() if position != NOWHERE})

    async def _go(self) -> None:
        seeks, self._seeks = self._seeks, {}
        self._read = [record for record in self._read if (record.topic, record.partition) not in seeks]
        assert self._consumer is not None
        for (topic, partition), offset in seeks.items():
            if (topic, partition) in self._owned:
                await self._worker.call(self._consumer.seek, KafkaPartition(topic, partition, offset))

    def _stored(self, ends: Mapping[Owned, int]) -> None:
        """A transaction of the database has moved these positions."""
        self._passed(ends)
        self._mirror.update(ends)

    def _passed(self, ends: Mapping[Owned, int]) -> None:
        self._read = [record for record in self._read if record.offset >= ends.get((record.topic, record.partition), 0)]
