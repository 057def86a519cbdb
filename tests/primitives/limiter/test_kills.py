"""kill -9 of a node that shares a limit: what it has spent is spent, and the others are held to the same bound."""

import asyncio
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainspring.core.clock import SystemClock
from mainspring.primitives.limiter import Limiter
from tests.needs import REPOSITORY
from tests.waiting import until

from .conftest import PATIENCE_S
from .hitting import CALLERS, LIMIT, POLICY, open_store


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A kind of store, and where it is; a Redis of its own, for the limit's name is the same each time."""
    if request.param == "sqlite":
        yield "sqlite", str(tmp_path / "limits.db")
    elif request.param == "redis":
        from tests.fixtures_cache import RedisServer

        server = RedisServer()
        try:
            server.start()
            yield "redis", server.url
        finally:
            server.remove()
    else:
        server = request.getfixturevalue("postgres_server")
        schema = f"t_{uuid.uuid4().hex}"
        server.execute(f"CREATE SCHEMA {schema}")
        yield "postgres", server.dsn(schema)
        server.execute(f"DROP SCHEMA {schema} CASCADE")


async def test_a_limit_holds_over_nodes_while_one_is_killed(place: tuple[str, str]) -> None:
    kind, address = place
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.primitives.limiter.hitting", kind, address, stdout=-1, cwd=REPOSITORY
    )
    assert victim.stdout is not None
    try:
        async with asyncio.timeout(2 * PATIENCE_S):
            told = len(await victim.stdout.readexactly(100))
            ours = 0
            if kind == "sqlite":  # one process owns the file: who comes later finds what was spent
                victim.kill()
            store, database = await open_store(kind, address)
            limiter = Limiter(store, SystemClock(), shared=POLICY)

            async def connected() -> bool:
                return (await limiter.peek("shared", "everyone")).store == store.name

            await until(connected)
            for _ in range(50):
                ours += (await limiter.hit("shared", "everyone")).allowed
            if victim.returncode is None and kind != "sqlite":
                victim.kill()
            told += len(await victim.stdout.read())
            while True:
                decisions = await asyncio.gather(*(limiter.hit("shared", "everyone") for _ in range(64)))
                assert {decision.store for decision in decisions} == {store.name}
                ours += sum(decision.allowed for decision in decisions)
                if not decisions[-1]:
                    break
            await store.stop()  # type: ignore[attr-defined]
            if database is not None:
                await database.stop()
    finally:
        if victim.returncode is None:
            victim.kill()
        await victim.wait()
    # What it was doing when it died may be charged though nobody was told.
    assert LIMIT - CALLERS <= told + ours <= LIMIT
