"""A log moved to Apache Kafka: every record arrives as it was, and every group goes on where it stood."""

from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from mainspring.core.clock import SystemClock
from mainspring.storage.log.apache import KafkaLog
from mainspring.storage.log.moving import CannotMove, move_to_kafka, record_count
from mainspring.storage.log.packing import New
from mainspring.storage.log.service import Log
from tests.core.log_contract import effects, fold, next_batch, read, reading, tables, values
from tests.fixtures_database import embedded_database
from tests.fixtures_kafka import KafkaBroker
from tests.fixtures_server import Server, StartServer
from tests.needs import need_module
from tests.waiting import until

need_module("confluent_kafka")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Any]:
    async with embedded_database(tmp_path) as made:
        await made.prepare("effects", tables)
        yield made


@pytest.fixture
async def log(tmp_path: Path, database: Any) -> AsyncIterator[Log]:
    made = Log(tmp_path / "log", SystemClock(), database, random=Random(1))
    await made.start()
    yield made
    await made.stop()


async def test_records_and_positions_arrive(log: Log, database: Any, kafka: KafkaBroker) -> None:
    name, group = f"moved-{uuid4().hex[:12]}", f"group-{uuid4().hex[:12]}"
    await log.create_topic(name, 2, retention_ms=-1)
    for index in range(2):
        records = [
            New(b"%d.%d" % (index, n), b"k", [("h", b"%d" % n)], 1_700_000_000_000 + n, index) for n in range(40)
        ]
        await log.append_records(name, records)
    await log.append_records(name, [New(None, b"tombstone", partition=0)])
    async with log.transaction("mover") as transaction:
        await transaction.append(name, b"never", partition=1)
        await transaction.abort()
    await log.append(name, b"after", partition=1)
    async with reading(log.consumer(group, [name], batch_records_max=7)) as consumer:
        plain = await read(consumer, 14)
    async with reading(log.consumer(group + "-sql", [name], batch_records_max=9)) as consumer:
        assert await database.write(fold, await next_batch(consumer), consumer)

    seen: list[tuple[str, int]] = []
    moved = await move_to_kafka(log, database, f"kafka://{kafka.address}", lambda what, done: seen.append((what, done)))
    assert moved.records == 82 and moved.topics == 1 and moved.groups >= 1
    assert seen[-1] == ("verified", 82) and record_count(log) >= 82

    there = KafkaLog(f"kafka://{kafka.address}", SystemClock(), database)
    await there.start()
    try:
        async with reading(there.consumer(group, [name])) as consumer:
            rest = await read(consumer, 82 - 14)
        async with reading(there.consumer(group + "-sql", [name], batch_records_max=500)) as consumer:
            while len(await database.read(effects)) < 82:
                assert await database.write(fold, await next_batch(consumer), consumer)
    finally:
        await there.stop()
    arrived = plain + rest
    for index, last in ((0, b""), (1, b"after")):
        part = [record for record in arrived if record.partition == index]
        assert values(part) == [b"%d.%d" % (index, n) for n in range(40)] + [last]
        assert [record.at_us for record in part[:40]] == [(1_700_000_000_000 + n) * 1000 for n in range(40)]
        assert part[3].headers == (("h", b"3"),) and part[3].key == b"k"
    assert len(set(await database.read(effects))) == 82


async def test_a_topic_that_has_records_there_is_left_alone(log: Log, database: Any, kafka: KafkaBroker) -> None:
    name = f"taken-{uuid4().hex[:12]}"
    there = KafkaLog(f"kafka://{kafka.address}", SystemClock())
    await there.start()
    await there.append(name, b"theirs")
    await log.append(name, b"ours")
    with pytest.raises(CannotMove, match="has records there"):
        await move_to_kafka(log, database, f"kafka://{kafka.address}", lambda what, done: None)
    await there.stop()


@pytest.fixture
def empty_kafka(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker of this test's own: a server's topics have names that other tests' servers use as well."""
    broker = KafkaBroker(tmp_path / "kafka")
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


async def test_the_command_moves_a_stopped_server_which_then_runs_on_kafka(
    start_server: StartServer, empty_kafka: KafkaBroker
) -> None:
    kafka = empty_kafka
    server = start_server("links", "log")
    links = f"links.changed-{uuid4().hex[:8]}"
    server.call("POST", "api/log/topics", {"name": links})
    server.call("POST", f"api/log/topics/{links}/records", {"records": [{"value": "one"}, {"value": "two"}]})
    before = server.call("POST", "api/links/links", {"url": "https://example.org/before"})
    with pytest.raises(AssertionError, match="in use"):
        server.command("move", "log", "--to", f"kafka://{kafka.address}")
    server.stop()
    assert "moved" in server.command("move", "log", "--to", f"kafka://{kafka.address}")

    there = start_server("links", "log", settings=(f"log=kafka://{kafka.address}",))
    assert there.call("GET", f"api/links/links/{before['id']}")["url"] == "https://example.org/before"
    follow(there, before["code"], 3)
    await until(lambda: there.call("GET", f"api/links/links/{before['id']}")["clicks"] == 3)
    log = KafkaLog(f"kafka://{kafka.address}", SystemClock())
    await log.start()
    try:
        async with reading(log.consumer(f"check-{uuid4().hex}", [links])) as consumer:
            assert values(await read(consumer, 2)) == [b"one", b"two"]
    finally:
        await log.stop()


def follow(server: Server, code: str, times: int) -> None:
    visitor = HTTPConnection(server.listener("links").removeprefix("http://").rstrip("/"), timeout=60)
    for _ in range(times):
        visitor.request("GET", f"/{code}", headers={"user-agent": "Mozilla/5.0"})
        answer = visitor.getresponse()
        answer.read()
        assert answer.status == 302
    visitor.close()
