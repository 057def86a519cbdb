"""Reads of the embedded database: on the loop while they are short, on a snapshot in a thread when they are not."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from mainspring.core.clock import SystemClock
from mainspring.core.database import SqliteDatabase, Timeout
from mainspring.core.database.plans import Plans
from mainspring.core.database.sqlite_readers import Reader
from mainspring.core.database.sqlite_writer import IDLE_S
from mainspring.core.ports import Connection
from tests.core.database import shelf
from tests.core.database.shelf import add, count
from tests.core.database.test_group_commit import ENDLESS_READ, started
from tests.waiting import PATIENCE_S, until

LONG = sa.text("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 300000) SELECT count(*) FROM n")


def count_slowly(connection: Connection) -> str:
    """Where it ended up running."""
    connection.execute(LONG).all()
    return threading.current_thread().name


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await started(tmp_path / "test.db")
    yield database
    await database.stop()


async def test_a_long_read_moves_itself_to_a_thread(embedded: SqliteDatabase) -> None:
    assert (await embedded.read(count_slowly)).startswith("database-reader")


async def test_a_function_that_had_to_move_starts_in_a_thread_next_time(embedded: SqliteDatabase) -> None:
    await embedded.read(count)
    calls: list[str] = []

    def note(connection: Connection) -> None:
        calls.append(threading.current_thread().name)
        connection.execute(LONG).all()

    await embedded.read(note)  # compiling a statement does not count against a function
    calls.clear()
    await embedded.read(note)
    await embedded.read(note)
    assert calls[0] == threading.current_thread().name
    assert [name.startswith("database-reader") for name in calls[1:]] == [True, True]


async def test_a_read_at_once_sees_every_answered_write_and_is_given_up_where_it_is_long(
    embedded: SqliteDatabase,
) -> None:
    embedded._readers._loop_budget_s = PATIENCE_S
    for number in range(1, 4):
        await embedded.write(add, f"item {number}")
        assert embedded.read_at_once(count) == number
    embedded._readers._loop_budget_s = 0.0
    with pytest.raises(Timeout):
        embedded.read_at_once(count_slowly)


async def test_a_long_read_sees_one_snapshot_and_writes_go_on(embedded: SqliteDatabase) -> None:
    begun, written = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> tuple[int, int]:
        connection.execute(LONG).all()
        first = count(connection)
        begun.set()
        assert written.wait(PATIENCE_S)
        return first, count(connection)

    await embedded.write(add, "a")
    reading = asyncio.create_task(embedded.read(look_twice))
    await asyncio.to_thread(begun.wait, PATIENCE_S)
    await embedded.write(add, "b")
    assert await embedded.read(count) == 2
    written.set()
    assert await reading == (1, 1)


async def test_the_write_ahead_log_is_folded_in_once_a_long_read_is_over(tmp_path: Path) -> None:
    database = await started(tmp_path / "test.db")
    begun, done = threading.Event(), threading.Event()
    log = tmp_path / "test.db-wal"

    def hold_on(connection: Connection) -> int:
        connection.execute(LONG).all()
        found = count(connection)
        begun.set()
        assert done.wait(PATIENCE_S)
        return found

    def header() -> bytes:
        with log.open("rb") as file:
            return file.read(32)

    async def write_some(prefix: str) -> None:
        await asyncio.gather(*(database.write(add, f"{prefix}{n}", "t" * 2000) for n in range(500)))

    reading = asyncio.create_task(database.read(hold_on))
    await asyncio.to_thread(begun.wait, PATIENCE_S)
    while log.stat().st_size < 10_000_000:  # more than twice what is folded in at leisure
        await write_some(f"{log.stat().st_size}-")
    began = header()
    done.set()
    await reading

    async def starts_over() -> bool:
        await database.write(add, f"after {await database.read(count)}")
        return header() != began  # the log is written from its start again

    await until(starts_over, every_s=4 * IDLE_S)  # between two looks nothing comes, so that there is leisure
    await database.stop()


async def test_no_read_outlives_its_deadline(tmp_path: Path) -> None:
    database = await started(tmp_path / "test.db", read_deadline_s=0.3)
    with pytest.raises(Timeout):
        await database.read(lambda connection: connection.execute(ENDLESS_READ).all())
    assert await database.read(count) == 0
    await database.stop()


async def test_a_read_that_swallows_its_interrupt_is_still_run_again_elsewhere(embedded: SqliteDatabase) -> None:
    def swallow(connection: Connection) -> str:
        try:
            return count_slowly(connection)
        except Timeout:
            return "given up"

    assert (await embedded.read(swallow)).startswith("database-reader")


async def test_hundreds_of_readers_and_writers_at_once_see_only_whole_writes(embedded: SqliteDatabase) -> None:
    def add_pair(connection: Connection, number: int) -> None:
        add(connection, f"{number}a")
        add(connection, f"{number}b")

    async def write() -> None:
        for number in range(100):
            await embedded.write(add_pair, number)

    async def read() -> None:
        for _ in range(50):
            assert await embedded.read(count) % 2 == 0
            await asyncio.sleep(0)

    async def read_slowly() -> None:
        def look(connection: Connection) -> int:
            connection.execute(LONG).all()
            return count(connection)

        for _ in range(3):
            assert await embedded.read(look) % 2 == 0

    await asyncio.gather(write(), *(read() for _ in range(20)), *(read_slowly() for _ in range(6)))
    assert await embedded.read(count) == 200


async def test_a_copy_made_while_writing_is_whole_and_can_be_opened(embedded: SqliteDatabase, tmp_path: Path) -> None:
    def add_pair(connection: Connection, number: int) -> None:
        add(connection, f"{number}a")
        add(connection, f"{number}b")

    async def write() -> None:
        for number in range(300):
            await embedded.write(add_pair, number)

    await embedded.write(add_pair, -1)
    writing = asyncio.create_task(write())
    await embedded.backup_to(tmp_path / "copy.db")
    await writing
    copy = SqliteDatabase(tmp_path / "copy.db", floor_bytes=0, ballast_bytes=0)
    await copy.start()
    await copy.prepare("shelf", shelf.tables)
    found = await copy.read(count)
    assert found % 2 == 0 and 2 <= found <= 602
    assert await copy.check() == []
    await copy.stop()


async def test_a_reader_out_of_time_from_the_start_never_stays_in_its_transaction(embedded: SqliteDatabase) -> None:
    """As on a machine so busy that the thread is put aside for longer than a read's budget."""
    reader = Reader(embedded.path, Plans("sqlite"), SystemClock(), cache_kib=256, busy_timeout_s=0)
    interrupted = 0
    for number in range(3000):  # SQLite looks at the deadline once in so many of its instructions
        try:
            assert reader.run(0.0, count, (), {}) == 0, number
        except Timeout:
            interrupted += 1
    assert interrupted
    reader.close()


async def test_rows_cut_short_by_the_deadline_are_never_taken_for_all_there_are(tmp_path: Path) -> None:
    database = await started(tmp_path / "test.db", read_deadline_s=0.3)

    def make_do(connection: Connection) -> str:
        try:
            connection.execute(ENDLESS_READ).all()
        except Exception:
            return "what there was in time"
        raise AssertionError("not interrupted")

    with pytest.raises(Timeout):
        await database.read(make_do)
    await database.stop()


async def test_a_statement_that_was_stopped_is_not_prepared_anew_by_every_later_call(embedded: SqliteDatabase) -> None:
    statement = sa.text(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < :most) SELECT count(*) FROM n"
    )
    prepared = 0

    def count_up_to(connection: Connection, most: int) -> object:
        return connection.execute(statement, {"most": most}).all()[0][0]

    def note(*_told: object) -> int:
        nonlocal prepared
        prepared += 1
        return 0

    reader = embedded._readers._here
    reader._raw.set_authorizer(note)  # is asked while a statement is prepared
    assert reader.run(PATIENCE_S, count_up_to, (2,), {}) == 2 and prepared
    gc.disable()
    try:
        with pytest.raises(Timeout):
            reader.run(0, count_up_to, (300_000,), {})
        prepared = 0
        assert reader.run(PATIENCE_S, count_up_to, (3,), {}) == 3
    finally:
        gc.enable()
    assert prepared == 0
