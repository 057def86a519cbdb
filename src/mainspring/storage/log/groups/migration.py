"""Both protocols in one group: classic members in a consumer group, and groups that change over with nobody stopping.

A classic group is upgraded by the first member that comes with the new protocol, where all speak the consumers' own protocol
inside; it is downgraded when the last such member has left. In between a classic member joins and syncs as ever, but gets what
the coordinator assigned: JoinGroup is its heartbeat with what it owns, SyncGroup tells the assignment, and a heartbeat sends it
back to JoinGroup when there is a step to make.
"""

from typing import Any

import msgspec

from mainspring.storage.log.groups.catalog import Catalog
from mainspring.storage.log.groups.classic import ClassicGroup
from mainspring.storage.log.groups.classic_members import Member, State, elect_protocol
from mainspring.storage.log.groups.classic_records import value
from mainspring.storage.log.groups.consumer import LEAVES_FOR_A_WHILE, ConsumerGroup
from mainspring.storage.log.groups.consumer_members import ClassicMembership, ConsumerMember
from mainspring.storage.log.groups.consumer_records import write_member
from mainspring.storage.log.groups.embedded import (
    PROTOCOL_TYPE,
    Subscription,
    read_assignment,
    read_subscription,
    write_assignment,
)
from mainspring.storage.log.groups.errors import (
    FencedInstanceId,
    GroupIdNotFound,
    GroupMaxSizeReached,
    IllegalGeneration,
    InconsistentGroupProtocol,
    InvalidSessionTimeout,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownMemberId,
)
from mainspring.storage.log.groups.messages import (
    Heartbeat,
    Joined,
    JoinGroup,
    Leaving,
    Partitions,
    Synced,
    SyncGroup,
)
from mainspring.storage.log.groups.reconcile import Current, MemberState, to_fields
from mainspring.storage.log.groups.turn import NEVER_MS, Turn
from mainspring.storage.log.record_schemas import CLASSIC_GROUP, CONSUMER_GROUP, CONSUMER_TARGET, CONSUMER_TARGET_MEMBER


def join(group: ConsumerGroup, request: JoinGroup, token: Any, turn: Turn) -> None:
    """JoinGroup of a classic member. Raises as the classic group would."""
    settings = group.settings
    if not settings.session_timeout_ms_min <= request.session_timeout_ms <= settings.session_timeout_ms_max:
        raise InvalidSessionTimeout
    subscription = _subscription(group, request)
    member_id = request.member_id
    if not member_id:
        member_id = f"{request.instance or request.client.id}-{group.random_id()}"
        if request.two_steps and request.instance is None:
            raise MemberIdRequired(member_id)
    member, replaced = _find(group, member_id, request)
    before = (member.topics, member.rack, member.instance, member.classic, member.rebalance_timeout_ms)
    fresh = member_id not in group.members
    member.topics, member.rack, member.client = frozenset(subscription.topics), subscription.rack, request.client
    member.instance = request.instance
    member.rebalance_timeout_ms = request.rebalance_timeout_ms
    member.classic = ClassicMembership(request.session_timeout_ms, request.protocols)
    resubscribed = (member.topics, member.rack) != before[:2]
    changed = (member.topics, member.rack, member.instance, member.classic, member.rebalance_timeout_ms) != before
    if replaced is not None:
        group.replace(replaced, member, turn)
    elif fresh:
        group.add(member)
    if fresh or changed:
        write_member(group.id, member, turn)
    group.refresh(turn, (fresh or resubscribed) and replaced is None)
    group.advance(member, _owned(group, subscription), turn)
    member.session_ms = turn.now_ms + request.session_timeout_ms
    member.sync_by_ms = turn.now_ms + max(1, request.rebalance_timeout_ms)
    group.schedule(turn)
    turn.answer(
        token,
        Joined(
            generation=member.current.epoch,
            protocol_type=PROTOCOL_TYPE,
            protocol=request.protocols[0][0],
            leader="",
            member_id=member_id,
        ),
    )


def sync(group: ConsumerGroup, request: SyncGroup, token: Any, turn: Turn) -> None:
    member = _member(group, request.member_id, request.instance, request.generation)
    classic = _classic(member)
    protocol = classic.protocols[0][0]
    if request.protocol_type not in (None, PROTOCOL_TYPE) or request.protocol not in (None, protocol):
        raise InconsistentGroupProtocol
    if group.epoch > member.current.epoch and member.current.state is not MemberState.UNREVOKED:
        raise RebalanceInProgress
    member.sync_by_ms = NEVER_MS
    member.session_ms = turn.now_ms + classic.session_timeout_ms
    group.schedule(turn)
    read = read_subscription(classic.protocols[0][1])
    assigned = write_assignment(_named(group.catalog, member.current.assigned), read.version if read else 0)
    turn.answer(token, Synced(PROTOCOL_TYPE, protocol, assigned))


def heartbeat(group: ConsumerGroup, request: Heartbeat, turn: Turn) -> None:
    """Raises `RebalanceInProgress` where there is a step to make, which takes a JoinGroup."""
    member = _member(group, request.member_id, request.instance, request.generation)
    member.session_ms = turn.now_ms + _classic(member).session_timeout_ms
    if group.has_step(member):
        if member.sync_by_ms == NEVER_MS:
            member.sync_by_ms = turn.now_ms + max(1, member.rebalance_timeout_ms)
        group.schedule(turn)
        raise RebalanceInProgress


def leave(group: ConsumerGroup, leaving: Leaving, turn: Turn) -> str:
    """Gives the id of the member that left."""
    member_id = leaving.member_id
    if leaving.instance is not None:
        holder_id = group.static.get(leaving.instance)
        if holder_id is None:
            raise UnknownMemberId
        if member_id and member_id != holder_id:
            raise FencedInstanceId
        member_id = holder_id
    member = group.members.get(member_id)
    if member is None:
        raise UnknownMemberId
    group.remove(member, turn)
    group.schedule(turn)
    return member_id


def upgraded(group: ClassicGroup, catalog: Catalog, turn: Turn) -> ConsumerGroup:
    """The same members, generation and assignments as a consumer group. Raises `GroupIdNotFound` where that cannot be."""
    if group.protocol_type != PROTOCOL_TYPE:
        raise GroupIdNotFound(f"Group {group.id} is not a consumer group.")
    if len(group.members) >= group.settings.consumer_members_max:
        raise GroupMaxSizeReached
    subscriptions = {one.id: read_subscription(one.protocols[0][1]) for one in group.members.values()}
    if None in subscriptions.values():
        raise GroupIdNotFound(f"Group {group.id} has members with another protocol.")
    fresh = ConsumerGroup(group.id, group.settings, catalog, group.random_id)
    fresh.epoch = fresh.target_epoch = group.generation
    turn.write(CLASSIC_GROUP, (group.id,), None)
    for member in group.members.values():
        turn.answer(member.joining, RebalanceInProgress())
        turn.answer(member.syncing, RebalanceInProgress())
        _bring_over(fresh, member, subscriptions[member.id], group.state is State.STABLE, turn)
    turn.write(CONSUMER_GROUP, (group.id,), {"epoch": fresh.epoch, "metadata_hash": 0})
    turn.write(CONSUMER_TARGET, (group.id,), {"epoch": fresh.target_epoch})
    return fresh


def should_downgrade(group: ConsumerGroup) -> bool:
    return bool(group.members) and all(one.classic is not None for one in group.members.values())


def downgraded(group: ConsumerGroup, turn: Turn) -> ClassicGroup:
    """The same members as a classic group, which they find rebalancing."""
    fresh = ClassicGroup(group.id, group.settings, group.random_id)
    fresh.generation = group.epoch
    fresh.protocol_type = PROTOCOL_TYPE
    fresh.state, fresh.state_since_ms = State.STABLE, turn.wall_ms
    for member in group.members.values():
        classic = _classic(member)
        read = read_subscription(classic.protocols[0][1])
        fresh.members[member.id] = Member(
            id=member.id,
            instance=member.instance,
            client=member.client,
            session_timeout_ms=classic.session_timeout_ms,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            protocols=classic.protocols,
            assignment=write_assignment(
                _named(group.catalog, group.target.get(member.id, {})), read.version if read else 0
            ),
            deadline_ms=turn.now_ms + classic.session_timeout_ms,
        )
        if member.instance is not None:
            fresh.static[member.instance] = member.id
    fresh.leader = next(iter(fresh.members))
    fresh.protocol = elect_protocol(fresh.members.values())
    for member_id in list(group.members):
        group.erase(group.members[member_id], turn)
    group.write_away(turn)
    turn.write(CLASSIC_GROUP, (fresh.id,), value(fresh))
    fresh.rebalance(turn)
    fresh.schedule(turn)
    return fresh


def _find(group: ConsumerGroup, member_id: str, request: JoinGroup) -> tuple[ConsumerMember, ConsumerMember | None]:
    known = group.members.get(member_id)
    if request.instance is not None:
        holder_id = group.static.get(request.instance)
        if request.member_id and holder_id is None:
            raise UnknownMemberId
        if request.member_id and holder_id != member_id:
            raise FencedInstanceId
        if holder_id is not None and holder_id != member_id:
            holder = group.members[holder_id]
            return msgspec.structs.replace(holder, id=member_id, current=Current()), holder
    if known is not None and known.current.epoch == LEAVES_FOR_A_WHILE:
        return msgspec.structs.replace(known, current=Current()), known
    if known is None and len(group.members) >= group.settings.consumer_members_max:
        raise GroupMaxSizeReached
    return known or ConsumerMember(id=member_id), None


def _member(group: ConsumerGroup, member_id: str, instance: str | None, generation: int) -> ConsumerMember:
    if instance is not None:
        holder_id = group.static.get(instance)
        if holder_id is None:
            raise UnknownMemberId
        if holder_id != member_id:
            raise FencedInstanceId
    member = group.members.get(member_id)
    if member is None or member.classic is None:
        raise UnknownMemberId
    if generation != member.current.epoch:
        raise IllegalGeneration
    return member


def _classic(member: ConsumerMember) -> ClassicMembership:
    if member.classic is None:
        raise UnknownMemberId
    return member.classic


def _subscription(group: ConsumerGroup, request: JoinGroup) -> Subscription:
    if request.protocol_type != PROTOCOL_TYPE or not request.protocols:
        raise InconsistentGroupProtocol
    names = {name for name, _ in request.protocols}
    for other in group.members.values():
        if other.classic is not None and other.id != request.member_id:
            names &= {name for name, _ in other.classic.protocols}
    subscription = read_subscription(request.protocols[0][1])
    if not names or subscription is None:
        raise InconsistentGroupProtocol
    return subscription


def _owned(group: ConsumerGroup, subscription: Subscription) -> Partitions:
    """An eager member has given everything up before it joins, and lists nothing."""
    owned: Partitions = {}
    for topic, numbers in subscription.owned:
        id = group.catalog.id(topic)
        if id is not None and numbers:
            owned[id] = frozenset(numbers)
    return owned


def _named(catalog: Catalog, partitions: Partitions) -> dict[str, frozenset[int]]:
    names = {id: catalog.name(id) for id in partitions}
    return {name: partitions[id] for id, name in names.items() if name is not None}


def _bring_over(
    group: ConsumerGroup, member: Member, subscription: Subscription | None, stable: bool, turn: Turn
) -> None:
    assigned: Partitions = {}
    for topic, numbers in (read_assignment(member.assignment) or ()) if stable and member.assignment else ():
        id = group.catalog.id(topic)
        if id is not None and numbers:
            assigned[id] = frozenset(numbers)
    brought = ConsumerMember(
        id=member.id,
        instance=member.instance,
        rack=subscription.rack if subscription else None,
        client=member.client,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        topics=frozenset(subscription.topics if subscription else ()),
        classic=ClassicMembership(member.session_timeout_ms, member.protocols),
        session_ms=turn.now_ms + member.session_timeout_ms,
    )
    group.add(brought)
    write_member(group.id, brought, turn)
    group.target[member.id] = assigned
    turn.write(CONSUMER_TARGET_MEMBER, (group.id, member.id), {"topics": to_fields(assigned)})
    group.set_current(brought, Current(group.epoch, group.epoch, MemberState.STABLE, assigned), turn)
