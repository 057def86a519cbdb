"""Views and their keeper, shown on totals by name."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.clock import SystemClock, VirtualClock
from mainspring.core.database import Int64, Metadata, Text, insert
from mainspring.core.outbox import Mark, OutboxLog, Retention
from mainspring.core.ports import Connection, Record
from mainspring.core.telemetry import Metrics
from mainspring.core.views import ALIGNMENT, Snapshot, ViewKeeper
from tests.core.view_contract import assert_view_is_what_the_rows_say
from tests.fixtures_database import PostgresServer, embedded_database, postgres_database
from tests.waiting import PATIENCE_S, until

TOPICS = ("totals.plus", "totals.minus")

tables = Metadata("totals")
total = tables.table(
    "totals_total", sa.Column("name", Text, primary_key=True), sa.Column("total", Int64, nullable=False)
)
_insert = insert(total)
ADD = _insert.on_conflict_do_update(
    index_elements=[total.c.name], set_={"total": total.c.total + _insert.excluded.total}
)
ALL = sa.select(total.c.name, total.c.total)


def add(connection: Connection, name: str, amount: int) -> None:
    connection.execute(ADD, {"name": name, "total": amount})
    connection.emit(TOPICS[amount < 0], msgspec.msgpack.encode((name, amount)))


class Totals:
    """The view: a dictionary. `applied` is what came by events, for the tests to see."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.applied: list[tuple[str, int]] = []
        self.before_rebuild: Callable[[], None] = lambda: None

    def apply(self, record: Record) -> None:
        name, amount = msgspec.msgpack.decode(record.value, type=tuple[str, int])
        self.totals[name] = self.totals.get(name, 0) + amount
        self.applied.append((name, amount))

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(sorted(self.totals.items()))

    def restore(self, snapshot: Snapshot) -> None:
        self.totals = dict(msgspec.msgpack.decode(snapshot, type=list[tuple[str, int]]))

    def rebuild(self, connection: Connection) -> None:
        rows = {name: total for name, total in connection.execute(ALL)}  # noqa: C416  rows are not pairs to a type checker
        self.before_rebuild()
        self.totals = rows


async def keep(stack: AsyncExitStack, database: Any, **options: Any) -> ViewKeeper[Totals]:
    """A started keeper, which is stopped with the stack."""
    clock = options.pop("clock", SystemClock())
    log = OutboxLog(database, clock, random=Random(1))
    stack.push_async_callback(log.stop)
    view = options.pop("view", None) or Totals()
    keeper = ViewKeeper(
        options.pop("name", "totals"),
        view,
        database,
        log,
        clock,
        topics=TOPICS,
        version=options.pop("version", 1),
        random=Random(1),
        **options,
    )
    await keeper.start()
    stack.push_async_callback(keeper.stop)
    return keeper


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def totals(database: Any) -> Any:
    await database.prepare("totals", tables)
    return database


WRITES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 5)), max_size=25)


@settings(max_examples=25, deadline=None)
@given(writes=WRITES, cut=st.integers(0, 25))
async def test_the_contract_holds_for_a_good_view(writes: list[tuple[str, int]], cut: int) -> None:
    functions = [lambda connection, one=one: add(connection, *one) for one in writes]
    await assert_view_is_what_the_rows_say(Totals, TOPICS, [("totals", tables)], functions, cut)


class Forgetful(Totals):
    """Does not keep in its snapshot what is negative."""

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        self.totals = {name: total for name, total in self.totals.items() if total >= 0}


class Hasty(Totals):
    """Adds the rows to what it had."""

    def rebuild(self, connection: Connection) -> None:
        for name, total in connection.execute(ALL):
            self.totals[name] = self.totals.get(name, 0) + total


@pytest.mark.parametrize("broken", [Forgetful, Hasty])
async def test_the_contract_catches_a_broken_view(broken: type[Totals]) -> None:
    writes = [lambda connection: add(connection, "a", -1), lambda connection: add(connection, "a", 3)]
    with pytest.raises(AssertionError):
        await assert_view_is_what_the_rows_say(broken, TOPICS, [("totals", tables)], writes, 1)


async def test_a_view_starts_with_what_is_there_and_follows_what_comes(totals: Any, stack: AsyncExitStack) -> None:
    await totals.write(add, "a", 1)
    keeper = await keep(stack, totals)
    assert keeper.view.totals == {"a": 1}
    await totals.write(add, "a", 2)
    await totals.write(add, "b", -1)
    await keeper.catch_up()
    assert keeper.view.totals == {"a": 3, "b": -1}
    assert keeper.view.applied == [("a", 2), ("b", -1)], "in commit order over both topics, none of them twice"
    assert keeper.rebuilds == 1


async def test_embedded_a_view_trails_its_rows_by_a_turn_of_the_loop(tmp_path: Path, stack: AsyncExitStack) -> None:
    database = await stack.enter_async_context(embedded_database(tmp_path))
    await database.prepare("totals", tables)
    keeper = await keep(stack, database, clock=VirtualClock())
    for n in range(1, 20):
        await database.write(add, "a", 1)
        # Nobody asks and no time passes: it is the commit that wakes the view.
        await until(lambda n=n: keeper.view.totals == {"a": n}, every_s=0)  # type: ignore[misc]


async def test_a_restarted_view_goes_on_from_its_file(totals: Any, tmp_path: Path, stack: AsyncExitStack) -> None:
    async with AsyncExitStack() as first_life:
        keeper = await keep(first_life, totals, folder=tmp_path / "views")
        await totals.write(add, "a", 1)
        await keeper.catch_up()
    await totals.write(add, "b", 2)
    keeper = await keep(stack, totals, folder=tmp_path / "views")
    assert (keeper.view.totals, keeper.view.applied, keeper.rebuilds) == ({"a": 1, "b": 2}, [("b", 2)], 0)
    assert [path.name for path in (tmp_path / "views").iterdir()] == ["totals.view"]


async def written(totals: Any, folder: Path) -> Path:
    """A generation file with one total."""
    async with AsyncExitStack() as life:
        await totals.write(add, "a", 1)
        await keep(life, totals, folder=folder)
    return folder / "totals.view"


async def test_a_snapshot_is_given_where_it_lies_in_the_file_and_in_line(
    totals: Any, tmp_path: Path, stack: AsyncExitStack
) -> None:
    class Mapped(Totals):
        kept: Snapshot = b""

        def snapshot(self) -> bytes:
            return b"8 bytes " * 9

        def restore(self, snapshot: Snapshot) -> None:
            self.kept = snapshot

    async with AsyncExitStack() as first_life:
        await keep(first_life, totals, folder=tmp_path, view=Mapped())
    file = (tmp_path / "totals.view").read_bytes()
    assert file.index(b"8 bytes") % ALIGNMENT == 0
    view = (await keep(stack, totals, folder=tmp_path, view=Mapped())).view
    await totals.write(add, "a", 1)
    await stack.aclose()
    assert isinstance(view.kept, memoryview)
    assert view.kept.cast("Q").tolist() == memoryview(b"8 bytes " * 9).cast("Q").tolist(), (
        "though the file was replaced"
    )


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign", "header"])
async def test_a_damaged_file_is_noticed_and_the_view_rebuilt(
    totals: Any, tmp_path: Path, stack: AsyncExitStack, damage: str
) -> None:
    file = await written(totals, tmp_path)
    content = file.read_bytes()
    file.write_bytes(
        {
            "cut": content[:-1],
            "flip": content[:-1] + bytes([content[-1] ^ 1]),
            "empty": b"",
            "foreign": b"SQLite format 3\0" + content,
            "header": content[:30] + b"\xff" * 10 + content[40:],
        }[damage]
    )
    keeper = await keep(stack, totals, folder=tmp_path)
    assert (keeper.view.totals, keeper.rebuilds) == ({"a": 1}, 1)


async def test_any_damage_to_a_file_is_noticed(tmp_path: Path) -> None:
    async with embedded_database(tmp_path) as database, AsyncExitStack() as stack:
        await database.prepare("totals", tables)
        content = (await written(database, tmp_path)).read_bytes()
        for at in range(len(content)):
            (tmp_path / "totals.view").write_bytes(content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :])
            keeper = await keep(stack, database, folder=tmp_path)
            assert keeper.view.totals == {"a": 1}


async def test_a_file_of_another_version_name_or_history_is_not_used(
    totals: Any, tmp_path: Path, stack: AsyncExitStack
) -> None:
    file = await written(totals, tmp_path)
    assert (await keep(stack, totals, folder=tmp_path, version=2)).rebuilds == 1
    file.with_stem("other").write_bytes(file.read_bytes())
    assert (await keep(stack, totals, folder=tmp_path, name="other")).rebuilds == 1
    rename = sa.text("UPDATE log_positions SET position = position + 1 WHERE consumer_group = '' AND topic = ''")
    await totals.write(lambda connection: connection.execute(rename) and None)
    assert (await keep(stack, totals, folder=tmp_path)).rebuilds == 1


async def test_a_file_from_the_future_of_this_database_is_not_used(
    totals: Any, tmp_path: Path, stack: AsyncExitStack
) -> None:
    file = await written(totals, tmp_path)
    from mainspring.core import views

    header, body = views._read(file)
    header = msgspec.structs.replace(header, mark=Mark(1 << 62))
    views._write(file, msgspec.msgpack.encode(header), body)
    assert (await keep(stack, totals, folder=tmp_path)).rebuilds == 1


async def test_where_later_events_have_been_pruned_the_view_is_rebuilt(
    totals: Any, tmp_path: Path, stack: AsyncExitStack
) -> None:
    await written(totals, tmp_path)
    for _ in range(5):
        await totals.write(add, "b", 1)
    log = OutboxLog(totals, SystemClock(), retention=Retention(kept_records=2))
    assert await log.prune() > 0
    keeper = await keep(stack, totals, folder=tmp_path)
    assert (keeper.view.totals, keeper.rebuilds) == ({"a": 1, "b": 5}, 1)


async def test_pruning_what_a_view_has_taken_in_does_not_disturb_it(
    totals: Any, tmp_path: Path, stack: AsyncExitStack
) -> None:
    keeper = await keep(stack, totals)
    log = OutboxLog(totals, SystemClock(), retention=Retention(kept_records=1))
    for _ in range(5):
        await totals.write(add, "a", 1)
        await keeper.catch_up()
        await log.prune()
    assert (keeper.view.totals, keeper.rebuilds) == ({"a": 5}, 1)


async def test_an_event_that_a_view_cannot_take_in_makes_it_rebuild(
    totals: Any, stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = await keep(stack, totals)
    await totals.write(lambda connection: connection.emit(TOPICS[0], b"nonsense"))
    await totals.write(add, "a", 1)
    await keeper.catch_up()
    assert keeper.view.totals == {"a": 1}
    assert "could not take in" in caplog.text


async def test_a_rebuild_that_fails_is_tried_again_before_anything_else(totals: Any, stack: AsyncExitStack) -> None:
    keeper = await keep(stack, totals)
    failures = iter([RuntimeError("no memory"), None, None])

    def fail_once() -> None:
        error = next(failures)
        if error is not None:
            raise error

    keeper.view.before_rebuild = fail_once
    await totals.write(add, "a", 1)
    await totals.write(lambda connection: connection.emit(TOPICS[0], b"nonsense"))
    await until(lambda: keeper.rebuilds >= 2)
    await totals.write(add, "b", 1)
    await keeper.catch_up()
    assert keeper.view.totals == {"a": 1, "b": 1}


async def test_a_view_that_cannot_restore_its_file_is_rebuilt(
    totals: Any, tmp_path: Path, stack: AsyncExitStack
) -> None:
    class Picky(Totals):
        def restore(self, snapshot: Snapshot) -> None:
            raise KeyError("a field of long ago")

    await written(totals, tmp_path)
    keeper = await keep(stack, totals, folder=tmp_path, view=Picky())
    assert (keeper.view.totals, keeper.rebuilds) == ({"a": 1}, 1)


async def test_a_snapshot_is_written_from_time_to_time_where_something_changed(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    clock = VirtualClock()
    database = await stack.enter_async_context(embedded_database(tmp_path))
    await database.prepare("totals", tables)
    keeper = await keep(stack, database, folder=tmp_path, clock=clock, snapshot_every_s=100)
    file = tmp_path / "totals.view"

    async def after_a_while(happened: Callable[[], bool]) -> bool:
        await clock.advance(50)
        return happened()

    await until(lambda: after_a_while(file.exists))
    first = file.read_bytes()
    await database.write(add, "a", 1)
    await keeper.catch_up()
    await until(lambda: after_a_while(lambda: file.read_bytes() != first))
    second = file.stat()
    for _ in range(10):
        await clock.advance(100)
    await keeper.snapshot()
    assert file.stat() == second, "nothing has changed since"


async def test_a_snapshot_that_cannot_be_written_is_no_reason_to_fail(
    totals: Any, tmp_path: Path, stack: AsyncExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "views").write_text("a file where a folder should be")
    keeper = await keep(stack, totals, folder=tmp_path / "views")
    await keeper.snapshot()
    assert "could not be written" in caplog.text
    (tmp_path / "views").unlink()
    await keeper.snapshot()
    assert (tmp_path / "views" / "totals.view").exists()


async def test_what_a_view_does_is_on_the_metrics_page(totals: Any, stack: AsyncExitStack) -> None:
    metrics = Metrics()
    keeper = await keep(stack, totals, metrics=metrics)
    await totals.write(add, "a", 1)
    await keeper.catch_up()
    page = metrics.exposition().decode()
    assert 'view_applied_total{view="totals"} 1' in page
    assert 'view_rebuilds_total{view="totals"} 1' in page
    assert 'view_lag_seconds{view="totals"}' in page


@pytest.mark.postgres
async def test_what_a_rebuild_saw_of_transactions_out_of_order_is_not_applied_again(
    postgres_server: PostgresServer, stack: AsyncExitStack
) -> None:
    """A rebuild sees what a fast transaction did while an older one still runs; both events are read only later."""
    began, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        add(connection, "slow", 1)
        began.set()
        assert go_on.wait(PATIENCE_S)

    database = await stack.enter_async_context(postgres_database(postgres_server))
    await database.prepare("totals", tables)
    running = asyncio.ensure_future(database.write(slow))
    try:
        assert await asyncio.to_thread(began.wait, PATIENCE_S)
        await database.write(add, "fast", 1)
        view, rebuilding = Totals(), threading.Event()
        view.before_rebuild = rebuilding.set
        starting = asyncio.ensure_future(keep(stack, database, view=view))
        assert await asyncio.to_thread(rebuilding.wait, PATIENCE_S)
    finally:
        go_on.set()
        await running
    keeper = await starting
    await keeper.catch_up()
    assert keeper.view.totals == {"slow": 1, "fast": 1}
    assert keeper.view.applied == [("slow", 1)]


def test_a_mark_knows_which_events_its_snapshot_holds() -> None:
    mark = Mark(after=(10 << 20) - 1, ends=15, running=(10, 12))
    held = {transaction: mark.seen((transaction << 20) + 3) for transaction in range(8, 18)}
    assert held == {n: n in (8, 9, 11, 13, 14) for n in range(8, 18)}
    assert mark.complete == (15 << 20) - 1
    assert mark.moved(mark.complete) == Mark(mark.complete)
    assert mark.moved(mark.after + 5).running == (10, 12)
