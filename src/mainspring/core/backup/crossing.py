"""A backup of one kind of database put into the other: row by row, into tables that this version of the code has made.

Both kinds hold the same values: integers, text, bytes, and booleans, which are 0 and 1 in a file.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pysqlite3.dbapi2 as dbapi  # type: ignore[import-untyped]

from mainspring.core.backup import embedded
from mainspring.core.backup.container import SQLITE_FILE, BackupError, Manifest, Progress
from mainspring.core.database.plans import Written
from mainspring.core.ports import Connection, Database, Row

if TYPE_CHECKING:
    import psycopg

LEFT_BEHIND = ("core_revisions", "core_write_marks", "core_jobs")
"""What each database keeps for itself."""

ROWS_AT_ONCE = 1_000

_revisions = Written("SELECT system, revision FROM core_revisions")
_ESCAPE = re.compile(rb"\\(.)")
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_READ: dict[str, Callable[[bytes], Any]] = {
    "bigint": int,
    "integer": int,
    "smallint": int,
    "text": bytes.decode,
    "character varying": bytes.decode,
    "boolean": lambda text: int(text == b"t"),
    "bytea": lambda text: bytes.fromhex(text[2:].decode()),
}


async def make_tables(
    database: Database, manifest: Manifest, prepare: Callable[[Database], Awaitable[object]] | None
) -> None:
    """Makes the tables of every system. Raises `BackupError` where the backup's are of another revision."""
    if prepare is None:
        raise BackupError(f"a backup of {manifest.dialect} goes into the other kind of database only with every system")
    await prepare(database)
    for system, revision in await database.read(_all_revisions):
        saved = manifest.revisions.get(system, revision)
        if saved != revision:
            raise BackupError(
                f"the backup has {system} at {saved}, this version at {revision}: restore it to {manifest.dialect}, "
                "run `mainspring migrate`, and take a new one"
            )


def into_file(source: Path, file: Path, manifest: Manifest, progress: Progress) -> None:
    """Puts the rows of a PostgreSQL's backup into the embedded database `file`, all or none."""
    from mainspring.core.backup import server

    raw = embedded.opened(file)
    try:
        raw.execute("PRAGMA foreign_keys=OFF")
        raw.execute("BEGIN IMMEDIATE")
        there = set(embedded.tables(raw))
        for table in server.described_in(source):
            expected = manifest.rows.get(table.name, 0)
            if table.name in LEFT_BEHIND or _is_of_no_use(table.name, expected, there):
                continue
            path = source / server.file_of(table.name)
            names = ", ".join(f'"{column.name}"' for column in table.columns)
            marks = ", ".join("?" for _ in table.columns)
            insert = f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})'
            rows = _rows_of(path, table.name, [column.type for column in table.columns])
            written = 0
            while batch := list(islice(rows, ROWS_AT_ONCE)):
                raw.executemany(insert, batch)
                written += len(batch)
                progress(table.name, written, expected)
            if written != expected:
                raise BackupError(f"{table.name} has {written} rows, not as many as were saved")
        broken = raw.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise BackupError(f"a row of {broken[0]} refers to one that is not there")
        embedded.keep_offsets_rising(raw)
        raw.execute("COMMIT")
    except dbapi.Error as error:
        raise BackupError(f"the rows do not fit into the tables of this version: {error}") from error
    finally:
        raw.close()


def into_server(source: Path, parameters: Mapping[str, Any], progress: Progress) -> None:
    """Puts the rows of an embedded database's backup into a PostgreSQL, all or none."""
    import psycopg

    from mainspring.core.backup import server

    saved = embedded.opened(source / SQLITE_FILE)
    try:
        with psycopg.connect(**parameters) as raw:
            there = server.in_order_of_references(raw)
            names = embedded.tables(saved)
            for name in names:
                (count,) = saved.execute(f'SELECT count(*) FROM "{name}"').fetchone()
                _is_of_no_use(name, 0 if name in LEFT_BEHIND else count, set(there))
            for name in there:
                if name in names and name not in LEFT_BEHIND:
                    _copy_in(saved, raw, name, progress)
            server.set_counters(raw)
            server.begin_new_history(raw)
    except psycopg.Error as error:
        raise BackupError(f"PostgreSQL: {error}") from error
    finally:
        saved.close()


def clear_server(parameters: Mapping[str, Any], source: Path, force: bool) -> None:
    """Removes the tables that the backup has from a PostgreSQL; without `force` raises `BackupError` for any."""
    import psycopg

    from mainspring.core.backup import server

    saved = embedded.opened(source / SQLITE_FILE)
    try:
        with psycopg.connect(**parameters) as raw:
            server.clear(raw, [*embedded.tables(saved), *LEFT_BEHIND], force=force)
    except psycopg.Error as error:
        raise BackupError(f"PostgreSQL: {error}") from error
    finally:
        saved.close()


def _all_revisions(connection: Connection) -> list[Row]:
    return connection.execute(_revisions).all()


def _is_of_no_use(table: str, rows: int, there: set[str]) -> bool:
    """Whether a table can be passed over. Raises `BackupError` where it holds rows and has no place to go."""
    if table in there:
        return False
    if rows:
        raise BackupError(
            f"the backup has rows of {table}, which this version, or this choice of systems, does not know"
        )
    return True


def _rows_of(path: Path, table: str, types: list[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of a file in the text format of COPY (PostgreSQL's manual, COPY, "Text Format")."""
    try:
        readers = [_READ[kind] for kind in types]
    except KeyError as error:
        raise BackupError(f"{table} has a column of type {error}, which an embedded database does not have") from None
    with path.open("rb") as lines:
        for line in lines:
            fields = line.removesuffix(b"\n").split(b"\t")
            yield tuple(
                None if field == rb"\N" else read(_plain(field)) for read, field in zip(readers, fields, strict=True)
            )


def _plain(field: bytes) -> bytes:
    if b"\\" not in field:
        return field
    return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), field)


def _copy_in(saved: Any, raw: "psycopg.Connection[Any]", name: str, progress: Progress) -> None:
    from psycopg.sql import SQL, Identifier

    columns = [row[1] for row in saved.execute(f'PRAGMA table_info("{name}")').fetchall()]
    (expected,) = saved.execute(f'SELECT count(*) FROM "{name}"').fetchone()
    quoted = ", ".join(f'"{column}"' for column in columns)
    statement = SQL("COPY {} ({}) FROM STDIN").format(Identifier(name), SQL(", ").join(map(Identifier, columns)))
    with raw.cursor() as cursor, cursor.copy(statement) as copy:
        for written, row in enumerate(saved.execute(f'SELECT {quoted} FROM "{name}"'), 1):
            copy.write_row(row)
            if written % ROWS_AT_ONCE == 0:
                progress(name, written, expected)
    progress(name, expected, expected)
