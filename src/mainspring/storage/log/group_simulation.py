"""Groups under everything that can happen to them: `mainspring simulate log-groups`.

The real engine and the real coordinators run on a torn disk; members of a classic, a new consumer and a share group join, sync,
beat, commit and leave over a network whose late requests arrive when their sender has long gone on. Members die, pause beyond
their sessions and come back; the broker crashes between any two steps; its wall clock jumps by up to an hour.

What is checked all the time: a partition has one owner per generation of a classic group; of a consumer group no two members
own one at the same moment, each for as long as its own session lets it believe so; a record of a share group is locked by one
member and accepted once; who lost a generation or a partition to another does not commit to it. At each start and at the end:
no committed offset is beyond its partition. At the end, after a calm time: every partition is owned, the share group is
through, and no last stable offset stands still.

`breaks` replaces one rule by a plausible wrong one, to see that the checks would notice.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mainspring.storage.log.group_simulation_members import (
    ClassicMember,
    ConsumerMember,
    GroupMember,
    World,
)
from mainspring.storage.log.group_simulation_sharers import Copier, ShareMember
from mainspring.storage.log.groups import consumer_records
from mainspring.storage.log.groups.classic import ClassicGroup
from mainspring.storage.log.groups.classic_members import Member
from mainspring.storage.log.groups.consumer import ConsumerGroup
from mainspring.storage.log.groups.share_partition import SharePartition
from mainspring.storage.log.groups.turn import NEVER_MS, Turn
from mainspring.storage.log.internal_topics import CONSUMER_OFFSETS
from mainspring.storage.log.records import build
from mainspring.storage.log.simulated_broker import PARTITIONS

BUSY_S = 40.0
CALM_S = 40.0
CRASHES = 0.003
JUMPS = 0.01
HOUR_S = 3_600.0
FEED_S = 0.15


def run(seed: int, breaks: str = "") -> None:
    """Raises `AssertionError` where a promise was broken, and `ValueError` for a way of breaking it that is none."""
    if breaks and breaks not in BREAKS:
        raise ValueError(f"{breaks!r} is not one of {', '.join(BREAKS)}")
    with broken(breaks):
        asyncio.run(_history(World(seed, orders=breaks != "unordered")))


async def _history(world: World) -> None:
    await world.boot()
    members: list[GroupMember] = [
        kind(world, number) for kind in (ClassicMember, ConsumerMember, ShareMember) for number in range(3)
    ]
    actors = [*members, Copier(world)]
    tasks = [asyncio.ensure_future(one.run()) for one in actors]
    feeder = asyncio.ensure_future(_feed(world))
    await _busy(world)
    world.calm, world.late, world.loses = True, 0.0, 0.0
    await world.run(CALM_S)
    world.fail_if_broken()
    _check_ownership(world, members)
    world.ends = True
    await world.run(15.0)
    world.fail_if_broken()
    for task in (*tasks, feeder):
        assert task.done(), "a member hangs"
        task.result()
    await _check_offsets(world)
    await _check_shares(world)
    partitions = [world.engine.partition("in", index) for index in range(PARTITIONS)]
    world.check_moved_on([*partitions, *world.engine.topics[CONSUMER_OFFSETS].partitions])
    await world.crash()


async def _busy(world: World) -> None:
    until_ns = world.clock.mono_ns() + int(BUSY_S * 1e9)
    while world.clock.mono_ns() < until_ns:
        await world.run(0.05)
        world.fail_if_broken()
        if world.random.random() < JUMPS:
            jump_ns = int(world.random.uniform(-HOUR_S, HOUR_S) * 1e9)
            world.clock.set_wall(world.clock.wall_ns() + jump_ns)
        if world.random.random() < CRASHES:
            await world.restart()
            await _check_offsets(world)


async def _feed(world: World) -> None:
    """Appends to the topic that all read."""
    while not world.calm:
        await world.clock.sleep(world.random.uniform(0, FEED_S))
        if world.up:
            partition = world.engine.partition("in", world.random.randrange(PARTITIONS))
            if partition.failure is None:
                partition.append(build([(0, None, b"record", ())] * world.random.randint(1, 3)))


def _check_ownership(world: World, members: list[GroupMember]) -> None:
    """A group that was left in peace has given every partition to somebody."""
    for kind in (ClassicMember, ConsumerMember):
        owned = [index for one in members if isinstance(one, kind) for index in one.owned]
        assert sorted(owned) == list(range(PARTITIONS)), f"the group {kind.group} owns {sorted(owned)} in the end"


async def _check_offsets(world: World) -> None:
    coordinator = await world.groups.opened()
    for group, (topic, index), offset in coordinator.offsets.positions():
        end = world.engine.partition(topic, index).high_watermark
        assert 0 <= offset.offset <= end, f"{group} committed {offset.offset} of {topic}-{index}, which ends at {end}"


async def _check_shares(world: World) -> None:
    for (_, index), share in (await world.groups.shares.offsets(ShareMember.group)).items():
        end = world.engine.partition("in", index).high_watermark
        assert share.start == end, f"the share group is at {share.start} of {end} in partition {index}"


# Plausible wrong rules.


@contextmanager
def replaced(owner: Any, name: str, wrong: Callable[..., Any]) -> Iterator[None]:
    right = getattr(owner, name)
    setattr(owner, name, wrong)
    try:
        yield
    finally:
        setattr(owner, name, right)


@contextmanager
def broken(breaks: str) -> Iterator[None]:
    if breaks not in BREAKS or BREAKS[breaks] is None:
        yield
        return
    owner, name, wrong = BREAKS[breaks]
    with replaced(owner, name, wrong):
        yield


_changes = SharePartition.changes
_current = consumer_records._current


def _any_generation(self: ClassicGroup, member_id: str, instance: str | None, generation: int) -> Member:
    return self._member(member_id, instance)


def _without_the_front(self: SharePartition) -> list[dict[str, Any]] | None:
    return _changes(self) or None


def _with_the_old_deadline(group: ConsumerGroup, member_id: str, value: Any, turn: Turn) -> None:
    known = group.members.get(member_id)
    deadline_ms = known.revoked_by_ms if known is not None else NEVER_MS
    _current(group, member_id, value, turn)
    if known is not None:
        known.revoked_by_ms = min(known.revoked_by_ms, deadline_ms)


def _half_the_lock(self: SharePartition, now_ms: int) -> None:
    for offset, found in self.records.items():
        if found.member and found.locked_until_ms - self.lock_ms // 2 <= now_ms:
            self._release(offset)
    self._advance()


BREAKS: dict[str, Any] = {
    "unfenced": (ClassicGroup, "_member_of", _any_generation),
    "unmoved": (SharePartition, "changes", _without_the_front),
    "lingering": (consumer_records, "_current", _with_the_old_deadline),
    "unordered": None,
    "impatient": (SharePartition, "expire", _half_the_lock),
}
