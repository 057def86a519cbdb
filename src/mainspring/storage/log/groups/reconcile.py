"""How one member of a consumer group gets from what it has to what it should have, without two owners at any moment.

KIP-848's three states. STABLE: it has its target as of its epoch. UNREVOKED: it must first give partitions up, and keeps its
epoch until a heartbeat no longer lists them. UNRELEASED: it is at the target's epoch, and waits for others to give up what it
shall get. A partition is free when no member has it assigned or is still revoking it.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any
from uuid import UUID

import msgspec

from mainspring.storage.log.groups.messages import Partitions


class MemberState(IntEnum):
    """The numbers are those of Kafka's records."""

    STABLE = 0
    UNREVOKED = 1
    UNRELEASED = 2
    UNKNOWN = 127


class Current(msgspec.Struct, frozen=True):
    """`assigned` is what the member may read; `revoking` what it has been told to give up and may still hold."""

    epoch: int = 0
    previous_epoch: int = -1
    state: MemberState = MemberState.STABLE
    assigned: Partitions = {}
    revoking: Partitions = {}


IsFree = Callable[[UUID, int], bool]


def reconcile(
    current: Current, target_epoch: int, target: Partitions, owned: Partitions | None, is_free: IsFree
) -> Current:
    """The member's next step. `owned` is what its heartbeat lists, None where it did not say.

    `is_free` is asked about partitions that the member does not have itself.
    """
    if current.state is MemberState.STABLE:
        if current.epoch == target_epoch and current.assigned == target:
            return current
        return _next(current, current.epoch, target_epoch, target, owned, is_free)
    if current.state is MemberState.UNREVOKED:
        if owned is None or overlaps(owned, current.revoking):
            return current
        return _next(current, current.epoch, target_epoch, target, owned, is_free)
    return _next(current, current.epoch, target_epoch, target, owned, is_free)


def _next(
    current: Current, epoch: int, target_epoch: int, target: Partitions, owned: Partitions | None, is_free: IsFree
) -> Current:
    keep = intersection(current.assigned, target)
    revoking = difference(current.assigned, keep)
    missing = difference(target, keep)
    held = current.state is MemberState.UNREVOKED
    free = {
        topic: found
        for topic, numbers in missing.items()
        if (
            found := frozenset(
                number
                for number in numbers
                if (held and number in current.revoking.get(topic, ())) or is_free(topic, number)
            )
        )
    }
    waits = free != missing
    if revoking and (owned is None or overlaps(owned, revoking)):
        return Current(epoch, current.previous_epoch, MemberState.UNREVOKED, keep, revoking)
    state = MemberState.UNRELEASED if waits else MemberState.STABLE
    previous = current.epoch if target_epoch != current.epoch else current.previous_epoch
    return Current(target_epoch, previous, state, union(keep, free), {})


def union(one: Partitions, other: Partitions) -> Partitions:
    return {topic: one.get(topic, frozenset()) | other.get(topic, frozenset()) for topic in {**one, **other}}


def intersection(one: Partitions, other: Partitions) -> Partitions:
    return {topic: both for topic, numbers in one.items() if (both := numbers & other.get(topic, frozenset()))}


def difference(one: Partitions, other: Partitions) -> Partitions:
    return {topic: rest for topic, numbers in one.items() if (rest := numbers - other.get(topic, frozenset()))}


def overlaps(one: Partitions, other: Partitions) -> bool:
    return any(numbers & other.get(topic, frozenset()) for topic, numbers in one.items())


def to_fields(partitions: Partitions) -> list[dict[str, object]]:
    """As the records of the internal topic have them."""
    return [
        {"topic_id": topic, "partitions": sorted(partitions[topic])}
        for topic in sorted(partitions, key=lambda one: one.bytes)
    ]


def from_fields(fields: Iterable[Mapping[str, Any]]) -> Partitions:
    return {one["topic_id"]: frozenset(one["partitions"]) for one in fields}
