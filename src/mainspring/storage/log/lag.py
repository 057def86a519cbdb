"""How far every group has come, who is in it, and setting it somewhere else while nobody is.

A position is with the group, or in the database where a consumer keeps it in its own transactions; there it is the truth, and
`Log.positions` knows which. A reset moves both.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from mainspring.core.http.operation import INT64
from mainspring.core.outbox.model import NOWHERE
from mainspring.core.outbox.steps import commits
from mainspring.core.problems import Conflict
from mainspring.storage.log.groups.classic import ClassicGroup
from mainspring.storage.log.groups.consumer import ConsumerGroup
from mainspring.storage.log.groups.embedded import PROTOCOL_TYPE, read_assignment
from mainspring.storage.log.groups.errors import GroupIdNotFound, InvalidGroupId, NonEmptyGroup
from mainspring.storage.log.groups.messages import Partitions
from mainspring.storage.log.groups.room import NAME_BYTES_MAX
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.service import Log

if TYPE_CHECKING:
    from mainspring.storage.log.groups.room import Group

Where = tuple[str, int]
Goal = Literal["earliest", "latest", "timestamp", "shift"]


class GroupRow(msgspec.Struct):
    """`lag` is how many records are ahead of the group, in all partitions where it stands somewhere."""

    name: str
    kind: str
    state: str
    members: int
    topics: list[str]
    lag: int


class OwnedView(msgspec.Struct):
    topic: str
    partitions: list[int]


class MemberView(msgspec.Struct):
    id: str
    instance: str | None
    client_id: str
    host: str
    owns: list[OwnedView]


class StandingView(msgspec.Struct):
    """`position` is the next offset to read, null where the group has none; `member` owns the partition now."""

    topic: str
    partition: int
    position: int | None
    log_start: int
    end: int
    lag: int
    member: str | None


class GroupView(msgspec.Struct):
    """`kind` is classic, consumer or share; `epoch` its generation; `assignor` what the members agreed on."""

    name: str
    kind: str
    state: str
    epoch: int
    assignor: str
    members: list[MemberView]
    standing: list[StandingView]
    lag: int


class OffsetReset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the group shall go on in a topic: at the oldest record, after the newest, at a time, or so many records on
    (`by`, back where negative). All partitions where none is named."""

    topic: Annotated[str, Meta(max_length=1_000)]
    to: Goal
    partitions: Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31 - 1)], ...], Meta(max_length=10_000)] | None = None
    timestamp: Annotated[str, Meta(max_length=40)] | None = None
    by: INT64 | None = None


class MovedView(msgspec.Struct):
    partition: int
    before: int | None
    after: int


async def names(log: Log) -> list[str]:
    """Every group with members or positions, sorted."""
    if not log.groups.topic.exists():
        return []
    coordinator = await log.groups.opened()
    return sorted({*coordinator.groups, *coordinator.offsets.groups()})


async def row(log: Log, name: str) -> GroupRow:
    """How a group stands, in one line; one that has gone meanwhile is empty."""
    whole = await _view(log, name)
    topics = sorted({one.topic for one in whole.standing} | {own.topic for one in whole.members for own in one.owns})
    return GroupRow(name, whole.kind, whole.state, len(whole.members), topics, whole.lag)


async def view(log: Log, name: str) -> GroupView:
    """Raises `GroupIdNotFound`."""
    if name not in await names(log):
        raise GroupIdNotFound(f"There is no group {name!r}")
    return await _view(log, name)


async def reset(
    log: Log, name: str, topic: str, partitions: Sequence[int] | None, to: Goal, amount: int
) -> list[MovedView]:
    """Sets the group's positions in a topic; `amount` is the time in milliseconds, or by how much they shift.

    Raises `NonEmptyGroup` while the group has members, `UnknownPartition` and `InvalidGroupId`, having moved nothing.
    """
    if len(name.encode()) > NAME_BYTES_MAX or "\0" in name:
        raise InvalidGroupId(f"A group's name has at most {NAME_BYTES_MAX:,} bytes and no NUL")
    group = log.groups.find(name) if log.groups.topic.exists() and await log.groups.opened() else None
    if group is not None and not group.empty():
        raise NonEmptyGroup(f"The group {name!r} has members; end them first")
    count = len(log.engine.topics[topic].partitions) if topic in log.engine.topics else 1
    found = [log.engine.partition(topic, index) for index in (partitions if partitions is not None else range(count))]
    where = [(topic, one.index) for one in found]
    known = await log.groups.committed(name, where)
    held = await log.positions(name, where)
    moves: dict[Where, tuple[int | None, int]] = {}
    for partition in found:
        at = (topic, partition.index)
        before = held[at][0] if held[at][1] != NOWHERE or known.get(at) is not None else None
        moves[at] = before, await _goal(partition, before, to, amount)
    await log.groups.commit(name, {at: after for at, (_, after) in moves.items()})
    stored = {at: (held[at][1], after) for at, (_, after) in moves.items() if held[at][1] != NOWHERE}
    if stored and not await log.write(commits.advance, name, stored):
        raise Conflict(f"The group {name!r} has moved meanwhile; look again")
    return [MovedView(index, before, after) for (_, index), (before, after) in moves.items()]


async def _view(log: Log, name: str) -> GroupView:
    group = log.groups.find(name)
    members = _members(log, group)
    owners = {(own.topic, index): one.id for one in members for own in one.owns for index in own.partitions}
    standing = await _standing(log, name, owners)
    return GroupView(
        name,
        group.kind if group is not None else ClassicGroup.kind,
        state_of(group),
        _epoch(group),
        _assignor(group),
        members,
        standing,
        sum(one.lag for one in standing),
    )


async def _goal(partition: Partition, before: int | None, to: Goal, amount: int) -> int:
    match to:
        case "earliest":
            return partition.log_start
        case "latest":
            return partition.high_watermark
        case "timestamp":
            found = await partition.find(amount)
            return found[0] if found is not None else partition.high_watermark
        case "shift":
            wanted = (before if before is not None else partition.log_start) + amount
            return min(max(wanted, partition.log_start), partition.high_watermark)


async def _standing(log: Log, name: str, owners: dict[Where, str]) -> list[StandingView]:
    committed = await log.groups.committed(name)
    places = sorted({*committed, *owners})
    held = await log.positions(name, places) if places else {}
    standing = []
    for topic, index in places:
        found = log.engine.topics.get(topic)
        if found is None or index >= len(found.partitions):
            continue
        partition = found.partitions[index]
        at, stored = held[topic, index]
        position = at if stored != NOWHERE or committed.get((topic, index)) is not None else None
        lag = max(0, partition.high_watermark - max(position or 0, partition.log_start))
        standing.append(
            StandingView(
                topic,
                index,
                position,
                partition.log_start,
                partition.high_watermark,
                lag,
                owners.get((topic, index)),
            )
        )
    return standing


def _members(log: Log, group: "Group | None") -> list[MemberView]:
    if group is None:
        return []
    if isinstance(group, ClassicGroup):
        return [
            MemberView(one.id, one.instance, one.client.id, one.client.host, _assigned(group, one.assignment))
            for one in group.members.values()
        ]
    if isinstance(group, ConsumerGroup):
        return [
            MemberView(one.id, one.instance, one.client.id, one.client.host, _owned(log, one.current.assigned))
            for one in group.members.values()
        ]
    return [
        MemberView(one.id, None, one.client.id, one.client.host, _owned(log, one.assigned))
        for one in group.members.values()
    ]


def _assigned(group: ClassicGroup, assignment: bytes) -> list[OwnedView]:
    if group.protocol_type != PROTOCOL_TYPE:
        return []
    return [OwnedView(topic, sorted(numbers)) for topic, numbers in read_assignment(assignment) or () if numbers]


def _owned(log: Log, assigned: Partitions) -> list[OwnedView]:
    named = ((log.engine.topic_by_id(id), numbers) for id, numbers in assigned.items())
    return sorted(
        (OwnedView(topic.name, sorted(numbers)) for topic, numbers in named if topic is not None and numbers),
        key=lambda one: one.topic,
    )


def state_of(group: "Group | None") -> str:
    """By the names that Kafka's tools show."""
    if group is None:
        return "Empty"
    return group.state.value if isinstance(group, ClassicGroup) else group.state()


def _epoch(group: "Group | None") -> int:
    if group is None:
        return 0
    return group.generation if isinstance(group, ClassicGroup) else group.epoch


def _assignor(group: "Group | None") -> str:
    if isinstance(group, ClassicGroup):
        return group.protocol or ""
    return group.assignor() if isinstance(group, ConsumerGroup) else ""
