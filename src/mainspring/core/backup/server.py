"""A PostgreSQL as files: how its tables look, and their rows in the server's own COPY text, from one snapshot.

The tables are described from the server's catalogue, so a backup can be put back without the code that made them: what
version they are of says `core_revisions`, which is one of them, and migrations go on from there.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from mainspring.core.backup.container import CHUNK_BYTES, TABLES_FOLDER, BackupError, Manifest, Progress, Stored, Writer

SCHEMA_FILE = f"{TABLES_FOLDER}/schema.json"
SHARED_LOCK = "SELECT pg_advisory_xact_lock(hashtext('mainspring.revisions ' || current_schema()))"
"""Held while tables are made and changed: see `core.database.revisions`."""


class Column(msgspec.Struct, frozen=True):
    """`definition` is the rest of its line in CREATE TABLE.

    `counter` is the last number of its sequence and whether it was given out, where it has one.
    """

    name: str
    type: str
    definition: str
    counter: tuple[int, bool] | None = None


class Table(msgspec.Struct, frozen=True):
    name: str
    columns: tuple[Column, ...]
    constraints: tuple[str, ...]
    references: tuple[str, ...]
    indexes: tuple[str, ...]


_decode = msgspec.json.Decoder(tuple[Table, ...]).decode

FIND_TABLES = """
SELECT c.oid, c.relname, pg_relation_size(c.oid) FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname
"""
FIND_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text, a.attgenerated::text,
       pg_get_expr(d.adbin, d.adrelid), CASE WHEN a.attcollation <> t.typcollation THEN l.collname END,
       pg_get_serial_sequence(quote_ident(c.relname), a.attname)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
FIND_CONSTRAINTS = """
SELECT contype::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE conrelid = %s AND contype IN ('p', 'u', 'c', 'x', 'f') ORDER BY contype DESC, conname
"""
FIND_INDEXES = """
SELECT pg_get_indexdef(i.indexrelid), c.relname, quote_ident(current_schema()) FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = %s AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid) ORDER BY c.relname
"""

FIND_REFERENCES = """
SELECT t.relname, r.relname FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid
WHERE k.contype = 'f' AND t.relnamespace = current_schema()::regnamespace
"""


def dump(parameters: Mapping[str, Any], writer: Writer, progress: Progress) -> tuple[dict[str, str], dict[str, int]]:
    """Writes every table of the connection's schema into the backup; gives the systems' revisions and the rows of each."""
    (writer.folder / TABLES_FOLDER).mkdir(mode=0o700)
    rows: dict[str, int] = {}
    try:
        with psycopg.connect(**parameters) as raw:
            raw.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            tables, sizes = _described(raw)
            (writer.folder / SCHEMA_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(tables), indent=1))
            writer.record(SCHEMA_FILE, progress)
            for table in tables:
                rows[table.name] = _dump_rows(raw, table, writer, sizes[table.name], progress)
            revisions = dict(raw.execute("SELECT system, revision FROM core_revisions").fetchall())
    except psycopg.Error as error:
        raise BackupError(f"PostgreSQL: {error}") from error
    return revisions, rows


def load(parameters: Mapping[str, Any], source: Path, manifest: Manifest, *, force: bool, progress: Progress) -> None:
    """Makes the tables of a backup and fills them, in one transaction. Raises `BackupError`, having changed nothing.

    With `force`, tables of these names are replaced; all that refers to them from elsewhere goes with them.
    """
    tables = described_in(source)
    try:
        with psycopg.connect(**parameters) as raw:
            raw.execute(SHARED_LOCK)
            clear(raw, [table.name for table in tables], force=force)
            for table in tables:
                raw.execute(_create(table))
            for table in tables:
                _load_rows(raw, source, table, manifest, progress)
            for table in tables:
                for constraint in table.constraints:
                    raw.execute(_altered(table.name, constraint))
                for index in table.indexes:
                    raw.execute(index.encode())
            for table in tables:
                for reference in table.references:
                    raw.execute(_altered(table.name, reference))
            begin_new_history(raw)
    except psycopg.Error as error:
        raise BackupError(f"PostgreSQL: {error}") from error


def clear(raw: psycopg.Connection[Any], names: list[str], *, force: bool) -> None:
    """Removes tables of these names; without `force` raises `BackupError` where there are any."""
    there = {name for _, name, _ in raw.execute(FIND_TABLES).fetchall()} & set(names)
    if there and not force:
        raise BackupError(f"this database has tables already ({', '.join(sorted(there))}): --force replaces them")
    for name in sorted(there):
        raw.execute(SQL("DROP TABLE IF EXISTS {} CASCADE").format(Identifier(name)))


def begin_new_history(raw: psycopg.Connection[Any]) -> None:
    """Gives the events of the outbox new offsets, below all that this server's transactions will give.

    Offsets are made of the numbers of transactions, and those of another server, or of this one in another life, may be
    higher than any that will be given here for years: then no consumer would ever see a new event.
    """
    raw.execute(
        "CREATE TEMP TABLE renumbered ON COMMIT DROP AS "
        "SELECT id, (pg_current_xact_id()::text::bigint << 20) - (row_number() OVER (ORDER BY id DESC)) AS new "
        "FROM log_records"
    )
    raw.execute(
        "UPDATE log_positions SET position = coalesce((SELECT max(new) FROM renumbered WHERE id <= position), "
        "(SELECT min(new) FROM renumbered) - 1, (pg_current_xact_id()::text::bigint << 20) - 1) WHERE topic <> ''"
    )
    # In two steps, because a new id may be the old one of another record.
    raw.execute("UPDATE log_records SET id = -1 - id")
    raw.execute("UPDATE log_records SET id = new FROM renumbered WHERE log_records.id = -1 - renumbered.id")
    raw.execute(
        "INSERT INTO log_positions (consumer_group, topic, position) "
        "VALUES ('', '', -1 - (random() * 4611686018427387903)::bigint) "
        "ON CONFLICT (consumer_group, topic) DO UPDATE SET position = excluded.position"
    )


def in_order_of_references(raw: psycopg.Connection[Any]) -> list[str]:
    """The names of all tables, what is referred to before what refers to it."""
    names = [name for _, name, _ in raw.execute(FIND_TABLES).fetchall()]
    needs: dict[str, set[str]] = {name: set() for name in names}
    for table, referred in raw.execute(FIND_REFERENCES).fetchall():
        needs[table].add(referred)
    ordered: list[str] = []
    while needs:
        free = [name for name, needed in needs.items() if not needed & (needs.keys() - {name})]
        if not free:
            raise BackupError(f"tables refer to each other in a circle: {', '.join(sorted(needs))}")
        ordered += free
        for name in free:
            del needs[name]
    return ordered


def set_counters(raw: psycopg.Connection[Any]) -> None:
    """Lets every sequence of a column go on after the column's highest value."""
    for oid, table, _ in raw.execute(FIND_TABLES).fetchall():
        for column, *_, sequence in raw.execute(FIND_COLUMNS, (oid,)).fetchall():
            if sequence is not None:
                raw.execute(
                    SQL("SELECT setval({0}, greatest(1, max({1})), max({1}) IS NOT NULL) FROM {2}").format(
                        Literal(sequence), Identifier(column), Identifier(table)
                    )
                )


def described_in(source: Path) -> tuple[Table, ...]:
    try:
        return _decode((source / SCHEMA_FILE).read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise BackupError(f"{SCHEMA_FILE} of the backup cannot be read: {error}") from None


def file_of(table: str) -> str:
    return f"{TABLES_FOLDER}/{table}.copy"


def _described(raw: psycopg.Connection[Any]) -> tuple[tuple[Table, ...], dict[str, int]]:
    tables, sizes = [], {}
    for oid, name, size_bytes in raw.execute(FIND_TABLES).fetchall():
        columns = tuple(_column(raw, name, row) for row in raw.execute(FIND_COLUMNS, (oid,)).fetchall())
        constraints: dict[bool, list[str]] = {False: [], True: []}
        for kind, constraint, definition in raw.execute(FIND_CONSTRAINTS, (oid,)).fetchall():
            text = SQL("CONSTRAINT {} ").format(Identifier(constraint)).as_string(raw) + definition
            constraints[kind == "f"].append(text)
        indexes = [
            definition.replace(f" ON {schema}.", " ON ", 1)
            for definition, _, schema in raw.execute(FIND_INDEXES, (oid,))
        ]
        tables.append(Table(name, columns, tuple(constraints[False]), tuple(constraints[True]), tuple(indexes)))
        sizes[name] = size_bytes
    return tuple(tables), sizes


def _column(raw: psycopg.Connection[Any], table: str, row: tuple[Any, ...]) -> Column:
    name, kind, not_null, identity, generated, default, collation, sequence = row
    if generated:
        raise BackupError(f"{table}.{name} is a generated column, which a backup cannot hold yet")
    parts = []
    if collation is not None:
        parts.append(SQL("COLLATE {}").format(Identifier(collation)).as_string(raw))
    counter = None
    if sequence is not None:
        counter = raw.execute(f"SELECT last_value, is_called FROM {sequence}".encode()).fetchone()
        parts.append(f"GENERATED {'ALWAYS' if identity == 'a' else 'BY DEFAULT'} AS IDENTITY")
    elif default is not None:
        parts.append(f"DEFAULT {default}")
    if not_null:
        parts.append("NOT NULL")
    return Column(name, kind, " ".join(parts), counter)


def _columns(table: Table) -> Composed:
    return SQL(", ").join(Identifier(column.name) for column in table.columns)


def _dump_rows(raw: psycopg.Connection[Any], table: Table, writer: Writer, size_bytes: int, progress: Progress) -> int:
    path = file_of(table.name)
    sha256, done_bytes, rows = hashlib.sha256(), 0, 0
    statement = SQL("COPY {} ({}) TO STDOUT").format(Identifier(table.name), _columns(table))
    with (writer.folder / path).open("wb") as written, raw.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for block in copy:
                written.write(block)
                sha256.update(block)
                done_bytes += len(block)
                rows += 1
                if rows % 1000 == 0:
                    progress(path, done_bytes, max(done_bytes, size_bytes))
        rows = cursor.rowcount
    progress(path, done_bytes, done_bytes)
    writer.files.append(Stored(path, done_bytes, sha256.hexdigest()))
    return rows


def _create(table: Table) -> Composed:
    lines = [
        SQL("{} {} {}").format(Identifier(column.name), SQL(column.type), SQL(column.definition))
        for column in table.columns
    ]
    return SQL("CREATE TABLE {} ({})").format(Identifier(table.name), SQL(", ").join(lines))


def _altered(table: str, constraint: str) -> Composed:
    return SQL("ALTER TABLE {} ADD {}").format(Identifier(table), SQL(constraint))


def _load_rows(
    raw: psycopg.Connection[Any], source: Path, table: Table, manifest: Manifest, progress: Progress
) -> None:
    path, done_bytes = file_of(table.name), 0
    size_bytes = (source / path).stat().st_size
    statement = SQL("COPY {} ({}) FROM STDIN").format(Identifier(table.name), _columns(table))
    with (source / path).open("rb") as read, raw.cursor() as cursor:
        with cursor.copy(statement) as copy:
            while block := read.read(CHUNK_BYTES):
                copy.write(block)
                done_bytes += len(block)
                progress(path, done_bytes, size_bytes)
        if cursor.rowcount != manifest.rows.get(table.name):
            raise BackupError(f"{path} holds {cursor.rowcount} rows, not as many as were saved")
    for column in table.columns:
        if column.counter is not None:
            raw.execute(
                "SELECT setval(pg_get_serial_sequence(quote_ident(%s), %s), %s, %s)",
                (table.name, column.name, *column.counter),
            )
