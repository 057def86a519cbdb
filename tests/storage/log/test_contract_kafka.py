"""Apache Kafka behind the port: the suite that every adapter passes, on the real broker."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from tests.core.log_contract import (
    LogContract,
    PartitionedLogContract,
    ReadingLogContract,
    SharingLogContract,
    TransactionalLogContract,
    World,
    tables,
)
from tests.fixtures_kafka import KafkaBroker
from tests.needs import need_module

need_module("confluent_kafka")


async def world_of(kafka: KafkaBroker, database: Any) -> AsyncIterator[World]:
    from confluent_kafka.cimpl import NewTopic

    from mainspring.storage.log.apache import KafkaLog

    async def opened() -> KafkaLog:
        log = KafkaLog(f"kafka://{kafka.address}", SystemClock(), database)
        await log.start()
        return log

    async def restart() -> KafkaLog:
        await made.log.stop()
        return await opened()

    async def create_topic(topic: str, partitions: int) -> None:
        made.log.admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(60)

    made = World(await opened(), database, restart, create_topic)
    yield made
    await made.log.stop()


class TestKafkaLog(LogContract, PartitionedLogContract):
    """Beside each database, in which positions may live."""

    @pytest.fixture
    async def world(self, database: Any, kafka: KafkaBroker) -> AsyncIterator[World]:
        await database.prepare("effects", tables)
        async for made in world_of(kafka, database):
            yield made


class TestKafkaLogAlone(TransactionalLogContract, ReadingLogContract, SharingLogContract):
    """What no database has a part in."""

    @pytest.fixture
    async def world(self, kafka: KafkaBroker) -> AsyncIterator[World]:
        async for made in world_of(kafka, None):
            yield made
