"""The port `Log` on Apache Kafka: what a deployment moves to when one machine's log is outgrown. By librdkafka.

    log = "kafka://broker-1:9092,broker-2:9092"
    log = "kafka://user:password@broker:9093?security.protocol=SASL_SSL&sasl.mechanism=SCRAM-SHA-512"

What follows the question mark are librdkafka's own settings. Records are acknowledged by all in-sync replicas and sent by an
idempotent producer. The relay's events go in transactions of one transactional id, so a relay that was thought dead can add
nothing once another has taken over.

librdkafka has threads of its own; each client here is used from one thread, and what it has to say is handed to the loop.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.outbox.model import NOWHERE
from mainspring.core.outbox.relay import Item
from mainspring.core.outbox.steps import commits
from mainspring.core.ports import Database, Position, Record
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Metrics
from mainspring.storage.log.apache_client import ANSWER_S, BATCH_BYTES_MAX, Worker, as_record, meaning, settings_of
from mainspring.storage.log.apache_consumer import KafkaConsumer
from mainspring.storage.log.apache_reader import KafkaReader
from mainspring.storage.log.apache_share import KafkaShareConsumer
from mainspring.storage.log.apache_transaction import KafkaTransaction
from mainspring.storage.log.positions import Owned
from mainspring.storage.log.reader import Isolation

RECORD_BYTES_AROUND = 200
FETCH_RECORDS = 500
POLL_S = 0.1

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def opened(config: Config, clock: Clock, database: Database, metrics: Metrics) -> "KafkaLog":
    """The log that the configuration's `log` names."""
    return KafkaLog(config.log, clock, database, metrics=metrics)


class KafkaLog:
    """Between `start` and `stop`, whether a broker answers or not. `database` is needed for `commit_in` only."""

    def __init__(
        self, address: str, clock: Clock, database: Database | None = None, *, metrics: Metrics | None = None
    ) -> None:
        self.clock, self.database = clock, database
        self.settings = settings_of(address)
        self._consumers: set[KafkaConsumer | KafkaShareConsumer] = set()
        self._readers: set[KafkaReader] = set()
        self._known: set[str] = set()
        self._producer: Producer
        self.admin: AdminClient
        self._worker = Worker("kafka-log")
        self._relay: Producer | None = None
        self._poller: threading.Thread | None = None
        self._stopping = threading.Event()
        self.sent = self.failed = 0
        if metrics is not None:
            metrics.counter("kafka_log_records", "Records that Kafka acknowledged").follow(lambda: self.sent)
            metrics.counter("kafka_log_failures", "Records that Kafka did not take").follow(lambda: self.failed)

    async def start(self) -> None:
        self._producer = Producer(
            self.settings
            | {
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "delivery.timeout.ms": round(ANSWER_S * 1000),
                "message.max.bytes": BATCH_BYTES_MAX,
            }
        )
        self.admin = AdminClient(self.settings)
        self._poller = threading.Thread(target=self._poll, name="kafka-log-answers", daemon=True)
        self._poller.start()

    async def stop(self) -> None:
        """Ends every iterator, and waits for what is on its way."""
        for reader in tuple(self._readers):
            reader.close()
        for consumer in tuple(self._consumers):
            await consumer.close()
        await asyncio.to_thread(self._producer.flush, ANSWER_S)
        self._stopping.set()
        if self._poller is not None:
            await asyncio.to_thread(self._poller.join)
        self._worker.end()

    # The port

    async def append(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Position:
        """Raises `Unavailable`, `InvalidTopic` or `MessageTooLarge`."""
        await self._make(topic)
        sending = _Sending(1)
        self._produce(self._producer, sending, topic, key, value, headers, partition, timestamp_ms)
        return (await self._arrived(sending))[0]

    async def append_many(self, topic: str, records: Iterable[tuple[bytes | None, bytes]]) -> list[Position]:
        """Where this raises, some of the first records may be there."""
        pairs = list(records)
        if not pairs:
            return []
        await self._make(topic)
        sending = _Sending(len(pairs))
        for key, value in pairs:
            self._produce(self._producer, sending, topic, key, value)
        return await self._arrived(sending)

    def consumer(
        self,
        group: str,
        topics: Sequence[str],
        batch_records_max: int = 500,
        *,
        isolation: Isolation = "read_committed",
        on_assigned: Callable[..., Any] | None = None,
        on_revoked: Callable[..., Any] | None = None,
    ) -> KafkaConsumer:
        """See `Log.consumer` in `service`."""
        if not group or not topics or batch_records_max < 1:
            raise ValueError("a consumer needs a group, a topic, and batches of at least one record")
        consumer = KafkaConsumer(self, group, topics, batch_records_max, isolation, on_assigned, on_revoked)
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
    ) -> KafkaReader:
        """Reads one partition without a group, and waits for what comes; its first batch may raise `UnknownPartition`."""
        reader = KafkaReader(self, topic, partition, offset, isolation, batch_records_max)
        self._readers.add(reader)
        return reader

    def share(self, group: str, topics: Sequence[str], batch_records_max: int = 500) -> KafkaShareConsumer:
        """See `Log.share` in `service`. Needs Kafka 4.2 or newer; its records cannot be renewed."""
        if not group or not topics or batch_records_max < 1:
            raise ValueError("a consumer needs a group, a topic, and batches of at least one record")
        consumer = KafkaShareConsumer(self, group, topics, batch_records_max)
        self._consumers.add(consumer)
        return consumer

    @asynccontextmanager
    async def transaction(self, id: str) -> AsyncIterator[KafkaTransaction]:
        """See `Log.transaction` in `service`."""
        transaction = KafkaTransaction(self, id)
        try:
            await transaction.begin()
            try:
                yield transaction
            except BaseException:
                await transaction.give_up()
                raise
            await transaction.commit()
        finally:
            transaction.close()

    def forget(self, consumer: KafkaConsumer | KafkaShareConsumer | KafkaReader) -> None:
        """It has closed."""
        if isinstance(consumer, KafkaReader):
            self._readers.discard(consumer)
        else:
            self._consumers.discard(consumer)

    async def make(self, topics: Sequence[str]) -> None:
        """Makes the topics that are missing, with one partition."""
        for topic in topics:
            await self._make(topic)

    async def stored(self, group: str, partitions: Sequence[Owned]) -> dict[Owned, int]:
        """The group's positions in the database, or `NOWHERE`."""
        if self.database is None:
            return dict.fromkeys(partitions, NOWHERE)
        return await self.database.read(commits.positions, group, partitions)

    # The relay's destination

    async def take_over(self, history: int) -> None:
        """Fences whoever relays the same outbox; what it had begun is aborted."""
        producer = Producer(
            self.settings
            | {
                "transactional.id": f"mainspring-relay-{history}",
                "partitioner": "murmur2_random",
                "linger.ms": 1,
                "message.max.bytes": BATCH_BYTES_MAX,
                "transaction.timeout.ms": 60_000,
            }
        )
        await self._worker.call(producer.init_transactions, ANSWER_S)
        self._relay = producer

    def unfit(self, topic: str, records: Sequence[Record]) -> dict[int, str]:
        if not _NAME.fullmatch(topic) or topic in (".", ".."):
            return dict.fromkeys((record.offset for record in records), f"{topic!r} is no topic name")
        reasons = {}
        for record in records:
            size_bytes = RECORD_BYTES_AROUND + len(record.value) + len(record.key or b"")
            size_bytes += sum(len(name) + len(value) + 10 for name, value in record.headers)
            if size_bytes > BATCH_BYTES_MAX:
                reasons[record.offset] = f"{size_bytes} bytes are more than the {BATCH_BYTES_MAX} of a batch"
        return reasons

    async def relay(self, items: Mapping[str, Sequence[Item]]) -> dict[Owned, int]:
        producer = self._relay
        if producer is None:
            raise Unavailable("the relay has not taken over")
        for topic in items:
            await self._make(topic)
        return await self._worker.call(self._relay_all, producer, items)

    def _relay_all(self, producer: Producer, items: Mapping[str, Sequence[Item]]) -> dict[Owned, int]:
        ends: dict[Owned, int] = {}
        failures: list[KafkaError] = []
        produce: Callable[..., None] = producer.produce

        def answered(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                failures.append(error)
            else:
                where = (message.topic(), message.partition())
                ends[where] = max(ends.get(where, 0), message.offset() + 1)

        producer.begin_transaction()
        try:
            for topic, some in items.items():
                for at_ms, key, value, headers in some:
                    partition = -1 if key is not None else 0
                    produce(
                        topic, value, key, partition=partition, headers=headers, timestamp=at_ms, on_delivery=answered
                    )
                    producer.poll(0)
            producer.commit_transaction(ANSWER_S)
        except (KafkaException, BufferError):
            producer.abort_transaction(ANSWER_S)
            raise
        if failures:
            raise KafkaException(failures[0])
        return ends

    async def partitions(self, topic: str) -> int:
        described = await self._worker.call(self.admin.list_topics, topic, ANSWER_S)
        found = described.topics.get(topic)
        return len(found.partitions) if found is not None and found.error is None else 0

    async def fetch(self, topic: str, partition: int, offset: int) -> list[Record]:
        return await self._worker.call(self._fetch, topic, partition, offset)

    def _fetch(self, topic: str, partition: int, offset: int) -> list[Record]:
        consumer = Consumer(
            self.settings
            | {
                "group.id": "mainspring-relay",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        found: list[Record] = []
        try:
            consumer.assign([KafkaPartition(topic, partition, offset or OFFSET_BEGINNING)])
            while len(found) < FETCH_RECORDS:
                message = consumer.poll(ANSWER_S)
                if message is None:
                    raise Unavailable(f"Kafka gave nothing of {topic}-{partition} for {ANSWER_S} s")
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    break
                if error is not None:
                    raise KafkaException(error)
                found.append(as_record(message))
        finally:
            consumer.close()
        return found

    # Inside

    async def _make(self, topic: str) -> None:
        if topic in self._known:
            return
        if not await self.partitions(topic):
            future = self.admin.create_topics([NewTopic(topic, 1, -1)], operation_timeout=ANSWER_S)[topic]
            try:
                await asyncio.wrap_future(future)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise meaning(error) from error
        self._known.add(topic)

    def _produce(
        self,
        producer: Producer,
        sending: "_Sending",
        topic: str,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        place = sending.place()

        def answered(error: KafkaError | None, message: Any) -> None:
            sending.answered(place, error, message)

        try:
            producer.produce(
                topic,
                value,
                key,
                partition=-1 if partition is None else partition,
                headers=list(headers),
                timestamp=self.clock.wall_ns() // 1_000_000 if timestamp_ms is None else timestamp_ms,
                on_delivery=answered,
            )
        except KafkaException as error:
            raise meaning(error) from error
        except BufferError as error:
            raise Unavailable("more waits for Kafka than may wait") from error

    async def _arrived(self, sending: "_Sending") -> list[Position]:
        try:
            positions = await sending.done
        except KafkaException as error:
            self.failed += sending.count
            raise meaning(error) from error
        self.sent += sending.count
        return positions

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(POLL_S)


class _Sending:
    """Records on their way; `done` gives their positions in order, or raises what the first that failed met."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.done: asyncio.Future[list[Position]] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._positions: list[Any] = [None] * count
        self._placed = self._answered = 0
        self._error: KafkaError | None = None

    def place(self) -> int:
        self._placed += 1
        return self._placed - 1

    def answered(self, place: int, error: KafkaError | None, message: Any) -> None:
        """Called in librdkafka's thread, once for each record."""
        if error is not None:
            self._error = self._error or error
        else:
            self._positions[place] = Position(message.topic(), message.partition(), message.offset())
        self._answered += 1
        if self._answered == self.count:
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if self.done.done():
            return
        if self._error is not None:
            self.done.set_exception(KafkaException(self._error))
        else:
            self.done.set_result(self._positions)
