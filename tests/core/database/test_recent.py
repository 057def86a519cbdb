"""What the embedded database tells from memory of its newest events is what its rows say."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring.core.database import SqliteDatabase, Violation
from mainspring.core.database.core_tables import log_records
from mainspring.core.database.recent import BYTES_MAX, EVENTS_MAX, Recent
from mainspring.core.database.sqlite_events import NOTED_MAX, ROWS_AT_ONCE, Event
from mainspring.core.outbox import transactions
from mainspring.core.ports import Connection
from tests.fixtures_database import embedded_database

TOPICS = ("books", "films", "songs")


def emit(connection: Connection, topics: list[str], fails: bool = False) -> None:
    for number, topic in enumerate(topics):
        headers = [("number", b"%d" % number)] if number % 2 else []
        connection.emit(topic, f"{topic}{number}".encode(), b"key" if number % 3 else None, headers)
    if fails:
        raise ZeroDivisionError


def insert_by_hand(connection: Connection) -> None:
    """As nobody but a restore does."""
    connection.emit("books", b"before")
    row = {"id": sa.bindparam("id"), "topic": "films", "value": b"by hand", "at_us": 1}
    newest = connection.execute(sa.select(sa.func.max(log_records.c.id))).scalar()
    connection.execute(sa.insert(log_records).values(row), {"id": newest + 5})
    connection.emit("books", b"after")


async def assert_memory_says_what_the_rows_say(database: SqliteDatabase) -> int:
    """Gives how many events it reached back."""
    rows = await database.read(transactions.everything_after, 0, 100_000)
    reached = 0
    for offset in (0, *(row.offset for row in rows[::9] + rows[-4:])):
        for topics in (None, TOPICS[:1], TOPICS[1:]):
            wanted = [row for row in rows if row.offset > offset and (topics is None or row.topic in topics)]
            told = database.recent_events(offset, 7, topics)
            if told is not None:
                assert told == (wanted[:7], rows[-1].offset)
                reached = max(reached, len([row for row in rows if row.offset > offset]))
    return reached


@pytest.mark.parametrize("seed", range(3))
async def test_memory_tells_what_the_rows_say_whatever_is_emitted_fails_or_is_deleted(
    tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    async with embedded_database(tmp_path) as database:
        await database.write(emit, ["books"])
        for _ in range(12):
            counts = [random.choice((0, 1, 1, 2, 5, ROWS_AT_ONCE + 9)) for _ in range(random.randrange(1, 9))]
            fails = [random.random() < 0.1 for _ in counts]
            many = [
                database.write(emit, random.choices(TOPICS, k=n), bad) for n, bad in zip(counts, fails, strict=True)
            ]
            results = await asyncio.gather(*many, return_exceptions=True)
            assert [isinstance(result, ZeroDivisionError) for result in results] == fails
            await assert_memory_says_what_the_rows_say(database)
        assert await assert_memory_says_what_the_rows_say(database) > 12
        await database.write(insert_by_hand)
        await assert_memory_says_what_the_rows_say(database)
        await database.write(emit, ["films", "books"])
        assert await assert_memory_says_what_the_rows_say(database) == 2
        # What has been pruned is nobody's news any more, but who had not seen it yet still gets it.
        newest = transactions.last_final
        before = await database.read(newest)
        await database.write(lambda connection: connection.execute(sa.delete(log_records)).rowcount)
        assert [record.offset for record in (database.recent_events(before - 2, 9) or ([], 0))[0]] == [
            before - 1,
            before,
        ]
        await database.write(emit, ["songs"])
        assert await database.read(newest) == before + 1


async def test_a_statement_that_reads_the_outbox_finds_what_its_function_emitted(tmp_path: Path) -> None:
    of_topic = sa.select(log_records.c.value).where(log_records.c.topic == "books").order_by(log_records.c.id)
    delete_all = sa.delete(log_records).where(log_records.c.topic == "films")

    def emit_and_look(connection: Connection) -> list[Any]:
        emit(connection, ["books", "films"])
        connection.execute(delete_all)
        emit(connection, ["books"])
        return [value for (value,) in connection.execute(of_topic)]

    async with embedded_database(tmp_path) as database:
        assert await database.write(emit_and_look) == [b"books0", b"books0"]


async def test_a_buffer_that_is_used_again_is_stored_as_it_was_when_it_was_emitted(tmp_path: Path) -> None:
    def emit_from_one_buffer(connection: Connection) -> None:
        buffer = bytearray(1)
        for number in range(3):
            buffer[0] = number
            connection.emit("books", buffer, memoryview(buffer))  # type: ignore[arg-type]

    async with embedded_database(tmp_path) as database:
        await database.write(emit_from_one_buffer)
        rows = await database.read(transactions.everything_after, 0, 10)
        assert [(row.value, row.key) for row in rows] == [(b"%c" % n, b"%c" % n) for n in range(3)]
        assert database.recent_events(0, 10) == (rows, rows[-1].offset)


async def test_an_event_that_cannot_be_stored_fails_its_function_and_no_other(tmp_path: Path) -> None:
    def emit_nonsense(connection: Connection, topic: Any, value: Any) -> None:
        connection.emit("books", b"before")
        connection.emit(topic, value)

    async with embedded_database(tmp_path) as database:
        results = await asyncio.gather(
            database.write(emit_nonsense, "books", "text"),
            database.write(emit_nonsense, None, b""),
            database.write(emit_nonsense, "\ud800", b""),
            database.write(emit_nonsense, "films", b"fine"),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [Violation, Violation, Violation, type(None)]
        rows = await database.read(transactions.everything_after, 0, 10)
        assert [row.value for row in rows] == [b"before", b"fine"]


async def test_a_function_that_emits_without_end_does_not_fill_the_memory_with_what_it_noted(tmp_path: Path) -> None:
    count_records = sa.text("SELECT count(*) FROM log_records")

    def emit_many(connection: Any) -> int:
        for _ in range(3 * NOTED_MAX + 1):
            connection.emit("books", b"")
        # Past the statement that would have had the rest written first.
        return int(connection._cursor().execute(str(count_records)).fetchone()[0])

    async with embedded_database(tmp_path) as database:
        assert await database.write(emit_many) == 3 * NOTED_MAX
        assert len(await database.read(transactions.everything_after, 0, 10_000)) == 3 * NOTED_MAX + 1


def test_memory_is_bounded_by_events_and_by_bytes() -> None:
    recent = Recent()
    small: list[Event] = [("books", None, b"", None, 0)] * 100
    for start in range(1, 2 * EVENTS_MAX, 100):
        recent.add(start, small)
    told = recent.after(start + 99 - 50, 1000)
    assert told is not None and len(told[0]) == 50
    assert recent.after(start + 99 - EVENTS_MAX, 1000) is None
    large: list[Event] = [("books", b"k" * 1000, bytes(BYTES_MAX // 4), None, 0)]
    for n in range(8):
        recent.add(start + 100 + n, large)
    newest = start + 107
    assert recent.after(newest, 1000) == ([], newest)
    assert recent.after(newest - 4, 1000) is None
    told = recent.after(newest - 1, 1000)
    assert told is not None and [record.offset for record in told[0]] == [newest]
    recent.add(newest + 1, [("books", None, bytes(2 * BYTES_MAX), None, 0)])
    assert recent.after(newest, 1000) is None and recent.after(newest + 1, 1000) == ([], newest + 1)
