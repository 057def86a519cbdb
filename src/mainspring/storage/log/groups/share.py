"""The members of a share group (KIP-932): who is in it and which partitions each of them may fetch from.

Several members may read one partition, so there is nothing to give up before somebody else gets it: a member moves to its
target at its next heartbeat. Who holds which record is decided per partition, in `share_partition`.
"""

from typing import Any
from uuid import UUID

import msgspec

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.groups.assignors import Wish, simple
from mainspring.storage.log.groups.catalog import Catalog, digest
from mainspring.storage.log.groups.errors import FencedMemberEpoch, GroupMaxSizeReached, UnknownMemberId
from mainspring.storage.log.groups.messages import Client, ConsumerBeat, Partitions, ShareHeartbeat
from mainspring.storage.log.groups.reconcile import from_fields, to_fields
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.groups.turn import NEVER_MS, Turn
from mainspring.storage.log.record_schemas import (
    SHARE_CURRENT,
    SHARE_GROUP,
    SHARE_MEMBER,
    SHARE_PARTITIONS,
    SHARE_TARGET,
    SHARE_TARGET_MEMBER,
    Record,
)

LEAVES = -1


class ShareMember(msgspec.Struct, kw_only=True):
    id: str
    rack: str | None = None
    client: Client = Client()
    topics: frozenset[str] = frozenset()
    epoch: int = 0
    previous_epoch: int = -1
    assigned: Partitions = {}
    session_ms: int = NEVER_MS


class ShareGroup:
    kind = "share"

    def __init__(self, id: str, settings: GroupSettings, catalog: Catalog) -> None:
        self.id = id
        self.settings = settings
        self.catalog = catalog
        self.epoch = 0
        self.metadata_hash = 0
        self.target_epoch = 0
        self.target: dict[str, Partitions] = {}
        self.members: dict[str, ShareMember] = {}

    def heartbeat(self, request: ShareHeartbeat, turn: Turn) -> ConsumerBeat:
        """Joins, goes on or leaves. Raises having changed nothing."""
        if request.member_epoch < LEAVES:
            raise InvalidRequest("MemberEpoch is -1, 0 or a positive number.")
        if not request.member_id:
            raise InvalidRequest("MemberId can't be empty.")
        if request.rack == "":
            raise InvalidRequest("RackId can't be empty.")
        if request.member_epoch == 0 and not request.topics:
            raise InvalidRequest("SubscribedTopicNames must be set in first request.")
        member = self.members.get(request.member_id)
        if member is None and request.member_epoch != 0:
            raise UnknownMemberId
        if request.member_epoch == LEAVES and member is not None:
            self._remove(member, turn)
            self.schedule(turn)
            return ConsumerBeat(member_id=member.id, member_epoch=LEAVES, heartbeat_interval_ms=0)
        if member is None:
            if len(self.members) >= self.settings.share_members_max:
                raise GroupMaxSizeReached
            member = ShareMember(id=request.member_id)
        elif request.member_epoch not in (0, member.epoch, member.previous_epoch):
            raise FencedMemberEpoch
        was = member.assigned
        self._update(member, request, turn)
        member.session_ms = turn.now_ms + self.settings.share_session_timeout_ms
        self.schedule(turn)
        return ConsumerBeat(
            member_id=member.id,
            member_epoch=member.epoch,
            heartbeat_interval_ms=self.settings.share_heartbeat_interval_ms,
            assigned=member.assigned if request.member_epoch == 0 or member.assigned != was else None,
        )

    def expire(self, turn: Turn) -> None:
        for member in list(self.members.values()):
            if member.session_ms <= turn.now_ms:
                self._remove(member, turn)
        self.schedule(turn)

    # What others read of it

    def empty(self) -> bool:
        return not self.members

    def state(self) -> str:
        return "Stable" if self.members else "Empty"

    def subscribed(self, topic: str) -> bool:
        return any(topic in one.topics for one in self.members.values())

    def next_ms(self) -> int:
        return min((one.session_ms for one in self.members.values()), default=NEVER_MS)

    def schedule(self, turn: Turn) -> None:
        turn.wake(self.id, self.next_ms())

    # Members

    def _update(self, member: ShareMember, request: ShareHeartbeat, turn: Turn) -> None:
        before = (member.topics, member.rack, member.client)
        fresh = member.id not in self.members
        if request.topics is not None:
            member.topics = frozenset(request.topics)
        member.rack = request.rack or member.rack
        member.client = request.client if request.client.id else member.client
        self.members[member.id] = member
        changed = fresh or member.topics != before[0]
        if fresh or (member.topics, member.rack, member.client) != before:
            self._write_member(member, turn)
        shape = self.catalog.shape({topic for one in self.members.values() for topic in one.topics})
        now = digest(shape)
        if changed or now != self.metadata_hash:
            self.metadata_hash = now
            self._bump(turn)
        if self.epoch > self.target_epoch:
            self._retarget(shape, turn)
        target = self.target.get(member.id, {})
        if member.epoch != self.target_epoch or member.assigned != target:
            member.previous_epoch, member.epoch, member.assigned = member.epoch, self.target_epoch, target
            self._write_current(member, turn)

    def _remove(self, member: ShareMember, turn: Turn) -> None:
        del self.members[member.id]
        self.target.pop(member.id, None)
        turn.left.append((self.id, member.id))
        for schema in (SHARE_CURRENT, SHARE_TARGET_MEMBER, SHARE_MEMBER):
            turn.write(schema, (self.id, member.id), None)
        self._bump(turn)

    def _bump(self, turn: Turn) -> None:
        self.epoch += 1
        turn.rebalances += 1
        turn.write(SHARE_GROUP, (self.id,), {"epoch": self.epoch, "metadata_hash": self.metadata_hash})

    def _retarget(self, shape: dict[UUID, int], turn: Turn) -> None:
        wishes = {
            one.id: Wish(frozenset(id for name in one.topics if (id := self.catalog.id(name)) is not None), one.id)
            for one in self.members.values()
        }
        target = simple(wishes, shape, self.target)
        for member_id, partitions in target.items():
            if self.target.get(member_id) != partitions:
                turn.write(SHARE_TARGET_MEMBER, (self.id, member_id), {"topics": to_fields(partitions)})
        self.target, self.target_epoch = target, self.epoch
        turn.write(SHARE_TARGET, (self.id,), {"epoch": self.target_epoch})

    # The log

    def _write_member(self, member: ShareMember, turn: Turn) -> None:
        turn.write(
            SHARE_MEMBER,
            (self.id, member.id),
            {
                "rack": member.rack,
                "client_id": member.client.id,
                "client_host": member.client.host,
                "topics": sorted(member.topics),
            },
        )

    def _write_current(self, member: ShareMember, turn: Turn) -> None:
        turn.write(
            SHARE_CURRENT,
            (self.id, member.id),
            {
                "epoch": member.epoch,
                "previous_epoch": member.previous_epoch,
                "state": 0,
                "assigned": to_fields(member.assigned),
            },
        )

    def write_away(self, turn: Turn) -> None:
        for schema in (SHARE_TARGET, SHARE_GROUP):
            turn.write(schema, (self.id,), None)

    def replay(self, record: Record, turn: Turn) -> None:
        schema, key, value = record
        if schema is SHARE_GROUP:
            self.epoch, self.metadata_hash = (value or {}).get("epoch", 0), (value or {}).get("metadata_hash", 0)
        elif schema is SHARE_TARGET:
            self.target_epoch = (value or {}).get("epoch", 0)
        elif schema is SHARE_TARGET_MEMBER:
            self.target.pop(key[1], None)
            if value is not None:
                self.target[key[1]] = from_fields(value["topics"])
        elif schema is SHARE_PARTITIONS:
            return  # which partitions there are, the states in `__share_group_state` say
        elif value is None:
            if schema is SHARE_MEMBER:
                self.members.pop(key[1], None)
        else:
            self._replay_member(schema is SHARE_MEMBER, key[1], value, turn)
        self.schedule(turn)

    def _replay_member(self, described: bool, member_id: str, value: Any, turn: Turn) -> None:
        member = self.members.setdefault(member_id, ShareMember(id=member_id))
        if described:
            member.rack = value["rack"]
            member.client = Client(value["client_id"], value["client_host"])
            member.topics = frozenset(value["topics"])
            member.session_ms = turn.now_ms + self.settings.share_session_timeout_ms
        else:
            member.epoch, member.previous_epoch = value["epoch"], value["previous_epoch"]
            member.assigned = from_fields(value["assigned"])
