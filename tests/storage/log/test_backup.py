"""A backup taken under load restores to one moment: the log has what the rows say was emitted, no record or blob is there
before the row that it follows from, and effects go on from there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring.core.application import Mainspring
from mainspring.core.backup import restore
from mainspring.core.config import Config
from mainspring.core.database import Bytes, Int64, Metadata
from mainspring.core.outbox import idle
from mainspring.core.ports import Blobs, Connection, Database
from mainspring.core.ports import Log as LogPort
from tests.core.log_contract import effects, fold, next_batch, reading
from tests.core.log_contract import tables as effect_tables
from tests.waiting import until

orders = Metadata("orders")
order = orders.table(
    "orders_order", sa.Column("id", Int64, primary_key=True), sa.Column("value", Bytes, nullable=False)
)
INSERT = sa.insert(order)
VALUES = sa.select(order.c.value).where(order.c.id >= 0).order_by(order.c.id)
TOPIC, DIRECT, BEFORE = "orders", "direct", 40
PADDING = b"so that the database's part of a backup takes a while " * 40_000


def place(connection: Connection, n: int) -> None:
    connection.execute(INSERT, {"id": n, "value": b"%d" % n})
    connection.emit(TOPIC, b"%d" % n, b"key")


def pad(connection: Connection) -> None:
    connection.execute(INSERT, {"id": -1, "value": PADDING})


def placed(connection: Connection) -> list[bytes]:
    return [value for (value,) in connection.execute(VALUES)]


def configured(data: Path, *folders: Path) -> Config:
    sections = {"log": {"directories": [str(folder) for folder in folders]}} if folders else {}
    return Config(data=str(data), free_bytes_min=0, sections=sections)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[tuple[Mainspring, Any, Any, Any]]:
    async with Mainspring(["log", "objects"], config) as mainspring:
        database: Any = await mainspring.service(Database)  # type: ignore[type-abstract]
        await database.prepare("effects", effect_tables)
        await database.prepare("orders", orders)
        log = await mainspring.service(LogPort)  # type: ignore[type-abstract]
        yield mainspring, database, log, await mainspring.service(Blobs)  # type: ignore[type-abstract]


async def everything(log: Any, topic: str, partition: int = 0) -> list[bytes]:
    found: list[bytes] = []
    offset = 0
    while await log.partitions(topic) and (records := await log.fetch(topic, partition, offset)):
        found += [record.value for record in records]
        offset = records[-1].offset + 1
    return found


async def all_relayed(database: Any) -> bool:
    return not await database.read(idle.is_unrelayed)


@pytest.mark.parametrize(
    ("seed", "there", "then"),
    [(0, (), ()), (1, ("disk-1", "disk-2"), ("disk-3", "disk-4")), (2, ("data/disk-1",), ("restored/disk-1",))],
    ids=["in its own folder", "on disks", "in other folders of the data folder"],
)
async def test_a_backup_under_load_restores_to_one_moment(
    tmp_path: Path, seed: int, there: tuple[str, ...], then: tuple[str, ...]
) -> None:
    random = Random(seed)
    config = configured(tmp_path / "data", *(tmp_path / name for name in there))
    async with running(config) as (mainspring, database, log, blobs):
        await log.create_topic(DIRECT, 3)
        await database.write(pad)
        stopping = asyncio.Event()

        async def write() -> None:
            n = 0
            while not stopping.is_set():
                await database.write(place, n)
                await blobs.put(f"orders/{n}", b"%d" % n)
                await log.append(DIRECT, b"%d" % n, partition=n % 3)
                n += 1

        async def count(consumer: Any) -> None:
            async for batch in consumer:
                await database.write(fold, batch, consumer)

        async def look(consumer: Any) -> None:
            async for _ in consumer:
                await consumer.commit()

        consumers = [log.consumer("exact", [TOPIC], random.randrange(1, 9)), log.consumer("plain", [DIRECT])]
        tasks = [asyncio.ensure_future(one) for one in (write(), count(consumers[0]), look(consumers[1]))]
        await until(lambda: _has(database, BEFORE))
        await mainspring.actions["backup"]({"target": str(tmp_path / "backup")})
        taken = len(await database.read(placed))
        await until(lambda: _has(database, taken + 5))
        stopping.set()
        await tasks[0]
        for consumer in consumers:
            await consumer.close()
        await asyncio.gather(*tasks)

    config = configured(tmp_path / "restored", *(tmp_path / name for name in then))
    await restore(tmp_path / "backup", tmp_path / "restored", elsewhere=config.elsewhere())
    assert (tmp_path / "restored" / "log").exists() is not bool(then)
    async with running(config) as (_, database, log, blobs):
        rows = await database.read(placed)
        assert BEFORE <= len(rows) <= taken
        await until(lambda: all_relayed(database))
        assert await everything(log, TOPIC) == rows, "the log has exactly what the rows say"
        direct = [await everything(log, DIRECT, partition) for partition in range(3)]
        count = sum(map(len, direct))
        assert direct == [[b"%d" % n for n in range(partition, count, 3)] for partition in range(3)], "up to one moment"
        assert len(rows) - 1 <= count <= len(rows), "no record is there before the row that it follows from"
        for n in range(count):
            assert await blobs.get(f"orders/{n}") == b"%d" % n, "nor before the blob that it names"
        async with reading(log.consumer("exact", [TOPIC])) as consumer:
            while len(await database.read(effects)) < len(rows):
                assert await database.write(fold, await next_batch(consumer), consumer)
        assert await database.read(effects) == rows, "each effect once, those before the backup included"
        async with reading(log.consumer("plain", [DIRECT])) as consumer:
            await log.append(DIRECT, b"last")
            while (await next_batch(consumer))[-1].value != b"last":
                await consumer.commit()


async def _has(database: Any, count: int) -> bool:
    return len(await database.read(placed)) >= count
