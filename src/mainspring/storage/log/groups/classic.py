"""The classic group: members agree on a protocol, one of them assigns, and all hear it at a barrier.

    EMPTY -> PREPARING (waits until every member has joined again, or the rebalance's time is over)
          -> COMPLETING (waits for the leader's assignment) -> STABLE -> PREPARING ...

A generation is one passage of the barrier; a request of another generation is refused, so a partition has one owner per
generation. A static member (`instance`) keeps its place and its assignment over a restart. Only EMPTY and STABLE are written
down: after a crash members find the generation they knew, and an unfinished rebalance is started again by their heartbeats.
Kafka's `ClassicGroup` in the terms of the Java coordinator.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from mainspring.storage.log.groups.classic_members import Member, State, common_protocols, elect_protocol
from mainspring.storage.log.groups.classic_records import restore, value
from mainspring.storage.log.groups.embedded import PROTOCOL_TYPE, read_subscription
from mainspring.storage.log.groups.errors import (
    FencedInstanceId,
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
    OffsetCommit,
    Synced,
    SyncGroup,
)
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.groups.turn import NEVER_MS, Turn
from mainspring.storage.log.record_schemas import CLASSIC_GROUP, Record


class ClassicGroup:
    """`random_id` makes the part of a member's id that nobody can guess."""

    kind = "classic"

    def __init__(self, id: str, settings: GroupSettings, random_id: Callable[[], str]) -> None:
        self.id = id
        self.settings = settings
        self.random_id = random_id
        self.state = State.EMPTY
        self.state_since_ms = -1
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self.static: dict[str, str] = {}
        self.pending: dict[str, int] = {}
        self._barrier_ms = NEVER_MS
        self._barrier_ms_max = NEVER_MS
        self._grew = False

    # What is asked of it

    def join(self, request: JoinGroup, token: Any, turn: Turn) -> None:
        """Answers `Joined`, at the barrier. Raises what the request alone is guilty of, having changed nothing."""
        settings = self.settings
        if not settings.session_timeout_ms_min <= request.session_timeout_ms <= settings.session_timeout_ms_max:
            raise InvalidSessionTimeout
        self._check_protocols(request)
        if not request.member_id:
            self._join_first(request, token, turn)
        elif request.member_id in self.pending:
            self._check_room()
            del self.pending[request.member_id]
            self._add(request.member_id, request, token, turn)
        else:
            self._join_again(self._member(request.member_id, request.instance), request, token, turn)
        self.schedule(turn)

    def sync(self, request: SyncGroup, token: Any, turn: Turn) -> None:
        """Answers `Synced` once the leader has spoken."""
        member = self._member_of(request.member_id, request.instance, request.generation)
        if (request.protocol_type is not None and request.protocol_type != self.protocol_type) or (
            request.protocol is not None and request.protocol != self.protocol
        ):
            raise InconsistentGroupProtocol
        if self.state is State.PREPARING:
            raise RebalanceInProgress
        if self.state is State.STABLE:
            self._beat(member, turn)
            turn.answer(token, Synced(self.protocol_type, self.protocol, member.assignment))
            return
        turn.answer(member.syncing, RebalanceInProgress())
        member.syncing = token
        if member.id == self.leader:
            self._assign(dict(request.assignments), turn)
        self.schedule(turn)

    def heartbeat(self, request: Heartbeat, turn: Turn) -> None:
        """Raises `RebalanceInProgress` where the member must join again; it stays alive by asking."""
        member = self._member_of(request.member_id, request.instance, request.generation)
        self._beat(member, turn)
        if self.state is State.PREPARING:
            raise RebalanceInProgress

    def leave(self, leaving: Leaving, turn: Turn) -> str:
        """Gives the id of the member that left."""
        if not leaving.member_id and leaving.instance is not None:
            member_id = self.static.get(leaving.instance)
            if member_id is None:
                raise UnknownMemberId
        else:
            member_id = leaving.member_id
        if self.pending.pop(member_id, None) is not None:
            self._complete_if_all_joined(turn)
        else:
            self._remove(self._member(member_id, leaving.instance), turn)
        self.schedule(turn)
        return member_id

    def check_commit(self, request: OffsetCommit, turn: Turn) -> None:
        """Who may commit: a member of this generation, or anybody while the group has no members."""
        if request.generation < 0 and not request.member_id and request.instance is None:
            if self.state is not State.EMPTY and request.producer_id < 0:
                raise UnknownMemberId
            return
        if request.generation < 0 and self.state is State.EMPTY:
            return
        member = self._member_of(request.member_id, request.instance, request.generation)
        if request.producer_id >= 0:
            return
        self._beat(member, turn)
        if self.state is State.COMPLETING:
            raise RebalanceInProgress

    def expire(self, turn: Turn) -> None:
        """Whatever has become due by `turn.now_ms`."""
        for member_id in [id for id, at_ms in self.pending.items() if at_ms <= turn.now_ms]:
            del self.pending[member_id]
            self._complete_if_all_joined(turn)
        for member in [one for one in self.members.values() if one.deadline_ms <= turn.now_ms]:
            if member.id in self.members and member.deadline_ms <= turn.now_ms:
                self._remove(member, turn)
        if self._barrier_ms <= turn.now_ms:
            self._barrier_over(turn)
        self.schedule(turn)

    # What others read of it

    def empty(self) -> bool:
        return self.state is State.EMPTY and not self.pending

    def subscribed(self, topic: str) -> bool:
        """Whether a member reads `topic`; True where members speak a protocol that this coordinator cannot read."""
        if not self.members:
            return False
        if self.protocol_type != PROTOCOL_TYPE:
            return True
        subscriptions = [read_subscription(one.metadata(self.protocol)) for one in self.members.values()]
        return any(one is None or topic in one.topics for one in subscriptions)

    def next_ms(self) -> int:
        deadlines = [one.deadline_ms for one in self.members.values()]
        return min([self._barrier_ms, *deadlines, *self.pending.values()])

    def schedule(self, turn: Turn) -> None:
        turn.wake(self.id, self.next_ms())

    # Joining

    def _check_protocols(self, request: JoinGroup) -> None:
        if not request.protocol_type or not request.protocols:
            raise InconsistentGroupProtocol
        others = [one for one in self.members.values() if one.id != request.member_id]
        if not others:
            return
        if request.protocol_type != self.protocol_type:
            raise InconsistentGroupProtocol
        if not common_protocols(others).intersection(name for name, _ in request.protocols):
            raise InconsistentGroupProtocol

    def _check_room(self) -> None:
        if len(self.members) >= self.settings.group_members_max:
            raise GroupMaxSizeReached

    def _join_first(self, request: JoinGroup, token: Any, turn: Turn) -> None:
        new_id = f"{request.instance or request.client.id}-{self.random_id()}"
        if request.instance is not None:
            old_id = self.static.get(request.instance)
            if old_id is not None:
                self._replace(self.members[old_id], new_id, request, token, turn)
                return
            self._check_room()
            self._add(new_id, request, token, turn)
            return
        if len(self.members) + len(self.pending) >= self.settings.group_members_max:
            raise GroupMaxSizeReached
        if not request.two_steps:
            self._add(new_id, request, token, turn)
            return
        self.pending[new_id] = turn.now_ms + request.session_timeout_ms
        turn.answer(token, MemberIdRequired(new_id))

    def _join_again(self, member: Member, request: JoinGroup, token: Any, turn: Turn) -> None:
        same = member.protocols == request.protocols
        if (self.state is State.COMPLETING and same) or (
            self.state is State.STABLE and same and member.id != self.leader
        ):
            self._beat(member, turn)
            turn.answer(token, self._joined(member))
        else:
            self._update(member, request, token, turn)
            self.rebalance(turn)

    def _add(self, member_id: str, request: JoinGroup, token: Any, turn: Turn) -> None:
        member = Member(
            id=member_id,
            instance=request.instance,
            client=request.client,
            session_timeout_ms=request.session_timeout_ms,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            protocols=request.protocols,
        )
        self.members[member_id] = member
        self.protocol_type = request.protocol_type
        if self.leader is None:
            self.leader = member_id
        if request.instance is not None:
            self.static[request.instance] = member_id
        self._grew = True
        self._update(member, request, token, turn)
        # Nobody hears a new member before the barrier: it has longer than a session.
        member.deadline_ms = turn.now_ms + self.settings.new_member_join_timeout_ms
        self.rebalance(turn)

    def _replace(self, old: Member, new_id: str, request: JoinGroup, token: Any, turn: Turn) -> None:
        """A static member came back under a new id; whoever still uses the old one is fenced."""
        same = old.protocols == request.protocols
        turn.answer(old.joining, FencedInstanceId())
        turn.answer(old.syncing, FencedInstanceId())
        del self.members[old.id]
        member = msgspec.structs.replace(old, id=new_id, joining=None, syncing=None, client=request.client)
        self.members[new_id] = member
        self.static[old.instance or ""] = new_id
        was_leader = self.leader == old.id
        if was_leader:
            self.leader = new_id
        self._update(member, request, token, turn)
        if self.state is not State.STABLE or not same:
            self.rebalance(turn)
            return
        member.joining = None
        self._beat(member, turn)
        self._write(turn)
        answer = self._joined(member)
        if was_leader and not request.skips_assignment:
            # An older client would assign anew as the leader; told of another leader it only syncs.
            answer = msgspec.structs.replace(answer, leader=old.id, members=())
        turn.answer(token, msgspec.structs.replace(answer, skip_assignment=was_leader and request.skips_assignment))

    def _update(self, member: Member, request: JoinGroup, token: Any, turn: Turn) -> None:
        turn.answer(member.joining, RebalanceInProgress())
        member.protocols = request.protocols
        member.session_timeout_ms = request.session_timeout_ms
        member.rebalance_timeout_ms = request.rebalance_timeout_ms
        member.client = request.client
        member.skips_assignment = request.skips_assignment
        member.joining = token
        # A member at the barrier is alive as long as the barrier's own time says.
        member.deadline_ms = NEVER_MS

    # The barrier

    def rebalance(self, turn: Turn) -> None:
        if self.state is State.PREPARING:
            self._complete_if_all_joined(turn)
            return
        for member in self.members.values():
            if member.syncing is not None:
                turn.answer(member.syncing, RebalanceInProgress())
                member.syncing = None
                self._beat(member, turn)
            member.assignment = member.assignment if self.state is State.STABLE else b""
        timeout_ms = max((one.rebalance_timeout_ms for one in self.members.values()), default=0)
        self._barrier_ms_max = self._barrier_ms = turn.now_ms + max(0, timeout_ms)
        first = self.state is State.EMPTY
        self._become(State.PREPARING, turn)
        if first:
            self._grew = False
            self._barrier_ms = min(turn.now_ms + self.settings.initial_rebalance_delay_ms, self._barrier_ms)
            if self._barrier_ms <= turn.now_ms:
                self._complete(turn)
            return
        self._barrier_ms_max = NEVER_MS
        self._complete_if_all_joined(turn)

    def _complete_if_all_joined(self, turn: Turn) -> None:
        initial = self._barrier_ms_max != NEVER_MS
        if self.state is not State.PREPARING or initial or self.pending:
            return
        if all(one.joining is not None for one in self.members.values()):
            self._complete(turn)

    def _barrier_over(self, turn: Turn) -> None:
        if self.state is State.PREPARING:
            if self._grew and turn.now_ms < self._barrier_ms_max != NEVER_MS:
                self._grew = False
                delay_ms = self.settings.initial_rebalance_delay_ms
                self._barrier_ms = min(turn.now_ms + delay_ms, self._barrier_ms_max)
                return
            self._complete(turn)
            return
        self._barrier_ms = NEVER_MS
        late = [one for one in self.members.values() if one.syncing is None]
        if self.state is not State.COMPLETING or not late:
            return
        for member in late:
            self._forget(member, turn, UnknownMemberId())
        self.rebalance(turn)

    def _complete(self, turn: Turn) -> None:
        """Opens a generation with whoever has joined; a static member that has not yet is kept."""
        self._barrier_ms = self._barrier_ms_max = NEVER_MS
        for member in [one for one in self.members.values() if one.joining is None and one.instance is None]:
            self._forget(member, turn, UnknownMemberId())
        joined = [one for one in self.members.values() if one.joining is not None]
        if self.members and not joined:
            timeout_ms = max(one.rebalance_timeout_ms for one in self.members.values())
            self._barrier_ms = turn.now_ms + max(1, timeout_ms)
            return
        self.generation = self.generation % 0x7FFFFFFF + 1
        turn.rebalances += 1
        if not self.members:
            self.protocol = self.leader = None
            self._become(State.EMPTY, turn)
            self._write(turn)
            return
        if self.leader not in self.members or self.members[self.leader].joining is None:
            self.leader = joined[0].id
        self.protocol = elect_protocol(self.members.values())
        self._become(State.COMPLETING, turn)
        timeout_ms = max(one.rebalance_timeout_ms for one in self.members.values())
        self._barrier_ms = turn.now_ms + max(1, timeout_ms)
        for member in joined:
            token, member.joining = member.joining, None
            self._beat(member, turn)
            turn.answer(token, self._joined(member))

    def _assign(self, assignments: dict[str, bytes], turn: Turn) -> None:
        for member in self.members.values():
            member.assignment = assignments.get(member.id, b"")
        self._barrier_ms = NEVER_MS
        self._become(State.STABLE, turn)
        self._write(turn)
        for member in self.members.values():
            if member.syncing is not None:
                token, member.syncing = member.syncing, None
                self._beat(member, turn)
                turn.answer(token, Synced(self.protocol_type, self.protocol, member.assignment))

    def _joined(self, member: Member) -> Joined:
        leads = member.id == self.leader
        return Joined(
            generation=self.generation,
            protocol_type=self.protocol_type,
            protocol=self.protocol,
            leader=self.leader or "",
            member_id=member.id,
            members=tuple((one.id, one.instance, one.metadata(self.protocol)) for one in self.members.values())
            if leads
            else (),
        )

    # Members

    def _member(self, member_id: str, instance: str | None) -> Member:
        if instance is not None and instance in self.static and self.static[instance] != member_id:
            raise FencedInstanceId
        member = self.members.get(member_id)
        if member is None or (instance is not None and instance not in self.static):
            raise UnknownMemberId
        return member

    def _member_of(self, member_id: str, instance: str | None, generation: int) -> Member:
        member = self._member(member_id, instance)
        if generation != self.generation:
            raise IllegalGeneration
        return member

    def _beat(self, member: Member, turn: Turn) -> None:
        if member.joining is None:
            member.deadline_ms = turn.now_ms + member.session_timeout_ms

    def _remove(self, member: Member, turn: Turn) -> None:
        self._forget(member, turn, UnknownMemberId())
        if self.state in (State.STABLE, State.COMPLETING):
            self.rebalance(turn)
        elif self.state is State.PREPARING and not self.members:
            self._complete(turn)
        else:
            self._complete_if_all_joined(turn)

    def _forget(self, member: Member, turn: Turn, reason: Exception) -> None:
        turn.answer(member.joining, reason)
        turn.answer(member.syncing, reason)
        del self.members[member.id]
        if member.instance is not None and self.static.get(member.instance) == member.id:
            del self.static[member.instance]
        if self.leader == member.id:
            self.leader = next(iter(self.members), None)

    def _become(self, state: State, turn: Turn) -> None:
        self.state = state
        self.state_since_ms = turn.wall_ms

    # The log

    def _write(self, turn: Turn) -> None:
        turn.write(CLASSIC_GROUP, (self.id,), value(self))

    def write_away(self, turn: Turn) -> None:
        turn.write(CLASSIC_GROUP, (self.id,), None)

    def replay(self, record: Record, turn: Turn) -> None:
        """Takes the state that a record tells; sessions start anew."""
        restore(self, record.value or {}, turn)
        self.schedule(turn)
