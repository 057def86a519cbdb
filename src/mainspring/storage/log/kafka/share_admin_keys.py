"""What people ask about share groups: their members, and where they begin in each partition."""

from typing import Any

from mainspring.storage.log.errors import LogError, UnknownPartition
from mainspring.storage.log.groups.errors import GroupIdNotFound
from mainspring.storage.log.groups.share import ShareGroup
from mainspring.storage.log.kafka.acls import Operation, Resource
from mainspring.storage.log.kafka.group_admin_keys import named
from mainspring.storage.log.kafka.group_keys import check_group, groups_of
from mainspring.storage.log.kafka.metadata_keys import operations
from mainspring.storage.log.kafka.offset_keys import partition_of
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, handles
from mainspring.storage.log.kafka.share_keys import shares_of


@handles(ApiKey.SHARE_GROUP_DESCRIBE, range(1, 2))
async def share_group_describe(request: Any, context: Context) -> Answer:
    coordinator = await groups_of(context).opened()
    described = []
    for name in request.group_ids:
        group = coordinator.groups.get(name)
        try:
            check_group(context, name, Operation.DESCRIBE)
            if not isinstance(group, ShareGroup):
                raise GroupIdNotFound(f"Group {name} is not a share group." if group else f"Group {name} not found.")
        except LogError as error:
            described.append({"group_id": name, "error_code": error.kafka_code, "error_message": error.detail})
            continue
        found = {
            "group_id": name,
            "error_code": 0,
            "group_state": group.state(),
            "group_epoch": group.epoch,
            "assignment_epoch": group.target_epoch,
            "assignor_name": "simple",
            "members": [
                {
                    "member_id": one.id,
                    "rack_id": one.rack,
                    "member_epoch": one.epoch,
                    "client_id": one.client.id,
                    "client_host": one.client.host,
                    "subscribed_topic_names": sorted(one.topics),
                    "assignment": named(one.assigned, context),
                }
                for one in group.members.values()
            ],
        }
        if request.include_authorized_operations:
            found["authorized_operations"] = operations(context, Resource.GROUP, name)
        described.append(found)
    return {"groups": described}


@handles(ApiKey.DESCRIBE_SHARE_GROUP_OFFSETS, range(2))
async def describe_share_group_offsets(request: Any, context: Context) -> Answer:
    groups = []
    for asked in request.groups:
        try:
            check_group(context, asked.group_id, Operation.DESCRIBE)
            groups.append({"group_id": asked.group_id, "topics": await _offsets(asked, context), "error_code": 0})
        except LogError as error:
            groups.append(
                {
                    "group_id": asked.group_id,
                    "topics": [],
                    "error_code": error.kafka_code,
                    "error_message": error.detail,
                }
            )
    return {"groups": groups}


async def _offsets(asked: Any, context: Context) -> list[dict[str, Any]]:
    kept = await shares_of(context).offsets(asked.group_id)
    engine = context.broker.engine
    wanted: dict[str, list[int]] = {}
    if asked.topics is None:
        for id, number in sorted(kept, key=lambda slot: (slot[0].bytes, slot[1])):
            topic = engine.topic_by_id(id)
            if topic is not None and context.allows(Operation.DESCRIBE, Resource.TOPIC, topic.name):
                wanted.setdefault(topic.name, []).append(number)
    else:
        wanted = {topic.topic_name: list(topic.partitions) for topic in asked.topics}
    topics = []
    for name, numbers in wanted.items():
        partitions = []
        for number in numbers:
            described: dict[str, Any] = {"partition_index": number, "start_offset": -1, "error_code": 0}
            try:
                partition = partition_of(context, Operation.DESCRIBE, name, number)
                share = kept.get((partition.topic.id, number))
                if share is not None:
                    described["start_offset"] = share.start
                    described["lag"] = max(0, partition.high_watermark - share.start - share.done())
            except LogError as error:
                described |= {"error_code": error.kafka_code, "error_message": error.detail}
            partitions.append(described)
        topics.append({"topic_name": name, "topic_id": _id(name, context), "partitions": partitions})
    return topics


def _id(name: str, context: Context) -> Any:
    topic = context.broker.engine.topics.get(name)
    return None if topic is None else topic.id


@handles(ApiKey.ALTER_SHARE_GROUP_OFFSETS, range(1))
async def alter_share_group_offsets(request: Any, context: Context) -> Answer:
    responses = []
    try:
        check_group(context, request.group_id)
        _check_share_group(request.group_id, context)
        for topic in request.topics:
            partitions = []
            for one in topic.partitions:
                altered: dict[str, Any] = {"partition_index": one.partition_index, "error_code": 0}
                try:
                    partition = partition_of(context, Operation.READ, topic.topic_name, one.partition_index)
                    slot = (partition.topic.id, one.partition_index)
                    await shares_of(context).alter(request.group_id, slot, max(0, one.start_offset))
                except LogError as error:
                    altered |= {"error_code": error.kafka_code, "error_message": error.detail}
                partitions.append(altered)
            responses.append(
                {"topic_name": topic.topic_name, "topic_id": _id(topic.topic_name, context), "partitions": partitions}
            )
    except LogError as error:
        return {"error_code": error.kafka_code, "error_message": error.detail}
    return {"error_code": 0, "responses": responses}


def _check_share_group(name: str, context: Context) -> None:
    """A group of another kind has no such offsets. Raises `GroupIdNotFound`."""
    group = groups_of(context).find(name)
    if group is not None and not isinstance(group, ShareGroup):
        raise GroupIdNotFound(f"Group {name} is not a share group.")


@handles(ApiKey.DELETE_SHARE_GROUP_OFFSETS, range(1))
async def delete_share_group_offsets(request: Any, context: Context) -> Answer:
    responses = []
    try:
        check_group(context, request.group_id, Operation.DELETE)
        _check_share_group(request.group_id, context)
        for topic in request.topics:
            id = _id(topic.topic_name, context)
            deleted: dict[str, Any] = {"topic_name": topic.topic_name, "topic_id": id, "error_code": 0}
            if id is None:
                deleted["error_code"] = UnknownPartition.kafka_code
            else:
                await shares_of(context).forget(request.group_id, id)
            responses.append(deleted)
    except LogError as error:
        return {"error_code": error.kafka_code, "error_message": error.detail}
    return {"error_code": 0, "responses": responses}
