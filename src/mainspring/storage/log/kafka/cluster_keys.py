"""The cluster as its tools see it: one node that leads everything. Replication is not here yet, and what concerns it says so in
the protocol's own words: there is nothing to reassign, no better leader to elect."""

from collections.abc import Iterable
from typing import Any

from mainspring.storage.log.errors import LogError, UnknownPartition
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, Operation, Resource
from mainspring.storage.log.kafka.metadata_keys import advertised, operations
from mainspring.storage.log.kafka.refusals import ClusterNotAuthorized, InvalidReplicaAssignment
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles
from mainspring.storage.log.kafka.version_keys import SUPPORTED, levels

INVALID_REQUEST, ELECTION_NOT_NEEDED, NO_REASSIGNMENT_IN_PROGRESS, FEATURE_UPDATE_FAILED = 42, 84, 85, 96
UNSUPPORTED_ENDPOINT, MISMATCHED_ENDPOINT, INVALID_UPDATE_VERSION = 115, 114, 95
BROKERS_ENDPOINT, CONTROLLERS_ENDPOINT = 1, 2
METADATA_TOPIC = "__cluster_metadata"
UPGRADE, SAFE_DOWNGRADE, UNSAFE_DOWNGRADE = 1, 2, 3


@handles(ApiKey.DESCRIBE_CLUSTER, range(3))
def describe_cluster(request: Any, context: Context) -> Answer:
    engine = context.broker.engine
    kind = given(request, "endpoint_type", BROKERS_ENDPOINT)
    if kind != BROKERS_ENDPOINT:
        code = MISMATCHED_ENDPOINT if kind == CONTROLLERS_ENDPOINT else UNSUPPORTED_ENDPOINT
        return {"error_code": code, "error_message": "The request was sent to an endpoint of the wrong type."}
    host, port = advertised(context)
    rack = context.broker.settings.rack or None
    answer: dict[str, Any] = {
        "cluster_id": engine.cluster_id,
        "controller_id": engine.node_id,
        "brokers": [{"broker_id": engine.node_id, "host": host, "port": port, "rack": rack}],
    }
    if request.include_cluster_authorized_operations:
        answer["cluster_authorized_operations"] = operations(context, Resource.CLUSTER, CLUSTER_NAME)
    return answer


@handles(ApiKey.DESCRIBE_QUORUM, range(3))
def describe_quorum(request: Any, context: Context) -> Answer:
    """The quorum of one voter, which is this node."""
    if not context.allows(Operation.DESCRIBE, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code}
    engine, now_ms = context.broker.engine, context.broker.clock.wall_ns() // 1_000_000
    host, port = advertised(context)
    voter = {
        "replica_id": engine.node_id,
        "log_end_offset": 0,
        "last_fetch_timestamp": now_ms,
        "last_caught_up_timestamp": now_ms,
    }
    topics = []
    for topic in request.topics:
        partitions: list[dict[str, Any]] = []
        for one in topic.partitions:
            if topic.topic_name != METADATA_TOPIC or one.partition_index != 0:
                partitions.append({"partition_index": one.partition_index, "error_code": UnknownPartition.kafka_code})
                continue
            partitions.append(
                {
                    "partition_index": 0,
                    "leader_id": engine.node_id,
                    "leader_epoch": 1,
                    "high_watermark": 0,
                    "current_voters": [voter],
                    "observers": (),
                }
            )
        topics.append({"topic_name": topic.topic_name, "partitions": partitions})
    listener = {"name": "CONTROLLER", "host": host, "port": port}
    return {"topics": topics, "nodes": [{"node_id": engine.node_id, "listeners": [listener]}], "error_message": ""}


@handles(ApiKey.UPDATE_FEATURES, range(3))
async def update_features(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.ALTER, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code, "error_message": "Cluster authorization failed."}
    now = levels(context.broker.state.current.features)
    results = []
    failure: tuple[int, str] | None = None
    for update in request.feature_updates:
        failed = _refused(update, now)
        failure = failure or failed
        code, message = failed or (0, None)
        results.append({"feature": update.feature, "error_code": code, "error_message": message})
    if failure is None and not given(request, "validate_only", False):
        changes = {update.feature: update.max_version_level for update in request.feature_updates}
        await context.broker.state.change(lambda state: state.features.update(changes))
    if context.api_version >= 2:
        code, message = failure or (0, None)
        return {"error_code": code, "error_message": message}
    return {"error_code": 0, "error_message": None, "results": results}


def _refused(update: Any, now: dict[str, int]) -> tuple[int, str] | None:
    supported, level = SUPPORTED.get(update.feature), update.max_version_level
    if supported is None:
        return (
            INVALID_UPDATE_VERSION,
            f"Invalid update version {level} for feature {update.feature}. No broker supports it.",
        )
    low, high = supported
    if not low <= level <= high:
        return (
            INVALID_UPDATE_VERSION,
            f"Invalid update version {level} for feature {update.feature}. Local controller 1 only supports versions "
            f"{low}-{high}",
        )
    downgrades = given(update, "upgrade_type", UNSAFE_DOWNGRADE if given(update, "allow_downgrade", False) else UPGRADE)
    if level < now.get(update.feature, 0) and downgrades == UPGRADE:
        return (
            INVALID_UPDATE_VERSION,
            f"Invalid update version {level} for feature {update.feature}. Can't downgrade the version of this feature "
            "without setting the upgrade type to either safe or unsafe downgrade.",
        )
    return None


@handles(ApiKey.ELECT_LEADERS, range(3))
def elect_leaders(request: Any, context: Context) -> Answer:
    """Every partition is led by its only replica."""
    if not context.allows(Operation.ALTER, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code}
    if request.topic_partitions is None:
        return {"replica_election_results": ()}
    results = []
    for topic in request.topic_partitions:
        indexes = topic.partitions
        results.append({"topic": topic.topic, "partition_result": _elections(topic.topic, indexes, context)})
    return {"replica_election_results": results}


def _elections(topic: str, indexes: Iterable[int], context: Context) -> list[dict[str, Any]]:
    results = []
    for index in indexes:
        try:
            context.broker.engine.partition(topic, index)
            code, message = ELECTION_NOT_NEEDED, "Leader election not needed for topic partition."
        except LogError as error:
            code, message = error.kafka_code, "No such topic or partition."
        results.append({"partition_id": index, "error_code": code, "error_message": message})
    return results


@handles(ApiKey.ALTER_PARTITION_REASSIGNMENTS, range(2))
def alter_partition_reassignments(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.ALTER, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code, "error_message": "Cluster authorization failed."}
    responses = []
    for topic in request.topics:
        partitions = []
        for one in topic.partitions:
            code, message = _reassigned(topic.name, one, context)
            partitions.append({"partition_index": one.partition_index, "error_code": code, "error_message": message})
        responses.append({"name": topic.name, "partitions": partitions})
    return {"error_message": None, "responses": responses}


def _reassigned(topic: str, one: Any, context: Context) -> tuple[int, str | None]:
    engine = context.broker.engine
    try:
        engine.partition(topic, one.partition_index)
    except LogError as error:
        return error.kafka_code, f"Unable to find a topic named {topic}."
    if one.replicas is None:
        return NO_REASSIGNMENT_IN_PROGRESS, "No partition reassignment is in progress."
    if list(one.replicas) == [engine.node_id]:
        return 0, None
    return InvalidReplicaAssignment.kafka_code, f"The only broker of this cluster is {engine.node_id}."


@handles(ApiKey.LIST_PARTITION_REASSIGNMENTS, range(1))
def list_partition_reassignments(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.DESCRIBE, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code, "error_message": "Cluster authorization failed."}
    return {"error_message": None, "topics": ()}
