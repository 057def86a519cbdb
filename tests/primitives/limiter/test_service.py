"""Policies and overrides as people set them: they outlive a restart, and other nodes follow within a second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.core.ports import Database
from mainspring.core.problems import Conflict, Unavailable
from mainspring.core.telemetry import Metrics
from mainspring.primitives.limiter import BadKey, BadPolicy, Limiter, MemoryStore, UnknownPolicy
from mainspring.primitives.limiter import service as module
from mainspring.primitives.limiter.redis import RedisStore
from mainspring.primitives.limiter.service import Full, Rulebook, make_limiter, make_store
from mainspring.primitives.limiter.settings import LimiterSettings
from mainspring.primitives.limiter.sql import SqlStore
from mainspring.primitives.limiter.tables import tables
from tests.primitives.limiter.conftest import MIGRATIONS
from tests.waiting import until


class Node:
    """One process: its own limiter and clock, and the shared database."""

    def __init__(self, database: Database) -> None:
        self.clock = VirtualClock(mono_ns=10**9)
        self.limiter = Limiter(MemoryStore(self.clock), self.clock, api="2/minute", tall="2/minute > 9/minute")
        self.rulebook = Rulebook(database, self.limiter, self.clock)

    async def admitted(self, policy: str = "api", key: str = "user") -> int:
        await self.limiter.reset(policy, key)
        return [bool(await self.limiter.hit(policy, key)) for _ in range(20)].count(True)


@pytest.fixture
async def start(database: Any) -> AsyncIterator[Any]:
    """`await start()` is another node on the test's database."""
    await database.prepare("limiter", tables, MIGRATIONS)
    async with AsyncExitStack() as stack:

        async def go() -> Node:
            node = Node(database)
            await node.rulebook.start()
            stack.push_async_callback(node.rulebook.stop)
            return node

        yield go


async def test_a_policy_goes_before_what_code_defines_outlives_a_restart_and_can_be_taken_back(start: Any) -> None:
    node = await start()
    assert await node.admitted() == 2
    stored = await node.rulebook.put("api", "5 per minute; fail closed")
    assert (stored.text, stored.version) == ("5/minute; fail closed", 1)
    assert await node.admitted() == 5
    node.limiter.define("api", "3/minute")
    assert await node.admitted() == 5
    again = await start()
    assert await again.admitted() == 5
    await again.rulebook.delete("api")
    assert await again.admitted() == 2
    with pytest.raises(UnknownPolicy):
        await again.rulebook.delete("api")


async def test_a_policy_may_be_set_before_any_code_defines_it(start: Any) -> None:
    node = await start()
    await node.rulebook.put("later", "4/minute")
    assert await node.admitted("later") == 4
    node.limiter.define("later", "1/minute")
    assert await node.admitted("later") == 4
    await node.rulebook.delete("later")
    assert await node.admitted("later") == 1


async def test_overrides_are_kept_changed_and_ended_together(start: Any) -> None:
    node = await start()
    assert await node.rulebook.put_overrides("vip", {"api": "4/minute", "tall": "9/hour"}) == {
        "api": "4/minute",
        "tall": "9/hour",
    }
    assert await node.admitted(key="vip") == 4 and await node.admitted() == 2
    again = await start()
    assert await again.admitted(key="vip") == 4
    assert await again.rulebook.put_overrides("vip", {"api": None}) == {"tall": "9/hour"}
    assert await again.admitted(key="vip") == 2
    assert again.rulebook.overrides() == [("vip", "tall", "9/hour")]


async def test_other_nodes_follow_within_a_second(start: Any) -> None:
    here, there = await start(), await start()
    await here.rulebook.put("api", "7/minute")
    await here.rulebook.put_overrides("vip", {"api": "8/minute"})
    await there.clock.advance(1.0)  # by its own clock, which nobody moves after this: one look has to do
    await until(lambda: there.rulebook.overrides_of("vip") == {"api": "8/minute"})
    assert await there.admitted() == 7 and await there.admitted(key="vip") == 8
    await here.rulebook.delete("api")
    await here.rulebook.put_overrides("vip", {"api": None})
    await there.clock.advance(1.0)
    await until(lambda: not there.rulebook.overrides())
    assert await there.admitted() == 2 and await there.admitted(key="vip") == 2


async def test_a_node_that_could_not_look_for_a_while_follows_again(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = await start(), await start()
    looked = asyncio.Event()

    class Gone:
        async def read(self, *_: Any) -> Any:
            looked.set()
            raise Unavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(there.rulebook, "_database", Gone())
        await here.rulebook.put("api", "7/minute")
        await there.clock.advance(1.0)
        async with asyncio.timeout(30):
            await looked.wait()

    async def follows() -> bool:
        await there.clock.advance(0.5)
        return there.rulebook.stored("api") is not None

    await until(follows)
    assert await there.admitted() == 7


async def test_two_editors_do_not_overwrite_each_other(start: Any) -> None:
    node = await start()
    await node.rulebook.put("api", "5/minute", version=0)
    with pytest.raises(Conflict):
        await node.rulebook.put("api", "6/minute", version=0)
    assert (await node.rulebook.put("api", "6/minute", version=1)).version == 2
    with pytest.raises(Conflict):
        await node.rulebook.delete("api", version=1)
    await node.rulebook.delete("api", version=2)


async def test_what_cannot_be_kept_is_refused_and_changes_nothing(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await start()
    for name, text in (("api", "many"), ("Not A Name", "1/s"), ("policies", "1/s"), ("live", "1/s")):
        with pytest.raises(BadPolicy):
            await node.rulebook.put(name, text)
    for key, limits in (("", {"api": "1/s"}), ("k" * 129, {"api": "1/s"}), ("a\0b", {"api": "1/s"}), ("#a", {})):
        with pytest.raises(BadKey):
            await node.rulebook.put_overrides(key, limits)
    with pytest.raises(UnknownPolicy):
        await node.rulebook.put_overrides("vip", {"api": "9/minute", "nothing": "1/s"})
    with pytest.raises(BadPolicy):
        await node.rulebook.put_overrides("vip", {"api": "1/s > 2/s"})
    monkeypatch.setattr(module, "POLICIES_MAX", 1)
    monkeypatch.setattr(module, "OVERRIDES_MAX", 1)
    await node.rulebook.put("api", "5/minute")
    with pytest.raises(Full):
        await node.rulebook.put("another", "5/minute")
    with pytest.raises(Full):
        await node.rulebook.put_overrides("vip", {"api": "1/s", "tall": "1/s"})
    assert node.rulebook.overrides() == []


async def test_the_configured_store_and_policies(database: Database) -> None:
    def made(**settings: Any) -> object:
        return make_store(LimiterSettings(**settings), database, SystemClock())

    assert isinstance(made(), MemoryStore)
    assert isinstance(made(store="sql"), SqlStore)
    assert isinstance(made(store="redis"), RedisStore)
    settings = LimiterSettings(policies={"api": "1/minute"})
    limiter = make_limiter(settings, MemoryStore(), SystemClock(), Metrics())
    assert await limiter.hit("api", "user") and not await limiter.hit("api", "user")
    with pytest.raises(BadPolicy):
        make_limiter(LimiterSettings(policies={"api": "often"}), MemoryStore(), SystemClock(), Metrics())


async def test_the_sql_store_sweeps_what_has_expired(database: Any) -> None:
    await database.prepare("limiter", tables, MIGRATIONS)
    clock = VirtualClock(mono_ns=10**9)
    store = SqlStore(database, clock, deadline_s=30, time_us=lambda: clock.wall_ns() // 1000)
    limiter = Limiter(store, clock, api="5/minute; 5/day UTC")
    rulebook = Rulebook(database, limiter, clock)
    for number in range(20):
        await limiter.hit("api", f"user {number}")
    await clock.advance(3600)
    await rulebook.sweep()
    listed = await limiter.keys("api")
    assert listed["api 5/minute"] == [] and len(listed["api 5/day UTC"]) == 20
    await clock.advance(86_400)
    await rulebook.sweep()
    assert (await limiter.keys("api"))["api 5/day UTC"] == []


async def test_decisions_show_in_the_metrics() -> None:
    metrics = Metrics()
    clock = VirtualClock(mono_ns=10**9)
    limiter = Limiter(MemoryStore(clock), clock, metrics, api="1/minute", quiet="1/minute shadow")
    for _ in range(3):
        await limiter.hit("api", "user")
        await limiter.hit("quiet", "user")
    text = metrics.exposition().decode()
    assert 'limiter_decisions_total{policy="api",outcome="refused"} 2' in text
    assert 'limiter_decisions_total{policy="quiet",outcome="shadowed"} 2' in text
