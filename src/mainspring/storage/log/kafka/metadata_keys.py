"""What a client asks first: Metadata and DescribeTopicPartitions. One node leads everything, so the answer is from memory."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mainspring.core.listeners import is_loopback
from mainspring.storage.log.errors import InvalidTopic, LogError, TopicExists
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, OPERATIONS_OF, Operation, Resource
from mainspring.storage.log.kafka.dry_run import check_topic_name
from mainspring.storage.log.kafka.refusals import NotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles

if TYPE_CHECKING:
    from mainspring.storage.log.topics import Topic

UNKNOWN_TOPIC, TOPIC_AUTHORIZATION_FAILED, UNKNOWN_TOPIC_ID = 3, 29, 100
NOT_ASKED = -(2**31)
PARTITIONS_PER_ANSWER_MAX = 2_000


def advertised(context: Context) -> tuple[str, int]:
    """Host and port at which this client reaches us: what the operator said, else where it came to."""
    settings, session = context.broker.settings, context.session
    return settings.advertised_host or session.local_host, settings.advertised_port or session.local_port


def operations(context: Context, resource: Resource, name: str) -> int:
    """The operations that the client may do, as bits."""
    return sum(1 << one for one in OPERATIONS_OF[resource] if context.allows(one, resource, name))


def auto_creates(context: Context) -> bool:
    setting = context.broker.settings.auto_create_topics
    return is_loopback(context.address) if setting is None else setting


@handles(ApiKey.METADATA, range(14))
async def metadata(request: Any, context: Context) -> Answer:
    broker = context.broker
    host, port = advertised(context)
    if request.topics is None or (context.api_version == 0 and not request.topics):
        topics = [
            _described(topic, request, context)
            for topic in list(broker.engine.topics.values())
            if context.allows(Operation.DESCRIBE, Resource.TOPIC, topic.name)
        ]
    else:
        topics = [await _asked(one, request, context) for one in request.topics]
    answer = {
        "brokers": [
            {"node_id": broker.engine.node_id, "host": host, "port": port, "rack": broker.settings.rack or None}
        ],
        "cluster_id": broker.engine.cluster_id,
        "controller_id": broker.engine.node_id,
        "topics": topics,
    }
    if given(request, "include_cluster_authorized_operations"):
        answer["cluster_authorized_operations"] = operations(context, Resource.CLUSTER, CLUSTER_NAME)
    return answer


async def _asked(one: Any, request: Any, context: Context) -> dict[str, Any]:
    engine = context.broker.engine
    topic_id: UUID | None = given(one, "topic_id")
    if one.name is None:
        topic = engine.topic_by_id(topic_id) if topic_id else None
        if topic is None:
            return {"error_code": UNKNOWN_TOPIC_ID, "name": None, "topic_id": topic_id}
        if not context.allows(Operation.DESCRIBE, Resource.TOPIC, topic.name):
            return {"error_code": TOPIC_AUTHORIZATION_FAILED, "name": None, "topic_id": topic_id}
        return _described(topic, request, context)
    if not context.allows(Operation.DESCRIBE, Resource.TOPIC, one.name):
        return {"error_code": TOPIC_AUTHORIZATION_FAILED, "name": one.name}
    topic = engine.topics.get(one.name)
    if topic is None:
        if not (given(request, "allow_auto_topic_creation", True) and auto_creates(context)):
            return {"error_code": _absence(one.name), "name": one.name}
        try:
            topic = await create(one.name, context)
        except LogError as error:
            return {"error_code": error.kafka_code, "name": one.name}
    return _described(topic, request, context)


def _absence(name: str) -> int:
    try:
        check_topic_name(name)
    except InvalidTopic as error:
        return error.kafka_code
    return UNKNOWN_TOPIC


async def create(name: str, context: Context) -> "Topic":
    """Makes a topic that was only named, where the client may."""
    broker = context.broker
    cluster = context.allows(Operation.CREATE, Resource.CLUSTER, CLUSTER_NAME)
    if not cluster and not context.allows(Operation.CREATE, Resource.TOPIC, name):
        raise NotAuthorized
    try:
        return await broker.engine.create_topic(name, broker.settings.num_partitions)
    except TopicExists:
        return broker.engine.topics[name]


def _described(topic: "Topic", request: Any, context: Context) -> dict[str, Any]:
    node = [context.broker.engine.node_id]
    described = {
        "error_code": 0,
        "name": topic.name,
        "topic_id": topic.id,
        "is_internal": topic.internal,
        "partitions": [
            {
                "error_code": 0,
                "partition_index": partition.index,
                "leader_id": node[0],
                "leader_epoch": partition.leader_epoch,
                "replica_nodes": node,
                "isr_nodes": node,
                "offline_replicas": (),
            }
            for partition in topic.partitions
        ],
    }
    if given(request, "include_topic_authorized_operations"):
        described["topic_authorized_operations"] = operations(context, Resource.TOPIC, topic.name)
    return described


@handles(ApiKey.DESCRIBE_TOPIC_PARTITIONS, range(1))
def describe_topic_partitions(request: Any, context: Context) -> Answer:
    """Topics in the order of their names, from the cursor on, until the limit of partitions is reached."""
    engine = context.broker.engine
    names: Iterable[str] = [one.name for one in request.topics] or engine.topics
    cursor = request.cursor
    if cursor is not None and cursor.partition_index < 0:
        return {"topics": (), "next_cursor": None}
    room = min(max(request.response_partition_limit, 1), PARTITIONS_PER_ANSWER_MAX)
    topics: list[dict[str, Any]] = []
    next_cursor = None
    for name in sorted(set(names)):
        if cursor is not None and name < cursor.topic_name:
            continue
        first = cursor.partition_index if cursor is not None and name == cursor.topic_name else 0
        if room <= 0:
            next_cursor = {"topic_name": name, "partition_index": first}
            break
        topic = engine.topics.get(name)
        if not context.allows(Operation.DESCRIBE, Resource.TOPIC, name):
            if request.topics:
                topics.append({"error_code": TOPIC_AUTHORIZATION_FAILED, "name": name})
            continue
        if topic is None:
            topics.append({"error_code": _absence(name), "name": name})
            continue
        shown = topic.partitions[first : first + room]
        room -= len(shown)
        topics.append(_detailed(topic, shown, context))
        if first + len(shown) < len(topic.partitions):
            next_cursor = {"topic_name": name, "partition_index": first + len(shown)}
            break
    return {"topics": topics, "next_cursor": next_cursor}


def _detailed(topic: "Topic", partitions: Iterable[Any], context: Context) -> dict[str, Any]:
    node = [context.broker.engine.node_id]
    return {
        "error_code": 0,
        "name": topic.name,
        "topic_id": topic.id,
        "is_internal": topic.internal,
        "partitions": [
            {
                "error_code": 0,
                "partition_index": partition.index,
                "leader_id": node[0],
                "leader_epoch": partition.leader_epoch,
                "replica_nodes": node,
                "isr_nodes": node,
                "eligible_leader_replicas": (),
                "last_known_elr": (),
                "offline_replicas": (),
            }
            for partition in partitions
        ],
        "topic_authorized_operations": operations(context, Resource.TOPIC, topic.name),
    }
