"""What people ask about groups: ListGroups, DescribeGroups, ConsumerGroupDescribe and DeleteGroups."""

from typing import Any
from uuid import UUID

from mainspring.storage.log.coordinator_errors import CoordinatorError
from mainspring.storage.log.groups.classic import ClassicGroup
from mainspring.storage.log.groups.classic_members import State
from mainspring.storage.log.groups.consumer import ConsumerGroup
from mainspring.storage.log.groups.errors import GroupIdNotFound
from mainspring.storage.log.groups.messages import GroupDelete
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, Operation, Resource
from mainspring.storage.log.kafka.group_keys import check_group, groups_of
from mainspring.storage.log.kafka.metadata_keys import NOT_ASKED, operations
from mainspring.storage.log.kafka.refusals import GroupNotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles

CLASSIC_MEMBER, CONSUMER_MEMBER = 0, 1


def state_of(group: Any) -> str:
    return group.state.value if isinstance(group, ClassicGroup) else group.state()


@handles(ApiKey.LIST_GROUPS, range(6))
async def list_groups(request: Any, context: Context) -> Answer:
    """Those that the client may describe, with the asked-for states and kinds where it named any."""
    coordinator = await groups_of(context).opened()
    states = {state.lower() for state in given(request, "states_filter", ())}
    kinds = {kind.lower() for kind in given(request, "types_filter", ())}
    everything = context.allows(Operation.DESCRIBE, Resource.CLUSTER, CLUSTER_NAME)
    listed = []
    for name, group in coordinator.groups.items():
        if not everything and not context.allows(Operation.DESCRIBE, Resource.GROUP, name):
            continue
        state = state_of(group)
        if (states and state.lower() not in states) or (kinds and group.kind not in kinds):
            continue
        protocol = (group.protocol_type or "") if isinstance(group, ClassicGroup) else group.kind
        listed.append({"group_id": name, "protocol_type": protocol, "group_state": state, "group_type": group.kind})
    return {"error_code": 0, "groups": listed}


@handles(ApiKey.DESCRIBE_GROUPS, range(7))
async def describe_groups(request: Any, context: Context) -> Answer:
    coordinator = await groups_of(context).opened()
    described = []
    for name in request.groups:
        try:
            check_group(context, name, Operation.DESCRIBE)
        except GroupNotAuthorized as error:
            described.append({"group_id": name, "error_code": error.kafka_code})
            continue
        found = _classic(name, coordinator.groups.get(name), context)
        if given(request, "include_authorized_operations"):
            found["authorized_operations"] = operations(context, Resource.GROUP, name)
        described.append(found)
    return {"groups": described}


def _classic(name: str, group: Any, context: Context) -> dict[str, Any]:
    if not isinstance(group, ClassicGroup):
        missing = {"group_id": name, "group_state": "Dead", "authorized_operations": NOT_ASKED}
        if context.api_version < 6:
            return missing
        return missing | {"error_code": GroupIdNotFound.kafka_code, "error_message": f"Group {name} not found."}
    stable = group.state is State.STABLE
    return {
        "group_id": name,
        "error_code": 0,
        "group_state": group.state.value,
        "protocol_type": group.protocol_type or "",
        "protocol_data": (group.protocol or "") if stable else "",
        "members": [
            {
                "member_id": one.id,
                "group_instance_id": one.instance,
                "client_id": one.client.id,
                "client_host": one.client.host,
                "member_metadata": one.metadata(group.protocol) if stable else b"",
                "member_assignment": one.assignment if stable else b"",
            }
            for one in group.members.values()
        ],
    }


@handles(ApiKey.CONSUMER_GROUP_DESCRIBE, range(2))
async def consumer_group_describe(request: Any, context: Context) -> Answer:
    coordinator = await groups_of(context).opened()
    described = []
    for name in request.group_ids:
        group = coordinator.groups.get(name)
        try:
            check_group(context, name, Operation.DESCRIBE)
            if not isinstance(group, ConsumerGroup):
                raise GroupIdNotFound(f"Group {name} is not a consumer group." if group else f"Group {name} not found.")
        except (CoordinatorError, GroupNotAuthorized) as error:
            described.append({"group_id": name, "error_code": error.kafka_code, "error_message": error.detail})
            continue
        found = _consumer(group, context)
        if request.include_authorized_operations:
            found["authorized_operations"] = operations(context, Resource.GROUP, name)
        described.append(found)
    return {"groups": described}


def _consumer(group: ConsumerGroup, context: Context) -> dict[str, Any]:
    return {
        "group_id": group.id,
        "error_code": 0,
        "group_state": group.state(),
        "group_epoch": group.epoch,
        "assignment_epoch": group.target_epoch,
        "assignor_name": group.assignor(),
        "members": [
            {
                "member_id": one.id,
                "instance_id": one.instance,
                "rack_id": one.rack,
                "member_epoch": one.current.epoch,
                "client_id": one.client.id,
                "client_host": one.client.host,
                "subscribed_topic_names": sorted(one.topics),
                "subscribed_topic_regex": one.regex,
                "assignment": named(one.current.assigned, context),
                "target_assignment": named(group.target.get(one.id, {}), context),
                "member_type": CONSUMER_MEMBER if one.classic is None else CLASSIC_MEMBER,
            }
            for one in group.members.values()
        ],
    }


def named(partitions: dict[UUID, frozenset[int]], context: Context) -> dict[str, Any]:
    """An assignment with the names of its topics; one that was deleted meanwhile is left out."""
    listed = []
    for id, numbers in partitions.items():
        topic = context.broker.engine.topic_by_id(id)
        if topic is not None:
            listed.append({"topic_id": id, "topic_name": topic.name, "partitions": sorted(numbers)})
    return {"topic_partitions": listed}


@handles(ApiKey.DELETE_GROUPS, range(3))
async def delete_groups(request: Any, context: Context) -> Answer:
    results = []
    for name in dict.fromkeys(request.groups_names):
        code = 0
        try:
            check_group(context, name, Operation.DELETE)
            await groups_of(context).ask(GroupDelete(group=name))
        except (CoordinatorError, GroupNotAuthorized) as error:
            code = error.kafka_code
        results.append({"group_id": name, "error_code": code})
    return {"results": results}
