"""Client quotas over the wire: DescribeClientQuotas and AlterClientQuotas."""

import ipaddress
import math
from typing import Any

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, Operation, Resource
from mainspring.storage.log.kafka.cluster_state import ClusterState, Quota
from mainspring.storage.log.kafka.quotas import CONNECTION, KEYS, Entity
from mainspring.storage.log.kafka.refusals import ClusterNotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, handles

EXACT, DEFAULT, SPECIFIED = 0, 1, 2
KINDS = ("user", "client-id", "ip")
WHOLE = frozenset({"producer_byte_rate", "consumer_byte_rate", CONNECTION})
DENIED_MESSAGE = "Cluster authorization failed."


class UnknownEntity(LogError):
    kafka_code = 35
    status, type, title = 422, "log/unknown-entity", "There is no such kind of client"


@handles(ApiKey.DESCRIBE_CLIENT_QUOTAS, range(2))
def describe_client_quotas(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.DESCRIBE_CONFIGS, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code, "error_message": DENIED_MESSAGE, "entries": None}
    wanted: dict[str, tuple[int, str | None]] = {}
    try:
        for one in request.components:
            _kind(one.entity_type)
            if one.entity_type in wanted:
                raise InvalidRequest(f"Entity type {one.entity_type} cannot appear more than once in the filter.")
            if one.match_type not in (EXACT, DEFAULT, SPECIFIED):
                raise InvalidRequest(f"Unknown match type {one.match_type}")
            wanted[one.entity_type] = (one.match_type, one.match)
        if "ip" in wanted and len(wanted) > 1:
            raise InvalidRequest("Invalid entity filter component combination, IP filter component should not be used")
    except LogError as error:
        return {"error_code": error.kafka_code, "error_message": error.detail, "entries": None}
    entries = [
        {
            "entity": [{"entity_type": kind, "entity_name": name} for kind, name in quota.entity],
            "values": [{"key": key, "value": value} for key, value in sorted(quota.values.items())],
        }
        for quota in context.broker.state.current.quotas
        if _matches(dict(quota.entity), wanted, strict=request.strict)
    ]
    return {"error_message": None, "entries": entries}


def _matches(entity: dict[str, str | None], wanted: dict[str, tuple[int, str | None]], *, strict: bool) -> bool:
    if strict and set(entity) != set(wanted):
        return False
    for kind, (match, name) in wanted.items():
        if kind not in entity:
            return False
        if match == EXACT and entity[kind] != name:
            return False
        if match == DEFAULT and entity[kind] is not None:
            return False
    return True


def _kind(kind: str) -> None:
    if kind not in KINDS:
        raise UnknownEntity(f"Custom entity type {kind} not supported")


@handles(ApiKey.ALTER_CLIENT_QUOTAS, range(2))
async def alter_client_quotas(request: Any, context: Context) -> Answer:
    allowed = context.allows(Operation.ALTER_CONFIGS, Resource.CLUSTER, CLUSTER_NAME)

    def alter(state: ClusterState) -> list[dict[str, Any]]:
        results = []
        for entry in request.entries:
            result: dict[str, Any] = {
                "error_code": 0,
                "error_message": None,
                "entity": [{"entity_type": one.entity_type, "entity_name": one.entity_name} for one in entry.entity],
            }
            try:
                if not allowed:
                    raise ClusterNotAuthorized(DENIED_MESSAGE)
                _alter(state, _entity(entry.entity), entry.ops)
            except LogError as error:
                result |= {"error_code": error.kafka_code, "error_message": error.detail}
            results.append(result)
        return results

    if request.validate_only or not allowed:
        return {"entries": alter(_copy(context.broker.state.current))}
    return {"entries": await context.broker.state.change(alter)}


def _copy(state: ClusterState) -> ClusterState:
    return ClusterState(quotas=list(state.quotas))


def _entity(parts: Any) -> Entity:
    entity: dict[str, str | None] = {}
    for one in parts:
        if one.entity_type not in KINDS:
            raise InvalidRequest(f"Unhandled client quota entity type: {one.entity_type}")
        if one.entity_type in entity:
            raise InvalidRequest(f"Invalid client quota entity, duplicate {one.entity_type}")
        if one.entity_name == "":
            raise InvalidRequest(f"Invalid empty {one.entity_type}")
        entity[one.entity_type] = one.entity_name
    if not entity:
        raise InvalidRequest("Invalid empty client quota entity")
    if "ip" in entity:
        if len(entity) > 1:
            raise InvalidRequest("Invalid quota entity combination, IP entity should not be used with others")
        if entity["ip"] is not None:
            try:
                ipaddress.ip_address(entity["ip"])
            except ValueError:
                raise InvalidRequest(f"{entity['ip']} is not a valid IP") from None
    return tuple(sorted(entity.items()))


def _alter(state: ClusterState, entity: Entity, ops: Any) -> None:
    valid = (CONNECTION,) if entity[0][0] == "ip" else KEYS
    held = next((quota for quota in state.quotas if tuple(sorted(quota.entity)) == entity), None)
    values = dict(held.values) if held is not None else {}
    for op in ops:
        if op.key not in valid:
            raise InvalidRequest(f"Invalid configuration key {op.key}")
        if op.remove:
            values.pop(op.key, None)
            continue
        if not math.isfinite(op.value) or op.value <= 0:
            raise InvalidRequest(f"Quota {op.key} must be greater than 0")
        if op.key in WHOLE and op.value != int(op.value):
            raise InvalidRequest(f"{op.key} cannot be a fractional value")
        values[op.key] = op.value
    state.quotas = [quota for quota in state.quotas if quota is not held]
    if values:
        state.quotas.append(Quota(entity, values))
