"""Settings that are not a topic's: the broker's own, a group's, and those of a subscription to clients' metrics.

A broker has a hundred more in Kafka; those here are what clients and tools look at, and what this broker does something with.
"""

from collections.abc import Mapping

from mainspring.storage.log.errors import InvalidConfig

Known = Mapping[str, tuple[str, str, str]]
"""A name to its default, its type and what it means."""

BROKER_CONFIGS: Known = {
    "auto.create.topics.enable": ("true", "BOOLEAN", "Whether naming a topic makes it"),
    "broker.id": ("1", "INT", "The id of this node"),
    "compression.type": ("producer", "STRING", "Codec of stored batches, or producer"),
    "connections.max.idle.ms": ("600000", "LONG", "When a silent connection is closed"),
    "default.replication.factor": ("1", "INT", "Replicas of a topic that does not say"),
    "delete.topic.enable": ("true", "BOOLEAN", "Whether topics may be deleted"),
    "group.coordinator.rebalance.protocols": ("classic,consumer,share", "LIST", "Group protocols that are spoken"),
    "group.initial.rebalance.delay.ms": ("0", "INT", "How long a new group waits for more members"),
    "log.cleaner.threads": ("1", "INT", "Threads that compact"),
    "log.cleanup.policy": ("delete", "LIST", "What becomes of old records"),
    "log.message.timestamp.type": ("CreateTime", "STRING", "Whose clock gives a record its time"),
    "log.retention.bytes": ("-1", "LONG", "Bytes kept per partition; -1 for all"),
    "log.retention.ms": ("604800000", "LONG", "How long records are kept; -1 for ever"),
    "log.segment.bytes": ("67108864", "INT", "Size of a segment"),
    "max.connections": ("2147483647", "INT", "Connections in all"),
    "max.connections.per.ip": ("2147483647", "INT", "Connections of one address"),
    "max.incremental.fetch.session.cache.slots": ("1000", "INT", "Fetch sessions that are kept"),
    "message.max.bytes": ("1048588", "INT", "Largest batch that is accepted"),
    "min.insync.replicas": ("1", "INT", "Replicas that must have a record before it counts"),
    "node.id": ("1", "INT", "The id of this node"),
    "num.partitions": ("1", "INT", "Partitions of a topic that does not say"),
    "offsets.retention.minutes": ("10080", "INT", "How long positions of an empty group are kept"),
    "socket.request.max.bytes": ("104857600", "INT", "Largest request"),
    "transaction.max.timeout.ms": ("900000", "INT", "Longest time that a transaction may ask for"),
    "transactional.id.expiration.ms": ("604800000", "INT", "When a silent transactional id is forgotten"),
}
GROUP_CONFIGS: Known = {
    "consumer.heartbeat.interval.ms": ("5000", "INT", "How often a member says that it lives"),
    "consumer.session.timeout.ms": ("45000", "INT", "When a silent member is put out"),
    "share.auto.offset.reset": ("latest", "STRING", "Where a share group begins"),
    "share.heartbeat.interval.ms": ("5000", "INT", "How often a member says that it lives"),
    "share.isolation.level": ("read_uncommitted", "STRING", "Whether a share group sees open transactions"),
    "share.record.lock.duration.ms": ("30000", "INT", "How long a delivered record is one member's"),
    "share.session.timeout.ms": ("45000", "INT", "When a silent member is put out"),
}
CLIENT_METRICS_CONFIGS: Known = {
    "interval.ms": ("300000", "INT", "How often clients push"),
    "match": ("", "LIST", "Which clients: name=regular expression"),
    "metrics": ("", "LIST", "Prefixes of metrics' names; empty for all"),
}


def checked(known: Known, changes: Mapping[str, str | None]) -> None:
    """Raises `InvalidConfig` for a name nobody knows, or a value of the wrong type."""
    for name, value in changes.items():
        if name not in known:
            raise InvalidConfig(f"Unknown setting: {name}", setting=name)
        if value is None:
            continue
        kind = known[name][1]
        if kind in ("INT", "LONG"):
            try:
                int(value)
            except ValueError:
                raise InvalidConfig(
                    f"Invalid value {value} for configuration {name}: Not a number of type {kind}", setting=name
                ) from None
        elif kind == "BOOLEAN" and value.lower() not in ("true", "false"):
            raise InvalidConfig(
                f"Invalid value {value} for configuration {name}: Expected value to be either true or false",
                setting=name,
            )
