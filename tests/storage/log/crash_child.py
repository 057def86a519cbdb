"""A process that writes to a log in every way there is and says what it was promised, until a crash point kills it.

Lines on its output: `topic name`, `gone name` (from now on it may be), `acked topic partition offset value`,
`start topic partition offset`.
"""

import asyncio
import sys
import time
from pathlib import Path
from random import Random

from mainspring.core.clock import SystemClock
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.producers import Origin
from mainspring.storage.log.records import build, marker
from mainspring.storage.log.settings import LogSettings

PARTITIONS = 6
ROUNDS = 14
CONFIGS = {
    "many": {"segment.bytes": "1500", "index.interval.bytes": "200", "file.delete.delay.ms": "0"},
    "keyed": {"segment.bytes": "900", "cleanup.policy": "compact", "delete.retention.ms": "0"},
    "passing": {},
}


def say(*words: object) -> None:
    print(*words, flush=True)


async def append(engine: Engine, topic: str, index: int, value: str, key: str | None = None) -> None:
    partition = engine.partition(topic, index)
    record = (time.time_ns() // 1_000_000, (key or value).encode(), value.encode(), ())
    appending = partition.append(build([record]))
    await appending.durable()
    say("acked", topic, index, appending.base_offset, value)


async def transact(engine: Engine, id: int, commit: bool) -> None:
    """A transaction in partition 0, so that snapshots and transaction indexes have something to say."""
    partition = engine.partition("many", 0)
    known = partition.producers.get(id)
    record = (time.time_ns() // 1_000_000, b"k", b"in a transaction", ())
    if known is None or id not in partition.open_transactions:
        sequence = known.last_sequence + 1 if known is not None else 0
        await partition.append(
            build([record], producer_id=id, epoch=0, sequence=sequence, transactional=True)
        ).durable()
    await partition.append(marker(id, 0, commit, 0, record[0]), origin=Origin.COORDINATOR).durable()


async def work(folder: Path, name: str) -> None:
    random = Random(name)
    settings = LogSettings(journal_files_min=2, journal_bytes=1 << 16, topic={"max.message.bytes": "200000"})
    engine = Engine([folder], SystemClock(), settings)
    await engine.start()
    for topic, config in CONFIGS.items():
        if topic not in engine.topics:
            await engine.create_topic(topic, PARTITIONS if topic == "many" else 1, config)
            say("topic", topic)
    for turn in range(ROUNDS):
        await asyncio.gather(*(append(engine, "many", n, f"{name}.{turn}.{n}") for n in range(PARTITIONS)))
        await append(engine, "many", random.randrange(PARTITIONS), f"{name}.{turn}.one")
        for n in range(4):
            await append(engine, "keyed", 0, f"{name}.{turn}.{n}", f"key{n % 3}")
        await transact(engine, turn % 2, turn % 3 == 0)
        if turn % 4 == 3:
            await engine.cleaner.clean_one(engine.partition("keyed", 0))
            await engine.upkeep.checkpoint()
        if turn % 5 == 4:
            index = random.randrange(PARTITIONS)
            start = await engine.partition("many", index).delete_records(engine.partition("many", index).end - 4)
            say("start", "many", index, start)
        if turn == 6:
            # Large enough to fill the journal, so that it is begun anew.
            await asyncio.gather(*(append(engine, "many", n, f"{name}.{turn}.{n}" + "x" * 15_000) for n in range(4)))
            say("gone", "passing")
            await engine.delete_topic("passing")
    await engine.stop()
    say("stopped")


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2]))
