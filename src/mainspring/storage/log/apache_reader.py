"""Reading one partition of an Apache Kafka without a group, as `Reader` does in our own log."""

from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from mainspring.core.ports import Record
from mainspring.storage.log.apache_client import ANSWER_S, Worker, as_record
from mainspring.storage.log.reader import Isolation

if TYPE_CHECKING:
    from mainspring.storage.log.apache import KafkaLog

WAIT_S = 0.25
"""How long the thread waits for records before it looks whether the reader is to close."""


class KafkaReader:
    """See `Reader`, which this is on Kafka. A partition that is not there is an `UnknownPartition` of the first batch."""

    def __init__(
        self, log: "KafkaLog", topic: str, partition: int, offset: int, isolation: Isolation, records_max: int
    ) -> None:
        self.offset = offset
        self._log, self._topic, self._partition = log, topic, partition
        self._isolation, self._records_max = isolation, records_max
        self._worker = Worker(f"kafka-reader-{topic}-{partition}")
        self._consumer: Any = None
        self._reading = False
        self._closed = False

    def __aiter__(self) -> "KafkaReader":
        return self

    async def __anext__(self) -> list[Record]:
        while not self._closed:
            batch = await self._worker.call(self._take)
            if batch and not self._closed:
                self.offset = batch[-1].offset + 1
                return batch
        raise StopAsyncIteration

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._log.forget(self)
        self._worker.end(self._leave)

    # In the thread

    def _take(self) -> list[Record]:
        if self._closed:
            return []
        if self._consumer is None:
            self._consumer = Consumer(
                self._log.settings
                | {
                    "group.id": "mainspring-reader",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "error",
                    "isolation.level": self._isolation,
                }
            )
        if not self._reading and not self._begin():
            return []
        found: list[Record] = []
        first = self._consumer.poll(WAIT_S)
        more = self._consumer.consume(self._records_max - 1, 0) if first is not None and self._records_max > 1 else ()
        for message in () if first is None else (first, *more):
            error = message.error()
            if error is None:
                found.append(as_record(message))
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                # The start has moved on, or the end has come back.
                self._reading = False
            else:
                raise KafkaException(error)
        return found

    def _begin(self) -> bool:
        """Whether there is such an offset by now. Below the oldest record kept it begins there."""
        where = KafkaPartition(self._topic, self._partition)
        low, high = self._consumer.get_watermark_offsets(where, timeout=ANSWER_S)
        if self.offset > high:
            self._consumer.unassign()
            self._consumer.poll(WAIT_S)
            return False
        where.offset = max(self.offset, low)
        self._consumer.assign([where])
        self._reading = True
        return True

    def _leave(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
