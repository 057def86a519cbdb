"""The loop of virtual time and the simulated database: a seed decides what happens, and a crash leaves what it may."""

import asyncio
from collections.abc import Coroutine, Iterator
from random import Random
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from mainspring.core.database import Int64, Metadata
from mainspring.core.ports import Connection
from mainspring.core.problems import Unavailable
from mainspring.core.simulator import START_NS
from mainspring.core.simulator.database import SimulatedDatabase, Stored
from mainspring.core.simulator.loop import Deadlock, SimulatedClock, SimulatedLoop

T = TypeVar("T")

tables = Metadata("numbers")
number = tables.table("numbers_one", sa.Column("value", Int64, primary_key=True, autoincrement=False))
_ADD = sa.insert(number).values(value=sa.bindparam("value"))
_ALL = sa.select(number.c.value).order_by(number.c.value)


def on_loop(work: Coroutine[Any, Any, T], seed: int = 1, now_s: float = 0.0) -> tuple[T, float]:
    """What `work` gives on a loop of its own, and what time it was then."""
    loop = SimulatedLoop(Random(seed), now_s)
    try:
        return loop.run_until_complete(work), loop.now_s
    finally:
        loop.close()


def test_a_year_passes_at_once_and_timers_fire_in_their_order() -> None:
    async def wait() -> list[str]:
        seen: list[str] = []

        async def note(seconds: float, name: str) -> None:
            await asyncio.sleep(seconds)
            seen.append(name)

        await asyncio.gather(note(31_536_000, "a year"), note(60, "a minute"), note(0.5, "soon"))
        return seen

    assert on_loop(wait()) == (["soon", "a minute", "a year"], 31_536_000)


def test_a_timeout_is_one_of_virtual_time() -> None:
    async def wait() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()

    assert on_loop(wait())[1] == 60


def test_calls_of_threads_run_in_an_order_that_the_seed_chooses_and_always_the_same() -> None:
    async def call() -> list[int]:
        seen: list[int] = []
        await asyncio.gather(*(asyncio.to_thread(seen.append, n) for n in range(6)))
        return seen

    orders = [on_loop(call(), seed)[0] for seed in range(5)]
    assert orders == [on_loop(call(), seed)[0] for seed in range(5)]
    assert len({tuple(order) for order in orders}) == 5


def test_what_a_thread_raises_is_raised_where_it_is_awaited() -> None:
    async def call() -> None:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)

    on_loop(call())


def test_waiting_for_nothing_is_seen_as_such() -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    loop = SimulatedLoop(Random(1))
    waiting = loop.create_task(wait())
    with pytest.raises(Deadlock):
        loop.run_until_complete(waiting)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(waiting)
    loop.close()


def test_a_clock_shows_the_loops_time_and_may_be_off() -> None:
    async def read() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        clock = SimulatedClock(loop, offset_s=-30)
        await clock.sleep(10)
        return clock.wall_ns() - START_NS, clock.mono_ns()

    assert on_loop(read(), now_s=100)[0] == (80_000_000_000, 110_000_000_000)


@pytest.fixture
def stored() -> Iterator[Stored]:
    made = Stored()
    made.raw.execute("CREATE TABLE numbers_one (value INTEGER PRIMARY KEY)")
    yield made
    made.close()


def opened(stored: Stored, seed: int) -> SimulatedDatabase:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    return SimulatedDatabase(stored, SimulatedClock(loop), Random(seed))


def add(connection: Connection, value: int, fails: bool = False) -> int:
    connection.execute(_ADD, {"value": value})
    if fails:
        raise ArithmeticError
    return value


def everything(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute(_ALL).all()]


def test_a_write_is_seen_once_answered_and_one_that_failed_never(stored: Stored) -> None:
    async def use() -> None:
        database = opened(stored, 1)
        answers = await asyncio.gather(*(database.write(add, n, n % 3 == 0) for n in range(9)), return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, int)] == [1, 2, 4, 5, 7, 8]
        assert await database.read(everything) == [1, 2, 4, 5, 7, 8]

    on_loop(use())


def test_a_crash_keeps_what_was_answered_and_of_the_rest_a_beginning(stored: Stored) -> None:
    kept = set()
    for seed in range(30):

        async def crash(seed: int = seed) -> list[int]:
            database = opened(stored, seed)
            stored.raw.execute("DELETE FROM numbers_one")
            await database.write(add, 0)
            waiting = [asyncio.ensure_future(database.write(add, n)) for n in (1, 2, 3)]
            await asyncio.sleep(0)
            database.end()
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(answer, Unavailable) for answer in answers)
            with pytest.raises(Unavailable):
                await database.read(everything)
            return await opened(stored, seed).read(everything)

        left = on_loop(crash(), seed)[0]
        assert left == list(range(len(left)))
        kept.add(len(left))
    assert kept == {1, 2, 3, 4}
