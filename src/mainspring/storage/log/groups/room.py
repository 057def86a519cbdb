"""What a node has room for: how many groups and members, and how much each of them may say.

Whoever is there already is never refused for want of room: only what is new is.
"""

from collections.abc import Mapping
from typing import Any

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.groups.classic import ClassicGroup
from mainspring.storage.log.groups.consumer import ConsumerGroup
from mainspring.storage.log.groups.errors import GroupMaxSizeReached, InvalidGroupId
from mainspring.storage.log.groups.messages import (
    ConsumerHeartbeat,
    JoinGroup,
    OffsetCommit,
    ShareHeartbeat,
    SyncGroup,
)
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.groups.share import ShareGroup

Group = ClassicGroup | ConsumerGroup | ShareGroup

MEMBER_BYTES_MIN = 2 << 10
NAME_BYTES_MAX = 32_767
"""As many as the protocol of Kafka has room for."""


def check_name(group: str) -> None:
    """Raises `InvalidGroupId`."""
    if len(group) * 4 > NAME_BYTES_MAX and len(group.encode()) > NAME_BYTES_MAX:
        raise InvalidGroupId(f"A group's name has at most {NAME_BYTES_MAX:,} bytes")


def check_room(message: Any, groups: Mapping[str, Group], member_count: int, settings: GroupSettings) -> None:
    """What the whole node has no room for, whatever the group says. Raises `GroupMaxSizeReached` or `InvalidRequest`."""
    group = groups.get(message.group)
    if isinstance(message, JoinGroup | ConsumerHeartbeat | ShareHeartbeat | SyncGroup):
        said = said_bytes(message)
        if said > settings.member_bytes_max:
            raise InvalidRequest(f"A member may say and be assigned {settings.member_bytes_max:,} bytes")
        # Equal parts of a sum, each as large as when it was taken: n of them are together at most ln(n) times the sum.
        if said > max(MEMBER_BYTES_MIN, settings.members_bytes // (member_count + 1)):
            raise GroupMaxSizeReached(f"{said:,} bytes are too much beside {member_count:,} members")
        known = group is not None and message.member_id in group.members
        if not known and not isinstance(message, SyncGroup) and member_count >= settings.members_max:
            raise GroupMaxSizeReached(f"This node has {settings.members_max:,} members of groups")
    elif not isinstance(message, OffsetCommit):
        return
    if group is None and len(groups) >= settings.groups_max:
        raise GroupMaxSizeReached(f"This node has {settings.groups_max:,} groups")


def members_in(group: Group | None) -> int:
    """How many hold a place in a group."""
    if group is None:
        return 0
    return len(group.members) + (len(group.pending) if isinstance(group, ClassicGroup) else 0)


def said_bytes(message: JoinGroup | SyncGroup | ConsumerHeartbeat | ShareHeartbeat) -> int:
    """About what would be kept of a request: its member's longest part, where a leader speaks for all."""
    names = len(message.member_id) + (len(message.instance or "") if not isinstance(message, ShareHeartbeat) else 0)
    if isinstance(message, JoinGroup):
        return names + sum(len(name) + len(metadata) for name, metadata in message.protocols)
    if isinstance(message, SyncGroup):
        return names + max((len(assignment) for _, assignment in message.assignments), default=0)
    names += len(message.rack or "") + sum(len(topic) for topic in message.topics or ())
    return names + (len(message.regex or "") if isinstance(message, ConsumerHeartbeat) else 0)
