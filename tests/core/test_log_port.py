"""Which log stands behind the port, and that one's own is opened only when there is a reason."""

from pathlib import Path
from typing import Any

import pytest

from mainspring.core.application import Mainspring
from mainspring.core.config import Config
from mainspring.core.outbox import OutboxLog
from mainspring.core.ports import Connection, Database
from mainspring.core.ports import Log as LogPort
from mainspring.storage.log.service import Log
from tests.fixtures_database import PostgresServer
from tests.waiting import until


def config(tmp_path: Path, **keys: Any) -> Config:
    return Config(data=str(tmp_path / "data"), free_bytes_min=0, **keys)


async def port(mainspring: Mainspring) -> Any:
    return await mainspring.service(LogPort)  # type: ignore[type-abstract]


def emit(connection: Connection) -> None:
    connection.emit("orders", b"1")


async def test_without_a_system_that_offers_one_the_outbox_is_the_log(tmp_path: Path) -> None:
    async with Mainspring(["ids"], config(tmp_path)) as mainspring:
        assert isinstance(await port(mainspring), OutboxLog)


async def test_beside_an_embedded_database_it_is_the_system_of_the_same_name(tmp_path: Path) -> None:
    async with Mainspring(["log"], config(tmp_path)) as mainspring:
        log = await port(mainspring)
        assert isinstance(log, Log) and log is await mainspring.service(Log)
        assert (tmp_path / "data" / "log" / "topics").is_dir()


@pytest.mark.postgres
async def test_beside_postgresql_it_is_a_table_that_all_nodes_share(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    postgres_server.execute("CREATE SCHEMA log_port")
    try:
        async with Mainspring(["log"], config(tmp_path, database=postgres_server.dsn("log_port"))) as mainspring:
            assert isinstance(await port(mainspring), OutboxLog)
    finally:
        postgres_server.execute("DROP SCHEMA log_port CASCADE")


async def test_what_is_given_wins(tmp_path: Path) -> None:
    mine = object()
    async with Mainspring(["log"], config(tmp_path), give={LogPort: mine}) as mainspring:
        assert await port(mainspring) is mine


async def test_nobody_needs_it_so_nothing_is_opened_until_an_event_waits(tmp_path: Path) -> None:
    def state(mainspring: Mainspring) -> str:
        return next(one["state"] for one in mainspring.systems() if one["name"] == "log")

    async with Mainspring(["log"], config(tmp_path)) as mainspring:
        assert state(mainspring) == "idle" and not (tmp_path / "data" / "log").exists()
        database: Any = await mainspring.service(Database)  # type: ignore[type-abstract]
        await database.write(emit)
        await until(lambda: state(mainspring) == "running")
        log = await port(mainspring)

        async def arrived() -> bool:
            return bool(await log.partitions("orders")) and bool(await log.fetch("orders", 0, 0))

        await until(arrived)
    async with Mainspring(["log"], config(tmp_path)) as mainspring:
        # Its folder shows that records may wait.
        await until(lambda: state(mainspring) == "running")
