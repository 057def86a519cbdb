"""Who should read what: the server's assignors of the new consumer groups, and of share groups.

`uniform` balances to within one partition and moves as few as it can; `range` gives each member a contiguous run of every
topic, so that partitions of equal number in several topics meet in one member; `simple` lets members of a share group read the
same partitions where there are fewer partitions than members. All are deterministic functions of their arguments.
"""

from collections.abc import Callable, Mapping
from uuid import UUID

import msgspec

from mainspring.storage.log.groups.messages import Partitions

ROUNDS_MAX = 10_000


class Wish(msgspec.Struct, frozen=True):
    """What a member subscribes to, and its place in `range`'s order (a static member keeps it over restarts)."""

    topics: frozenset[UUID]
    order: str


Assignor = Callable[[Mapping[str, Wish], Mapping[UUID, int], Mapping[str, Partitions]], dict[str, Partitions]]
"""(members, partitions of each topic, the assignment until now) to the new assignment."""

_Slot = tuple[UUID, int]


def uniform(
    members: Mapping[str, Wish], shape: Mapping[UUID, int], before: Mapping[str, Partitions]
) -> dict[str, Partitions]:
    wanted = {topic for wish in members.values() for topic in wish.topics if topic in shape}
    slots = [(topic, number) for topic in sorted(wanted, key=_bytes) for number in range(shape[topic])]
    takers = {
        topic: sorted(name for name, wish in members.items() if topic in wish.topics)
        for topic in sorted(wanted, key=_bytes)
    }
    held: dict[str, set[_Slot]] = {name: set() for name in sorted(members)}
    owner: dict[_Slot, str] = {}
    for name in held:
        for topic, numbers in before.get(name, {}).items():
            for number in sorted(numbers):
                slot = (topic, number)
                if topic in members[name].topics and number < shape.get(topic, 0) and slot not in owner:
                    owner[slot] = name
                    held[name].add(slot)
    if not members:
        return {}
    alike = all(len(names) == len(members) for names in takers.values())
    if alike:
        _cut_to_quota(held, owner, len(slots))
    for slot in sorted((one for one in slots if one not in owner), key=lambda one: (len(takers[one[0]]), one[1])):
        name = min(takers[slot[0]], key=lambda one: (len(held[one]), one))
        owner[slot] = name
        held[name].add(slot)
    if not alike:
        _even_out(held, takers)
    return {name: _partitions(slots_of) for name, slots_of in held.items()}


def _cut_to_quota(held: dict[str, set[_Slot]], owner: dict[_Slot, str], total: int) -> None:
    """All may read all: nobody keeps more than its share, and only so many keep the one that is left over."""
    share, spare = divmod(total, len(held))
    for name in sorted(held, key=lambda one: (-len(held[one]), one)):
        keep = share
        if len(held[name]) > share and spare:
            keep, spare = share + 1, spare - 1
        for slot in sorted(held[name], key=lambda one: (one[1], _bytes(one[0])))[keep:]:
            held[name].discard(slot)
            del owner[slot]


def _even_out(held: dict[str, set[_Slot]], takers: Mapping[UUID, list[str]]) -> None:
    """Moves one partition at a time from a member to one that has at least two fewer, while there is such a pair."""
    for _ in range(ROUNDS_MAX):
        moved = False
        for giver in sorted(held, key=lambda one: (-len(held[one]), one)):
            for slot in sorted(held[giver], key=lambda one: (one[1], _bytes(one[0]))):
                taker = min(takers[slot[0]], key=lambda one: (len(held[one]), one))
                if len(held[taker]) + 1 < len(held[giver]):
                    held[giver].discard(slot)
                    held[taker].add(slot)
                    moved = True
                    break
            if moved:
                break
        if not moved:
            return


def ranged(
    members: Mapping[str, Wish], shape: Mapping[UUID, int], before: Mapping[str, Partitions]
) -> dict[str, Partitions]:
    result: dict[str, Partitions] = {name: {} for name in members}
    for topic, count in shape.items():
        names = sorted((wish.order, name) for name, wish in members.items() if topic in wish.topics)
        if not names:
            continue
        share, spare = divmod(count, len(names))
        at = 0
        for place, (_, name) in enumerate(names):
            size = share + (place < spare)
            if size:
                result[name][topic] = frozenset(range(at, at + size))
            at += size
    return result


def simple(
    members: Mapping[str, Wish], shape: Mapping[UUID, int], before: Mapping[str, Partitions]
) -> dict[str, Partitions]:
    """Every partition is read by somebody and every member reads something; the load differs by one at most per topic."""
    held: dict[str, set[_Slot]] = {name: set() for name in sorted(members)}
    for topic in sorted(shape, key=_bytes):
        names = sorted(name for name, wish in members.items() if topic in wish.topics)
        if not names or not shape[topic]:
            continue
        for place in range(max(shape[topic], len(names))):
            held[names[place % len(names)]].add((topic, place % shape[topic]))
    return {name: _partitions(slots) for name, slots in held.items()}


ASSIGNORS: dict[str, Assignor] = {"uniform": uniform, "range": ranged}


def _bytes(topic: UUID) -> bytes:
    return topic.bytes


def _partitions(slots: set[_Slot]) -> Partitions:
    found: dict[UUID, set[int]] = {}
    for topic, number in slots:
        found.setdefault(topic, set()).add(number)
    return {topic: frozenset(found[topic]) for topic in sorted(found, key=_bytes)}
