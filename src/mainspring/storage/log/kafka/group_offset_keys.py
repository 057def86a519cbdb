"""How far groups have come: OffsetCommit, OffsetFetch and OffsetDelete."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from mainspring.storage.log.coordinator_errors import CoordinatorError
from mainspring.storage.log.errors import LogError, UnknownPartition
from mainspring.storage.log.groups.errors import UnstableOffsetCommit
from mainspring.storage.log.groups.messages import Offset, OffsetCommit, OffsetDelete, OffsetFetch, TopicPartition
from mainspring.storage.log.kafka.acls import Operation, Resource
from mainspring.storage.log.kafka.group_keys import check_group, groups_of
from mainspring.storage.log.kafka.refusals import GroupNotAuthorized, NotAuthorized, UnknownTopicId
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles


def topic_name(one: Any, context: Context) -> str:
    """A topic's name, given by name or by id. Raises `UnknownTopicId` and `NotAuthorized`."""
    name = given(one, "name")
    if name is None:
        topic = context.broker.engine.topic_by_id(one.topic_id) if one.topic_id is not None else None
        if topic is None:
            raise UnknownTopicId
        name = str(topic.name)
    if not context.allows(Operation.READ, Resource.TOPIC, name):
        raise NotAuthorized
    return str(name)


def exists(partition: TopicPartition, context: Context) -> bool:
    topic = context.broker.engine.topics.get(partition[0])
    return topic is not None and 0 <= partition[1] < len(topic.partitions)


def offsets_asked(topics: Iterable[Any], context: Context) -> tuple[dict[TopicPartition, Offset], dict[Any, int]]:
    """The offsets of a commit that may be, and the codes of those that may not, by (topic as given, partition)."""
    wanted: dict[TopicPartition, Offset] = {}
    refused: dict[Any, int] = {}
    now_ms = context.broker.clock.wall_ns() // 1_000_000
    for topic in topics:
        try:
            name = topic_name(topic, context)
        except LogError as error:
            refused |= {(key_of(topic), one.partition_index): error.kafka_code for one in topic.partitions}
            continue
        for one in topic.partitions:
            if not exists((name, one.partition_index), context):
                refused[key_of(topic), one.partition_index] = UnknownPartition.kafka_code
                continue
            wanted[name, one.partition_index] = Offset(
                one.committed_offset,
                given(one, "committed_leader_epoch", -1),
                one.committed_metadata or "",
                now_ms,
                context.broker.engine.topics[name].id,
            )
    return wanted, refused


def key_of(topic: Any) -> Any:
    """How a request names a topic: by its name, or from version 10 on by its id."""
    name = given(topic, "name")
    return name if name is not None else given(topic, "topic_id")


def codes_by_topic(
    topics: Iterable[Any], codes: dict[TopicPartition, int], refused: dict[Any, int], context: Context
) -> list[dict[str, Any]]:
    """The answer of a commit: the code of every partition that was asked for."""
    answer = []
    for topic in topics:
        key = key_of(topic)
        found = context.broker.engine.topic_by_id(key) if isinstance(key, UUID) else None
        name = found.name if found is not None else key
        partitions = [
            {
                "partition_index": one.partition_index,
                "error_code": refused.get((key, one.partition_index), codes.get((name, one.partition_index), 0)),
            }
            for one in topic.partitions
        ]
        answer.append({"name": given(topic, "name"), "topic_id": given(topic, "topic_id"), "partitions": partitions})
    return answer


@handles(ApiKey.OFFSET_COMMIT, range(2, 11))
async def offset_commit(request: Any, context: Context) -> Answer:
    """A refusal of the whole is said of every partition."""
    refused: dict[Any, int] = {}
    codes: dict[TopicPartition, int] = {}
    try:
        check_group(context, request.group_id)
        wanted, refused = offsets_asked(request.topics, context)
        codes = await groups_of(context).ask(
            OffsetCommit(
                group=request.group_id,
                member_id=request.member_id,
                instance=given(request, "group_instance_id"),
                generation=request.generation_id_or_member_epoch,
                offsets=wanted,
                knows_epochs=context.api_version >= 9,
            )
        )
    except (CoordinatorError, GroupNotAuthorized) as error:
        refused = {
            (key_of(topic), one.partition_index): error.kafka_code
            for topic in request.topics
            for one in topic.partitions
        }
    return {"topics": codes_by_topic(request.topics, codes, refused, context)}


@handles(ApiKey.OFFSET_FETCH, range(1, 11))
async def offset_fetch(request: Any, context: Context) -> Answer:
    groups = given(request, "groups")
    stable = given(request, "require_stable", False)
    if groups is not None:
        return {"groups": [await _group_offsets(one, one.group_id, stable, context) for one in groups]}
    answer = await _group_offsets(request, request.group_id, stable, context)
    code = answer["error_code"]
    if code and context.api_version < 2:
        # Before version 2 there is no code but those of partitions.
        answer["topics"] = [
            {
                "name": topic.name,
                "partitions": [_absent(index, code) for index in topic.partition_indexes],
            }
            for topic in request.topics
        ]
    return answer


async def _group_offsets(one: Any, group: str, stable: bool, context: Context) -> dict[str, Any]:
    try:
        check_group(context, group, Operation.DESCRIBE)
        names: dict[str, Any] = {}
        unknown: list[dict[str, Any]] = []
        partitions: list[TopicPartition] | None = None
        if one.topics is not None:
            partitions = []
            for topic in one.topics:
                _take_topic(topic, names, unknown, partitions, context)
        found = await groups_of(context).ask(
            OffsetFetch(
                group=group,
                member_id=given(one, "member_id") or "",
                member_epoch=given(one, "member_epoch", -1),
                partitions=None if partitions is None else tuple(partitions),
                stable=stable,
            )
        )
    except (CoordinatorError, GroupNotAuthorized) as error:
        return {"group_id": group, "topics": [], "error_code": error.kafka_code}
    topics: dict[str, list[dict[str, Any]]] = {}
    for (name, index), (offset, unstable) in found.items():
        if one.topics is None and not context.allows(Operation.DESCRIBE, Resource.TOPIC, name):
            continue
        topics.setdefault(name, []).append(_position(index, offset, unstable))
    answer = []
    for name, parts in topics.items():
        topic_now = context.broker.engine.topics.get(name)
        answer.append({"name": name, "topic_id": topic_now.id if topic_now else None, "partitions": parts})
    return {"group_id": group, "topics": answer + unknown, "error_code": 0}


def _take_topic(
    topic: Any, names: dict[str, Any], unknown: list[dict[str, Any]], partitions: list[TopicPartition], context: Context
) -> None:
    try:
        name = given(topic, "name")
        if name is None:
            name = topic_name(topic, context)
        elif not context.allows(Operation.DESCRIBE, Resource.TOPIC, name):
            raise NotAuthorized
    except LogError as error:
        unknown.append(
            {
                "name": given(topic, "name"),
                "topic_id": given(topic, "topic_id"),
                "partitions": [_absent(index, error.kafka_code) for index in topic.partition_indexes],
            }
        )
        return
    names[name] = topic
    partitions += [(name, index) for index in topic.partition_indexes]


def _position(index: int, offset: Offset | None, unstable: bool) -> dict[str, Any]:
    if unstable:
        return _absent(index, UnstableOffsetCommit.kafka_code)
    if offset is None:
        return _absent(index, 0)
    return {
        "partition_index": index,
        "committed_offset": offset.offset,
        "committed_leader_epoch": offset.leader_epoch,
        "metadata": offset.metadata,
        "error_code": 0,
    }


def _absent(index: int, code: int) -> dict[str, Any]:
    return {
        "partition_index": index,
        "committed_offset": -1,
        "committed_leader_epoch": -1,
        "metadata": "",
        "error_code": code,
    }


@handles(ApiKey.OFFSET_DELETE, range(1))
async def offset_delete(request: Any, context: Context) -> Answer:
    check_group(context, request.group_id, Operation.DELETE)
    wanted: list[TopicPartition] = []
    refused: dict[TopicPartition, int] = {}
    for topic in request.topics:
        for one in topic.partitions:
            partition = (topic.name, one.partition_index)
            if not context.allows(Operation.READ, Resource.TOPIC, topic.name):
                refused[partition] = NotAuthorized.kafka_code
            elif not exists(partition, context):
                refused[partition] = UnknownPartition.kafka_code
            else:
                wanted.append(partition)
    codes = await groups_of(context).ask(OffsetDelete(group=request.group_id, partitions=tuple(wanted))) | refused
    return {
        "error_code": 0,
        "topics": [
            {
                "name": topic.name,
                "partitions": [
                    {"partition_index": one.partition_index, "error_code": codes[topic.name, one.partition_index]}
                    for one in topic.partitions
                ],
            }
            for topic in request.topics
        ],
    }
