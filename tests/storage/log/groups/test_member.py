"""Members in this process: hand-over, positions, loss, and a coordinator whose disk fails."""

import asyncio
from pathlib import Path

import pytest

from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.storage.log.coordinator_errors import CoordinatorError, CoordinatorNotAvailable
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.errors import StorageFailed
from mainspring.storage.log.groups.errors import GroupError, NonEmptyGroup, UnknownMemberId, UnreleasedInstanceId
from mainspring.storage.log.groups.service import Groups
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.internal_topics import CONSUMER_OFFSETS
from tests.waiting import until


class Node:
    """Engine and groups over one folder."""

    def __init__(self, folder: Path, clock=None) -> None:
        self.clock = clock or SystemClock()
        self.engine = Engine([folder], self.clock, threaded=clock is None)
        self.groups = Groups(self.engine, self.clock, GroupSettings(internal_partitions=2))

    async def __aenter__(self) -> "Node":
        await self.engine.start()
        await self.groups.start()
        if "orders" not in self.engine.topics:
            await self.engine.create_topic("orders", 4)
        return self

    async def __aexit__(self, *_) -> None:
        await self.groups.stop()
        await self.engine.stop()


class Owner:
    """Keeps who owns what, and fails where two do."""

    def __init__(self, node: Node, owners: dict, name: str, **fields) -> None:
        self.name, self.owners = name, owners
        self.held_up = asyncio.Event()
        self.held_up.set()
        self.revoked: list = []
        self.member = node.groups.member(
            "g", ["orders"], on_assigned=self.assigned, on_revoked=self.revoke, on_lost=self.lose, **fields
        )

    async def assigned(self, partitions) -> None:
        for one in partitions:
            assert one not in self.owners, f"{one} is {self.owners[one]}'s"
            self.owners[one] = self.name

    async def revoke(self, partitions) -> None:
        await self.held_up.wait()
        self.revoked += partitions
        for one in partitions:
            assert self.owners.pop(one) == self.name

    async def lose(self, partitions) -> None:
        for one in partitions:
            if self.owners.get(one) == self.name:
                del self.owners[one]


async def test_a_partition_is_handed_over_when_on_revoked_has_returned(tmp_path):
    owners: dict = {}
    async with Node(tmp_path) as node, asyncio.timeout(60):
        first = Owner(node, owners, "first")
        await first.member.start()
        assert len(first.member.assignment) == 4
        first.held_up.clear()
        second = Owner(node, owners, "second")
        await second.member.start()
        assert second.member.assignment == frozenset()
        changed = asyncio.ensure_future(second.member.changed())
        first.held_up.set()
        await changed
        await until(lambda: len(first.member.assignment) == len(second.member.assignment) == 2)
        assert sorted(owners.values()) == ["first", "first", "second", "second"]
        await first.member.close()
        await until(lambda: len(second.member.assignment) == 4)
        await second.member.close()
        assert owners == {}


async def test_positions_are_committed_at_the_members_epoch_and_read_back(tmp_path):
    async with Node(tmp_path) as node, asyncio.timeout(60):
        member = node.groups.member("g", ["orders"])
        await member.start()
        await member.commit({("orders", 0): 42})
        assert await member.committed([("orders", 0), ("orders", 1)]) == {("orders", 0): 42, ("orders", 1): None}
        with pytest.raises(UnknownMemberId):
            await node.groups.commit("g", {("orders", 0): 1})
        with pytest.raises(NonEmptyGroup):
            await node.groups.delete("g")
        await member.close()
        with pytest.raises(GroupError):
            await member.commit({("orders", 0): 43})
        await node.groups.commit("g", {("orders", 0): 7})
    async with Node(tmp_path) as node:
        assert await node.groups.committed("g") == {("orders", 0): 7}
        await node.groups.delete("g")
        assert await node.groups.committed("g") == {}


async def test_a_member_that_was_silent_loses_its_partitions_and_joins_again(tmp_path):
    clock, owners = VirtualClock(), {}
    async with Node(tmp_path, clock) as node:
        owner = Owner(node, owners, "one")
        await owner.member.start()
        group = node.groups.find("g")
        turn = node.groups._turn()
        group.remove(group.members[owner.member.member_id], turn)
        assert turn.records

        async def back() -> bool:
            await clock.advance(1)
            return len(owner.member.assignment) == 4 and owner.member.member_id in group.members

        await until(back)
        assert len(owners) == 4
        await owner.member.close()


async def test_a_static_members_place_is_held_against_another(tmp_path):
    async with Node(tmp_path) as node, asyncio.timeout(60):
        first = node.groups.member("g", ["orders"], instance="one")
        await first.start()
        second = node.groups.member("g", ["orders"], instance="one")
        waiting = asyncio.ensure_future(second.start())
        with pytest.raises(UnreleasedInstanceId):
            await second._beat()
        await first.close()
        await waiting
        assert len(second.assignment) == 4
        await second.close()


async def test_a_callback_that_fails_closes_the_member(tmp_path):
    async def fail(partitions) -> None:
        raise ZeroDivisionError

    async with Node(tmp_path) as node, asyncio.timeout(60):
        member = node.groups.member("g", ["orders"], on_assigned=fail)
        with pytest.raises(ZeroDivisionError):
            await member.start()
        assert member.closed


async def test_groups_whose_disk_fails_are_read_anew_and_nobody_hears_what_is_not_written(tmp_path):
    async with Node(tmp_path) as node, asyncio.timeout(60):
        await node.groups.commit("g", {("orders", 0): 7})
        partition = node.engine.partition(CONSUMER_OFFSETS, node.groups.topic.index("g"))
        partition.failure = StorageFailed("no space")
        with pytest.raises(CoordinatorNotAvailable):
            await node.groups.commit("g", {("orders", 0): 8})
        partition.failure = None

        async def read_again() -> bool:
            try:
                return await node.groups.committed("g") == {("orders", 0): 7}
            except CoordinatorError:
                return False

        await until(read_again)
        await node.groups.commit("g", {("orders", 0): 9})
        assert await node.groups.committed("g") == {("orders", 0): 9}
