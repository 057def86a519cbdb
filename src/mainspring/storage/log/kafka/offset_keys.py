"""Where a partition's records lie: ListOffsets, OffsetForLeaderEpoch and DeleteRecords."""

from typing import TYPE_CHECKING, Any

from mainspring.storage.log.errors import LogError, OffsetOutOfRange
from mainspring.storage.log.kafka.acls import Operation, Resource
from mainspring.storage.log.kafka.refusals import NotAuthorized, PolicyViolation
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles

if TYPE_CHECKING:
    from mainspring.storage.log.partition import Partition

LATEST, EARLIEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD = -1, -2, -3, -4, -5, -6
SINCE_VERSION = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, EARLIEST_PENDING_UPLOAD: 11}
UNSUPPORTED_VERSION, FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH = 35, 74, 75
READ_COMMITTED = 1


class FencedLeaderEpoch(LogError):
    kafka_code = FENCED_LEADER_EPOCH
    status, type, title = 409, "log/fenced-leader-epoch", "The client knows an older leader"


class UnknownLeaderEpoch(LogError):
    kafka_code = UNKNOWN_LEADER_EPOCH
    status, type, title = 409, "log/unknown-leader-epoch", "The client knows a newer leader"


class UnsupportedTime(LogError):
    kafka_code = UNSUPPORTED_VERSION
    status, type, title = 422, "log/unsupported-time", "This version has no such special time"


def partition_of(context: Context, operation: Operation, topic: str, index: int, leader_epoch: int = -1) -> "Partition":
    """The partition, where the client may do `operation` to its topic. Raises a `LogError`."""
    if not context.allows(operation, Resource.TOPIC, topic):
        raise NotAuthorized
    partition = context.broker.engine.partition(topic, index)
    if leader_epoch >= 0 and leader_epoch != partition.leader_epoch:
        raise FencedLeaderEpoch if leader_epoch < partition.leader_epoch else UnknownLeaderEpoch
    return partition


@handles(ApiKey.LIST_OFFSETS, range(1, 12))
async def list_offsets(request: Any, context: Context) -> Answer:
    committed = given(request, "isolation_level", 0) == READ_COMMITTED
    topics = []
    for topic in request.topics:
        partitions = []
        for one in topic.partitions:
            place = {"partition_index": one.partition_index}
            try:
                epoch = given(one, "current_leader_epoch", -1)
                partition = partition_of(context, Operation.DESCRIBE, topic.name, one.partition_index, epoch)
                place |= await _place(partition, one.timestamp, committed, context.api_version)
            except LogError as error:
                place["error_code"] = error.kafka_code
            partitions.append(place)
        topics.append({"name": topic.name, "partitions": partitions})
    return {"topics": topics}


async def _place(partition: "Partition", timestamp: int, committed: bool, version: int) -> dict[str, Any]:
    if timestamp < 0 and (timestamp < EARLIEST_PENDING_UPLOAD or version < SINCE_VERSION.get(timestamp, 0)):
        raise UnsupportedTime
    epoch = {"leader_epoch": partition.leader_epoch}
    if timestamp == LATEST:
        return {"offset": partition.last_stable if committed else partition.high_watermark} | epoch
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return {"offset": partition.log_start} | epoch
    if timestamp == LATEST_TIERED:
        return {"offset": -1}
    if timestamp == EARLIEST_PENDING_UPLOAD:
        return {"offset": -1}
    found = await (partition.max_timestamp() if timestamp == MAX_TIMESTAMP else partition.find(timestamp))
    if found is None or (committed and found[0] >= partition.last_stable):
        return {"offset": -1}
    return {"offset": found[0], "timestamp": found[1]} | epoch


@handles(ApiKey.OFFSET_FOR_LEADER_EPOCH, range(2, 5))
def offset_for_leader_epoch(request: Any, context: Context) -> Answer:
    topics = []
    for topic in request.topics:
        partitions = []
        for one in topic.partitions:
            end = {"partition": one.partition}
            try:
                partition = partition_of(
                    context, Operation.DESCRIBE, topic.topic, one.partition, given(one, "current_leader_epoch", -1)
                )
                if one.leader_epoch == partition.leader_epoch:
                    end |= {"leader_epoch": one.leader_epoch, "end_offset": partition.end}
                elif one.leader_epoch < partition.leader_epoch:
                    epoch, offset = partition.epoch_end(one.leader_epoch)
                    end |= {"leader_epoch": epoch, "end_offset": offset}
            except LogError as error:
                end["error_code"] = error.kafka_code
            partitions.append(end)
        topics.append({"topic": topic.topic, "partitions": partitions})
    return {"topics": topics}


@handles(ApiKey.DELETE_RECORDS, range(3))
async def delete_records(request: Any, context: Context) -> Answer:
    topics = []
    for topic in request.topics:
        partitions = []
        for one in topic.partitions:
            left = {"partition_index": one.partition_index, "low_watermark": -1}
            try:
                partition = partition_of(context, Operation.DELETE, topic.name, one.partition_index)
                if "delete" not in partition.topic.config.cleanup_policy:
                    raise PolicyViolation
                before = partition.high_watermark if one.offset == -1 else one.offset
                if before < 0 or before > partition.high_watermark:
                    raise OffsetOutOfRange
                left["low_watermark"] = await partition.delete_records(before)
            except LogError as error:
                left["error_code"] = error.kafka_code
            partitions.append(left)
        topics.append({"name": topic.name, "partitions": partitions})
    return {"topics": topics}
