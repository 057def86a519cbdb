"""A member of a share group on Apache Kafka (4.2 or newer), as `ShareConsumer` is one on our own log.

librdkafka calls its part of this a preview. It cannot renew a lock, so what a member does with a record must be done within the
group's `share.record.lock.duration.ms`; and Kafka gives out whole batches of a producer, which are handed on here in parts: the
locks of those that wait begin with the batch.
"""

import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from confluent_kafka import AcknowledgeType, IllegalStateException, KafkaException, ShareConsumer
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource

from mainspring.storage.log.apache_client import ANSWER_S, Worker, as_record
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.groups.errors import InvalidRecordState
from mainspring.storage.log.sharing import Shared

if TYPE_CHECKING:
    from mainspring.storage.log.apache import KafkaLog

WAIT_S = 0.25
"""How long the thread waits for records before it looks whether the consumer is to close."""
BEGINS = "share.auto.offset.reset"

_log = logging.getLogger(__name__)


class CannotRenew(LogError):
    status, type, title = 501, "log/cannot-renew", "On this log the lock of a record cannot be renewed"


class KafkaShareConsumer:
    """See `ShareConsumer` in `sharing`, which this is on Kafka."""

    def __init__(self, log: "KafkaLog", group: str, topics: Sequence[str], records_max: int) -> None:
        self.group, self.topics = group, tuple(topics)
        self._log, self._records_max = log, records_max
        self._worker = Worker(f"kafka-share-{group}")
        self._consumer: Any = None
        self._waiting: deque[Shared] = deque()
        self._held: set[tuple[str, int, int]] = set()
        self._closed = False

    def __aiter__(self) -> "KafkaShareConsumer":
        return self

    async def __anext__(self) -> list[Shared]:
        if self._held:
            await self._worker.call(self._release)
        while not self._closed:
            if self._consumer is None:
                await self._log.make(self.topics)
                await self._worker.call(self._join)
            if not self._waiting:
                self._waiting.extend(await self._worker.call(self._take))
            if self._waiting and not self._closed:
                batch = [self._waiting.popleft() for _ in range(min(self._records_max, len(self._waiting)))]
                self._held.update(map(_place, batch))
                return batch
        raise StopAsyncIteration

    async def accept(self, *shared: Shared) -> None:
        """These are done with. Raises `InvalidRecordState` where a record is no longer this member's."""
        await self._worker.call(self._say, AcknowledgeType.ACCEPT, tuple(map(_place, shared)))

    async def release(self, *shared: Shared) -> None:
        """Others may try these."""
        await self._worker.call(self._say, AcknowledgeType.RELEASE, tuple(map(_place, shared)))

    async def reject(self, *shared: Shared) -> None:
        """Nobody shall try these again."""
        await self._worker.call(self._say, AcknowledgeType.REJECT, tuple(map(_place, shared)))

    async def renew(self, *shared: Shared) -> None:
        """Raises `CannotRenew`: librdkafka has no way to say it."""
        raise CannotRenew("let the group's share.record.lock.duration.ms be as long as the work takes")

    async def close(self) -> None:
        """Gives back all that is held, and leaves."""
        if self._closed:
            return
        self._closed = True
        if self._consumer is not None:
            await self._worker.call(self._leave)
        self._worker.end()
        self._log.forget(self)

    # In the thread

    def _join(self) -> None:
        self._begin_with_the_oldest()
        self._consumer = ShareConsumer(
            self._log.settings
            | {
                "group.id": self.group,
                "share.acknowledgement.mode": "explicit",
                "max.poll.records": self._records_max,
            }
        )
        self._consumer.subscribe(list(self.topics))

    def _begin_with_the_oldest(self) -> None:
        """A share group begins with what comes next, unless its settings say otherwise; ours begin with the oldest kept."""
        admin = self._log.admin
        group = ConfigResource(ConfigResource.Type.GROUP, self.group)
        try:
            (described,) = admin.describe_configs([group], request_timeout=ANSWER_S).values()
            found = described.result(ANSWER_S).get(BEGINS)
            if found is None or not found.is_default:
                return
            wanted = ConfigEntry(BEGINS, "earliest", incremental_operation=AlterConfigOpType.SET)
            group = ConfigResource(ConfigResource.Type.GROUP, self.group, incremental_configs=[wanted])
            (altered,) = admin.incremental_alter_configs([group], request_timeout=ANSWER_S).values()
            altered.result(ANSWER_S)
        except KafkaException as error:
            _log.warning("group %s gets no records from before it: %s", self.group, error.args[0].str())

    def _take(self) -> list[Shared]:
        if self._closed:
            return []
        found = []
        for message in self._consumer.poll(WAIT_S):
            if message.error() is not None:
                raise KafkaException(message.error())
            found.append(Shared(as_record(message), message.delivery_count()))
        return found

    def _say(self, kind: AcknowledgeType, places: Sequence[tuple[str, int, int]]) -> None:
        """Of each record; raises for the first that is another's by now."""
        lost: list[Exception] = []
        for place in places:
            self._held.remove(place)
            try:
                self._consumer.acknowledge_offset(*place, kind)
            except IllegalStateException as error:
                lost.append(error)
        lost += [error for error in self._consumer.commit_sync(ANSWER_S).values() if error is not None]
        if lost:
            raise InvalidRecordState(str(lost[0])) from lost[0]

    def _release(self) -> None:
        """Where the lock has ended meanwhile, the record is another's already."""
        with contextlib.suppress(InvalidRecordState):
            self._say(AcknowledgeType.RELEASE, tuple(self._held))

    def _leave(self) -> None:
        self._held.update(map(_place, self._waiting))
        self._waiting.clear()
        try:
            self._release()
        finally:
            self._consumer.close()


def _place(shared: Shared) -> tuple[str, int, int]:
    return shared.record.topic, shared.record.partition, shared.record.offset
