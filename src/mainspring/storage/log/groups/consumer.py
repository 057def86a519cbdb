"""The consumer group of KIP-848: the coordinator assigns, and each member moves to its target at its own heartbeats.

Three epochs. The group's grows when members, subscriptions or the topics change; the target assignment is computed for an
epoch of the group; a member's epoch is that of the target it has reached (`reconcile`). A member that uses another epoch than
its own is fenced, and so is one that does not give up in time what was taken from it. Everything is written as Kafka's records,
so that after a crash members go on where they were.
"""

from collections.abc import Callable
from uuid import UUID

import msgspec

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.groups.assignors import ASSIGNORS, Wish
from mainspring.storage.log.groups.catalog import Catalog, digest
from mainspring.storage.log.groups.consumer_members import ConsumerMember
from mainspring.storage.log.groups.consumer_records import replay, write_member
from mainspring.storage.log.groups.errors import (
    FencedInstanceId,
    FencedMemberEpoch,
    GroupMaxSizeReached,
    IllegalGeneration,
    InvalidRegularExpression,
    StaleMemberEpoch,
    UnknownMemberId,
    UnreleasedInstanceId,
    UnsupportedAssignor,
    UnsupportedVersion,
)
from mainspring.storage.log.groups.messages import ConsumerBeat, ConsumerHeartbeat, OffsetCommit, Partitions
from mainspring.storage.log.groups.reconcile import Current, MemberState, difference, reconcile, to_fields
from mainspring.storage.log.groups.settings import GroupSettings
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

LEAVES, LEAVES_FOR_A_WHILE = -1, -2


class ConsumerGroup:
    """A heartbeat from before the member had a partition says that it does not hold it. Come late, in a new epoch's words or in
    the same, it would free what the member reads: so one from an older connection than the newest heard is refused.
    """

    kind = "consumer"

    def __init__(self, id: str, settings: GroupSettings, catalog: Catalog, random_id: Callable[[], str]) -> None:
        self.id = id
        self.settings = settings
        self.catalog = catalog
        self.random_id = random_id
        self.epoch = 0
        self.metadata_hash = 0
        self.target_epoch = 0
        self.target: dict[str, Partitions] = {}
        self.members: dict[str, ConsumerMember] = {}
        self.static: dict[str, str] = {}
        self.regexes: dict[str, frozenset[str]] = {}
        self._regexes_at_ms = -NEVER_MS
        self._owners: dict[tuple[UUID, int], str] = {}

    def heartbeat(self, request: ConsumerHeartbeat, turn: Turn) -> ConsumerBeat:
        """Joins, goes on or leaves. Raises where the member is not who or where it says it is, having changed nothing."""
        if request.member_epoch < 0:
            return self._leave(request, turn)
        member, replaced = self._find(request)
        was = member.current
        changed = self._update(member, request, turn)
        if replaced is not None:
            self.replace(replaced, member, turn)
        elif member.id not in self.members:
            self.add(member)
        if changed:
            write_member(self.id, member, turn)
        self.refresh(turn, changed and replaced is None)
        self.advance(member, request.owned, turn)
        member.session_ms = turn.now_ms + self.settings.consumer_session_timeout_ms
        self.schedule(turn)
        whole = (
            request.owned is not None
            and request.rebalance_timeout_ms >= 0
            and (request.topics is not None or request.regex is not None)
        )
        tells = request.member_epoch == 0 or whole or member.current.assigned != was.assigned
        return ConsumerBeat(
            member_id=member.id,
            member_epoch=member.current.epoch,
            heartbeat_interval_ms=self.settings.consumer_heartbeat_interval_ms,
            assigned=member.current.assigned if tells else None,
        )

    def check_commit(self, request: OffsetCommit, turn: Turn) -> None:
        """Who may commit: a member at its epoch, or anybody while the group has no members."""
        if request.generation < 0 and (
            not self.members or (request.producer_id >= 0 and not request.member_id and request.instance is None)
        ):
            return
        member = self.members.get(request.member_id)
        if member is None:
            raise UnknownMemberId
        if request.generation == member.current.epoch:
            if member.classic is not None:
                member.session_ms = turn.now_ms + member.classic.session_timeout_ms
            return
        if member.classic is not None or request.producer_id >= 0:
            raise IllegalGeneration
        if not request.knows_epochs:
            raise UnsupportedVersion
        raise StaleMemberEpoch

    def expire(self, turn: Turn) -> None:
        """Fences members that were silent, or held on to what was taken from them, for too long."""
        for member in list(self.members.values()):
            if min(member.session_ms, member.revoked_by_ms, member.sync_by_ms) <= turn.now_ms:
                self.remove(member, turn)
        self.schedule(turn)

    # What others read of it

    def empty(self) -> bool:
        return not self.members

    def state(self) -> str:
        if not self.members:
            return "Empty"
        if self.epoch > self.target_epoch:
            return "Assigning"
        settled = all(
            one.current.state is MemberState.STABLE and one.current.epoch == self.target_epoch
            for one in self.members.values()
        )
        return "Stable" if settled else "Reconciling"

    def subscribed(self, topic: str) -> bool:
        return any(topic in self.topics_of(one) for one in self.members.values())

    def topics_of(self, member: ConsumerMember) -> frozenset[str]:
        return member.topics | self.regexes.get(member.regex or "", frozenset())

    def next_ms(self) -> int:
        return min(
            (min(one.session_ms, one.revoked_by_ms, one.sync_by_ms) for one in self.members.values()), default=NEVER_MS
        )

    def schedule(self, turn: Turn) -> None:
        turn.wake(self.id, self.next_ms())

    # A member

    @staticmethod
    def check(request: ConsumerHeartbeat) -> None:
        """Raises `InvalidRequest` or `UnsupportedAssignor` for what is wrong whatever the group is."""
        if request.member_epoch < LEAVES_FOR_A_WHILE:
            raise InvalidRequest("MemberEpoch is -2, -1, 0 or a positive number.")
        if request.member_epoch == LEAVES_FOR_A_WHILE and request.instance is None:
            raise InvalidRequest("InstanceId can't be null.")
        if "" in (request.instance, request.rack):
            raise InvalidRequest("InstanceId and RackId can't be empty.")
        if request.member_epoch and not request.member_id:
            raise InvalidRequest("MemberId can't be empty.")
        if request.member_epoch == 0:
            if request.rebalance_timeout_ms < 0:
                raise InvalidRequest("RebalanceTimeoutMs must be provided in first request.")
            if request.owned is None or request.owned:
                raise InvalidRequest("TopicPartitions must be empty when (re-)joining.")
            if request.topics is None and not request.regex:
                raise InvalidRequest("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null.")
        if request.assignor is not None and request.assignor and request.assignor not in ASSIGNORS:
            raise UnsupportedAssignor(f"{request.assignor!r}; there are {', '.join(ASSIGNORS)}")

    def _find(self, request: ConsumerHeartbeat) -> tuple[ConsumerMember, ConsumerMember | None]:
        """The member, perhaps a new one, and the static member whose place it takes."""
        member_id = request.member_id or self.random_id()
        known = self.members.get(member_id)
        if request.instance is not None:
            holder_id = self.static.get(request.instance)
            if request.member_epoch == 0 and holder_id is not None and holder_id != member_id:
                holder = self.members[holder_id]
                if holder.current.epoch != LEAVES_FOR_A_WHILE and holder.classic is None:
                    raise UnreleasedInstanceId
                return msgspec.structs.replace(holder, id=member_id, current=Current(), classic=None), holder
            if request.member_epoch > 0 and holder_id is None:
                raise UnknownMemberId
            if request.member_epoch > 0 and holder_id != member_id:
                raise FencedInstanceId
        if known is None:
            if request.member_epoch > 0:
                raise UnknownMemberId
            if len(self.members) >= self.settings.consumer_members_max:
                raise GroupMaxSizeReached
            return ConsumerMember(id=member_id), None
        self._check_epoch(known, request)
        if known.current.epoch == LEAVES_FOR_A_WHILE:
            return msgspec.structs.replace(known, current=Current(), classic=None), known
        return known, None

    def _check_epoch(self, member: ConsumerMember, request: ConsumerHeartbeat) -> None:
        epoch, current = request.member_epoch, member.current
        if -1 < request.connection < member.connection:
            raise FencedMemberEpoch("a heartbeat of a connection that a later one has replaced")
        if epoch == 0:
            return
        if epoch == current.epoch:
            return
        # The answer that told the new epoch may have been lost: the epoch before passes, with nothing more than is assigned.
        lost = epoch == current.previous_epoch and request.owned is not None
        if not lost or difference(request.owned or {}, current.assigned):
            raise FencedMemberEpoch

    def _update(self, member: ConsumerMember, request: ConsumerHeartbeat, turn: Turn) -> bool:
        """Takes over what the request says; gives whether anything that is written down is different."""
        if request.regex:
            self._resolve(request.regex, turn)
        before = (member.topics, member.regex, member.assignor, member.rack, member.instance, member.classic)
        fresh = member.id not in self.members
        member.connection = max(member.connection, request.connection) if request.member_epoch else request.connection
        if request.topics is not None:
            member.topics = frozenset(request.topics)
        if request.regex is not None:
            member.regex = request.regex or None
        member.assignor = member.assignor if request.assignor is None else request.assignor or None
        member.rack = member.rack if request.rack is None else request.rack
        member.instance = member.instance if request.instance is None else request.instance
        member.classic = None
        changed = (member.topics, member.regex, member.assignor, member.rack, member.instance, member.classic) != before
        if request.rebalance_timeout_ms >= 0 and request.rebalance_timeout_ms != member.rebalance_timeout_ms:
            member.rebalance_timeout_ms = request.rebalance_timeout_ms
            changed = True
        if request.client != member.client and request.client.id:
            member.client = request.client
            changed = True
        return fresh or changed

    def add(self, member: ConsumerMember) -> None:
        self.members[member.id] = member
        if member.instance is not None:
            self.static[member.instance] = member.id

    def replace(self, old: ConsumerMember, member: ConsumerMember, turn: Turn) -> None:
        """A static member came back: it takes over the target of the one before."""
        target = self.target.get(old.id, {})
        self.disown(old)
        if old.id != member.id:
            self.erase(old, turn)
        self.add(member)
        self.target[member.id] = target
        turn.write(CONSUMER_TARGET_MEMBER, (self.id, member.id), {"topics": to_fields(target)})

    def _leave(self, request: ConsumerHeartbeat, turn: Turn) -> ConsumerBeat:
        member = self.members.get(request.member_id)
        if request.instance is not None:
            holder_id = self.static.get(request.instance)
            if holder_id is None:
                raise UnknownMemberId
            if holder_id != request.member_id:
                raise FencedInstanceId
        if member is None:
            raise UnknownMemberId
        if request.member_epoch == LEAVES_FOR_A_WHILE:
            self.set_current(
                member, msgspec.structs.replace(member.current, epoch=LEAVES_FOR_A_WHILE, previous_epoch=0), turn
            )
            member.revoked_by_ms = NEVER_MS
        else:
            self.remove(member, turn)
        self.schedule(turn)
        return ConsumerBeat(
            member_id=request.member_id, member_epoch=request.member_epoch, heartbeat_interval_ms=0, assigned=None
        )

    def remove(self, member: ConsumerMember, turn: Turn) -> None:
        """Takes a member out: its partitions are free, and the group's next epoch begins."""
        self.disown(member)
        self.erase(member, turn)
        if member.instance is not None and self.static.get(member.instance) == member.id:
            del self.static[member.instance]
        self._bump(turn)

    def erase(self, member: ConsumerMember, turn: Turn) -> None:
        del self.members[member.id]
        self.target.pop(member.id, None)
        turn.write(CONSUMER_CURRENT, (self.id, member.id), None)
        turn.write(CONSUMER_TARGET_MEMBER, (self.id, member.id), None)
        turn.write(CONSUMER_MEMBER, (self.id, member.id), None)
        if member.regex and all(one.regex != member.regex for one in self.members.values()):
            self.regexes.pop(member.regex, None)
            turn.write(CONSUMER_REGEX, (self.id, member.regex), None)

    # Epochs

    def refresh(self, turn: Turn, changed: bool) -> None:
        """Begins a new epoch where members or topics are others than before, and computes its target."""
        if turn.now_ms >= self._regexes_at_ms + self.settings.consumer_regex_refresh_ms:
            self._regexes_at_ms = turn.now_ms
            for regex in list(self.regexes):
                changed |= self._resolve(regex, turn)
        shape = self.catalog.shape({topic for one in self.members.values() for topic in self.topics_of(one)})
        now = digest(shape)
        if changed or now != self.metadata_hash:
            self.metadata_hash = now
            self._bump(turn)
        if self.epoch > self.target_epoch:
            self._retarget(shape, turn)

    def advance(self, member: ConsumerMember, owned: Partitions | None, turn: Turn) -> None:
        """Moves a member one step towards its target."""
        target = self.target.get(member.id, {})
        step = reconcile(member.current, self.target_epoch, target, owned, lambda *slot: slot not in self._owners)
        if step is not member.current and step != member.current:
            self.set_current(member, step, turn)
            revoking = step.state is MemberState.UNREVOKED
            member.revoked_by_ms = turn.now_ms + max(0, member.rebalance_timeout_ms) if revoking else NEVER_MS

    def has_step(self, member: ConsumerMember) -> bool:
        """Whether the next heartbeat would bring the member further, or must."""
        current = member.current
        if current.epoch < self.epoch or current.state is MemberState.UNREVOKED:
            return True
        return current.state is MemberState.UNRELEASED and self.may_advance(member)

    def may_advance(self, member: ConsumerMember) -> bool:
        """Whether something that the member waits for is free."""
        missing = difference(self.target.get(member.id, {}), member.current.assigned)
        return any((topic, number) not in self._owners for topic, numbers in missing.items() for number in numbers)

    def _bump(self, turn: Turn) -> None:
        self.epoch += 1
        turn.rebalances += 1
        turn.write(CONSUMER_GROUP, (self.id,), {"epoch": self.epoch, "metadata_hash": self.metadata_hash})

    def _retarget(self, shape: dict[UUID, int], turn: Turn) -> None:
        wishes = {}
        for member in self.members.values():
            ids = (self.catalog.id(name) for name in self.topics_of(member))
            wishes[member.id] = Wish(frozenset(id for id in ids if id is not None), member.instance or member.id)
        target = ASSIGNORS[self.assignor()](wishes, shape, self.target)
        for member_id, partitions in target.items():
            if self.target.get(member_id) != partitions:
                turn.write(CONSUMER_TARGET_MEMBER, (self.id, member_id), {"topics": to_fields(partitions)})
        self.target = target
        self.target_epoch = self.epoch
        turn.write(CONSUMER_TARGET, (self.id,), {"epoch": self.target_epoch})

    def assignor(self) -> str:
        votes = [one.assignor for one in self.members.values() if one.assignor in ASSIGNORS]
        return max(sorted({one for one in votes if one}), key=votes.count, default="uniform")

    def _resolve(self, regex: str, turn: Turn) -> bool:
        """Looks up what a regular expression matches now; gives whether that is something else."""
        import re2  # type: ignore[import-untyped]

        options = re2.Options()
        options.log_errors = False
        try:
            pattern = re2.compile(regex, options)
        except re2.error as error:
            raise InvalidRegularExpression(f"{regex!r}: {error}") from None
        names = frozenset(name for name in self.catalog.names() if pattern.fullmatch(name))
        if self.regexes.get(regex) == names:
            return False
        self.regexes[regex] = names
        turn.write(CONSUMER_REGEX, (self.id, regex), {"topics": sorted(names), "version": 0, "timestamp": turn.wall_ms})
        return True

    # Who holds what

    def set_current(self, member: ConsumerMember, current: Current, turn: Turn) -> None:
        self.disown(member)
        member.current = current
        self.own(member)
        turn.write(
            CONSUMER_CURRENT,
            (self.id, member.id),
            {
                "epoch": current.epoch,
                "previous_epoch": current.previous_epoch,
                "state": int(current.state),
                "assigned": to_fields(current.assigned),
                "revoking": to_fields(current.revoking),
            },
        )

    def own(self, member: ConsumerMember) -> None:
        for partitions in (member.current.assigned, member.current.revoking):
            for topic, numbers in partitions.items():
                self._owners.update(((topic, number), member.id) for number in numbers)

    def disown(self, member: ConsumerMember) -> None:
        for partitions in (member.current.assigned, member.current.revoking):
            for topic, numbers in partitions.items():
                for number in numbers:
                    if self._owners.get((topic, number)) == member.id:
                        del self._owners[topic, number]

    # The log

    def write_away(self, turn: Turn) -> None:
        """Tombstones for all that an empty group has written, in Kafka's order."""
        for regex in self.regexes:
            turn.write(CONSUMER_REGEX, (self.id, regex), None)
        turn.write(CONSUMER_TARGET, (self.id,), None)
        turn.write(CONSUMER_GROUP, (self.id,), None)

    def replay(self, record: Record, turn: Turn) -> None:
        replay(self, record, turn)
        self.schedule(turn)
