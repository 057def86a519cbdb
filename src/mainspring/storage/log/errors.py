"""What can go wrong in the log, one class for each thing a caller can act on.

Each carries the Kafka error code that the wire answers with, and is a `Problem`, so that HTTP callers get the same in RFC 9457
form. `batch_index` says which batch of an append was refused, where there are several.
"""

from typing import Any, ClassVar

from mainspring.core.problems import Problem


class LogError(Problem):
    kafka_code: ClassVar[int] = -1
    status, type, title = 500, "log/failed", "The log could not do this"

    def __init__(self, detail: str = "", *, batch_index: int | None = None, **more: Any) -> None:
        super().__init__(detail, **more)
        self.batch_index = batch_index


class OffsetOutOfRange(LogError):
    kafka_code = 1
    status, type, title = 416, "log/offset-out-of-range", "This offset is not, or no longer, in the partition"


class CorruptBatch(LogError):
    """A batch whose length or checksum does not fit its bytes, from a client or on the disk."""

    kafka_code = 2
    status, type, title = 400, "log/corrupt-batch", "The batch's checksum or length does not fit its bytes"


class UnknownPartition(LogError):
    kafka_code = 3
    status, type, title = 404, "log/unknown-partition", "There is no such topic or partition"


class Overloaded(LogError):
    """The queue before the disk is full; the same append may be tried again."""

    kafka_code = 7
    status, type, title = 503, "log/overloaded", "More is waiting for the disk than may wait"


class MessageTooLarge(LogError):
    kafka_code = 10
    status, type, title = 413, "log/message-too-large", "The batch is larger than the topic accepts"


class InvalidTopic(LogError):
    kafka_code = 17
    status, type, title = 422, "log/invalid-topic", "This is not a valid topic name"


class InvalidTimestamp(LogError):
    kafka_code = 32
    status, type, title = 422, "log/invalid-timestamp", "The record's time is out of the topic's bounds"


class TopicExists(LogError):
    kafka_code = 36
    status, type, title = 409, "log/topic-exists", "A topic of this name exists"


class InvalidPartitions(LogError):
    kafka_code = 37
    status, type, title = 422, "log/invalid-partitions", "This number of partitions is not possible"


class InvalidConfig(LogError):
    kafka_code = 40
    status, type, title = 422, "log/invalid-config", "This is not a valid setting of a topic"


class OutOfOrderSequence(LogError):
    kafka_code = 45
    status, type, title = 409, "log/out-of-order-sequence", "A batch of this producer before this one is missing"


class InvalidProducerEpoch(LogError):
    kafka_code = 47
    status, type, title = 409, "log/invalid-producer-epoch", "A newer producer with this id has taken over"


class InvalidTransactionState(LogError):
    kafka_code = 48
    status, type, title = 409, "log/invalid-transaction-state", "The producer's transaction does not allow this"


class CoordinatorFenced(LogError):
    kafka_code = 52
    status, type, title = 409, "log/coordinator-fenced", "A newer transaction coordinator has taken over"


class StorageFailed(LogError):
    """The partition's disk is full or failing: it answers reads and takes no writes."""

    kafka_code = 56
    status, type, title = 507, "log/storage-failed", "The partition cannot be written now"


class UnsupportedCompression(LogError):
    kafka_code = 76
    status, type, title = 422, "log/unsupported-compression", "No such compression"


class InvalidRecord(LogError):
    kafka_code = 87
    status, type, title = 422, "log/invalid-record", "The batch breaks a rule of the topic"


class NotOpen(LogError):
    """The engine has stopped, or the partition's topic was deleted."""

    kafka_code = 6
    status, type, title = 503, "log/not-open", "The log is not open"
