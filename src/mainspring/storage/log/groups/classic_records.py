"""A classic group as Kafka's record, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mainspring.storage.log.groups.classic_members import Member, State
from mainspring.storage.log.groups.messages import Client
from mainspring.storage.log.groups.turn import Turn

if TYPE_CHECKING:
    from mainspring.storage.log.groups.classic import ClassicGroup


def value(group: ClassicGroup) -> dict[str, Any]:
    """What is written of a group."""
    return {
        "protocol_type": group.protocol_type or "",
        "generation": group.generation,
        "protocol": group.protocol,
        "leader": group.leader,
        "state_timestamp": group.state_since_ms,
        "members": [
            {
                "member": one.id,
                "instance": one.instance,
                "client_id": one.client.id,
                "client_host": one.client.host,
                "rebalance_timeout_ms": one.rebalance_timeout_ms,
                "session_timeout_ms": one.session_timeout_ms,
                "subscription": one.metadata(group.protocol),
                "assignment": one.assignment,
            }
            for one in group.members.values()
        ],
    }


def restore(group: ClassicGroup, told: Mapping[str, Any], turn: Turn) -> None:
    """Takes over what was written; sessions start anew."""
    group.protocol_type = told["protocol_type"] or None
    group.generation = told["generation"]
    group.protocol, group.leader = told["protocol"], told["leader"]
    group.state_since_ms = told["state_timestamp"]
    group.members = {
        one["member"]: Member(
            id=one["member"],
            instance=one["instance"],
            client=Client(one["client_id"], one["client_host"]),
            session_timeout_ms=one["session_timeout_ms"],
            rebalance_timeout_ms=one["rebalance_timeout_ms"],
            protocols=((group.protocol or "", one["subscription"]),),
            assignment=one["assignment"],
            deadline_ms=turn.now_ms + one["session_timeout_ms"],
        )
        for one in told["members"]
    }
    group.static = {one.instance: one.id for one in group.members.values() if one.instance is not None}
    group.state = State.STABLE if group.members else State.EMPTY
