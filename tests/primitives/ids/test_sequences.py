"""Sequences: unique always, dense as promised, and never waiting where a block is at hand."""

import asyncio
from typing import Any

import pytest

from mainspring.core.once import Once
from mainspring.core.problems import KeyReused, Unavailable
from mainspring.primitives.ids import BadCount, BadName, SequenceKind
from mainspring.primitives.ids.sequences import Gapless, Sequence, taken_so_far

from .conftest import Line, MakeIds


async def test_numbers_count_from_one_without_a_gap(make_ids: MakeIds) -> None:
    invoice = (await make_ids(block=10)).sequence("invoice")
    assert [await invoice.next() for _ in range(95)] == list(range(1, 96))


async def test_callers_at_once_get_numbers_of_their_own(make_ids: MakeIds) -> None:
    ids = await make_ids(block=7)
    numbers = await asyncio.gather(*(ids.sequence("invoice").next() for _ in range(500)))
    assert sorted(numbers) == list(range(1, 501))


async def test_two_processes_share_a_name_by_blocks(line: Line) -> None:
    here, there = Sequence(line, "invoice", 10), Sequence(line, "invoice", 10)
    numbers = [await one.next() for _ in range(100) for one in (here, there)]
    assert len(set(numbers)) == 200 and max(numbers) <= 240


async def test_the_next_block_is_there_before_the_last_is_used_up(line: Line) -> None:
    sequence = Sequence(line, "invoice", 10)
    for _ in range(8):
        await sequence.next()
    assert line.calls == 1
    # The ninth leaves less than a fifth, which is what the next block is asked for.
    await sequence.next()
    await line.after(2)
    line.cut = True
    assert [await sequence.next() for _ in range(9)] == list(range(10, 19))


async def test_without_a_database_the_block_is_used_up_and_then_it_is_said(line: Line) -> None:
    sequence = Sequence(line, "invoice", 5)
    assert await sequence.next() == 1
    line.cut = True
    assert [await sequence.next() for _ in range(4)] == [2, 3, 4, 5]
    for _ in range(3):
        with pytest.raises(Unavailable):
            await sequence.next()
    line.cut = False
    assert await sequence.next() == 6


async def test_a_block_that_could_not_be_had_in_time_is_no_error_once_the_database_is_back(line: Line) -> None:
    sequence = Sequence(line, "invoice", 10)
    for _ in range(8):
        await sequence.next()
    line.cut = True
    assert await sequence.next() == 9  # asks for the next block, in vain
    await line.after(2)
    line.cut = False
    assert [await sequence.next() for _ in range(4)] == [10, 11, 12, 13]


async def test_a_caller_that_gives_up_takes_no_block_with_it(line: Line) -> None:
    sequence = Sequence(line, "invoice", 5)
    task = asyncio.create_task(sequence.next())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await sequence.next() == 1


async def test_many_are_taken_in_a_row(line: Line) -> None:
    sequence = Sequence(line, "invoice", 10)
    assert await sequence.take(1) == range(1, 2)
    assert await sequence.take(4) == range(2, 6)
    # More than the block holds is a row of its own, and the block goes on afterwards.
    assert await sequence.take(100) == range(11, 111)
    assert await sequence.take(5) == range(6, 11)
    assert await sequence.next() == 111


async def test_a_clean_stop_gives_back_what_is_left(make_ids: MakeIds, line: Line) -> None:
    first = await make_ids(block=10)
    assert [await first.sequence("invoice").next() for _ in range(9)] == list(range(1, 10))
    await first.stop()
    second = await make_ids(block=10)
    assert await second.sequence("invoice").next() == 10
    assert await line.read(taken_so_far, "invoice") == ("cached", 19)


async def test_what_was_followed_by_another_process_is_not_given_back(line: Line) -> None:
    here, there = Sequence(line, "invoice", 10), Sequence(line, "invoice", 10)
    assert (await here.next(), await there.next()) == (1, 11)
    await here.stop()
    assert [await there.next() for _ in range(10)] == [*range(12, 21), 21]


async def test_a_gapless_number_is_its_callers_only_if_the_transaction_commits(make_ids: MakeIds, line: Line) -> None:
    invoice = (await make_ids()).gapless("invoice")

    def bill(connection: Any, fails: bool) -> int:
        number = invoice.next(connection)
        if fails:
            raise RuntimeError("no bill after all")
        return number

    numbers = []
    for turn in range(10):
        try:
            numbers.append(await line.write(bill, turn % 3 == 1))
        except RuntimeError:
            continue
    assert numbers == list(range(1, 8))


async def test_gapless_numbers_race_without_a_gap(line: Line) -> None:
    invoice = Gapless("invoice")
    runs = await asyncio.gather(*(line.write(invoice.take, 3) for _ in range(40)))
    assert sorted(number for run in runs for number in run) == list(range(1, 121))


async def test_a_name_counts_one_way_only(make_ids: MakeIds, line: Line) -> None:
    ids = await make_ids()
    await ids.sequence("cached").next()
    await line.write(ids.gapless("dense").next)
    with pytest.raises(SequenceKind):
        await line.write(ids.gapless("cached").next)
    with pytest.raises(SequenceKind):
        await ids.sequence("dense").next()
    assert await line.read(taken_so_far, "never") is None


async def test_with_an_idempotency_key_the_same_numbers_come_back(line: Line) -> None:
    sequence = Sequence(line, "invoice", 10)
    assert await sequence.take(5, Once("key", b"digest")) == range(1, 6)
    assert await sequence.take(5, Once("key", b"digest")) == range(1, 6)
    assert await sequence.take(5, Once("other", b"digest")) == range(6, 11)
    with pytest.raises(KeyReused):
        await sequence.take(5, Once("key", b"another"))


async def test_a_name_that_is_none_is_refused(make_ids: MakeIds) -> None:
    ids = await make_ids()
    for name in ("", "UPPER", "sp ace", "a" * 101, "ä", "a/b", "a\n", "\0"):
        for kind in (ids.sequence, ids.gapless):
            with pytest.raises(BadName):
                kind(name)


async def test_a_count_that_is_none_is_refused_and_takes_nothing(line: Line) -> None:
    sequence = Sequence(line, "invoice")
    for count in (0, -1, 1_000_001, 1.5, "2", True):
        with pytest.raises(BadCount):
            await sequence.take(count)  # type: ignore[arg-type]
        with pytest.raises(BadCount):
            await line.write(Gapless("dense").take, count)
    assert await sequence.next() == 1
    assert await line.write(Gapless("dense").next) == 1


async def test_names_in_memory_are_bounded(make_ids: MakeIds) -> None:
    ids = await make_ids(block=1)
    for number in range(1_100):
        ids.sequence(f"name{number}")
    assert len(ids._sequences) == 1_024
    assert await ids.sequence("name0").next() == 1
