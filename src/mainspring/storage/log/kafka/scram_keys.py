"""SCRAM credentials over the wire. A client sends the salted password, never the password itself."""

from collections import Counter
from typing import Any

from mainspring.storage.log.errors import LogError
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, Operation, Resource
from mainspring.storage.log.kafka.cluster_state import ClusterState
from mainspring.storage.log.kafka.refusals import ClusterNotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, handles
from mainspring.storage.log.kafka.scram import ITERATIONS_MAX, ITERATIONS_MIN, NUMBERS, credential

DENIED_MESSAGE = "Cluster authorization failed."


class ResourceNotFound(LogError):
    kafka_code = 91
    status, type, title = 404, "log/no-credential", "There is no such credential"


class DuplicateResource(LogError):
    kafka_code = 92
    status, type, title = 422, "log/credential-twice", "A credential is named twice"


class UnacceptableCredential(LogError):
    kafka_code = 93
    status, type, title = 422, "log/unacceptable-credential", "This credential is not acceptable"


class UnsupportedMechanism(LogError):
    kafka_code = 33
    status, type, title = 422, "log/unsupported-mechanism", "There is no such mechanism"


@handles(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, range(1))
def describe_user_scram_credentials(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.DESCRIBE, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code, "error_message": DENIED_MESSAGE}
    users = context.broker.state.current.users
    names = [user.name for user in request.users or ()]
    times = Counter(names)
    results = []
    for name in dict.fromkeys(names) if names else users:
        result: dict[str, Any] = {"user": name, "error_message": None}
        if times[name] > 1:
            what = f"Cannot describe SCRAM credentials for the same user twice in a single request: {name}"
            result |= {"error_code": DuplicateResource.kafka_code, "error_message": what}
        elif name not in users:
            what = f"Attempt to describe a user credential that does not exist: {name}"
            result |= {"error_code": ResourceNotFound.kafka_code, "error_message": what}
        else:
            result["credential_infos"] = [
                {"mechanism": number, "iterations": users[name][mechanism].iterations}
                for number, mechanism in NUMBERS.items()
                if mechanism in users[name]
            ]
        results.append(result)
    return {"error_message": None, "results": results}


@handles(ApiKey.ALTER_USER_SCRAM_CREDENTIALS, range(1))
async def alter_user_scram_credentials(request: Any, context: Context) -> Answer:
    """A user's credentials are changed all or none; users do not wait for each other."""
    users = list(dict.fromkeys(one.name for one in (*request.upsertions, *request.deletions)))
    if not context.allows(Operation.ALTER, Resource.CLUSTER, CLUSTER_NAME):
        denied = {"error_code": ClusterNotAuthorized.kafka_code, "error_message": DENIED_MESSAGE}
        return {"results": [{"user": name} | denied for name in users]}
    times = Counter((one.name, one.mechanism) for one in (*request.upsertions, *request.deletions))

    def alter(state: ClusterState) -> list[dict[str, Any]]:
        results = []
        for name in users:
            result: dict[str, Any] = {"user": name, "error_code": 0, "error_message": None}
            try:
                if any(count > 1 for (user, _), count in times.items() if user == name):
                    raise DuplicateResource("A user credential cannot be altered twice in the same request")
                _alter(state, name, request)
            except LogError as error:
                result |= {"error_code": error.kafka_code, "error_message": error.detail}
            results.append(result)
        return results

    return {"results": await context.broker.state.change(alter)}


def _alter(state: ClusterState, name: str, request: Any) -> None:
    if not name:
        raise UnacceptableCredential("Username must not be empty")
    held = dict(state.users.get(name, {}))
    for one in request.deletions:
        if one.name != name:
            continue
        if held.pop(_mechanism(one.mechanism), None) is None:
            raise ResourceNotFound("Attempt to delete a user credential that does not exist")
    for one in request.upsertions:
        if one.name != name:
            continue
        mechanism = _mechanism(one.mechanism)
        if one.iterations < ITERATIONS_MIN:
            raise UnacceptableCredential("Too few iterations")
        if one.iterations > ITERATIONS_MAX:
            raise UnacceptableCredential("Too many iterations")
        if not one.salt or not one.salted_password:
            raise UnacceptableCredential("Salt and salted password must not be empty")
        held[mechanism] = credential(mechanism, bytes(one.salted_password), bytes(one.salt), one.iterations)
    if held:
        state.users[name] = held
    else:
        state.users.pop(name, None)


def _mechanism(number: int) -> str:
    try:
        return NUMBERS[number]
    except KeyError:
        raise UnsupportedMechanism("Unknown SCRAM mechanism") from None
