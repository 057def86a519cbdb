"""Metrics of groups and transactions: told at a scrape, bounded, and nothing before somebody uses the log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mainspring.core.clock import VirtualClock
from mainspring.core.telemetry import Metrics
from mainspring.storage.log import coordination_metrics
from mainspring.storage.log.groups.messages import Heartbeat, JoinGroup, LeaveGroup, Leaving, SyncGroup
from mainspring.storage.log.service import Log


@asynccontextmanager
async def observed(folder: Path) -> AsyncIterator[tuple[Log, Metrics, VirtualClock]]:
    clock, metrics = VirtualClock(), Metrics()
    log = Log(folder, clock, metrics=metrics)
    coordination_metrics.observe(metrics, log.groups, log.transactions)
    await log.start()
    try:
        yield log, metrics, clock
    finally:
        await log.stop()


def told(metrics: Metrics) -> dict[str, float]:
    lines = metrics.exposition().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


async def test_a_log_that_nobody_has_used_tells_zeros_and_a_scrape_opens_nothing(tmp_path: Path) -> None:
    async with observed(tmp_path) as (log, metrics, _):
        now = told(metrics)
        assert now["log_transactions_open"] == now["log_group_positions"] == now["log_group_rebalances_total"] == 0
        assert not log.engine.topics


async def test_members_states_rebalances_and_the_lag_of_each_partition_are_told(tmp_path: Path) -> None:
    async with observed(tmp_path) as (log, metrics, _):
        await log.create_topic("t", 2)
        for n in range(5):
            await log.append("t", b"%d" % n, partition=n % 2)
        await log.groups.commit("g", {("t", 0): 1, ("t", 1): 0})
        now = told(metrics)
        assert now['log_groups{kind="classic",state="Empty"}'] == 1
        assert now['log_group_lag{group="g",topic="t",partition="0"}'] == 2
        assert now['log_group_lag{group="g",topic="t",partition="1"}'] == 2
        join = JoinGroup(
            group="c",
            member_id="",
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            protocol_type="consumer",
            protocols=(("range", b""),),
            two_steps=False,
        )
        joined = await log.groups.ask(join)
        member = {"group": "c", "member_id": joined.member_id, "generation": joined.generation}
        await log.groups.ask(SyncGroup(**member, assignments=((joined.member_id, b""),)))
        await log.groups.ask(Heartbeat(**member))
        now = told(metrics)
        assert now['log_groups{kind="classic",state="Stable"}'] == 1
        assert now['log_group_members{group="c"}'] == 1
        assert now["log_group_rebalances_total"] == 1
        await log.groups.ask(LeaveGroup(group="c", members=(Leaving(joined.member_id),)))
        await log.groups.delete("c")
        await log.groups.delete("g")
        now = told(metrics)
        assert not [name for name in now if 'group="' in name or name.startswith("log_groups{")]


async def test_open_transactions_their_age_and_what_they_hold_back_are_told(tmp_path: Path) -> None:
    async with observed(tmp_path) as (log, metrics, clock):
        await log.create_topic("t", 1)
        async with log.transaction("copier") as transaction:
            await transaction.append("t", b"1")
            await log.append("t", b"2")
            await clock.advance(3)
            now = told(metrics)
            assert now["log_transactions_open"] == 1 and now["log_transactions_open_seconds"] == 3
            assert now['log_last_stable_lag{topic="t",partition="0"}'] == 2
        async with log.transaction("copier") as transaction:
            await transaction.append("t", b"3")
            await transaction.abort()
        now = told(metrics)
        assert now["log_transactions_open"] == now["log_transactions_open_seconds"] == 0
        assert now["log_transactions_committed_total"] == now["log_transactions_aborted_total"] == 1
        assert 'log_last_stable_lag{topic="t",partition="0"}' not in now
        assert now["log_transactional_ids"] == 1


async def test_of_too_many_positions_the_greatest_lags_are_told_and_how_many_are_not(tmp_path: Path) -> None:
    async with observed(tmp_path) as (log, metrics, _):
        await log.create_topic("t", coordination_metrics.LAGS_LISTED + 10)
        await log.append("t", b"1", partition=7)
        await log.append("t", b"2", partition=7)
        everywhere = {("t", index): 0 for index in range(coordination_metrics.LAGS_LISTED + 10)}
        await log.groups.commit("g" * 5_000, everywhere)
        now = told(metrics)
        lags = {name: lag for name, lag in now.items() if name.startswith("log_group_lag{")}
        assert len(lags) == coordination_metrics.LAGS_LISTED
        assert now["log_group_lags_unlisted"] == 10
        assert max(lags.values()) == 2 and all(len(name) < 300 for name in lags)
