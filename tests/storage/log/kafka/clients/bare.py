"""What a tool that speaks the bare protocol sees of the administrative keys that no client library has a face for."""

import time
from typing import Any

from mainspring.storage.log.kafka.registry import ApiKey
from tests.storage.log.kafka.topics import BATCH, make_topic, produce
from tests.storage.log.kafka.wire import Wire

Seen = list[tuple[str, Any]]


def run(address: str, name: str) -> Seen:
    with Wire(int(address.rpartition(":")[2])) as wire:
        make_topic(wire, name, 2)
        for _ in range(3):
            _produced(wire, name)
        seen = [*_cluster(wire), *_partitions(wire, name), *_directories(wire, name)]
        return [*seen, *_settings(wire, name), *_quotas(wire, name)]


def _produced(wire: Wire, name: str) -> None:
    """A topic that was just made may have no leader yet."""
    for _ in range(600):
        if not produce(wire, BATCH, name):
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} took no records")


def _cluster(wire: Wire) -> Seen:
    cluster = wire.call(ApiKey.DESCRIBE_CLUSTER, 2, include_cluster_authorized_operations=True, endpoint_type=1)
    wrong = wire.call(ApiKey.DESCRIBE_CLUSTER, 1, endpoint_type=2)
    asked = [{"topic_name": "__cluster_metadata", "partitions": [{"partition_index": 0}]}]
    quorum = wire.call(ApiKey.DESCRIBE_QUORUM, 2, topics=asked)
    update = {"feature": "no.such", "max_version_level": 1, "upgrade_type": 1}
    return [
        ("cluster", (cluster.error_code, len(cluster.cluster_id), [one.broker_id for one in cluster.brokers])),
        ("wrong endpoint", wrong.error_code),
        ("quorum", [(one.leader_id, len(one.current_voters)) for topic in quorum.topics for one in topic.partitions]),
        ("feature", wire.call(ApiKey.UPDATE_FEATURES, 2, feature_updates=[update]).error_code),
    ]


def _partitions(wire: Wire, name: str) -> Seen:
    offsets = []
    for version in range(1, 12):
        for timestamp in (-1, -2, -3, -4, -5, 0, 2**62):
            asked = [{"name": name, "partitions": [{"partition_index": 0, "timestamp": timestamp}]}]
            (one,) = (
                wire.call(ApiKey.LIST_OFFSETS, version, replica_id=-1, topics=asked, timeout_ms=1000)
                .topics[0]
                .partitions
            )
            offsets.append((version, timestamp, int(one.error_code), one.offset))
    epochs = []
    for epoch in (-1, 0, 5):
        asked = [{"topic": name, "partitions": [{"partition": 0, "leader_epoch": epoch}]}]
        (end,) = wire.call(ApiKey.OFFSET_FOR_LEADER_EPOCH, 4, replica_id=-1, topics=asked).topics[0].partitions
        epochs.append((int(end.error_code), end.leader_epoch, end.end_offset))
    described = wire.call(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, topics=[{"name": name}], response_partition_limit=1)
    missing = wire.call(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, topics=[{"name": "no-such"}], response_partition_limit=5)
    elections = []
    for topic in (name, "no-such"):
        asked = [{"topic": topic, "partitions": [0]}]
        answer = wire.call(ApiKey.ELECT_LEADERS, 2, election_type=0, topic_partitions=asked, timeout_ms=1000)
        elections.append([int(one.error_code) for one in answer.replica_election_results[0].partition_result])
    moves = []
    for replicas in ([1], [7], None):
        asked = [{"name": name, "partitions": [{"partition_index": 0, "replicas": replicas}]}]
        answer = wire.call(ApiKey.ALTER_PARTITION_REASSIGNMENTS, 1, topics=asked, timeout_ms=1000)
        moves.append(int(answer.responses[0].partitions[0].error_code))
    going = wire.call(ApiKey.LIST_PARTITION_REASSIGNMENTS, 0, topics=None, timeout_ms=1000)
    return [
        ("offsets", offsets),
        ("epochs", epochs),
        ("described", [(one.name, len(one.partitions)) for one in described.topics]),
        ("cursor", (described.next_cursor.topic_name, described.next_cursor.partition_index)),
        ("missing", [int(one.error_code) for one in missing.topics]),
        ("elections", elections),
        ("moves", moves),
        ("going", (int(going.error_code), len(going.topics))),
    ]


def _directories(wire: Wire, name: str) -> Seen:
    asked = [{"topic": name, "partitions": [0, 1]}]
    described = wire.call(ApiKey.DESCRIBE_LOG_DIRS, 4, topics=asked)
    shown = [
        (topic.name, sorted((one.partition_index, one.offset_lag, one.partition_size > 0) for one in topic.partitions))
        for result in described.results
        for topic in result.topics
    ]
    there = [{"path": "/no/such/folder", "topics": [{"name": name, "partitions": [0]}]}]
    moved = wire.call(ApiKey.ALTER_REPLICA_LOG_DIRS, 2, dirs=there)
    return [("directories", shown), ("moved", int(moved.results[0].partitions[0].error_code))]


def _settings(wire: Wire, name: str) -> Seen:
    resources = [
        {"resource_type": 2, "resource_name": name, "configuration_keys": ["retention.ms", "cleanup.policy"]},
        {"resource_type": 2, "resource_name": "no-such", "configuration_keys": None},
        {"resource_type": 4, "resource_name": "7", "configuration_keys": None},
        {"resource_type": 77, "resource_name": "x", "configuration_keys": None},
    ]
    described = [
        [(int(one.error_code), sorted(entry.name for entry in one.configs)) for one in answer.results]
        for answer in [wire.call(ApiKey.DESCRIBE_CONFIGS, version, resources=resources[:3]) for version in (1, 2, 3, 4)]
    ]
    replaced = []
    for configs in ([{"name": "retention.ms", "value": "5000"}], [], [{"name": "retention.ms", "value": "soon"}]):
        asked = [{"resource_type": 2, "resource_name": name, "configs": configs}]
        answer = wire.call(ApiKey.ALTER_CONFIGS, 2, resources=asked, validate_only=False)
        replaced.append(int(answer.responses[0].error_code))
    return [("settings", described), ("replaced", replaced)]


def _quotas(wire: Wire, name: str) -> Seen:
    def alter(entity: list[tuple[str, str | None]], key: str, value: float, remove: bool = False) -> int:
        named = [{"entity_type": kind, "entity_name": one} for kind, one in entity]
        entry = {"entity": named, "ops": [{"key": key, "value": value, "remove": remove}]}
        return int(wire.call(ApiKey.ALTER_CLIENT_QUOTAS, 1, entries=[entry], validate_only=False).entries[0].error_code)

    user = [("user", f"{name}-user")]
    altered = [
        alter(user, "producer_byte_rate", 1e6),
        alter([*user, ("client-id", None)], "consumer_byte_rate", 2e6),
        alter(user, "no_such", 1),
        alter(user, "producer_byte_rate", -1),
        alter([*user, ("ip", "127.0.0.1")], "producer_byte_rate", 1),
        alter([("planet", "earth")], "producer_byte_rate", 1),
    ]
    component = {"entity_type": "user", "match_type": 0, "match": f"{name}-user"}
    found = wire.call(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, components=[component], strict=False)
    strict = wire.call(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, components=[component], strict=True)
    back = [
        alter(user, "producer_byte_rate", 0, True),
        alter([*user, ("client-id", None)], "consumer_byte_rate", 0, True),
    ]
    return [
        ("altered", altered),
        (
            "quotas",
            sorted((len(one.entity), [(value.key, value.value) for value in one.values]) for one in found.entries),
        ),
        ("strictly", [len(one.entity) for one in strict.entries]),
        ("back", back),
    ]
