"""A backup taken under load restores to one moment: the log has what the rows say was emitted, and effects go on from there."""

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
from mainspring.core.outbox import transactions
from mainspring.core.ports import Connection, Database
from mainspring.core.ports import Log as LogPort
from tests.core.log_contract import effects, fold, next_batch, reading
from tests.core.log_contract import tables as effect_tables
from tests.waiting import until

orders = Metadata("orders")
order = orders.table(
    "orders_order", sa.Column("id", Int64, primary_key=True), sa.Column("value", Bytes, nullable=False)
)
INSERT = sa.insert(order)
VALUES = sa.select(order.c.value).order_by(order.c.id)
TOPIC, DIRECT, BEFORE = "orders", "direct", 40


def place(connection: Connection, n: int) -> None:
    connection.execute(INSERT, {"id": n, "value": b"%d" % n})
    connection.emit(TOPIC, b"%d" % n, b"key")


def placed(connection: Connection) -> list[bytes]:
    return [value for (value,) in connection.execute(VALUES)]


@asynccontextmanager
async def running(data: Path) -> AsyncIterator[tuple[Mainspring, Any, Any]]:
    async with Mainspring(["log"], Config(data=str(data), free_bytes_min=0)) as mainspring:
        database: Any = await mainspring.service(Database)  # type: ignore[type-abstract]
        await database.prepare("effects", effect_tables)
        await database.prepare("orders", orders)
        yield mainspring, database, await mainspring.service(LogPort)  # type: ignore[type-abstract]


async def everything(log: Any, topic: str) -> list[bytes]:
    found: list[bytes] = []
    offset = 0
    while await log.partitions(topic) and (records := await log.fetch(topic, 0, offset)):
        found += [record.value for record in records]
        offset = records[-1].offset + 1
    return found


async def all_relayed(database: Any) -> bool:
    return not await database.read(transactions.is_unrelayed)


@pytest.mark.parametrize("seed", range(2))
async def test_a_backup_under_load_restores_to_one_moment(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    async with running(tmp_path / "data") as (mainspring, database, log):
        stopping = asyncio.Event()

        async def write() -> None:
            n = 0
            while not stopping.is_set():
                await database.write(place, n)
                await log.append(DIRECT, b"%d" % n)
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

    await restore(tmp_path / "backup", tmp_path / "restored")
    async with running(tmp_path / "restored") as (_, database, log):
        rows = await database.read(placed)
        assert BEFORE <= len(rows) <= taken
        await until(lambda: all_relayed(database))
        assert await everything(log, TOPIC) == rows, "the log has exactly what the rows say"
        direct = await everything(log, DIRECT)
        assert direct == [b"%d" % n for n in range(len(direct))]
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
