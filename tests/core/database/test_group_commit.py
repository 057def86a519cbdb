"""The one writer of the embedded database: groups, and what one function may do to the others in its group."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring.core.database import Duplicate, Metadata, SqliteDatabase, Text, Timeout, Violation, sqlite_writer
from mainspring.core.ports import Connection
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Metrics
from tests.core.database import shelf
from tests.core.database.shelf import add, codes, count
from tests.waiting import PATIENCE_S, until

ENDLESS = sa.text(
    "INSERT INTO shelf_book (code, title) "
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT 'endless', x FROM n WHERE x < 0"
)
ENDLESS_READ = sa.text("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n WHERE x < 0")

nodes = Metadata("nodes")
node = nodes.table(
    "nodes_node",
    sa.Column("name", Text, primary_key=True),
    sa.Column("parent", Text, sa.ForeignKey("nodes_node.name", deferrable=True, initially="DEFERRED")),
)


async def started(path: Path, **options: Any) -> SqliteDatabase:
    """A database that believes that the disk has room and, unless told otherwise, that nothing is slow."""
    patient = {"floor_bytes": 0, "ballast_bytes": 0, "read_deadline_s": PATIENCE_S, "write_deadline_s": PATIENCE_S}
    database = SqliteDatabase(path, **{**patient, **options})
    await database.start()
    await database.prepare("shelf", shelf.tables)
    return database


@pytest.fixture
async def hurried(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    """A database whose functions have one second."""
    database = await started(tmp_path / "test.db", write_deadline_s=1.0)
    yield database
    await database.stop()


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await started(tmp_path / "test.db")
    yield database
    await database.stop()


async def test_writes_of_one_turn_of_the_loop_share_one_commit(tmp_path: Path) -> None:
    metrics = Metrics()
    database = await started(tmp_path / "test.db", metrics=metrics)
    await asyncio.gather(*(database.write(add, f"{number}") for number in range(256)))
    await database.write(add, "alone")
    await database.stop()
    text = metrics.exposition().decode()
    assert "database_group_size_sum 257" in text
    assert "database_group_size_count 2" in text
    assert "database_writes_failed_total 0" in text


async def test_a_small_group_after_a_large_one_waits_for_half_as_many_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "SIBLINGS_S_MAX", PATIENCE_S)
    metrics = Metrics()
    database = await started(tmp_path / "test.db", metrics=metrics)
    await asyncio.gather(*(database.write(add, f"first {number}") for number in range(8)))
    writes = []
    for number in range(4):
        writes.append(asyncio.create_task(database.write(add, f"second {number}")))
        for _ in range(20):
            await asyncio.sleep(0)
    await asyncio.gather(*writes)
    text = metrics.exposition().decode()
    assert "database_group_size_sum 12" in text and "database_group_size_count 2" in text
    monkeypatch.setattr(sqlite_writer, "SIBLINGS_S_MAX", 0.001)
    assert await database.write(add, "alone") == "alone"
    await database.stop()


@pytest.mark.parametrize("culprits", [{7}, {0, 19}, {3, 4, 5}])
async def test_an_interrupt_that_ends_a_groups_transaction_hurts_only_its_cause(
    hurried: SqliteDatabase, culprits: set[int]
) -> None:
    def perhaps_endless(connection: Connection, number: int) -> int:
        add(connection, f"{number:02}")
        if number in culprits:
            connection.execute(ENDLESS)
        return number

    results = await asyncio.gather(
        *(hurried.write(perhaps_endless, number) for number in range(20)), return_exceptions=True
    )
    assert {number for number, result in enumerate(results) if isinstance(result, Timeout)} == culprits
    assert [result for result in results if isinstance(result, int)] == [n for n in range(20) if n not in culprits]
    assert await hurried.read(codes) == [f"{number:02}" for number in range(20) if number not in culprits]


async def test_an_interrupt_that_the_function_swallows_still_hurts_only_its_cause(hurried: SqliteDatabase) -> None:
    def swallow(connection: Connection) -> str:
        add(connection, "swallowed")
        try:
            connection.execute(ENDLESS)
        except Timeout:
            return "as if nothing had happened"
        raise AssertionError("not interrupted")

    results = await asyncio.gather(
        hurried.write(add, "a"), hurried.write(swallow), hurried.write(add, "b"), return_exceptions=True
    )
    assert [type(result) for result in results] == [str, Timeout, str]
    assert await hurried.read(codes) == ["a", "b"]


async def test_a_function_that_only_its_commit_proves_wrong_fails_alone(tmp_path: Path) -> None:
    database = await started(tmp_path / "test.db")
    await database.prepare("nodes", nodes)

    def add_node(connection: Connection, name: str, parent: str | None) -> str:
        connection.execute(sa.insert(node), {"name": name, "parent": parent})
        return name

    wanted = [("root", None), ("lost", "nowhere"), ("leaf", "root"), ("early", "later"), ("later", None)]
    results = await asyncio.gather(*(database.write(add_node, *each) for each in wanted), return_exceptions=True)
    assert [type(result) for result in results] == [str, Violation, str, Violation, str]
    await database.write(add_node, "more", "root")
    await database.stop()


async def test_failures_in_series_leave_the_others_exact(tmp_path: Path) -> None:
    database = await started(tmp_path / "test.db")
    for round_number in range(12):
        names = [f"{number % (round_number + 2)}" for number in range(60)]
        before = {*await database.read(codes)}
        results = await asyncio.gather(*(database.write(add, name) for name in names), return_exceptions=True)
        new = [result for result in results if isinstance(result, str)]
        assert sorted(new) == sorted({*names} - before)
        assert all(isinstance(result, Duplicate) for result in results if not isinstance(result, str))
    await database.stop()


async def test_more_writes_than_the_queue_holds_are_refused_at_once(tmp_path: Path) -> None:
    database = await started(tmp_path / "test.db", writes_waiting_max=10)
    results = await asyncio.gather(*(database.write(add, f"{n:02}") for n in range(15)), return_exceptions=True)
    assert [type(result) for result in results] == [str] * 10 + [Unavailable] * 5
    assert isinstance(results[-1], Unavailable) and results[-1].headers == (("retry-after", "1"),)
    assert await database.write(add, "afterwards") == "afterwards"
    await database.stop()


async def test_a_function_that_holds_everybody_up_is_named_in_the_log(
    patient: SqliteDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    def dawdle(connection: Connection) -> None:
        until = perf_counter() + 0.06
        while perf_counter() < until:
            pass

    with caplog.at_level(logging.WARNING):
        await patient.write(dawdle)
    assert any("dawdle held all writers" in message for message in caplog.messages)


async def test_a_write_runs_in_the_writers_thread_and_a_small_read_on_the_loop(patient: SqliteDatabase) -> None:
    def thread_name(connection: Connection) -> str:
        return threading.current_thread().name

    assert await patient.write(thread_name) == "database-writer"
    assert await patient.read(thread_name) == threading.current_thread().name


async def test_what_the_thread_meets_that_is_no_database_error_goes_to_the_caller(patient: SqliteDatabase) -> None:
    def leave(connection: Connection) -> None:
        raise SystemExit("not now")

    def programming_error(connection: Connection) -> None:
        connection.execute(sa.text("SELECT thing FROM nowhere"))

    with pytest.raises(BaseException, match="not now"):
        await patient.write(leave)
    with pytest.raises(Exception, match="no such table: nowhere"):
        await patient.write(programming_error)
    with pytest.raises(Exception, match="no such table: nowhere"):
        await patient.read(programming_error)
    assert await patient.write(add, "a") == "a"


async def test_a_group_of_a_thousand_and_more_is_answered_whole(patient: SqliteDatabase) -> None:
    results = await asyncio.gather(*(patient.write(add, f"{number}") for number in range(3000)))
    assert len(results) == 3000
    assert await patient.read(count) == 3000


async def test_the_write_ahead_log_is_folded_into_the_file_once_nobody_writes_and_before_it_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_writer, "FRAMES_WHEN_IDLE", 40)
    monkeypatch.setattr(sqlite_writer, "FRAMES_ALWAYS", 400)
    monkeypatch.setattr(sqlite_writer, "IDLE_S", 3600.0)
    database = await started(tmp_path / "test.db")
    wal = tmp_path / "test.db-wal"
    longest_bytes = 0
    for number in range(60):
        await database.write(add, f"{number:04}", "t" * 40_000)
        longest_bytes = max(longest_bytes, wal.stat().st_size)
    assert 40 * 4096 < longest_bytes < 450 * 4120, "not folded while somebody writes, but never much longer than 400"
    folded_bytes = (tmp_path / "test.db").stat().st_size
    assert folded_bytes > 100 * 4096
    await database.stop()

    monkeypatch.setattr(sqlite_writer, "IDLE_S", 0.001)
    monkeypatch.setattr(sqlite_writer, "FRAMES_ALWAYS", 1 << 30)
    database = await started(tmp_path / "idle.db")
    await database.write(add, "large", "t" * 400_000)
    file = tmp_path / "idle.db"

    async def folded() -> bool:
        return file.stat().st_size > 400_000

    await until(folded)
    await database.stop()
