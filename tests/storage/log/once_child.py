"""A process that appends one request under one idempotency key: `python once_child.py FOLDER`.

What kills it (`MAINSPRING_CRASH_AT`) does so between the steps of that. It prints the positions and whether it was a replay.
"""

import asyncio
import sys
from pathlib import Path

from mainspring.core.clock import SystemClock
from mainspring.core.database import SqliteDatabase
from mainspring.core.once import Once
from mainspring.storage.log import once
from mainspring.storage.log.packing import New
from mainspring.storage.log.service import Log

RECORDS = [New(b"%d" % n, b"key-%d" % n if n % 2 else None) for n in range(12)]


async def main(folder: Path) -> None:
    database = SqliteDatabase(folder / "test.db", floor_bytes=0, ballast_bytes=0, write_deadline_s=60)
    await database.start()
    log = Log(folder / "log", SystemClock(), database)
    await log.start()
    topic = log.engine.topics.get("orders") or await log.create_topic("orders", 4)
    key = Once("order-17", b"digest")
    positions = await once.append(log, database, key, topic, RECORDS)
    print([(one.partition, one.offset) for one in positions], key.replayed, flush=True)
    await log.stop()
    await database.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
