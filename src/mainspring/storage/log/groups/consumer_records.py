"""A consumer group's members and epochs as Kafka's records, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mainspring.storage.log.groups.consumer_members import ClassicMembership, ConsumerMember
from mainspring.storage.log.groups.messages import Client
from mainspring.storage.log.groups.reconcile import Current, MemberState, from_fields
from mainspring.storage.log.groups.turn import NEVER_MS, Turn
from mainspring.storage.log.record_schemas import (
    CONSUMER_CURRENT,
    CONSUMER_GROUP,
    CONSUMER_MEMBER,
    CONSUMER_REGEX,
    CONSUMER_TARGET,
    CONSUMER_TARGET_MEMBER,
    Record,
)

if TYPE_CHECKING:
    from mainspring.storage.log.groups.consumer import ConsumerGroup


def write_member(group: str, member: ConsumerMember, turn: Turn) -> None:
    classic = member.classic
    turn.write(
        CONSUMER_MEMBER,
        (group, member.id),
        {
            "instance": member.instance,
            "rack": member.rack,
            "client_id": member.client.id,
            "client_host": member.client.host,
            "topics": sorted(member.topics),
            "regex": member.regex,
            "rebalance_timeout_ms": member.rebalance_timeout_ms,
            "assignor": member.assignor,
            "classic": classic
            and {
                "session_timeout_ms": classic.session_timeout_ms,
                "protocols": [{"name": name, "metadata": metadata} for name, metadata in classic.protocols],
            },
        },
    )


def replay(group: ConsumerGroup, record: Record, turn: Turn) -> None:
    """Takes over what one record says. Sessions, and the time to give partitions up, start anew."""
    schema, key, value = record
    if schema is CONSUMER_GROUP:
        group.epoch, group.metadata_hash = (value or {}).get("epoch", 0), (value or {}).get("metadata_hash", 0)
    elif schema is CONSUMER_TARGET:
        group.target_epoch = (value or {}).get("epoch", 0)
    elif schema is CONSUMER_REGEX:
        group.regexes.pop(key[1], None)
        if value is not None:
            group.regexes[key[1]] = frozenset(value["topics"])
    elif schema is CONSUMER_TARGET_MEMBER:
        group.target.pop(key[1], None)
        if value is not None:
            group.target[key[1]] = from_fields(value["topics"])
    elif schema is CONSUMER_MEMBER:
        _member(group, key[1], value, turn)
    elif schema is CONSUMER_CURRENT:
        _current(group, key[1], value, turn)


def _member(group: ConsumerGroup, member_id: str, value: Any, turn: Turn) -> None:
    known = group.members.get(member_id)
    if value is None:
        if known is not None:
            group.disown(known)
            del group.members[member_id]
            if known.instance is not None and group.static.get(known.instance) == member_id:
                del group.static[known.instance]
        return
    member = known or group.members.setdefault(member_id, ConsumerMember(id=member_id))
    member.instance, member.rack = value["instance"], value["rack"]
    member.client = Client(value["client_id"], value["client_host"])
    member.topics, member.regex = frozenset(value["topics"]), value["regex"]
    member.rebalance_timeout_ms, member.assignor = value["rebalance_timeout_ms"], value["assignor"]
    classic = value["classic"]
    member.classic = classic and ClassicMembership(
        classic["session_timeout_ms"], tuple((one["name"], one["metadata"]) for one in classic["protocols"])
    )
    if member.instance is not None:
        group.static[member.instance] = member_id
    session_ms = member.classic.session_timeout_ms if member.classic else group.settings.consumer_session_timeout_ms
    member.session_ms = turn.now_ms + session_ms


def _current(group: ConsumerGroup, member_id: str, value: Any, turn: Turn) -> None:
    member = group.members.get(member_id)
    if member is None:
        if value is None:
            return
        # Compaction may keep a member's record behind its assignment's.
        member = group.members.setdefault(member_id, ConsumerMember(id=member_id))
    group.disown(member)
    member.current, member.revoked_by_ms = Current(), NEVER_MS
    if value is not None:
        member.current = Current(
            value["epoch"],
            value["previous_epoch"],
            MemberState(value["state"]),
            from_fields(value["assigned"]),
            from_fields(value["revoking"]),
        )
        if member.current.state is MemberState.UNREVOKED:
            member.revoked_by_ms = turn.now_ms + max(0, member.rebalance_timeout_ms)
    group.own(member)
