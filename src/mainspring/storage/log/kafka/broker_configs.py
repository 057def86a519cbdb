"""Settings that are not a topic's: the broker's own, and those of a subscription to clients' metrics.

A broker has two hundred more in Kafka; those here are what clients and tools look at, and what this one does something with.
Some may be changed while it runs, and then act at once (`dynamic_configs`); of the others Kafka says that they cannot be
updated dynamically, and so does this one. What the operator said at the start is shown as such.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.errors import InvalidConfig
from mainspring.storage.log.kafka.config_entries import SETTABLE_NAMES
from mainspring.storage.log.settings import SETTINGS

if TYPE_CHECKING:
    from mainspring.storage.log.kafka.broker import Broker

Known = Mapping[str, tuple[str, str, str]]
"""A name to its default, its type and what it means."""

TOPIC_DEFAULTS = {
    SETTABLE_NAMES[name]: name
    for name in (
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "delete.retention.ms",
        "file.delete.delay.ms",
        "index.interval.bytes",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.ms",
    )
}
"""What holds for topics without a setting of their own and may be changed at any time, to what a topic calls it."""

CONNECTIONS, CONNECTIONS_PER_IP = "max.connections", "max.connections.per.ip"
SEGMENT_BYTES_MIN = 1 << 20
_INT_MAX = 2_147_483_647

_OF_GROUPS = {
    "group.consumer.heartbeat.interval.ms": ("consumer_heartbeat_interval_ms", "How often a member says that it lives"),
    "group.consumer.max.heartbeat.interval.ms": (
        "consumer_heartbeat_interval_ms_max",
        "What a group may have of its own",
    ),
    "group.consumer.max.session.timeout.ms": ("consumer_session_timeout_ms_max", "What a group may have of its own"),
    "group.consumer.max.size": ("consumer_members_max", "Members of a group"),
    "group.consumer.min.heartbeat.interval.ms": (
        "consumer_heartbeat_interval_ms_min",
        "What a group may have of its own",
    ),
    "group.consumer.min.session.timeout.ms": ("consumer_session_timeout_ms_min", "What a group may have of its own"),
    "group.consumer.session.timeout.ms": ("consumer_session_timeout_ms", "When a silent member is put out"),
    "group.initial.rebalance.delay.ms": ("initial_rebalance_delay_ms", "How long a new group waits for more members"),
    "group.max.session.timeout.ms": ("session_timeout_ms_max", "Longest session of a classic member"),
    "group.max.size": ("group_members_max", "Members of a classic group"),
    "group.min.session.timeout.ms": ("session_timeout_ms_min", "Shortest session of a classic member"),
    "group.share.delivery.count.limit": ("share_deliveries_max", "How often a record is given out"),
    "group.share.heartbeat.interval.ms": ("share_heartbeat_interval_ms", "How often a member says that it lives"),
    "group.share.max.heartbeat.interval.ms": ("share_heartbeat_interval_ms_max", "What a group may have of its own"),
    "group.share.max.record.lock.duration.ms": ("share_record_lock_ms_max", "What a group may have of its own"),
    "group.share.max.session.timeout.ms": ("share_session_timeout_ms_max", "What a group may have of its own"),
    "group.share.max.share.sessions": ("share_sessions_max", "Share sessions of this node"),
    "group.share.max.size": ("share_members_max", "Members of a share group"),
    "group.share.min.heartbeat.interval.ms": ("share_heartbeat_interval_ms_min", "What a group may have of its own"),
    "group.share.min.record.lock.duration.ms": ("share_record_lock_ms_min", "What a group may have of its own"),
    "group.share.min.session.timeout.ms": ("share_session_timeout_ms_min", "What a group may have of its own"),
    "group.share.partition.max.record.locks": ("share_in_flight_max", "Records of a partition that may be in flight"),
    "group.share.record.lock.duration.ms": ("share_record_lock_ms", "How long a delivered record is one member's"),
    "group.share.session.timeout.ms": ("share_session_timeout_ms", "When a silent member is put out"),
    "offset.metadata.max.bytes": ("offset_metadata_bytes_max", "Bytes that a position may carry"),
}


def _known_of_groups() -> dict[str, tuple[str, str, str]]:
    from mainspring.storage.log.groups.settings import GroupSettings

    usual = GroupSettings()
    return {name: (str(getattr(usual, field)), "INT", help) for name, (field, help) in _OF_GROUPS.items()}


BROKER_CONFIGS: Known = {
    "auto.create.topics.enable": ("true", "BOOLEAN", "Whether naming a topic makes it"),
    "broker.id": ("1", "INT", "The id of this node"),
    "connections.max.idle.ms": ("600000", "LONG", "When a silent connection is closed"),
    "default.replication.factor": ("1", "INT", "Replicas of a topic that does not say"),
    "delete.topic.enable": ("true", "BOOLEAN", "Whether topics may be deleted"),
    "group.coordinator.rebalance.protocols": ("classic,consumer,share", "LIST", "Group protocols that are spoken"),
    "log.cleaner.threads": ("1", "INT", "Threads that compact"),
    "log.cleanup.policy": ("delete", "LIST", "What becomes of old records"),
    CONNECTIONS: (str(_INT_MAX), "INT", "Connections in all"),
    CONNECTIONS_PER_IP: (str(_INT_MAX), "INT", "Connections of one address"),
    "max.incremental.fetch.session.cache.slots": ("1000", "INT", "Fetch sessions that are kept"),
    "min.insync.replicas": ("1", "INT", "Replicas that must have a record before it counts"),
    "node.id": ("1", "INT", "The id of this node"),
    "num.partitions": ("1", "INT", "Partitions of a topic that does not say"),
    "offsets.retention.minutes": ("10080", "INT", "How long positions of an empty group are kept"),
    "socket.request.max.bytes": ("104857600", "INT", "Largest request"),
    "transaction.max.timeout.ms": ("900000", "INT", "Longest time that a transaction may ask for"),
    "transactional.id.expiration.ms": ("604800000", "INT", "When a silent transactional id is forgotten"),
    **_known_of_groups(),
    **{
        broker_name: (SETTINGS[name].default, SETTINGS[name].kind, SETTINGS[name].help)
        for broker_name, name in TOPIC_DEFAULTS.items()
    },
}
CLIENT_METRICS_CONFIGS: Known = {
    "interval.ms": ("300000", "INT", "How often clients push"),
    "match": ("", "LIST", "Which clients: name=regular expression"),
    "metrics": ("", "LIST", "Prefixes of metrics' names; empty for all"),
}


def is_dynamic(name: str) -> bool:
    """Whether it may be changed while the node runs."""
    return name in TOPIC_DEFAULTS or name in (CONNECTIONS, CONNECTIONS_PER_IP)


def check_broker(changes: Mapping[str, str | None]) -> None:
    """Raises `InvalidConfig` for what nobody knows, and `InvalidRequest` for what cannot be changed, or not to this."""
    for name in changes:
        if name not in BROKER_CONFIGS:
            raise InvalidConfig(f"Unknown broker config name: {name}", setting=name)
    fixed = [name for name in changes if not is_dynamic(name)]
    if fixed:
        raise InvalidRequest(f"Cannot update these configs dynamically: Set({', '.join(fixed)})")
    for name, value in changes.items():
        if value is not None:
            _check(name, value, _parser(name), InvalidRequest)


def check_client_metrics(changes: Mapping[str, str | None]) -> None:
    """Raises `InvalidConfig`."""
    for name, value in changes.items():
        if name not in CLIENT_METRICS_CONFIGS:
            raise InvalidConfig(f"Unknown client metrics configuration {name}", setting=name)
        if value is not None and name == "interval.ms":
            _check(name, value, int, InvalidConfig)


def at_start(broker: "Broker") -> dict[str, str]:
    """What this node was started with, where it is not as Kafka's default is."""
    settings = broker.settings
    said: dict[str, Any] = {
        "connections.max.idle.ms": settings.connections_max_idle_ms,
        CONNECTIONS: settings.connections_max,
        CONNECTIONS_PER_IP: settings.connections_max_per_ip,
        "max.incremental.fetch.session.cache.slots": settings.fetch_sessions_max,
        "socket.request.max.bytes": settings.socket_request_bytes_max,
    }
    own = broker.engine.settings.topic
    said |= {SETTABLE_NAMES[name]: text for name, text in own.items() if name in SETTABLE_NAMES}
    if settings.auto_create_topics is not None:
        said["auto.create.topics.enable"] = str(settings.auto_create_topics).lower()
    if broker.groups is not None:
        said |= {name: getattr(broker.groups.settings, field) for name, (field, _) in _OF_GROUPS.items()}
        said["offsets.retention.minutes"] = broker.groups.settings.offsets_retention_ms // 60_000
    if broker.transactions is not None:
        said["transaction.max.timeout.ms"] = broker.transactions.settings.transaction_timeout_ms_max
        said["transactional.id.expiration.ms"] = broker.transactions.settings.transactional_id_expiration_ms
    node_id = str(broker.engine.node_id)
    always = {"node.id": node_id, "broker.id": node_id, "num.partitions": str(settings.num_partitions)}
    return always | {
        name: str(value)
        for name, value in said.items()
        if name in BROKER_CONFIGS and str(value) != BROKER_CONFIGS[name][0]
    }


def _parser(name: str) -> Callable[[str], Any]:
    topic_name = TOPIC_DEFAULTS.get(name)
    if topic_name is None:
        return lambda text: _at_least(int(text), 0)
    if topic_name == "segment.bytes":
        return lambda text: _at_least(int(text), SEGMENT_BYTES_MIN)
    return SETTINGS[topic_name].parse


def _at_least(number: int, lowest: int) -> int:
    if not lowest <= number <= _INT_MAX:
        raise ValueError(f"Value must be at least {lowest}")
    return number


def _check(
    name: str, value: str, parse: Callable[[str], Any], refusal: type[InvalidConfig] | type[InvalidRequest]
) -> None:
    kind = BROKER_CONFIGS[name][1] if name in BROKER_CONFIGS else CLIENT_METRICS_CONFIGS[name][1]
    try:
        if kind in ("INT", "LONG") and not value.strip().removeprefix("-").isdecimal():
            raise ValueError(f"Not a number of type {kind}")
        parse(value)
    except ValueError as error:
        raise refusal(f"Invalid value {value} for configuration {name}: {error}") from None
