"""The outbox itself as a log, on both databases."""

from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from mainspring.core.outbox import OutboxLog
from tests.core.log_contract import LogContract, World, tables


@pytest.fixture
async def world(database: Any) -> AsyncIterator[World]:
    await database.prepare("effects", tables)

    def opened() -> OutboxLog:
        return OutboxLog(database, SystemClock(), random=Random(1))

    async def restart() -> OutboxLog:
        await made.log.stop()
        return opened()

    made = World(opened(), database, restart)
    yield made
    await made.log.stop()


class TestOutboxLog(LogContract): ...
