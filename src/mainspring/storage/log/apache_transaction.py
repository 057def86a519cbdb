"""A transaction on Apache Kafka, with the face of one of our own log; see `Log.transaction` in `service`.

Each transaction is a producer of its own, which takes the transactional id over when the block begins: whoever held it is
fenced then, and what it had begun is aborted. So a block costs a few round trips more than a producer that is kept would.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from mainspring.core.ports import Position
from mainspring.core.problems import Problem
from mainspring.storage.log.apache_client import ANSWER_S, BATCH_BYTES_MAX, Worker
from mainspring.storage.log.positions import Owned
from mainspring.storage.log.transaction_errors import InvalidTxnState, TransactionAbortable

if TYPE_CHECKING:
    from mainspring.storage.log.apache import KafkaLog
    from mainspring.storage.log.apache_consumer import KafkaConsumer

TIMEOUT_MS = 60_000
"""A transaction that is open longer is aborted by Kafka."""
TRIES = 5
"""How often an end is asked for again that Kafka says may be: each waits up to `ANSWER_S`."""

Fields = tuple[bytes | None, bytes, Sequence[tuple[str, bytes]], int | None, int | None]
"""Key, value, headers, partition, and the time in milliseconds UTC."""

_log = logging.getLogger(__name__)


class KafkaTransaction:
    """Between `begin` and `commit` or `abort`. For one task."""

    def __init__(self, log: "KafkaLog", id: str) -> None:
        self._log = log
        self._worker = Worker(f"kafka-{id}")
        self._open = False
        self._passed: list[tuple[KafkaConsumer, Mapping[Owned, int]]] = []
        self._id = id
        self._producer: Any = None

    async def begin(self) -> None:
        """Takes the id over."""
        await self._worker.call(self._begin)
        self._open = True

    async def append(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Position:
        """Raises `ProducerFenced` where another has the id now."""
        return (await self._send(topic, [(key, value, headers, partition, timestamp_ms)]))[0]

    async def append_many(self, topic: str, records: Iterable[tuple[bytes | None, bytes]]) -> list[Position]:
        return await self._send(topic, [(key, value, (), None, None) for key, value in records])

    async def commit_offsets(self, consumer: "KafkaConsumer") -> None:
        """Moves the consumer's group past the batch that it gave last, if and only if this transaction commits."""
        self._check_open()
        if ends := dict(consumer.ends):
            await self._worker.call(self._send_offsets, ends, await consumer.metadata())
            self._passed.append((consumer, ends))

    async def abort(self) -> None:
        """Ends it here; the block then commits nothing."""
        self._check_open()
        self._open = False
        self._passed.clear()
        await self._worker.call(self._end, self._producer.abort_transaction)

    async def commit(self) -> None:
        """The end of the block: nothing is left to do where it was aborted in it."""
        if self._open:
            self._open = False
            await self._worker.call(self._end, self._producer.commit_transaction)
        for consumer, ends in self._passed:
            consumer.passed(ends)

    async def give_up(self) -> None:
        """The block has raised."""
        if not self._open:
            return
        try:
            await asyncio.shield(self.abort())
        except Problem as error:
            _log.info("the transaction of %s has ended, or is left to its timeout: %s", self._id, error)

    def close(self) -> None:
        self._worker.end(self._drop)

    def _check_open(self) -> None:
        if not self._open:
            raise InvalidTxnState("the transaction has ended, or has not begun")

    async def _send(self, topic: str, records: list[Fields]) -> list[Position]:
        self._check_open()
        await self._log.make([topic])
        return await self._worker.call(self._send_all, topic, records)

    # In the thread

    def _begin(self) -> None:
        self._producer = Producer(
            self._log.settings
            | {
                "transactional.id": self._id,
                "transaction.timeout.ms": TIMEOUT_MS,
                "partitioner": "murmur2_random",
                "linger.ms": 0,
                "message.max.bytes": BATCH_BYTES_MAX,
            }
        )
        self._producer.init_transactions(ANSWER_S)
        self._producer.begin_transaction()

    def _send_all(self, topic: str, records: list[Fields]) -> list[Position]:
        positions: list[Any] = [None] * len(records)
        failures: list[KafkaError] = []

        def sent(place: int) -> Any:
            def answered(error: KafkaError | None, message: Any) -> None:
                if error is not None:
                    failures.append(error)
                else:
                    positions[place] = Position(message.topic(), message.partition(), message.offset())

            return answered

        now_ms = self._log.clock.wall_ns() // 1_000_000
        for place, (key, value, headers, partition, at_ms) in enumerate(records):
            self._producer.produce(
                topic,
                value,
                key,
                partition=-1 if partition is None else partition,
                headers=list(headers),
                timestamp=now_ms if at_ms is None else at_ms,
                on_delivery=sent(place),
            )
        left = self._producer.flush(ANSWER_S)
        if failures:
            raise KafkaException(failures[0])
        if left:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "the records were not acknowledged in time"))
        return positions

    def _send_offsets(self, ends: Mapping[Owned, int], metadata: Any) -> None:
        wanted = [KafkaPartition(topic, partition, end) for (topic, partition), end in ends.items()]
        self._producer.send_offsets_to_transaction(wanted, metadata, ANSWER_S)

    def _end(self, end: Any) -> None:
        for tries_left in reversed(range(TRIES)):
            try:
                end(ANSWER_S)
            except KafkaException as error:
                if error.args[0].txn_requires_abort():
                    self._producer.abort_transaction(ANSWER_S)
                    raise TransactionAbortable(error.args[0].str()) from error
                if not tries_left or not error.args[0].retriable():
                    raise
            else:
                return

    def _drop(self) -> None:
        """A producer waits for its own threads when it goes, which the loop must not."""
        self._producer = None
