"""The relay to the real Kafka: each event once in commit order, also when another relay is thought dead and is not."""

from random import Random
from typing import Any
from uuid import uuid4

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.outbox import OutboxLog, idle
from mainspring.core.outbox.relay import Relay
from mainspring.core.ports import Connection
from mainspring.core.problems import Problem
from mainspring.storage.log.apache import KafkaLog
from tests.core.log_contract import read, reading, values
from tests.fixtures_kafka import KafkaBroker
from tests.needs import need_module
from tests.waiting import until

need_module("confluent_kafka")


def emit(connection: Connection, topic: str, first: int, count: int) -> None:
    for n in range(first, first + count):
        connection.emit(topic, b"%d" % n, b"key")


async def all_relayed(database: Any) -> bool:
    return not await database.read(idle.is_unrelayed)


async def test_a_relay_that_was_thought_dead_adds_nothing(database: Any, kafka: KafkaBroker) -> None:
    topic = f"relayed-{uuid4().hex[:12]}"
    logs = [KafkaLog(f"kafka://{kafka.address}", SystemClock(), database) for _ in range(2)]
    outbox = OutboxLog(database, SystemClock(), random=Random(1))
    relays = [Relay(database, outbox, log, SystemClock(), random=Random(n)) for n, log in enumerate(logs)]
    for log in logs:
        await log.start()
    try:
        await relays[0].start()
        await database.write(emit, topic, 0, 5)
        await until(lambda: all_relayed(database))
        await relays[0].stop()

        # The first sleeps with events in hand; the second takes over, relays them and goes on.
        history = await outbox.history()
        await logs[1].take_over(history)
        with pytest.raises(Problem):
            await logs[0].relay({topic: [(0, b"key", b"late", [])]})
        await database.write(emit, topic, 5, 5)
        await relays[1].start()
        await until(lambda: all_relayed(database))
        await relays[1].stop()
        async with reading(logs[1].consumer("reader", [topic])) as consumer:
            assert values(await read(consumer, 10)) == [b"%d" % n for n in range(10)]
    finally:
        await outbox.stop()
        for log in logs:
            await log.stop()


async def test_what_was_relayed_before_a_crash_is_found_there(database: Any, kafka: KafkaBroker) -> None:
    topic = f"relayed-{uuid4().hex[:12]}"
    log = KafkaLog(f"kafka://{kafka.address}", SystemClock(), database)
    outbox = OutboxLog(database, SystemClock(), random=Random(1))
    await log.start()
    try:
        await database.write(emit, topic, 0, 3)
        half = Relay(database, outbox, _Forgetful(log), SystemClock(), random=Random(1))  # type: ignore[arg-type]
        await half._begin()
        with pytest.raises(ConnectionError):
            await half._relay_some()
        await database.write(emit, topic, 3, 3)
        whole = Relay(database, outbox, log, SystemClock(), random=Random(2))
        await whole.start()
        await until(lambda: all_relayed(database))
        await whole.stop()
        async with reading(log.consumer("reader", [topic])) as consumer:
            assert values(await read(consumer, 6)) == [b"%d" % n for n in range(6)]
    finally:
        await outbox.stop()
        await log.stop()


class _Forgetful:
    """A log whose answer to an append is lost."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def relay(self, items: Any) -> Any:
        await self._log.relay(items)
        raise ConnectionError
