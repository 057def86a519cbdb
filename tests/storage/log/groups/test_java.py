"""Kafka's own clients: the newest transactions, the new group protocol, and share groups, which no other client has."""

import asyncio

import pytest

from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.transaction_machine import FOLLOWS_EPOCHS, State
from tests.fixtures_java import TOOLS

from .door import open_door

pytestmark = pytest.mark.peer
SETTINGS = GroupSettings(share_auto_offset_reset="earliest", consumer_heartbeat_interval_ms=500)


async def test_javas_transactions_raise_their_epoch_and_leave_nothing_open(tmp_path, java_tools):
    async with open_door(tmp_path, SETTINGS) as door:
        await door.engine.create_topic("out", 2)
        said = await asyncio.to_thread(
            java_tools.run,
            f"{TOOLS}.ProducerPerformance",
            *("--topic", "out", "--num-records", "600", "--record-size", "100", "--throughput", "300"),
            *("--transactional-id", "perf", "--transaction-duration-ms", "100"),
            *("--producer-props", f"bootstrap.servers={door.address}"),
        )
        assert "600 records sent" in said
        found = (await door.transactions.opened())["perf"]
        assert (found.state, found.version) == (State.COMPLETE_COMMIT, FOLLOWS_EPOCHS)
        assert found.epoch >= 3
        for partition in door.engine.topics["out"].partitions:
            assert not partition.open_transactions
            assert partition.last_stable == partition.end
        read = await asyncio.to_thread(
            java_tools.run,
            f"{TOOLS}.consumer.ConsoleConsumer",
            *("--bootstrap-server", door.address, "--topic", "out", "--from-beginning", "--max-messages", "600"),
            *("--isolation-level", "read_committed", "--group", "new"),
            *("--command-property", "group.protocol=consumer"),
        )
        assert len(read.splitlines()) == 600
        assert door.groups.find("new").kind == "consumer"
        assert sum((await door.groups.committed("new")).values()) >= 600


async def test_javas_share_consumers_get_every_record(tmp_path, java_tools):
    async with open_door(tmp_path, SETTINGS) as door:
        await door.engine.create_topic("jobs")
        await asyncio.to_thread(
            java_tools.run,
            f"{TOOLS}.ProducerPerformance",
            *("--topic", "jobs", "--num-records", "200", "--record-size", "20", "--throughput", "-1"),
            *("--producer-props", f"bootstrap.servers={door.address}"),
        )
        read = await asyncio.to_thread(
            java_tools.run,
            f"{TOOLS}.consumer.ConsoleShareConsumer",
            *("--bootstrap-server", door.address, "--topic", "jobs", "--group", "workers", "--max-messages", "200"),
        )
        assert len(read.splitlines()) == 200
        (share,) = (await door.groups.shares.offsets("workers")).values()
        assert (share.start, share.records) == (200, {})
