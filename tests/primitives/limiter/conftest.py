"""The `limiters` fixture: the same test on every store, by one clock that only the test moves."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mainspring.core.clock import VirtualClock
from mainspring.primitives.limiter import Limiter, MemoryStore
from mainspring.primitives.limiter.plans import Written
from mainspring.primitives.limiter.store import Store
from mainspring.primitives.limiter.tables import tables
from tests.fixtures_database import embedded_database, postgres_database

PATIENCE_S = 30.0
MIGRATIONS = Path(__file__).resolve().parents[3] / "src/mainspring/primitives/limiter/migrations"


class Limiters:
    """Makes limiters on one store; `clock` is the time of all of them."""

    def __init__(self, store: Store, clock: VirtualClock) -> None:
        self.store = store
        self.clock = clock

    def __call__(self, **policies: Written) -> Limiter:
        return Limiter(self.store, self.clock, **policies)


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
async def limiters(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Limiters]:
    clock = VirtualClock(mono_ns=5 * 10**9)

    def time_us() -> int:
        return clock.wall_ns() // 1000

    if request.param == "memory":
        yield Limiters(MemoryStore(clock), clock)
    elif request.param == "redis":
        from mainspring.primitives.limiter.redis import RedisStore

        url = request.getfixturevalue("redis_server").url
        store = RedisStore(url, clock, deadline_s=PATIENCE_S, prefix=f"test-{uuid.uuid4().hex}", time_us=time_us)
        yield Limiters(store, clock)
        await store.stop()
    else:
        from mainspring.primitives.limiter.sql import SqlStore

        side = (
            embedded_database(tmp_path)
            if request.param == "sqlite"
            else postgres_database(request.getfixturevalue("postgres_server"))
        )
        async with side as database:
            await database.prepare("limiter", tables, MIGRATIONS)
            sql = SqlStore(database, clock, deadline_s=PATIENCE_S, time_us=time_us)
            yield Limiters(sql, clock)
            await sql.stop()
