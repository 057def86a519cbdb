"""The members' requests: FindCoordinator, and joining, syncing, heartbeating and leaving in both protocols."""

from typing import TYPE_CHECKING, Any, cast

from mainspring.storage.log.coordinator_errors import CoordinatorError
from mainspring.storage.log.groups.errors import MemberIdRequired
from mainspring.storage.log.groups.messages import (
    Client,
    ConsumerHeartbeat,
    Heartbeat,
    JoinGroup,
    LeaveGroup,
    Leaving,
    SyncGroup,
)
from mainspring.storage.log.kafka.acls import Operation, Resource
from mainspring.storage.log.kafka.codec import ms
from mainspring.storage.log.kafka.metadata_keys import advertised
from mainspring.storage.log.kafka.refusals import GroupNotAuthorized, NotAuthorized, TransactionalIdNotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles

if TYPE_CHECKING:
    from mainspring.storage.log.groups.service import Groups

GROUP, TRANSACTION, SHARE = 0, 1, 2
INVALID_REQUEST = 42


def groups_of(context: Context) -> "Groups":
    return cast("Groups", context.broker.groups)


def check_group(context: Context, group: str, operation: Operation = Operation.READ) -> None:
    """Raises `GroupNotAuthorized`."""
    if not context.allows(operation, Resource.GROUP, group):
        raise GroupNotAuthorized


def client_of(context: Context) -> Client:
    return Client(context.client_id or "", f"/{context.address}")


@handles(ApiKey.FIND_COORDINATOR, range(7))
async def find_coordinator(request: Any, context: Context) -> Answer:
    """This node coordinates everything; finding it makes sure that the topic behind it is there."""
    keys = given(request, "coordinator_keys")
    kind = given(request, "key_type", GROUP)
    found = [await _coordinator(kind, key, context) for key in (keys if keys is not None else (request.key,))]
    if keys is not None:
        return {"coordinators": found}
    return {name: value for name, value in found[0].items() if name != "key"}


async def _coordinator(kind: int, key: str, context: Context) -> dict[str, Any]:
    broker = context.broker
    try:
        if kind == GROUP:
            check_group(context, key, Operation.DESCRIBE)
            await groups_of(context).opened()
        elif kind == TRANSACTION:
            if not context.allows(Operation.DESCRIBE, Resource.TRANSACTIONAL_ID, key):
                raise TransactionalIdNotAuthorized
            await broker.transactions.opened()
        elif kind != SHARE or context.api_version < 6 or key.count(":") < 2:
            return _nowhere(key, INVALID_REQUEST, "There is no coordinator of this kind.")
    except (NotAuthorized, CoordinatorError) as error:
        return _nowhere(key, error.kafka_code, error.detail)
    host, port = advertised(context)
    return {
        "key": key,
        "node_id": broker.engine.node_id,
        "host": host,
        "port": port,
        "error_code": 0,
        "error_message": None if context.api_version >= 4 else "",
    }


def _nowhere(key: str, code: int, message: str) -> dict[str, Any]:
    return {"key": key, "node_id": -1, "host": "", "port": -1, "error_code": code, "error_message": message}


@handles(ApiKey.JOIN_GROUP, range(10))
async def join_group(request: Any, context: Context) -> Answer:
    check_group(context, request.group_id)
    version = context.api_version
    session_ms = ms(request.session_timeout)
    asked = JoinGroup(
        group=request.group_id,
        member_id=request.member_id,
        instance=given(request, "group_instance_id"),
        client=client_of(context),
        session_timeout_ms=session_ms,
        rebalance_timeout_ms=ms(request.rebalance_timeout) if version >= 1 else session_ms,
        protocol_type=request.protocol_type,
        protocols=tuple((one.name, one.metadata) for one in request.protocols),
        two_steps=version >= 4,
        skips_assignment=version >= 9,
    )
    nothing = None if version >= 7 else ""
    try:
        joined = await groups_of(context).ask(asked)
    except MemberIdRequired as required:
        return {"error_code": required.kafka_code, "member_id": required.member_id, "protocol_name": nothing}
    except CoordinatorError as error:
        return {"error_code": error.kafka_code, "member_id": request.member_id, "protocol_name": nothing}
    return {
        "error_code": 0,
        "generation_id": joined.generation,
        "protocol_type": joined.protocol_type,
        "protocol_name": joined.protocol,
        "leader": joined.leader,
        "skip_assignment": joined.skip_assignment,
        "member_id": joined.member_id,
        "members": [
            {"member_id": id, "group_instance_id": instance, "metadata": metadata}
            for id, instance, metadata in joined.members
        ],
    }


@handles(ApiKey.SYNC_GROUP, range(6))
async def sync_group(request: Any, context: Context) -> Answer:
    check_group(context, request.group_id)
    if context.api_version >= 5 and (request.protocol_type is None or request.protocol_name is None):
        return {"error_code": 23}
    synced = await groups_of(context).ask(
        SyncGroup(
            group=request.group_id,
            member_id=request.member_id,
            instance=given(request, "group_instance_id"),
            generation=request.generation_id,
            protocol_type=given(request, "protocol_type"),
            protocol=given(request, "protocol_name"),
            assignments=tuple((one.member_id, one.assignment) for one in request.assignments),
        )
    )
    return {
        "error_code": 0,
        "protocol_type": synced.protocol_type,
        "protocol_name": synced.protocol,
        "assignment": synced.assignment,
    }


@handles(ApiKey.HEARTBEAT, range(5))
async def heartbeat(request: Any, context: Context) -> Answer:
    check_group(context, request.group_id)
    await groups_of(context).ask(
        Heartbeat(
            group=request.group_id,
            member_id=request.member_id,
            instance=given(request, "group_instance_id"),
            generation=request.generation_id,
        )
    )
    return {"error_code": 0}


@handles(ApiKey.LEAVE_GROUP, range(6))
async def leave_group(request: Any, context: Context) -> Answer:
    check_group(context, request.group_id)
    several = given(request, "members")
    leaving = (
        (Leaving(request.member_id),)
        if several is None
        else tuple(Leaving(one.member_id, one.group_instance_id) for one in several)
    )
    outcome = await groups_of(context).ask(LeaveGroup(group=request.group_id, members=leaving))
    if several is None:
        error = outcome[0][2]
        return {"error_code": 0 if error is None else error.kafka_code}
    return {
        "error_code": 0,
        "members": [
            {"member_id": id, "group_instance_id": instance, "error_code": 0 if error is None else error.kafka_code}
            for id, instance, error in outcome
        ],
    }


@handles(ApiKey.CONSUMER_GROUP_HEARTBEAT, range(2))
async def consumer_group_heartbeat(request: Any, context: Context) -> Answer:
    topics = request.subscribed_topic_names
    try:
        check_group(context, request.group_id)
        for topic in topics or ():
            if not context.allows(Operation.DESCRIBE, Resource.TOPIC, topic):
                raise NotAuthorized(f"Not authorized to access topic {topic}.")
        if context.api_version >= 1 and not request.member_id:
            return {"error_code": INVALID_REQUEST, "error_message": "MemberId can't be empty."}
        beat = await groups_of(context).ask(
            ConsumerHeartbeat(
                group=request.group_id,
                member_id=request.member_id,
                member_epoch=request.member_epoch,
                instance=request.instance_id,
                rack=request.rack_id,
                client=client_of(context),
                rebalance_timeout_ms=ms(request.rebalance_timeout),
                topics=topics,
                regex=given(request, "subscribed_topic_regex"),
                assignor=request.server_assignor,
                owned=owned(request.topic_partitions),
                connection=context.session.number,
            )
        )
    except (CoordinatorError, NotAuthorized) as error:
        return {"error_code": error.kafka_code, "error_message": error.detail}
    return beat_fields(beat)


def owned(topics: Any) -> Any:
    """The partitions that a heartbeat lists, None where it does not say."""
    if topics is None:
        return None
    return {one.topic_id: frozenset(one.partitions) for one in topics if one.partitions}


def beat_fields(beat: Any) -> dict[str, Any]:
    assignment = None
    if beat.assigned is not None:
        assignment = {
            "topic_partitions": [
                {"topic_id": topic, "partitions": sorted(numbers)} for topic, numbers in beat.assigned.items()
            ]
        }
    return {
        "error_code": 0,
        "member_id": beat.member_id,
        "member_epoch": beat.member_epoch,
        "heartbeat_interval_ms": beat.heartbeat_interval_ms,
        "assignment": assignment,
    }
