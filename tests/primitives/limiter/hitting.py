"""A node that hits one limit until it is killed: `python -m tests.primitives.limiter.hitting STORE ADDRESS`.

For each hit that its store has admitted one byte goes to standard output, and nothing else.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import mainspring.primitives.limiter
from mainspring.core.clock import SystemClock
from mainspring.primitives.limiter import Limiter
from mainspring.primitives.limiter.store import Store
from mainspring.primitives.limiter.tables import tables
from tests.waiting import PATIENCE_S

MIGRATIONS = Path(mainspring.primitives.limiter.__file__).parent / "migrations"
CALLERS = 8
LIMIT = 3_000
POLICY = f"1/day burst {LIMIT}"
"""A bucket that gives back nothing worth a name while a test runs."""


async def open_store(kind: str, address: str) -> tuple[Store, Any]:
    """A store, and the database that it is on, where there is one."""
    if kind == "redis":
        from mainspring.primitives.limiter.redis import RedisStore

        return RedisStore(address, deadline_s=PATIENCE_S), None
    from mainspring.primitives.limiter.sql import SqlStore

    database: Any
    if kind == "postgres":
        from mainspring.core.database.postgres import PostgresDatabase

        database = PostgresDatabase(address, pool_size=2, patience_s=PATIENCE_S)
    else:
        from mainspring.core.database import SqliteDatabase

        database = SqliteDatabase(Path(address), floor_bytes=0, ballast_bytes=0, write_deadline_s=PATIENCE_S)
    await database.start()
    await database.prepare("limiter", tables, MIGRATIONS)
    return SqlStore(database, deadline_s=PATIENCE_S), database


async def main(kind: str, address: str) -> None:
    store, _ = await open_store(kind, address)
    limiter = Limiter(store, SystemClock(), shared=POLICY)

    async def hit() -> None:
        while True:
            decision = await limiter.hit("shared", "everyone")
            if decision and decision.store == store.name:
                os.write(1, b"1")

    await asyncio.gather(*(hit() for _ in range(CALLERS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
