"""A process that emits events and relays them until all are in the log: `python relay_child.py FOLDER ROUND`.

Each round emits anew. What kills it (`MAINSPRING_CRASH_AT`) does so between the steps of the relay, or of the log.
"""

import asyncio
import sys
from pathlib import Path

from mainspring.core.clock import SystemClock
from mainspring.core.database import SqliteDatabase
from mainspring.core.outbox import OutboxLog, idle
from mainspring.core.outbox.relay import Relay
from mainspring.core.ports import Connection
from mainspring.storage.log.service import Log
from tests.waiting import until

EVENTS, AT_ONCE = 30, 5
"""The relay has at least a turn for each five events."""


def emit(connection: Connection, round: int, n: int) -> None:
    connection.emit("orders", b"%d.%d" % (round, n), b"key-%d" % (n % 3))


async def all_relayed(database: SqliteDatabase) -> bool:
    return not await database.read(idle.is_unrelayed)


async def main(folder: Path, round: int) -> None:
    database = SqliteDatabase(folder / "test.db", floor_bytes=0, ballast_bytes=0, write_deadline_s=60)
    await database.start()
    log = Log(folder / "log", SystemClock(), database)
    await log.start()
    outbox = OutboxLog(database, SystemClock())
    relay = Relay(database, outbox, log, SystemClock())
    await relay.start()
    for n in range(EVENTS):
        await database.write(emit, round, n)
        print(round, n, flush=True)
        if n % AT_ONCE == AT_ONCE - 1:
            await until(lambda: all_relayed(database))
    await relay.stop()
    await outbox.stop()
    await log.stop()
    await database.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
