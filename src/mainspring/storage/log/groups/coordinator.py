"""All groups of a node as one state machine: finds the group, lets it decide, keeps the offsets beside it.

A message goes in with a token and a `Turn`; what is guilty by itself is refused by an exception, having changed nothing;
everything else is in the turn. Groups come into being with their first member or offset, change their kind only while nobody is
in them (or online, see `migration`), and go with their last offset. Pure: no I/O, no clock; names of members by `random_id`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mainspring.storage.log.coordinator_errors import CoordinatorError
from mainspring.storage.log.groups import migration
from mainspring.storage.log.groups.catalog import Catalog
from mainspring.storage.log.groups.classic import ClassicGroup
from mainspring.storage.log.groups.classic_members import State
from mainspring.storage.log.groups.consumer import ConsumerGroup
from mainspring.storage.log.groups.errors import (
    GroupIdNotFound,
    GroupSubscribedToTopic,
    IllegalGeneration,
    InconsistentGroupProtocol,
    InvalidCommitOffsetSize,
    InvalidGroupId,
    NonEmptyGroup,
    OffsetMetadataTooLarge,
    StaleMemberEpoch,
    UnknownMemberId,
)
from mainspring.storage.log.groups.messages import (
    ConsumerHeartbeat,
    GroupDelete,
    Heartbeat,
    JoinGroup,
    LeaveGroup,
    Offset,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    ShareHeartbeat,
    SyncGroup,
    TopicPartition,
)
from mainspring.storage.log.groups.offsets import Offsets
from mainspring.storage.log.groups.room import Group, check_name, check_room, members_in
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.groups.share import ShareGroup
from mainspring.storage.log.groups.turn import Turn
from mainspring.storage.log.record_schemas import (
    CLASSIC_GROUP,
    CONSUMER_CURRENT,
    CONSUMER_GROUP,
    CONSUMER_MEMBER,
    CONSUMER_REGEX,
    CONSUMER_TARGET,
    CONSUMER_TARGET_MEMBER,
    OFFSET_COMMIT,
    SHARE_GROUP,
    Record,
)

_CONSUMER_RECORDS = (
    CONSUMER_GROUP,
    CONSUMER_MEMBER,
    CONSUMER_TARGET,
    CONSUMER_TARGET_MEMBER,
    CONSUMER_CURRENT,
    CONSUMER_REGEX,
)

_GROUPS = (CLASSIC_GROUP, CONSUMER_GROUP, SHARE_GROUP)
"""The records whose tombstone is the group's own."""


class Coordinator:
    """`groups` and `offsets` are for reading; only `handle`, `tick`, `sweep`, `ended` and `replay` change them."""

    def __init__(self, settings: GroupSettings, catalog: Catalog, random_id: Callable[[], str]) -> None:
        self.settings = settings
        self.catalog = catalog
        self.random_id = random_id
        self.groups: dict[str, Group] = {}
        self.offsets = Offsets()
        self.member_count = 0
        self._own_settings: Mapping[str, GroupSettings] = {}
        self._handlers: dict[type, Callable[[Any, Any, Turn], None]] = {
            JoinGroup: self._join,
            SyncGroup: self._sync,
            Heartbeat: self._heartbeat,
            LeaveGroup: self._leave,
            ConsumerHeartbeat: self._consumer_heartbeat,
            ShareHeartbeat: self._share_heartbeat,
            OffsetCommit: self._commit,
            OffsetFetch: self._fetch,
            OffsetDelete: self._delete_offsets,
            GroupDelete: self._delete,
        }

    def configure(self, own_settings: Mapping[str, GroupSettings]) -> None:
        """The settings of groups that have their own; all others have the node's from now on."""
        self._own_settings = own_settings
        for name, group in self.groups.items():
            group.settings = self.settings_of(name)

    def settings_of(self, name: str) -> GroupSettings:
        return self._own_settings.get(name, self.settings)

    def handle(self, message: Any, token: Any, turn: Turn) -> None:
        """Raises `CoordinatorError` where the message is refused at once."""
        if not message.group and not isinstance(message, OffsetCommit | OffsetFetch | OffsetDelete | GroupDelete):
            raise InvalidGroupId
        check_name(message.group)
        with self._counting(message.group):
            check_room(message, self.groups, self.member_count, self.settings)
            self._handlers[type(message)](message, token, turn)

    def tick(self, name: str, turn: Turn) -> None:
        """A group asked to be woken now."""
        group = self.groups.get(name)
        if group is not None:
            with self._counting(name):
                group.expire(turn)
                self._settle_kind(name, turn)

    def sweep(self, turn: Turn) -> None:
        """Forgets offsets that nobody has committed for the retention's time, and groups with nothing left."""
        before_ms = turn.wall_ms - self.settings.offsets_retention_ms
        for name in {**self.groups, **dict.fromkeys(self.offsets.groups())}:
            group = self.groups.get(name)
            keeps = group.subscribed if group is not None else lambda topic: False
            since_ms = -1
            if isinstance(group, ClassicGroup) and group.protocol_type:
                since_ms = group.state_since_ms if group.state is State.EMPTY else -1
            gone = list(self.offsets.expired(name, before_ms, keeps, since_ms))
            gone += [one for one in self.offsets.of(name) if one[0] not in self.catalog and one not in gone]
            self.offsets.delete(name, gone, turn)
            self._drop_if_done(name, turn)

    def ended(self, producer_id: int, groups: Callable[[str], bool], commit: bool) -> None:
        """A transaction's marker stands in the log of `groups`."""
        for name in self.offsets.end(producer_id, groups, commit):
            if commit and name not in self.groups:
                self.groups[name] = ClassicGroup(name, self.settings_of(name), self.random_id)

    def replay(self, record: Record, producer_id: int, turn: Turn) -> None:
        """Takes one record of the internal topic; `producer_id` -1 outside a transaction."""
        if record.schema is OFFSET_COMMIT:
            self._replay(record, producer_id, turn)
            return
        with self._counting(record.key[0]):
            self._replay(record, producer_id, turn)

    def _replay(self, record: Record, producer_id: int, turn: Turn) -> None:
        schema, key, value = record
        name = key[0]
        if schema is OFFSET_COMMIT:
            self.offsets.replay(record, producer_id)
            if value is not None and producer_id < 0 and name not in self.groups:
                self.groups[name] = ClassicGroup(name, self.settings_of(name), self.random_id)
            return
        group = self.groups.get(name)
        kind: type[Group] = (
            ClassicGroup if schema is CLASSIC_GROUP else ConsumerGroup if schema in _CONSUMER_RECORDS else ShareGroup
        )
        if value is None and not isinstance(group, kind):
            return
        if value is None and schema in _GROUPS:
            del self.groups[name]
            return
        if not isinstance(group, kind):
            group = self.groups[name] = self._make(kind, name)
        group.replay(record, turn)

    def forget(self, groups: Callable[[str], bool]) -> None:
        """Drops everything of `groups`, to be replayed."""
        for name in [one for one in self.groups if groups(one)]:
            with self._counting(name):
                del self.groups[name]
        self.offsets.forget(groups)

    # Limits

    @contextmanager
    def _counting(self, name: str) -> Iterator[None]:
        """Around whatever may change who is in a group."""
        before = members_in(self.groups.get(name))
        try:
            yield
        finally:
            self.member_count += members_in(self.groups.get(name)) - before

    # Members

    def _join(self, request: JoinGroup, token: Any, turn: Turn) -> None:
        group = self.groups.get(request.group)
        if isinstance(group, ConsumerGroup) and group.members:
            migration.join(group, request, token, turn)
            return
        if isinstance(group, ShareGroup) and not group.empty():
            raise InconsistentGroupProtocol
        if not isinstance(group, ClassicGroup):
            if request.member_id:
                raise UnknownMemberId
            fresh = ClassicGroup(request.group, self.settings_of(request.group), self.random_id)
            fresh.join(request, token, turn)
            if group is not None:
                records, turn.records = turn.records, []
                group.write_away(turn)
                turn.records += records
            self.groups[request.group] = fresh
            return
        group.join(request, token, turn)

    def _sync(self, request: SyncGroup, token: Any, turn: Turn) -> None:
        group = self._classic_or_consumer(request.group)
        if isinstance(group, ConsumerGroup):
            migration.sync(group, request, token, turn)
        else:
            group.sync(request, token, turn)

    def _heartbeat(self, request: Heartbeat, token: Any, turn: Turn) -> None:
        group = self._classic_or_consumer(request.group)
        if isinstance(group, ConsumerGroup):
            migration.heartbeat(group, request, turn)
        else:
            group.heartbeat(request, turn)
        turn.answer(token, None)

    def _leave(self, request: LeaveGroup, token: Any, turn: Turn) -> None:
        """Answers a list of (member id, instance, error or None), one for each that was to leave."""
        group = self._classic_or_consumer(request.group)
        outcome: list[tuple[str, str | None, CoordinatorError | None]] = []
        for leaving in request.members:
            try:
                if isinstance(group, ConsumerGroup):
                    member_id = migration.leave(group, leaving, turn)
                else:
                    member_id = group.leave(leaving, turn)
                outcome.append((member_id, leaving.instance, None))
            except CoordinatorError as error:
                outcome.append((leaving.member_id, leaving.instance, error))
        self._settle_kind(request.group, turn)
        turn.answer(token, outcome)

    def _consumer_heartbeat(self, request: ConsumerHeartbeat, token: Any, turn: Turn) -> None:
        ConsumerGroup.check(request)
        group = self.groups.get(request.group)
        if isinstance(group, ConsumerGroup):
            answer = group.heartbeat(request, turn)
        elif request.member_epoch != 0 and not (isinstance(group, ClassicGroup) and group.members):
            raise GroupIdNotFound
        elif group is None or group.empty():
            fresh = ConsumerGroup(request.group, self.settings_of(request.group), self.catalog, self.random_id)
            answer = fresh.heartbeat(request, turn)
            if group is not None:
                records, turn.records = turn.records, []
                group.write_away(turn)
                turn.records += records
            self.groups[request.group] = fresh
        elif isinstance(group, ClassicGroup):
            fresh = migration.upgraded(group, self.catalog, turn)
            answer = fresh.heartbeat(request, turn)
            self.groups[request.group] = fresh
        else:
            raise GroupIdNotFound
        self._settle_kind(request.group, turn)
        turn.answer(token, answer)

    def _share_heartbeat(self, request: ShareHeartbeat, token: Any, turn: Turn) -> None:
        group = self.groups.get(request.group)
        if isinstance(group, ShareGroup):
            turn.answer(token, group.heartbeat(request, turn))
            return
        if request.member_epoch != 0 or (group is not None and not group.empty()):
            raise GroupIdNotFound
        if group is not None or request.group in self.offsets.groups():
            raise GroupIdNotFound(f"{request.group} is not a share group.")
        fresh = ShareGroup(request.group, self.settings_of(request.group), self.catalog)
        turn.answer(token, fresh.heartbeat(request, turn))
        self.groups[request.group] = fresh

    def _settle_kind(self, name: str, turn: Turn) -> None:
        """A consumer group whose last member of the new protocol has gone, and which has others, is a classic one again."""
        group = self.groups.get(name)
        if isinstance(group, ConsumerGroup) and migration.should_downgrade(group):
            self.groups[name] = migration.downgraded(group, turn)

    # Offsets

    def _commit(self, request: OffsetCommit, token: Any, turn: Turn) -> None:
        """Answers the Kafka error code of each partition."""
        group = self.groups.get(request.group)
        if isinstance(group, ShareGroup):
            raise GroupIdNotFound
        if group is None and (request.generation >= 0 or (request.producer_id >= 0 and request.member_id)):
            raise GroupIdNotFound if request.knows_epochs and request.producer_id < 0 else IllegalGeneration
        if group is not None:
            group.check_commit(request, turn)
        elif request.producer_id < 0:
            self.groups[request.group] = ClassicGroup(request.group, self.settings_of(request.group), self.random_id)
        codes: dict[TopicPartition, int] = {}
        for partition, offset in request.offsets.items():
            if len(offset.metadata.encode()) > self.settings.offset_metadata_bytes_max:
                codes[partition] = OffsetMetadataTooLarge.kafka_code
                continue
            if self.offsets.held_bytes >= self.settings.positions_bytes_max and not self.offsets.holds(
                request.group, partition, request.producer_id
            ):
                codes[partition] = InvalidCommitOffsetSize.kafka_code
                continue
            codes[partition] = 0
            if request.producer_id >= 0:
                self.offsets.commit_pending(request.producer_id, request.group, partition, offset, turn)
            else:
                self.offsets.commit(request.group, partition, offset, turn)
        turn.answer(token, codes)

    def _fetch(self, request: OffsetFetch, token: Any, turn: Turn) -> None:
        """Answers {partition: (offset or None, whether it is unstable)}."""
        group = self.groups.get(request.group)
        if isinstance(group, ConsumerGroup) and request.member_id and request.member_epoch >= 0:
            member = group.members.get(request.member_id)
            if member is None:
                raise UnknownMemberId
            if member.current.epoch != request.member_epoch:
                raise StaleMemberEpoch
        elif request.member_epoch >= 0 and request.member_id and isinstance(group, ClassicGroup):
            if request.member_id not in group.members:
                raise UnknownMemberId
            if request.member_epoch != group.generation:
                raise IllegalGeneration
        wanted = request.partitions
        if wanted is None:
            wanted = (*self.offsets.of(request.group), *self.offsets.unstable_partitions(request.group))
        turn.answer(
            token,
            {
                one: (
                    self._position(request.group, one),
                    request.stable and self.offsets.unstable(request.group, one),
                )
                for one in wanted
            },
        )

    def _position(self, group: str, partition: TopicPartition) -> Offset | None:
        """What was committed, unless it was for another topic that had this name before."""
        found = self.offsets.get(group, partition)
        now = self.catalog.id(partition[0])
        if found is None or (found.topic_id is not None and now is not None and found.topic_id != now):
            return None
        return found

    def _delete_offsets(self, request: OffsetDelete, token: Any, turn: Turn) -> None:
        """Answers the Kafka error code of each partition."""
        group = self.groups.get(request.group)
        if isinstance(group, ShareGroup) or (group is None and request.group not in self.offsets.groups()):
            raise GroupIdNotFound
        if isinstance(group, ClassicGroup) and group.members and group.protocol_type != "consumer":
            raise NonEmptyGroup
        codes = {
            one: GroupSubscribedToTopic.kafka_code if group is not None and group.subscribed(one[0]) else 0
            for one in request.partitions
        }
        self.offsets.delete(request.group, [one for one, code in codes.items() if not code], turn)
        turn.answer(token, codes)

    def _delete(self, request: GroupDelete, token: Any, turn: Turn) -> None:
        group = self.groups.get(request.group)
        if group is None and request.group not in self.offsets.groups():
            raise GroupIdNotFound
        if group is not None and not group.empty():
            raise NonEmptyGroup
        self.offsets.delete(request.group, list(self.offsets.of(request.group)), turn)
        if group is not None:
            group.write_away(turn)
            del self.groups[request.group]
        turn.answer(token, None)

    # Groups

    def _classic_or_consumer(self, name: str) -> ClassicGroup | ConsumerGroup:
        group = self.groups.get(name)
        if group is None or isinstance(group, ShareGroup):
            raise UnknownMemberId
        return group

    def _make(self, kind: type[Group], name: str) -> Group:
        if kind is ClassicGroup:
            return ClassicGroup(name, self.settings_of(name), self.random_id)
        if kind is ConsumerGroup:
            return ConsumerGroup(name, self.settings_of(name), self.catalog, self.random_id)
        return ShareGroup(name, self.settings_of(name), self.catalog)

    def _drop_if_done(self, name: str, turn: Turn) -> None:
        group = self.groups.get(name)
        if group is None or isinstance(group, ShareGroup) or not group.empty() or self.offsets.of(name):
            return
        if not self.offsets.unstable_partitions(name):
            group.write_away(turn)
            del self.groups[name]
