"""The log's own engine behind the port, on both databases: the suite that every adapter passes."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mainspring.core.clock import SystemClock
from mainspring.storage.log.service import Log
from tests.core.log_contract import (
    LogContract,
    PartitionedLogContract,
    ReadingLogContract,
    SharingLogContract,
    TransactionalLogContract,
    World,
    tables,
)


@pytest.fixture
async def world(database: Any, tmp_path: Path) -> AsyncIterator[World]:
    await database.prepare("effects", tables)
    lives = 0

    async def opened() -> Log:
        log = Log(tmp_path / f"log-{lives}", SystemClock(), database, random=Random(lives))
        await log.start()
        return log

    async def restart() -> Log:
        """Opens what a crash at this moment would leave."""
        nonlocal lives
        await asyncio.to_thread(shutil.copytree, tmp_path / f"log-{lives}", tmp_path / f"log-{lives + 1}")
        await made.log.stop()
        lives += 1
        return await opened()

    made = World(await opened(), database, restart, lambda topic, count: made.log.create_topic(topic, count))
    yield made
    await made.log.stop()


class TestLog(
    LogContract, PartitionedLogContract, TransactionalLogContract, ReadingLogContract, SharingLogContract
): ...
