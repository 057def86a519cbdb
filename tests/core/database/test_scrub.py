"""Deleted bytes leave the disk: the file is overwritten where they were, and the write-ahead log is emptied."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mainspring.core.database import Bytes, Int64, Metadata
from mainspring.core.ports import Connection
from tests.fixtures_database import embedded_database

tables = Metadata("secrets")
secret = tables.table("secrets", sa.Column("id", Int64, primary_key=True), sa.Column("body", Bytes, nullable=False))
MARK = b"a secret nobody else should see "


def _put(connection: Connection, id: int, body: bytes) -> None:
    connection.execute(sa.insert(secret), {"id": id, "body": body})


def _delete_all(connection: Connection) -> None:
    connection.execute(sa.delete(secret))


def _on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.name.startswith("test.db"))


async def test_what_was_deleted_is_on_no_page_of_the_file_and_in_no_frame_of_its_log(tmp_path: Path) -> None:
    async with embedded_database(tmp_path) as database:
        await database.prepare("secrets", tables)
        for id, copies in enumerate((1, 3, 200, 5_000)):
            await database.write(_put, id, MARK * copies)
        assert await database.scrub()
        assert MARK in (tmp_path / "test.db").read_bytes()
        await database.write(_delete_all)
        assert await database.scrub()
        assert MARK not in _on_disk(tmp_path)


async def test_scrubbing_waits_for_no_reader_and_succeeds_once_it_is_gone(tmp_path: Path) -> None:
    reading, done = threading.Event(), threading.Event()

    def read_slowly(connection: Connection) -> Any:
        first = connection.execute(sa.select(sa.func.count()).select_from(secret)).scalar()
        reading.set()
        done.wait(60)
        return first

    async with embedded_database(tmp_path) as database:
        await database.prepare("secrets", tables)
        await database.write(_put, 1, MARK)
        held = asyncio.ensure_future(database._readers.in_thread(lambda one: one.run(60, read_slowly, (), {})))
        try:
            await asyncio.to_thread(reading.wait, 60)
            await database.write(_delete_all)
            assert not await database.scrub()
            await database.write(_put, 2, b"others go on")
        finally:
            done.set()
        assert await held == 1
        assert await database.scrub()
        assert MARK not in _on_disk(tmp_path)
