"""The outbox: events are there if and only if their transaction is, in commit order, and none is ever passed over."""

import asyncio
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import bindparam

from mainspring.core.database.core_tables import log_horizon, log_records
from mainspring.core.ports import Connection
from tests.core.database.shelf import add, count
from tests.waiting import until

FEED = (
    sa.select(log_records.c.id, log_records.c.topic, log_records.c.key, log_records.c.value, log_records.c.headers)
    .where(log_records.c.topic == bindparam("topic"), log_records.c.id > bindparam("after"))
    .where(log_records.c.id < log_horizon())
    .order_by(log_records.c.id)
)


def add_and_emit(connection: Connection, code: str, fail: bool = False) -> None:
    add(connection, code)
    connection.emit("books", code.encode(), key=b"k" + code.encode(), headers=[("by", b"me")])
    if fail:
        raise ZeroDivisionError


def feed(connection: Connection, after: int, topic: str = "books") -> list[Any]:
    return connection.execute(FEED, {"topic": topic, "after": after}).all()


async def feed_of(database: Any, length: int) -> list[Any]:
    """On PostgreSQL rows become visible to followers once no older transaction is running anywhere on the server."""
    rows: list[Any] = []

    async def all_visible() -> bool:
        rows[:] = await database.read(feed, 0)
        return len(rows) >= length

    await until(all_visible)
    return rows


async def test_an_event_is_there_if_and_only_if_its_transaction_is(shelves: Any) -> None:
    results = await asyncio.gather(
        *(shelves.write(add_and_emit, f"{number}", number % 2 == 1) for number in range(10)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 5
    rows = await feed_of(shelves, 5)
    assert {row[3] for row in rows} == {b"0", b"2", b"4", b"6", b"8"}
    _, topic, key, value, headers = rows[0]
    assert (topic, key) == ("books", b"k" + value)
    assert msgspec.msgpack.decode(headers, type=list[tuple[str, bytes]]) == [("by", b"me")]


async def test_events_of_one_writer_come_in_the_order_of_its_writes(shelves: Any) -> None:
    def emit_three(connection: Connection, start: int) -> None:
        for number in range(start, start + 3):
            connection.emit("books", b"%d" % number)

    for start in range(0, 30, 3):
        await shelves.write(emit_three, start)
    rows = await feed_of(shelves, 30)
    assert [row[3] for row in rows] == [b"%d" % number for number in range(30)]
    assert len({row[0] for row in rows}) == 30


async def test_a_watcher_is_woken_after_the_commit_and_only_for_its_topic(shelves: Any) -> None:
    woken: list[str] = []
    unwatch = shelves.watch("books", lambda: woken.append("books"))
    shelves.watch("films", lambda: woken.append("films"))
    await asyncio.gather(shelves.write(add_and_emit, "a", True), return_exceptions=True)
    await shelves.write(add, "b")
    woken.clear()  # a listener that has just connected wakes everybody once
    await shelves.write(add_and_emit, "c")
    assert "books" in woken
    unwatch()
    unwatch()
    woken.clear()
    await shelves.write(add_and_emit, "d")
    assert "books" not in woken


async def test_a_follower_passes_over_no_event_while_many_write(shelves: Any) -> None:
    """Long and short transactions end out of order; the follower only ever asks for what is above its position."""
    total = 150
    seen: list[bytes] = []

    def emit_between(connection: Connection, number: int) -> None:
        connection.emit("books", b"%d" % number)
        for step in range(number % 7):
            add(connection, f"{number}/{step}")

    async def follow() -> None:
        position = 0
        async with asyncio.timeout(60):
            while len(seen) < total:
                for row in await shelves.read(feed, position):
                    assert row[0] > position
                    position = row[0]
                    seen.append(row[3])
                await asyncio.sleep(0)

    async def write(numbers: range) -> None:
        for number in numbers:
            await shelves.write(emit_between, number)

    await asyncio.gather(follow(), *(write(range(start, total, 10)) for start in range(10)))
    assert sorted(seen) == sorted(b"%d" % number for number in range(total))
    for start in range(10):
        mine = [number for number in map(int, seen) if number % 10 == start]
        assert mine == sorted(mine)


async def test_offsets_are_never_given_again_after_all_events_are_pruned(shelves: Any) -> None:
    await shelves.write(add_and_emit, "a")
    before = (await feed_of(shelves, 1))[0][0]
    await shelves.write(lambda connection: connection.execute(sa.delete(log_records)).rowcount)
    await shelves.write(add_and_emit, "b")
    assert (await feed_of(shelves, 1))[0][0] > before


async def test_an_event_that_cannot_be_stored_fails_its_transaction(shelves: Any) -> None:
    def emit_nothing(connection: Connection) -> None:
        add(connection, "a")
        connection.emit("books", None)  # type: ignore[arg-type]

    with pytest.raises(Exception, match=r"(?i)null"):
        await shelves.write(emit_nothing)
    assert await shelves.read(count) == 0
