"""Topics made, grown and deleted: CreateTopics, CreatePartitions, DeleteTopics."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.errors import InvalidConfig, InvalidPartitions, LogError, UnknownPartition
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, Operation, Resource
from mainspring.storage.log.kafka.config_entries import topic_entries
from mainspring.storage.log.kafka.dry_run import check_partitions, check_topic
from mainspring.storage.log.kafka.dynamic_configs import layers
from mainspring.storage.log.kafka.quotas import MUTATION
from mainspring.storage.log.kafka.refusals import (
    InvalidReplicaAssignment,
    InvalidReplicationFactor,
    NotAuthorized,
    UnknownTopicId,
)
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, handles

if TYPE_CHECKING:
    from mainspring.storage.log.topics import Topic


def charge(context: Context, partitions: int) -> None:
    """Counts what changes the cluster against the client's quota of changes."""
    if context.broker.quotas.limited:
        wait_ms = context.broker.quotas.charge(MUTATION, context.principal, context.client_id, partitions)
        context.throttle_ms = max(context.throttle_ms, wait_ms)


@handles(ApiKey.CREATE_TOPICS, range(2, 8))
async def create_topics(request: Any, context: Context) -> Answer:
    times = Counter(topic.name for topic in request.topics)
    answers = []
    for asked in {topic.name: topic for topic in request.topics}.values():
        answer: dict[str, Any] = {"name": asked.name, "error_message": None}
        try:
            if times[asked.name] > 1:
                raise InvalidRequest("Duplicate topic name.")
            answer |= await _create(asked, context, validate_only=request.validate_only)
        except LogError as error:
            answer |= {"error_code": error.kafka_code, "error_message": error.detail, "configs": None}
        answers.append(answer)
    return {"topics": answers}


async def _create(asked: Any, context: Context, *, validate_only: bool) -> dict[str, Any]:
    broker = context.broker
    if not context.allows(Operation.CREATE, Resource.CLUSTER, CLUSTER_NAME) and not context.allows(
        Operation.CREATE, Resource.TOPIC, asked.name
    ):
        raise NotAuthorized("Authorization failed.")
    partitions = _partitions(asked, broker.settings.num_partitions, broker.engine.node_id)
    absent = [config.name for config in asked.configs if config.value is None]
    if absent:
        raise InvalidConfig(f"Null value not supported for topic configs: {','.join(absent)}")
    config = {config.name: config.value for config in asked.configs}
    charge(context, partitions)
    if validate_only:
        shown = check_topic(broker.engine, asked.name, partitions, config)
        return {"num_partitions": partitions, "replication_factor": 1, "configs": _configs(shown, context)}
    topic = await broker.engine.create_topic(asked.name, partitions, config)
    may_see = context.allows(Operation.DESCRIBE_CONFIGS, Resource.TOPIC, asked.name)
    described = {"num_partitions": partitions, "replication_factor": 1, "configs": _configs(topic.config, context)}
    return {"topic_id": topic.id} | (described if may_see else {"topic_config_error_code": NotAuthorized.kafka_code})


def _configs(config: Any, context: Context) -> list[dict[str, Any]]:
    engine = context.broker.engine
    entries = topic_entries(config, layers(context.broker.state.current, engine.node_id), engine.settings.topic)
    return [
        {"name": one.name, "value": one.value, "config_source": one.source, "read_only": False, "is_sensitive": False}
        for one in entries
    ]


def _partitions(asked: Any, default: int, node_id: int) -> int:
    """How many partitions; what is said of replicas must fit one node."""
    if asked.assignments:
        if asked.num_partitions != -1:
            raise InvalidRequest("A manual partition assignment was specified, but numPartitions was not set to -1.")
        if asked.replication_factor != -1:
            raise InvalidRequest(
                "A manual partition assignment was specified, but replication factor was not set to -1."
            )
        indexes = sorted(one.partition_index for one in asked.assignments)
        if indexes != list(range(len(indexes))):
            raise InvalidReplicaAssignment("partitions should be a consecutive 0-based integer sequence")
        check_replicas([one.broker_ids for one in asked.assignments], node_id)
        return len(indexes)
    if asked.replication_factor not in (-1, 1):
        if asked.replication_factor < 1:
            raise InvalidReplicationFactor("Replication factor must be larger than 0, or -1 to use the default value.")
        raise InvalidReplicationFactor(
            f"Unable to replicate the partition {asked.replication_factor} time(s): The target replication factor of "
            f"{asked.replication_factor} cannot be reached because only 1 broker(s) are registered."
        )
    if asked.num_partitions == -1:
        return default
    if asked.num_partitions < 1:
        raise InvalidPartitions("Number of partitions was set to an invalid non-positive value.")
    return int(asked.num_partitions)


def check_replicas(assignments: Sequence[Sequence[int]], node_id: int) -> None:
    """Every partition lies on this node, and on no other."""
    if any(list(replicas) != [node_id] for replicas in assignments):
        raise InvalidReplicaAssignment(f"The only broker of this cluster is {node_id}.")


@handles(ApiKey.CREATE_PARTITIONS, range(4))
async def create_partitions(request: Any, context: Context) -> Answer:
    times = Counter(topic.name for topic in request.topics)
    answers = []
    for asked in {topic.name: topic for topic in request.topics}.values():
        answer: dict[str, Any] = {"name": asked.name, "error_message": None}
        try:
            if times[asked.name] > 1:
                raise InvalidRequest("Duplicate topic in request.")
            await _grow(asked, context, validate_only=request.validate_only)
        except LogError as error:
            answer |= {"error_code": error.kafka_code, "error_message": error.detail}
        answers.append(answer)
    return {"results": answers}


async def _grow(asked: Any, context: Context, *, validate_only: bool) -> None:
    engine = context.broker.engine
    if not context.allows(Operation.ALTER, Resource.TOPIC, asked.name):
        raise NotAuthorized("Authorization failed.")
    topic = engine.topics.get(asked.name)
    if topic is None:
        raise UnknownPartition(f"There is no topic {asked.name!r}.")
    now = len(topic.partitions)
    if asked.count == now:
        raise InvalidPartitions(f"Topic already has {now} partition(s).")
    if asked.count < now:
        raise InvalidPartitions(
            f"The topic {asked.name} currently has {now} partition(s); {asked.count} would not be an increase."
        )
    if asked.assignments is not None:
        if len(asked.assignments) != asked.count - now:
            raise InvalidReplicaAssignment(
                f"Attempted to add {asked.count - now} additional partition(s), but only {len(asked.assignments)} "
                "assignment(s) were specified."
            )
        check_replicas([one.broker_ids for one in asked.assignments], engine.node_id)
    charge(context, asked.count - now)
    if validate_only:
        check_partitions(engine, asked.count - now)
    else:
        await engine.add_partitions(asked.name, asked.count)


@handles(ApiKey.DELETE_TOPICS, range(1, 7))
async def delete_topics(request: Any, context: Context) -> Answer:
    asked = request.topics if context.api_version >= 6 else request.topic_names
    answers = []
    for one in asked:
        name, topic_id = (one, None) if isinstance(one, str) else (one.name, one.topic_id)
        answer: dict[str, Any] = {"name": name, "topic_id": topic_id, "error_message": None}
        try:
            topic = _named(name, topic_id, context)
            answer |= {"name": topic.name, "topic_id": topic.id}
            if not context.allows(Operation.DELETE, Resource.TOPIC, topic.name):
                raise NotAuthorized("Topic authorization failed.")
            charge(context, len(topic.partitions))
            await context.broker.engine.delete_topic(topic.name)
        except LogError as error:
            answer |= {"error_code": error.kafka_code, "error_message": error.detail}
        answers.append(answer)
    return {"responses": answers}


def _named(name: str | None, topic_id: Any, context: Context) -> "Topic":
    engine = context.broker.engine
    if name is not None and topic_id is not None:
        raise InvalidRequest("You may not specify both topic name and topic id.")
    if name is None:
        topic = engine.topic_by_id(topic_id) if topic_id is not None else None
        if topic is None or not context.allows(Operation.DESCRIBE, Resource.TOPIC, topic.name):
            raise UnknownTopicId("This server does not host this topic ID.")
        return topic
    topic = engine.topics.get(name)
    if topic is None:
        if not context.allows(Operation.DELETE, Resource.TOPIC, name):
            raise NotAuthorized("Topic authorization failed.")
        raise UnknownPartition("This server does not host this topic-partition.")
    return topic
