"""What every coordinator refuses, of groups and of transactions, each under the name and number that Kafka gives it."""

from mainspring.storage.log.errors import LogError


class CoordinatorError(LogError):
    status, type, title = 409, "log/coordinator", "The coordinator refuses this"


class CoordinatorLoading(CoordinatorError):
    status, type, title = 503, "log/coordinator-loading", "The coordinator reads its log again; try again"
    kafka_code = 14


class CoordinatorNotAvailable(CoordinatorError):
    status, type, title = 503, "log/coordinator-not-available", "The coordinator could not write; try again"
    kafka_code = 15


class InvalidRequest(CoordinatorError):
    status, type, title = 422, "log/invalid-request", "The request contradicts itself"
    kafka_code = 42
