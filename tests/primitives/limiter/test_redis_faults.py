"""Redis killed, paused, failed over, full or without its script: an answer in time by the policy's own choice, and back again.

Deadlines here are counted on the loop's clock but never compared with it: a test only demands that an answer comes, and
from whom, because a slow machine is not a fault of Redis.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import redis.asyncio as driver

from mainspring.core.clock import SystemClock
from mainspring.core.telemetry import Metrics
from mainspring.primitives.limiter import Limiter, redis_link
from mainspring.primitives.limiter import redis as redis_store
from mainspring.primitives.limiter.redis import RedisStore
from tests.fixtures_cache import RedisServer
from tests.primitives.limiter.conftest import PATIENCE_S

pytestmark = pytest.mark.redis

POLICIES = {"strict": "1000/hour; fail closed", "loose": "1000/hour; fail open", "near": "2/hour; fail local"}


class Node:
    """A limiter on a Redis of its own, with a generous deadline while all is well."""

    def __init__(self, server: RedisServer, deadline_s: float) -> None:
        self.server = server
        self.metrics = Metrics()
        self.store = RedisStore(server.url, deadline_s=deadline_s)
        self.limiter = Limiter(self.store, SystemClock(), self.metrics, **POLICIES)

    async def stores(self) -> dict[str, str]:
        """Who decides for each policy now."""
        async with asyncio.timeout(PATIENCE_S):
            return {name: (await self.limiter.hit(name, "user")).store for name in POLICIES}

    async def until(self, expected: dict[str, str]) -> None:
        """Waits until this is who decides."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.stores() != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def command(self, *arguments: str) -> object:
        client = driver.Redis.from_url(self.server.url)
        try:
            return await client.execute_command(*arguments)
        finally:
            await client.aclose()


AWAY = {"strict": "closed", "loose": "open", "near": "local"}
HERE = dict.fromkeys(POLICIES, "redis")
Start = Callable[..., Awaitable[Node]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """`await start(deadline_s)` gives a node whose Redis runs; both end with the test."""
    async with AsyncExitStack() as stack:

        async def go(deadline_s: float = PATIENCE_S) -> Node:
            server = RedisServer()
            stack.callback(server.remove)
            server.start()
            node = Node(server, deadline_s)
            stack.push_async_callback(node.store.stop)
            await node.until(HERE)
            return node

        yield go


async def test_killed_the_policies_decide_and_a_new_server_is_found_without_a_restart(start: Start) -> None:
    node = await start()
    node.server.kill()
    await node.until(AWAY)
    assert not await node.limiter.hit("strict", "user")
    assert await node.limiter.hit("loose", "user")
    local = [bool(await node.limiter.hit("near", "somebody")) for _ in range(3)]
    assert local == [True, True, False]
    text = node.metrics.exposition().decode()
    for policy, choice in (("strict", "closed"), ("loose", "open"), ("near", "local")):
        assert f'limiter_store_away_total{{policy="{policy}",choice="{choice}",reason="unreachable"}}' in text
    node.server.start()
    await node.until(HERE)


async def test_without_a_redis_from_the_start_it_starts_all_the_same() -> None:
    server = RedisServer()
    try:
        node = Node(server, 0.05)
        await node.store.start()
        await node.until(AWAY)
        await node.store.stop()
    finally:
        server.remove()


async def test_paused_every_caller_is_answered_and_it_goes_on_when_redis_does(start: Start) -> None:
    node = await start(deadline_s=0.2)
    process = node.server._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(PATIENCE_S):
            decisions = await asyncio.gather(*(node.limiter.hit("loose", f"user {n}") for n in range(100)))
        assert {decision.store for decision in decisions} == {"open"}
        assert await node.stores() == AWAY
    finally:
        os.kill(process.pid, signal.SIGCONT)
    await node.until(HERE)


async def test_a_script_that_the_server_has_forgotten_is_loaded_again_unnoticed(start: Start) -> None:
    node = await start()
    for _ in range(3):
        await node.command("SCRIPT", "FLUSH")
        decisions = await asyncio.gather(*(node.limiter.hit("strict", "scripted") for _ in range(20)))
        assert {decision.store for decision in decisions} == {"redis"}
    assert (await node.limiter.peek("strict", "scripted")).remaining == 1000 - 60 - 1


async def test_a_primary_that_has_become_a_replica_is_away_until_it_is_a_primary_again(start: Start) -> None:
    node = await start()
    await node.command("REPLICAOF", "127.0.0.1", "1")
    await node.until(AWAY)
    assert 'reason="readonly"' in node.metrics.exposition().decode()
    await node.command("REPLICAOF", "NO", "ONE")
    await node.until(HERE)


async def test_a_full_server_refuses_and_charges_nothing_and_recovers(start: Start) -> None:
    node = await start()
    before = (await node.limiter.peek("strict", "steady")).remaining
    await node.command("CONFIG", "SET", "maxmemory", "1")
    assert (await node.limiter.hit("strict", "steady")).store == "closed"
    assert (await node.limiter.hit("loose", "steady")).store == "open"
    assert 'reason="oom"' in node.metrics.exposition().decode()
    await node.command("CONFIG", "SET", "maxmemory", "0")
    await node.until(HERE)
    assert (await node.limiter.peek("strict", "steady")).remaining == before


async def test_a_fail_over_that_loses_writes_admits_at_most_one_limit_again(start: Start) -> None:
    node = await start()
    assert [bool(await node.limiter.hit("near", "spender")) for _ in range(3)] == [True, True, False]
    await node.command("FLUSHALL")  # what a replica that had nothing yet looks like
    again = [await node.limiter.hit("near", "spender") for _ in range(3)]
    assert [bool(decision) for decision in again] == [True, True, False]
    assert {decision.store for decision in again} == {"redis"}


async def test_a_state_that_somebody_has_damaged_is_no_500(start: Start) -> None:
    node = await start()
    await node.limiter.hit("strict", "victim")
    name = next(iter(await node.command("KEYS", "limiter:strict/*victim*")))  # type: ignore[call-overload]
    await node.command("SET", name, "rubbish")
    assert (await node.limiter.hit("strict", "victim")).store in ("closed", "redis")
    await node.command("DEL", name)
    await node.command("LPUSH", name, "a list")
    assert (await node.limiter.hit("strict", "victim")).store in ("closed", "redis")
    assert (await node.limiter.hit("strict", "somebody else")).store == "redis"
    await node.command("SET", "limiter:strict/0/0/sliding3600000000:{x}", "rubbish")
    assert "somebody else" in {one.key for one in (await node.limiter.keys("strict"))["strict"]}


async def test_every_key_expires_and_a_hierarchy_shares_its_slot(start: Start) -> None:
    node = await start()
    node.limiter.define("tall", "10/minute > log 5/minute > 100/day UTC; penalty 1/minute")
    node.limiter.define("gpu", "concurrency 3 ttl 30s")
    for _ in range(6):
        await node.limiter.hit("tall", ["ann", "acme", "everyone"])
    await node.limiter.hit("gpu", "acme")
    names = await node.command("KEYS", "limiter:*")
    assert isinstance(names, list) and len(names) >= 5
    for name in names:
        ttl = await node.command("PTTL", name)
        assert isinstance(ttl, int) and 0 < ttl <= 2 * 86_400_000
    tall = [name for name in names if name.startswith(b"limiter:tall/")]
    assert len(tall) == 4
    assert {name[name.index(b"{") + 1 : name.index(b"}")] for name in tall} == {b"everyone"}


async def test_hits_of_one_turn_travel_together_and_each_gets_its_own_answer(start: Start) -> None:
    node = await start()
    node.limiter.define("many", "7/hour")
    decisions = await asyncio.gather(*(node.limiter.hit("many", f"user {n % 100}") for n in range(1_000)))
    by_user: dict[int, int] = {}
    for number, decision in enumerate(decisions):
        by_user[number % 100] = by_user.get(number % 100, 0) + decision.allowed
    assert set(by_user.values()) == {7}


async def test_who_is_too_far_back_in_the_queue_is_told_so_and_nobody_waits_for_ever(start: Start) -> None:
    node = await start()
    node.store._link._deadline_s = 1e-6  # so that whatever does not fit into the first batch comes too late
    async with asyncio.timeout(PATIENCE_S):
        decisions = await asyncio.gather(*(node.limiter.hit("loose", f"user {n}") for n in range(2_000)))
    assert {decision.store for decision in decisions} <= {"redis", "open"}
    assert "open" in {decision.store for decision in decisions}
    node.store._link._deadline_s = PATIENCE_S
    await node.until(HERE)


async def test_more_asks_than_the_queue_holds_are_decided_by_the_policy_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start()
    monkeypatch.setattr(redis_link, "PENDING_MAX", 5)
    decisions = await asyncio.gather(*(node.limiter.hit("loose", f"user {n}") for n in range(20)))
    assert [decision.store for decision in decisions] == ["redis"] * 5 + ["open"] * 15
    assert 'choice="open",reason="overload"} 15' in node.metrics.exposition().decode()
    assert (await node.limiter.hit("loose", "user")).store == "redis"


async def test_what_is_remembered_of_policies_is_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await start()
    monkeypatch.setattr(redis_store, "_KNOWN_MAX", 3)
    for _ in range(2):
        for name in "abcdefgh":
            node.limiter.define(name, "1000/hour; log 1000/hour")
            assert (await node.limiter.hit(name, "user")).store == "redis"
            assert len(node.store._known) <= 3


async def test_time_is_the_servers_whatever_this_machine_believes(start: Start) -> None:
    node = await start()

    class Wrong(SystemClock):
        @staticmethod
        def wall_ns() -> int:  # type: ignore[override]
            return 4_000_000_000 * 10**9

    store = RedisStore(node.server.url, Wrong(), deadline_s=PATIENCE_S)
    try:
        limiter = Limiter(store, Wrong(), near="2/hour", month="2/month Europe/Berlin")
        right = Limiter(node.store, SystemClock(), near="2/hour", month="2/month Europe/Berlin")
        for name in ("near", "month"):
            assert await right.hit(name, "traveller") and await limiter.hit(name, "traveller")
            assert not await limiter.hit(name, "traveller") and not await right.hit(name, "traveller")
    finally:
        await store.stop()


async def test_two_nodes_share_one_limit_while_one_of_them_dies(start: Start) -> None:
    node = await start()
    other = RedisStore(node.server.url, deadline_s=PATIENCE_S)
    there = Limiter(other, SystemClock(), shared="50/hour")
    node.limiter.define("shared", "50/hour")
    racing = [asyncio.create_task(one.hit("shared", "user")) for _ in range(60) for one in (node.limiter, there)]
    await racing[20]
    await other.stop()
    decisions = await asyncio.gather(*racing)
    assert sum(decision.allowed for decision in decisions if decision.store == "redis") <= 50
    later = [await node.limiter.hit("shared", "user") for _ in range(60)]
    assert {decision.store for decision in later} == {"redis"} and not later[-1].allowed
    admitted = [decision for decision in (*decisions, *later) if decision.allowed and decision.store == "redis"]
    assert len(admitted) <= 50
