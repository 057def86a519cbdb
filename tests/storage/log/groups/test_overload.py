"""A flood of groups, members, positions, share sessions and transactional ids: each meets its limit, and others are served."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.groups.embedded import write_subscription
from mainspring.storage.log.groups.errors import (
    GroupMaxSizeReached,
    InvalidCommitOffsetSize,
    InvalidGroupId,
    OffsetMetadataTooLarge,
    ShareSessionLimitReached,
)
from mainspring.storage.log.groups.messages import (
    ConsumerHeartbeat,
    JoinGroup,
    LeaveGroup,
    Leaving,
    Offset,
    OffsetCommit,
    ShareHeartbeat,
    SyncGroup,
)
from mainspring.storage.log.groups.offsets import POSITION_BYTES
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.groups.share_sessions import OPENS
from mainspring.storage.log.internal_topics import slot
from mainspring.storage.log.service import Log
from mainspring.storage.log.transaction_errors import TooManyTransactionalIds
from mainspring.storage.log.transactions import Transactions, TransactionSettings

SUBSCRIPTION = write_subscription(["t"])


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[Log]:
    limits = GroupSettings(internal_partitions=2, share_auto_offset_reset="earliest", **settings)
    log = Log(folder, VirtualClock(), groups=limits, random=Random(1))
    await log.start()
    await log.create_topic("t", 4)
    try:
        yield log
    finally:
        await log.stop()


def join(group: str, metadata: bytes = SUBSCRIPTION, member_id: str = "") -> JoinGroup:
    return JoinGroup(
        group=group,
        member_id=member_id,
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        protocol_type="consumer",
        protocols=(("range", metadata),),
        two_steps=False,
    )


def beat(group: str, member: str, **fields: Any) -> ConsumerHeartbeat:
    first = {"member_epoch": 0, "rebalance_timeout_ms": 1_000, "topics": ("t",), "owned": {}}
    return ConsumerHeartbeat(group=group, member_id=member, **{**first, **fields})


async def outcomes(log: Log, messages: list[Any]) -> list[type[LogError] | None]:
    async def one(message: Any) -> type[LogError] | None:
        try:
            await log.groups.ask(message)
        except LogError as error:
            return type(error)
        return None

    return [await one(message) for message in messages]


async def test_a_node_has_so_many_groups_and_those_that_are_there_go_on(tmp_path: Path) -> None:
    async with running(tmp_path, groups_max=20) as log:
        joined = await log.groups.ask(join("first"))
        messages = [join(f"g{n}") if n % 2 else beat(f"g{n}", "m") for n in range(60)]
        said = await outcomes(log, messages)
        assert said.count(GroupMaxSizeReached) == 60 - 19
        commit = OffsetCommit(group="another", offsets={("t", 0): Offset(0)})
        assert await outcomes(log, [commit]) == [GroupMaxSizeReached]
        assert len(log.groups.known.groups) == 20
        leaves = LeaveGroup(group="first", members=(Leaving(joined.member_id),))
        assert await outcomes(log, [leaves]) == [None]
        await log.groups.delete("first")
        assert await outcomes(log, [join("another")]) == [None]


async def test_a_node_has_so_many_members_and_those_that_are_there_go_on(tmp_path: Path) -> None:
    async with running(tmp_path, members_max=30) as log:
        known = await log.groups.ask(beat("kept", "m"))
        flood = [beat(f"g{n % 7}", f"m{n}") for n in range(60)]
        flood += [ShareHeartbeat(group=f"s{n % 3}", member_id=f"m{n}", member_epoch=0, topics=("t",)) for n in range(9)]
        said = await outcomes(log, [*flood, join("classic")])
        assert said.count(GroupMaxSizeReached) == 70 - 29
        again = beat("kept", "m", member_epoch=known.member_epoch, rebalance_timeout_ms=-1, topics=None, owned=None)
        assert await outcomes(log, [again]) == [None]
        assert log.groups.known.member_count == sum(len(one.members) for one in log.groups.known.groups.values()) == 30
        await log.groups.ask(beat("kept", "m", member_epoch=-1))
        assert await outcomes(log, [join("classic")]) == [None]


async def test_the_count_of_members_is_the_same_after_rebalances_sessions_that_end_and_a_restart(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as log:
        clock: Any = log.clock
        joined = await log.groups.ask(join("c"))
        assert await outcomes(log, [join("c", member_id="nobody")]) != [None]
        await log.groups.ask(
            SyncGroup(group="c", member_id=joined.member_id, generation=1, assignments=((joined.member_id, b"all"),))
        )
        for n in range(5):
            await log.groups.ask(beat("k", f"m{n}"))
        await log.groups.ask(ShareHeartbeat(group="s", member_id="m", member_epoch=0, topics=("t",)))
        assert log.groups.known.member_count == 7
    async with running_again(tmp_path) as log:
        clock = log.clock
        coordinator = await log.groups.opened()
        assert coordinator.member_count == 7
        while coordinator.member_count:
            await clock.advance(1)
        assert not any(group.members for group in coordinator.groups.values())


@asynccontextmanager
async def running_again(folder: Path) -> AsyncIterator[Log]:
    log = Log(folder, VirtualClock(), groups=GroupSettings(internal_partitions=2), random=Random(2))
    await log.start()
    try:
        yield log
    finally:
        await log.stop()


async def test_members_share_what_they_may_say(tmp_path: Path) -> None:
    async with running(tmp_path, member_bytes_max=1 << 16, members_bytes=1 << 16) as log:
        assert await outcomes(log, [join("g", bytes((1 << 16) + 1))]) == [InvalidRequest]
        assert await outcomes(log, [beat("g", "m", regex="x" * 70_000, topics=None)]) == [InvalidRequest]
        big = [beat("g", f"m{n}", topics=("t" * 30_000,)) for n in range(40)]
        said = await outcomes(log, big)
        assert said == [None] * 2 + [GroupMaxSizeReached] * 38
        small = await outcomes(log, [beat("g", f"n{n}") for n in range(40)])
        assert small == [None] * 40


async def test_positions_take_so_much_memory_and_those_that_are_there_move_on(tmp_path: Path) -> None:
    async with running(tmp_path, positions_bytes_max=10 * POSITION_BYTES) as log:
        everywhere = {("t", index): Offset(0) for index in range(4)}
        codes: list[int] = []
        for n in range(6):
            codes += (await log.groups.ask(OffsetCommit(group=f"g{n}", offsets=everywhere))).values()
        assert codes == [0] * 10 + [InvalidCommitOffsetSize.kafka_code] * 14
        moved = await log.groups.ask(OffsetCommit(group="g0", offsets={("t", 0): Offset(7)}))
        assert moved == {("t", 0): 0}
        too_long = OffsetCommit(group="g0", offsets={("t", 0): Offset(7, metadata="x" * 5_000)})
        assert list((await log.groups.ask(too_long)).values()) == [OffsetMetadataTooLarge.kafka_code]
        offsets = log.groups.known.offsets
        assert offsets.held_bytes == offsets.count() * POSITION_BYTES == 10 * POSITION_BYTES
        await log.groups.delete("g0")
        assert offsets.held_bytes == 6 * POSITION_BYTES
        codes = list((await log.groups.ask(OffsetCommit(group="g9", offsets=everywhere))).values())
        assert codes == [0] * 4


async def test_share_sessions_their_partitions_and_what_is_in_flight_are_bounded(tmp_path: Path) -> None:
    limits = {"share_sessions_max": 5, "share_session_partitions_max": 10, "share_partitions_max": 3}
    async with running(tmp_path, **limits, share_in_flight_all_max=20, share_in_flight_max=15) as log:
        shares = log.groups.shares
        for n in range(5):
            shares.session("g", f"m{n}", OPENS)
        with pytest.raises(ShareSessionLimitReached):
            shares.session("g", "m5", OPENS)
        with pytest.raises(InvalidRequest):
            shares.session("g", "m0", 1, [(UUID(int=n), 0) for n in range(11)])
        topic = log.engine.topics["t"].id
        for index in range(4):
            for _ in range(30):
                await log.append("t", b"x", partition=index)

        async def take(group: str, index: int) -> int:
            given = await shares.fetch(
                group, "m", [(topic, index)], records_max=100, bytes_max=1 << 20, wait_ms=0, strictly=True
            )
            return sum(run.last - run.first + 1 for one in given for run in one.acquired)

        assert [await take("g", 0), await take("g", 1)] == [15, 15], "a partition's own bound"
        assert shares.in_flight() == 30
        assert await take("g", 2) == 0, "the bound of all of them"
        with pytest.raises(GroupMaxSizeReached):
            await take("h", 0)
        await shares.acknowledge("g", "m", (topic, 0), [(0, 14, [1])])
        assert shares.in_flight() == 15
        assert await take("g", 2) == 15


async def test_a_node_has_so_many_transactional_ids_and_those_that_are_there_go_on(tmp_path: Path) -> None:
    async with running(tmp_path) as log:
        settings = TransactionSettings(internal_partitions=2, transactional_ids_max=10)
        transactions = Transactions(log.engine, log.groups, log.clock, settings, Random(3))
        await transactions.start()
        for n in range(10):
            await transactions.init(f"t{n}", 1_000)
        for n in range(30):
            with pytest.raises(TooManyTransactionalIds):
                await transactions.init(f"u{n}", 1_000)
        with pytest.raises(InvalidRequest):
            await transactions.init("x" * 40_000, 1_000)
        assert (await transactions.init("t3", 1_000)).epoch == 1
        assert len(transactions.known) == 10
        await transactions.stop()


async def test_a_name_that_no_record_could_hold_is_refused_whatever_is_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as log:
        for name in ("x" * 32_768, "ü" * 16_384):
            messages = [join(name), beat(name, "m"), OffsetCommit(group=name, offsets={})]
            assert await outcomes(log, messages) == [InvalidGroupId] * 3
        assert await outcomes(log, [OffsetCommit(group="ü" * 16_383, offsets={})]) == [None]
        assert slot("ü" * 16_383, 2) in (0, 1)


async def test_a_flood_of_joins_leaves_memory_bounded_and_others_served(tmp_path: Path) -> None:
    """Ten times what fits comes from many at once; the group that was there before is answered in between."""
    async with running(tmp_path, groups_max=200, members_max=500) as log:
        known = await log.groups.ask(beat("kept", "m"))
        again = beat("kept", "m", member_epoch=known.member_epoch, rebalance_timeout_ms=-1, topics=None, owned=None)
        refused = 0

        async def flood(by: int) -> None:
            nonlocal refused
            for n in range(100):
                said = await outcomes(log, [beat(f"g{by}-{n % 10}", f"m{n}", topics=(f"topic-{n}" * 20,))])
                refused += said == [GroupMaxSizeReached]
                await asyncio.sleep(0)

        await asyncio.gather(*(flood(by) for by in range(10)))
        before_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        floods = [asyncio.ensure_future(flood(by)) for by in range(10, 60)]
        served = 0
        while not all(one.done() for one in floods):
            await log.groups.ask(again)
            served += 1
            await asyncio.sleep(0)
        await asyncio.gather(*floods)
        after_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        assert log.groups.known.member_count == 500 and len(log.groups.known.groups) <= 200
        assert refused >= 5_000 and served >= 50
        assert after_bytes - before_bytes < 32 << 20
