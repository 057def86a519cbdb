"""The SQL store: strict between nodes, and an answer in time where the database gives none."""

import asyncio
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.problems import StorageFull, Unavailable
from mainspring.core.telemetry import Metrics
from mainspring.primitives.limiter import Limiter, sql
from mainspring.primitives.limiter.sql import SqlStore
from mainspring.primitives.limiter.tables import tables
from tests.primitives.limiter.conftest import MIGRATIONS, PATIENCE_S


async def test_racing_nodes_admit_exactly_the_limit_at_every_level(database: Any) -> None:
    await database.prepare("limiter", tables, MIGRATIONS)
    stores = [SqlStore(database, deadline_s=PATIENCE_S) for _ in range(3)]
    limiters = [Limiter(store, SystemClock(), api="30/hour; log 25/hour > 60/hour") for store in stores]
    hits = [(node, user) for _ in range(40) for user in ("ann", "bob", "cid") for node in limiters]
    decisions = await asyncio.gather(*(node.hit("api", [user, "everyone"]) for node, user in hits))
    assert {decision.store for decision in decisions} == {"sql"}
    admitted = [user for (_, user), decision in zip(hits, decisions, strict=True) if decision]
    assert len(admitted) == 60
    assert all(admitted.count(user) <= 25 for user in ("ann", "bob", "cid"))
    last = (await limiters[0].peek("api", ["dan", "everyone"])).verdicts
    assert last[2].remaining == 0 and last[0].remaining == 30
    await asyncio.gather(*(store.stop() for store in stores))


async def test_keys_in_any_order_never_wait_for_each_other_for_ever(database: Any) -> None:
    await database.prepare("limiter", tables, MIGRATIONS)
    stores = [SqlStore(database, deadline_s=PATIENCE_S) for _ in range(3)]
    limiters = [Limiter(store, SystemClock(), api="1000/hour") for store in stores]
    pairs = [["a", "b", "c"], ["c", "b", "a"], ["b", "c"], ["c", "a"], ["d", "a"], ["a", "d"]]
    async with asyncio.timeout(PATIENCE_S):
        decisions = await asyncio.gather(
            *(node.hit("api", keys) for _ in range(20) for keys in pairs for node in limiters)
        )
    assert all(decision.store == "sql" and decision.allowed for decision in decisions)
    assert (await limiters[0].peek("api", "a")).remaining == 1000 - 20 * 5 * 3 - 1
    await asyncio.gather(*(store.stop() for store in stores))


async def test_states_outlive_the_process(database: Any) -> None:
    await database.prepare("limiter", tables, MIGRATIONS)
    for expected in ([True, True], [True, False]):
        store = SqlStore(database, deadline_s=PATIENCE_S)
        limiter = Limiter(store, SystemClock(), api="3/month")
        assert [bool(await limiter.hit("api", "user")) for _ in range(2)] == expected
        await store.stop()


class Sick:
    """A database that fails as it is told to, or does not answer at all."""

    dialect = "sqlite"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.well = asyncio.Event()

    async def write(self, function: Any, *args: Any) -> Any:
        if self.error is not None:
            raise self.error
        await self.well.wait()
        raise Unavailable("still recovering")

    read = write


@pytest.mark.parametrize(
    ("error", "reason"), [(Unavailable("gone"), "unreachable"), (StorageFull(), "full"), (RuntimeError("bug"), "fault")]
)
async def test_a_database_that_fails_leaves_the_decision_to_the_policy(error: Exception, reason: str) -> None:
    database, metrics = Sick(), Metrics()
    database.error = error
    store = SqlStore(database, deadline_s=PATIENCE_S)  # type: ignore[arg-type]
    limiter = Limiter(
        store, SystemClock(), metrics, strict="1/hour; fail closed", loose="1/hour; fail open", near="1/hour"
    )
    decisions = [await limiter.hit(name, "user") for name in ("strict", "loose", "near", "near")]
    assert [(one.allowed, one.store) for one in decisions] == [
        (False, "closed"),
        (True, "open"),
        (True, "local"),
        (False, "local"),
    ]
    assert f'choice="closed",reason="{reason}"' in metrics.exposition().decode()
    with pytest.raises(Unavailable):
        await limiter.reset("near", "user")


async def test_a_database_that_does_not_answer_is_not_waited_for_twice() -> None:
    database = Sick()
    store = SqlStore(database, deadline_s=0.05)  # type: ignore[arg-type]
    limiter = Limiter(store, SystemClock(), loose="1/hour; fail open")
    async with asyncio.timeout(PATIENCE_S):
        assert (await limiter.hit("loose", "user")).store == "open"
        # The batch is still under way: callers are refused by the store at once, however many they are.
        assert store._overdue
        decisions = await asyncio.gather(*(limiter.hit("loose", f"user {n}") for n in range(500)))
        assert {decision.store for decision in decisions} == {"open"}
        assert not store._pending
        database.well.set()
        await store.stop()
    assert not store._overdue


async def test_more_asks_than_the_queue_holds_are_decided_by_the_policy_at_once(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.prepare("limiter", tables, MIGRATIONS)
    monkeypatch.setattr(sql, "PENDING_MAX", 5)
    store, metrics = SqlStore(database, deadline_s=PATIENCE_S), Metrics()
    limiter = Limiter(store, SystemClock(), metrics, loose="1000/hour; fail open")
    decisions = await asyncio.gather(*(limiter.hit("loose", f"user {n}") for n in range(20)))
    assert [decision.store for decision in decisions] == ["sql"] * 5 + ["open"] * 15
    assert 'choice="open",reason="overload"} 15' in metrics.exposition().decode()
    assert (await limiter.hit("loose", "user")).store == "sql"
    await store.stop()
