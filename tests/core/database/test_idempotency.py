"""`write_once`: the effect happens once, and everybody who asks with the same key gets the same answer."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring.core.clock import VirtualClock
from mainspring.core.database import SqliteDatabase
from mainspring.core.database.core_tables import idempotency
from mainspring.core.ports import Connection
from mainspring.core.problems import KeyReused
from tests.core.database import shelf
from tests.core.database.shelf import add, codes, count
from tests.waiting import until


def add_once(connection: Connection, code: str) -> bytes:
    return add(connection, code).encode()


async def test_the_same_key_and_request_gets_the_first_answer_without_a_second_effect(shelves: Any) -> None:
    assert await shelves.write_once("key", b"digest", add_once, "a") == (b"a", False)
    assert await shelves.write_once("key", b"digest", add_once, "b") == (b"a", True)
    assert await shelves.read(codes) == ["a"]


async def test_the_same_key_with_another_request_is_refused(shelves: Any) -> None:
    await shelves.write_once("key", b"digest", add_once, "a")
    with pytest.raises(KeyReused):
        await shelves.write_once("key", b"other", add_once, "b")
    assert await shelves.read(codes) == ["a"]


async def test_racing_requests_with_one_key_have_one_effect(shelves: Any) -> None:
    answers = await asyncio.gather(*(shelves.write_once("key", b"digest", add_once, f"{n}") for n in range(20)))
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 19
    assert len({result for result, _ in answers}) == 1
    assert await shelves.read(count) == 1


async def test_a_failure_is_not_stored(shelves: Any) -> None:
    def fail(connection: Connection) -> bytes:
        add(connection, "a")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await shelves.write_once("key", b"digest", fail)
    assert await shelves.write_once("key", b"digest", add_once, "a") == (b"a", False)


async def test_a_result_over_a_mebibyte_is_refused_and_changes_nothing(shelves: Any) -> None:
    def answer(connection: Connection, size: int) -> bytes:
        add(connection, str(size))
        return bytes(size)

    with pytest.raises(ValueError, match="at most 1048576 bytes"):
        await shelves.write_once("large", b"", answer, (1 << 20) + 1)
    result, replayed = await shelves.write_once("fits", b"", answer, 1 << 20)
    assert (len(result), replayed) == (1 << 20, False)
    assert await shelves.read(count) == 1


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def timed(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "test.db", clock=clock, floor_bytes=0, ballast_bytes=0)
    await database.start()
    await database.prepare("shelf", shelf.tables)
    yield database
    await database.stop()


async def test_a_key_is_free_again_after_a_day(timed: SqliteDatabase, clock: VirtualClock) -> None:
    await timed.write_once("key", b"digest", add_once, "a")
    clock.set_wall(clock.wall_ns() + 24 * 3600 * 10**9 - 1000)
    assert await timed.write_once("key", b"digest", add_once, "b") == (b"a", True)
    clock.set_wall(clock.wall_ns() + 1000)
    assert await timed.write_once("key", b"other", add_once, "b") == (b"b", False)
    assert await timed.write_once("key", b"other", add_once, "c") == (b"b", True)
    assert await timed.read(codes) == ["a", "b"]


async def test_results_older_than_a_day_are_swept_away(timed: SqliteDatabase, clock: VirtualClock) -> None:
    def stored(connection: Connection) -> Any:
        return connection.execute(sa.select(sa.func.count()).select_from(idempotency)).scalar()

    await asyncio.gather(*(timed.write_once(f"{n}", b"", add_once, f"{n}") for n in range(1200)))
    clock.set_wall(clock.wall_ns() + 25 * 3600 * 10**9)
    await timed.write_once("new", b"", add_once, "new")
    await clock.advance(61)

    async def only_the_new_one_is_left() -> bool:
        return await timed.read(stored) == 1

    await until(only_the_new_one_is_left)
