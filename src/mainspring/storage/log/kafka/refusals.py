"""What a client is refused by the door itself, beside the errors of the log and its coordinators."""

from typing import Any

from mainspring.storage.log.errors import LogError


class Disconnect(Exception):
    """There is no answer that the client could read: as in Kafka the connection is closed. The text is for our log."""


class NotAuthorized(LogError):
    """Of a topic; other resources have codes of their own."""

    kafka_code = 29
    status, type, title = 403, "log/not-authorized", "These credentials do not allow this"


class GroupNotAuthorized(NotAuthorized):
    kafka_code = 30


class ClusterNotAuthorized(NotAuthorized):
    kafka_code = 31


class TransactionalIdNotAuthorized(NotAuthorized):
    kafka_code = 53


class InvalidReplicationFactor(LogError):
    kafka_code = 38
    status, type, title = 422, "log/invalid-replication-factor", "There are not so many nodes"


class InvalidReplicaAssignment(LogError):
    kafka_code = 39
    status, type, title = 422, "log/invalid-replica-assignment", "This assignment of replicas is not possible"


class PolicyViolation(LogError):
    kafka_code = 44
    status, type, title = 422, "log/policy-violation", "The topic's policy does not allow this"


class UnknownTopicId(LogError):
    kafka_code = 100
    status, type, title = 404, "log/unknown-topic-id", "There is no topic of this id"


def failure_code(error: BaseException) -> int | None:
    """The protocol's code of an error of the engine or a coordinator, None where it is a fault of ours."""
    code: Any = getattr(error, "kafka_code", None)
    return code if isinstance(code, int) else None
