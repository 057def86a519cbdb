"""Access control lists over the wire: DescribeAcls, CreateAcls, DeleteAcls."""

import ipaddress
from typing import Any

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.kafka.acls import (
    CLUSTER_NAME,
    Acl,
    AclFilter,
    Operation,
    Pattern,
    Permission,
    Resource,
)
from mainspring.storage.log.kafka.cluster_state import ClusterState
from mainspring.storage.log.kafka.refusals import ClusterNotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, handles

DENIED = {"error_code": ClusterNotAuthorized.kafka_code, "error_message": "Cluster authorization failed."}
NAME_CHARACTERS_MAX = 32_767


def _filter(asked: Any) -> AclFilter:
    """Raises `InvalidRequest` where a kind is not known."""
    if Resource.UNKNOWN in (
        asked.resource_type_filter,
        asked.operation,
        asked.permission_type,
        asked.pattern_type_filter,
    ):
        raise InvalidRequest("The filter has an unknown part")
    return AclFilter(
        asked.resource_type_filter,
        asked.resource_name_filter,
        asked.pattern_type_filter,
        asked.principal_filter,
        asked.host_filter,
        asked.operation,
        asked.permission_type,
    )


@handles(ApiKey.DESCRIBE_ACLS, range(1, 4))
def describe_acls(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.DESCRIBE, Resource.CLUSTER, CLUSTER_NAME):
        return dict(DENIED)
    try:
        wanted = _filter(request)
    except InvalidRequest as error:
        return {"error_code": error.kafka_code, "error_message": error.detail}
    resources: dict[tuple[int, str, int], list[dict[str, Any]]] = {}
    for acl in context.broker.security.acls:
        if wanted.matches(acl):
            shown = {
                "principal": acl.principal,
                "host": acl.host,
                "operation": acl.operation,
                "permission_type": acl.permission,
            }
            resources.setdefault((acl.resource, acl.name, acl.pattern), []).append(shown)
    return {
        "error_message": None,
        "resources": [
            {"resource_type": kind, "resource_name": name, "pattern_type": pattern, "acls": acls}
            for (kind, name, pattern), acls in resources.items()
        ],
    }


def _acl(asked: Any) -> Acl:
    """Raises `InvalidRequest`."""
    kind, name, pattern = asked.resource_type, asked.resource_name, asked.resource_pattern_type
    if kind not in set(Resource) - {Resource.UNKNOWN, Resource.ANY}:
        raise InvalidRequest("Invalid resourceType")
    if kind == Resource.CLUSTER and name != CLUSTER_NAME:
        raise InvalidRequest(f"The only valid name for the CLUSTER resource is {CLUSTER_NAME}")
    if not name or len(name) > NAME_CHARACTERS_MAX:
        raise InvalidRequest("Resource name should not be empty")
    if pattern not in (Pattern.LITERAL, Pattern.PREFIXED):
        raise InvalidRequest("Invalid patternType")
    if asked.operation not in set(Operation) - {Operation.UNKNOWN, Operation.ANY}:
        raise InvalidRequest("Invalid operation")
    if asked.permission_type not in (Permission.ALLOW, Permission.DENY):
        raise InvalidRequest("Invalid permissionType")
    scheme, colon, who = asked.principal.partition(":")
    if not (scheme and colon and who):
        raise InvalidRequest(
            f"Could not parse principal from `{asked.principal}` (no colon is present separating the type)"
        )
    if asked.host != "*":
        try:
            ipaddress.ip_address(asked.host)
        except ValueError:
            raise InvalidRequest(f"Invalid host {asked.host!r}") from None
    return Acl(kind, name, pattern, asked.principal, asked.host, asked.operation, asked.permission_type)


@handles(ApiKey.CREATE_ACLS, range(1, 4))
async def create_acls(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.ALTER, Resource.CLUSTER, CLUSTER_NAME):
        return {"results": [dict(DENIED) for _ in request.creations]}
    results: list[dict[str, Any]] = []
    acls = []
    for asked in request.creations:
        try:
            acls.append(_acl(asked))
            results.append({"error_code": 0, "error_message": None})
        except InvalidRequest as error:
            results.append({"error_code": error.kafka_code, "error_message": error.detail})

    def add(state: ClusterState) -> None:
        there = set(state.acls)
        state.acls.extend(acl for acl in dict.fromkeys(acls) if acl not in there)

    if acls:
        await context.broker.state.change(add)
    return {"results": results}


@handles(ApiKey.DELETE_ACLS, range(1, 4))
async def delete_acls(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.ALTER, Resource.CLUSTER, CLUSTER_NAME):
        return {"filter_results": [DENIED | {"matching_acls": ()} for _ in request.filters]}

    def remove(state: ClusterState) -> list[dict[str, Any]]:
        results = []
        for asked in request.filters:
            try:
                wanted = _filter(asked)
            except InvalidRequest as error:
                results.append({"error_code": error.kafka_code, "error_message": error.detail, "matching_acls": ()})
                continue
            gone = [acl for acl in state.acls if wanted.matches(acl)]
            state.acls = [acl for acl in state.acls if not wanted.matches(acl)]
            results.append({"error_code": 0, "error_message": None, "matching_acls": [_shown(acl) for acl in gone]})
        return results

    return {"filter_results": await context.broker.state.change(remove)}


def _shown(acl: Acl) -> dict[str, Any]:
    return {
        "error_code": 0,
        "error_message": None,
        "resource_type": acl.resource,
        "resource_name": acl.name,
        "pattern_type": acl.pattern,
        "principal": acl.principal,
        "host": acl.host,
        "operation": acl.operation,
        "permission_type": acl.permission,
    }
