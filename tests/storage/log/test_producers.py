"""Idempotent and transactional producers: repeated, missing and old batches, and what a reader of committed data sees."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.storage.log.errors import (
    CoordinatorFenced,
    InvalidProducerEpoch,
    InvalidTransactionState,
    OutOfOrderSequence,
)
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.producers import Kept, Origin, Producers
from mainspring.storage.log.records import marker, parse

from .logs import NOW_MS, batch, running, values_of


async def send(
    partition: Partition, sequence: int, *, id: int = 7, epoch: int = 0, count: int = 1, open: bool = False
) -> int:
    values = [b"%d.%d" % (id, sequence + n) for n in range(count)]
    appending = partition.append(batch(*values, producer_id=id, epoch=epoch, sequence=sequence, transactional=open))
    await appending.durable()
    return appending.base_offset


async def end(partition: Partition, commit: bool, *, id: int = 7, epoch: int = 0, coordinator: int = 0, **more) -> int:
    appending = partition.append(
        marker(id, epoch, commit, coordinator, NOW_MS), origin=Origin.COORDINATOR, coordinator_epoch=coordinator, **more
    )
    await appending.durable()
    return appending.base_offset


async def test_a_repeated_batch_gets_the_first_answer_and_is_not_stored_again(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        offsets = [await send(partition, 2 * n, count=2) for n in range(7)]
        assert [await send(partition, 2 * n, count=2) for n in range(2, 7)] == offsets[2:]
        with pytest.raises(OutOfOrderSequence):
            await send(partition, 2, count=2)
        assert partition.end == 14
    async with running(tmp_path) as engine:
        partition = engine.partition("t", 0)
        assert [await send(partition, 2 * n, count=2) for n in range(2, 7)] == offsets[2:]
        assert partition.end == 14


async def test_a_repetition_waits_until_what_it_repeats_is_durable(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        data = batch(b"a", producer_id=7, epoch=0, sequence=0)
        first, second = partition.append(data), partition.append(data)
        assert second.repeated and not second.settled and second.base_offset == first.base_offset
        await second.durable()
        assert first.settled and partition.high_watermark == partition.end == 1


async def test_a_gap_and_an_old_epoch_are_refused(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await send(partition, 5)
        with pytest.raises(OutOfOrderSequence):
            await send(partition, 7)
        await send(partition, 6)
        with pytest.raises(OutOfOrderSequence):
            await send(partition, 7, epoch=1)
        await send(partition, 0, epoch=1)
        with pytest.raises(InvalidProducerEpoch):
            await send(partition, 1, epoch=0)
        assert partition.end == 3


async def test_sequences_go_on_at_zero_after_the_greatest(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await send(partition, (1 << 31) - 2, count=3)
        await send(partition, 1)
        assert await send(partition, (1 << 31) - 2, count=3) == 0


async def test_committed_readers_stop_at_the_first_open_transaction(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await send(partition, 0, id=1)
        await send(partition, 0, id=2, open=True)
        await send(partition, 0, id=3, open=True)
        await send(partition, 1, id=1)
        assert partition.last_stable == 1 and values_of(partition, committed=True) == [b"1.0"]
        assert dict(partition.open_transactions) == {2: 1, 3: 2}
        await end(partition, True, id=2)
        assert partition.last_stable == 2
        await end(partition, False, id=3)
        assert partition.last_stable == partition.high_watermark == 6
        assert partition.read(0, 1 << 20, committed=True).aborted == [(3, 2)]
        assert partition.read(0, 1 << 20).aborted == []


async def test_a_markers_word_counts_once_it_is_durable(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await send(partition, 0, open=True)
        appending = partition.append(marker(7, 0, True, 0, NOW_MS), origin=Origin.COORDINATOR)
        assert partition.last_stable == 0
        await appending.durable()
        assert partition.last_stable == 2


async def test_a_late_marker_cannot_end_a_later_transaction(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await send(partition, 0, open=True)
        await end(partition, True, epoch=1, bumped_epoch=True)
        await send(partition, 0, epoch=1, open=True)
        with pytest.raises(InvalidProducerEpoch):
            await end(partition, True, epoch=1, bumped_epoch=True)
        with pytest.raises(InvalidProducerEpoch):
            await end(partition, False, epoch=0)
        assert dict(partition.open_transactions) == {7: 2}
        await end(partition, False, epoch=2, bumped_epoch=True)
        assert not partition.open_transactions


async def test_an_old_coordinator_is_fenced(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await send(partition, 0, open=True)
        await end(partition, True, coordinator=4)
        await send(partition, 1, open=True)
        with pytest.raises(CoordinatorFenced):
            await end(partition, True, coordinator=3)


async def test_a_producer_in_a_transaction_writes_nothing_outside_it(tmp_path):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t")).partitions[0]
        await send(partition, 0, open=True)
        with pytest.raises(InvalidTransactionState):
            await send(partition, 1)


@pytest.mark.parametrize("clean", [True, False])
async def test_producers_and_transactions_outlive_a_restart_over_many_segments(tmp_path, clean):
    async with running(tmp_path) as engine:
        partition = (await engine.create_topic("t", config={"segment.bytes": "500"})).partitions[0]
        for n in range(12):
            await send(partition, n, id=1, open=True)
            if n % 3 == 2:
                await end(partition, n % 2 == 0, id=1)
        await send(partition, 0, id=2, open=True)
        before = (
            partition.last_stable,
            partition.end,
            values_of(partition),
            partition.read(0, 1, committed=True).aborted,
        )
        snapshot = partition.producer_states.to_snapshot()
    if not clean:
        (tmp_path / "clean-stop").unlink()
        (tmp_path / "recovery-point-offset-checkpoint").unlink()
        for path in tmp_path.glob("t-0/*index"):
            path.unlink()
    async with running(tmp_path) as engine:
        partition = engine.partition("t", 0)
        after = (
            partition.last_stable,
            partition.end,
            values_of(partition),
            partition.read(0, 1, committed=True).aborted,
        )
        assert after == before and dict(partition.open_transactions) == {2: 16}
        if clean:
            assert partition.producer_states.to_snapshot() == snapshot
        assert await send(partition, 11, id=1, open=True) == 14
        await end(partition, True, id=2)
        assert partition.last_stable == partition.end


def test_silent_producers_are_forgotten_but_not_those_in_a_transaction():
    states = Producers()
    for id, at_ms in ((1, 10), (2, 20), (3, 30), (4, 5)):
        states.append(parse(batch(b"a", producer_id=id, epoch=0, sequence=0, transactional=id == 4)), id, at_ms)
    assert states.expire(15, 10) == 1 and set(states.by_id) == {2, 3, 4}
    assert states.expire(0, 2) == 1 and set(states.by_id) == {3, 4}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 4), st.booleans()), max_size=12))
def test_a_snapshot_holds_what_it_was_made_of(events):
    states = Producers()
    for at, (id, epoch, sequence, transactional) in enumerate(events):
        header = parse(batch(b"a", producer_id=id, epoch=epoch, sequence=sequence, transactional=transactional))
        states.append(header, at, at)
    again = Producers.from_snapshot(states.to_snapshot())
    again.keep(states.kept())
    assert again.ongoing == states.ongoing
    assert {id: (p.epoch, p.batches) for id, p in again.by_id.items()} == {
        id: (p.epoch, p.batches) for id, p in states.by_id.items()
    }
    for id, batches in states.kept():
        assert [Kept(*kept) for kept in batches] == again.by_id[id].batches


def test_a_damaged_snapshot_is_none():
    whole = Producers().to_snapshot()
    for broken in (b"", whole[:-1], whole[:3] + b"\7" + whole[4:], whole + b"\0"):
        with pytest.raises(ValueError):
            Producers.from_snapshot(broken)
