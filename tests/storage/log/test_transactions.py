"""Transactions of Python in this process, their driver, and simulated histories."""

import asyncio
from pathlib import Path

import pytest

from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.core.simulator.campaign import campaign
from mainspring.storage.log.coordinator_errors import CoordinatorLoading, CoordinatorNotAvailable, InvalidRequest
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.errors import StorageFailed
from mainspring.storage.log.groups.service import Groups
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.internal_topics import TRANSACTION_STATE
from mainspring.storage.log.records import records_in
from mainspring.storage.log.transaction_errors import (
    ConcurrentTransactions,
    InvalidProducerIdMapping,
    InvalidTxnState,
    ProducerFenced,
    TransactionError,
)
from mainspring.storage.log.transaction_machine import FOLLOWS_EPOCHS, Producer, State
from mainspring.storage.log.transaction_simulation import _committed as committed
from mainspring.storage.log.transactions import Transactions
from tests.waiting import until

SIMULATION = "mainspring.storage.log.transaction_simulation:run"


class Node:
    """Engine and coordinators over one folder; `async with` starts and stops them."""

    def __init__(self, folder: Path, clock=None) -> None:
        self.clock = clock or SystemClock()
        self.engine = Engine([folder], self.clock, threaded=clock is None)
        self.groups = Groups(self.engine, self.clock, GroupSettings(internal_partitions=4))
        self.transactions = Transactions(self.engine, self.groups, self.clock)

    async def __aenter__(self) -> "Node":
        await self.engine.start()
        await self.groups.start()
        await self.transactions.start()
        for name in ("in", "out"):
            if name not in self.engine.topics:
                await self.engine.create_topic(name, 2)
        return self

    async def __aexit__(self, *_) -> None:
        await self.transactions.stop()
        await self.groups.stop()
        await self.engine.stop()

    def read(self, partition: int = 0) -> list[bytes]:
        return committed(self.engine.partition("out", partition))


def record(value: bytes):
    return (None, value, (), -1)


async def test_a_block_commits_its_records_and_positions_together(tmp_path):
    async with Node(tmp_path) as node:
        async with node.transactions.transaction("t") as t:
            assert await t.append("out", 0, [record(b"a"), record(b"b")]) == 0
            assert await t.append("out", 0, [record(b"c")]) == 2
            await t.append("out", 1, [record(b"d")])
            await t.commit_offsets("g", {("in", 0): 7})
            assert node.read() == node.read(1) == []
            assert await node.groups.committed("g", [("in", 0)]) == {("in", 0): None}
        assert (node.read(), node.read(1)) == ([b"a", b"b", b"c"], [b"d"])
        assert await node.groups.committed("g") == {("in", 0): 7}


async def test_a_block_that_raises_leaves_nothing(tmp_path):
    async with Node(tmp_path) as node:

        async def fail() -> None:
            async with node.transactions.transaction("t") as t:
                await t.append("out", 0, [record(b"a")])
                await t.commit_offsets("g", {("in", 0): 7})
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        async with node.transactions.transaction("t") as t:
            await t.append("out", 0, [record(b"b")])
            await t.abort()
            with pytest.raises(InvalidTxnState):
                await t.append("out", 0, [record(b"c")])
        assert node.read() == []
        assert await node.groups.committed("g") == {}
        partition = node.engine.partition("out", 0)
        assert partition.last_stable == partition.high_watermark > 0


async def test_a_producer_goes_from_transaction_to_transaction_and_is_fenced_by_the_next(tmp_path):
    async with Node(tmp_path) as node:
        first = await node.transactions.producer("t")
        for value in (b"a", b"b"):
            async with first.transaction() as t:
                await t.append("out", 0, [record(value)])
        left = await first.transaction().__aenter__()
        await left.append("out", 0, [record(b"of the fenced one")])
        second = await node.transactions.producer("t")
        with pytest.raises(TransactionError):
            await left.append("out", 0, [record(b"too late")])
        async with second.transaction() as t:
            await t.append("out", 0, [record(b"c")])
        with pytest.raises(ProducerFenced):
            await node.transactions.end("t", first.current, commit=True, version=FOLLOWS_EPOCHS)
        assert node.read() == [b"a", b"b", b"c"]


async def test_a_batch_outside_of_the_transaction_is_refused_before_it_is_written(tmp_path):
    async with Node(tmp_path) as node:
        await node.transactions.opened()
        with pytest.raises(InvalidRequest):
            node.transactions.admit("", 1, 0, "out", 0, implicit=True)
        with pytest.raises(InvalidProducerIdMapping):
            node.transactions.admit("t", 1, 0, "out", 0, implicit=True)
        producer = await node.transactions.init("t", 60_000)
        with pytest.raises(InvalidTxnState):
            node.transactions.admit("t", producer.id, producer.epoch, "out", 0, implicit=False)
        with pytest.raises(ProducerFenced):
            node.transactions.admit("t", producer.id, producer.epoch + 1, "out", 0, implicit=True)
        await node.transactions.add("t", producer, [("out", 0)])
        assert node.transactions.admit("t", producer.id, producer.epoch, "out", 0, implicit=False) is None


async def test_an_open_transaction_ends_at_its_timeout_though_its_producer_is_gone(tmp_path):
    clock = VirtualClock()
    async with Node(tmp_path, clock) as node:
        block = node.transactions.transaction("t", timeout_ms=5_000)
        t = await block.__aenter__()
        await t.append("out", 0, [record(b"a")])
        partition = node.engine.partition("out", 0)
        assert partition.last_stable == 0
        await clock.advance(5.1)
        await until(lambda: not partition.open_transactions)
        assert partition.last_stable == partition.end
        with pytest.raises(ProducerFenced):
            await t.append("out", 0, [record(b"b")])
        assert node.read() == []


async def test_a_transaction_that_was_open_at_a_stop_ends_at_its_timeout_after_the_start(tmp_path):
    clock = VirtualClock()
    async with Node(tmp_path, clock) as node:
        t = await node.transactions.transaction("t", timeout_ms=5_000).__aenter__()
        await t.append("out", 0, [record(b"a")])
    async with Node(tmp_path, clock) as node:
        partition = node.engine.partition("out", 0)
        assert partition.open_transactions
        await clock.advance(5.1)
        await until(lambda: not partition.open_transactions)
        assert partition.last_stable == partition.end


async def test_records_that_no_transaction_knows_are_aborted_at_the_start(tmp_path):
    from mainspring.storage.log.records import build

    async with Node(tmp_path) as node:
        await node.transactions.opened()
        batch = build([(0, None, b"lost", ())], producer_id=5, epoch=0, sequence=0, transactional=True)
        await node.engine.partition("out", 0).append(batch).durable()
    async with Node(tmp_path) as node:
        partition = node.engine.partition("out", 0)
        assert not partition.open_transactions
        assert partition.last_stable == partition.end
        assert node.read() == []


async def test_an_operator_aborts_what_hangs(tmp_path):
    async with Node(tmp_path) as node:
        t = await node.transactions.transaction("t").__aenter__()
        await t.append("out", 0, [record(b"a")])
        await node.transactions.abort("t")
        assert not node.engine.partition("out", 0).open_transactions
        assert (await node.transactions.opened())["t"].state is State.COMPLETE_ABORT


async def test_a_topic_that_is_deleted_does_not_hold_its_transaction(tmp_path):
    async with Node(tmp_path) as node, asyncio.timeout(60):
        async with node.transactions.transaction("t") as t:
            await t.append("out", 0, [record(b"a")])
            await t.append("in", 0, [record(b"b")])
            await node.engine.delete_topic("out")
        assert committed(node.engine.partition("in", 0)) == [b"b"]


async def test_a_commit_is_decided_though_a_partition_takes_no_marker_and_ends_there_when_it_does(tmp_path):
    clock = VirtualClock()
    async with Node(tmp_path, clock) as node:
        producer = await node.transactions.producer("t")
        t = await producer.transaction().__aenter__()
        await t.append("out", 0, [record(b"a")])
        await t.append("out", 1, [record(b"b")])
        broken = node.engine.partition("out", 1)
        broken.failure = StorageFailed("no space")
        ending = asyncio.ensure_future(t.__aexit__(None, None, None))
        await until(lambda: node.read() == [b"a"])
        assert broken.open_transactions
        assert not ending.done()
        with pytest.raises(ConcurrentTransactions):
            node.transactions.admit("t", producer.current.id, producer.current.epoch + 1, "out", 0, implicit=True)
        broken.failure = None

        async def stands() -> bool:
            await clock.advance(1)
            return not broken.open_transactions

        await until(stands)
        await ending
        assert node.read(1) == [b"b"]
        await until(lambda: node.transactions._machine.by_id["t"].state is State.COMPLETE_COMMIT)


async def test_a_coordinator_whose_disk_fails_says_so_and_goes_on_from_its_log(tmp_path):
    async with Node(tmp_path) as node, asyncio.timeout(60):
        producer = await node.transactions.init("t", 60_000)
        index = node.transactions._topic.index("t")
        partition = node.engine.partition(TRANSACTION_STATE, index)
        partition.failure = StorageFailed("no space")
        with pytest.raises(CoordinatorNotAvailable):
            await node.transactions.add("t", producer, [("out", 0)])
        partition.failure = None

        async def goes_on() -> bool:
            try:
                await node.transactions.add("t", producer, [("out", 0)])
            except CoordinatorLoading:
                return False
            return True

        await until(goes_on)
        assert await node.transactions.holds("t", producer, [("out", 0)]) == [True]


async def test_a_producer_without_a_transactional_id_gets_an_id_of_its_own(tmp_path):
    async with Node(tmp_path) as node:
        first, second = await node.transactions.init(None, 0), await node.transactions.init(None, 0)
        assert first.id != second.id
        assert first.epoch == second.epoch == 0
        assert isinstance(first, Producer)


async def test_the_markers_of_a_commit_stand_in_the_partition(tmp_path):
    async with Node(tmp_path) as node:
        async with node.transactions.transaction("t") as t:
            await t.append("out", 0, [record(b"a")])
        fetched = node.engine.partition("out", 0).read(0, 1 << 20)
        data = b"".join(fetched.buffers)
        assert [one.value for one in records_in(data)] == [b"a"]
        assert fetched.high_watermark == 2


def test_no_simulated_history_loses_tears_or_hangs_a_transaction():
    outcome = campaign(SIMULATION, range(8), workers=1)
    assert not outcome.failures, outcome.failures[0]


@pytest.mark.slow
def test_none_of_many_simulated_histories_loses_tears_or_hangs_a_transaction():
    outcome = campaign(SIMULATION, range(8, 300))
    assert not outcome.failures, outcome.failures[0]
