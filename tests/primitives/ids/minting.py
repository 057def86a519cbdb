"""A process that mints until it is killed, and the process that bears it.

`python -m tests.primitives.ids.minting DATABASE` (the path of a SQLite file or the DSN of a PostgreSQL) imports everything
once and then, for each line `FILE` on its standard input, forks a child that mints into that file, and answers with its
process id. Forking takes milliseconds where starting Python takes a second, and the children differ in nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.core.clock import SystemClock
from mainspring.core.database import SqliteDatabase
from mainspring.primitives.ids import Ids
from mainspring.primitives.ids.errors import Refused
from mainspring.primitives.ids.tables import tables

from .conftest import MIGRATIONS

if TYPE_CHECKING:
    from tests.fixtures_database import AnyDatabase

BATCHES = (1, 10, 1_000, 4_096)


async def open_database(where: str) -> AnyDatabase:
    if where.startswith("host="):
        from mainspring.core.database.postgres import PostgresDatabase

        database: AnyDatabase = PostgresDatabase(where, pool_size=2, patience_s=60)
    else:
        database = SqliteDatabase(where, floor_bytes=0, ballast_bytes=0, read_deadline_s=60, write_deadline_s=60)
    await database.start()
    await database.prepare("ids", tables, MIGRATIONS)
    return database


async def mint(path: str, file: Path) -> None:
    """Mints for ever. What `write` has taken is in the file, whatever happens to this process afterwards."""
    while True:
        try:
            ids = Ids(await open_database(path), SystemClock())
            await ids.start()
            break
        except Exception as error:
            # Eight at once on a slow machine may wait too long for the one lock of a file.
            print(f"not started yet: {error}", file=sys.stderr)
            await asyncio.sleep(0.1)
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        for count in BATCHES:
            try:
                batch = ids.take(count)
                batch += [ids.next() for _ in range(200)]
            except Refused:
                await asyncio.sleep(0.001)
                continue
            os.write(out, array("q", batch).tobytes())
        await asyncio.sleep(0)


def bear(path: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            asyncio.run(mint(path, Path(line.strip())))
        print(child, flush=True)


if __name__ == "__main__":
    bear(sys.argv[1])
