"""Bringing a system's tables to the revision that its code was written for.

Each system has a folder `migrations/` with `baseline.sql`, the whole schema as its `tables.py` has it, and, once tables have
changed after a release, one Alembic script for each change: a branch of its own, from `<name>_0001` on. Which revision a
database is at stands in `core_revisions`, one row a system.

A system that is new to a database gets its baseline and starts at the newest revision; neither that, nor to find that a system
is there already, imports Alembic or SQLAlchemy (which PostgreSQL's side needs for other reasons).
One that is there at an older revision goes through the scripts, all changes and the new revision in one transaction. A
script that must make a SQLite table anew says `batch_alter_table(..., table_kwargs={"sqlite_strict": True})`.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mainspring.core.database.errors import SchemaError
from mainspring.core.ports import Tables

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine.interfaces import Dialect

BASELINE = "baseline.sql"
END_OF_STATEMENT = ";\n\n"

_HEADER = re.compile(r"^-- revision: (\S+)$", re.MULTILINE)
_REVISION = re.compile(r"""^revision(?:\s*:\s*\w+)?\s*=\s*["']([^"']+)["']""", re.MULTILINE)
_TABLE = re.compile(r"""^CREATE TABLE "?(\w+)"?""")
_DOWN = re.compile(r"""^down_revision(?:\s*:[^=]+)?\s*=\s*(?:["']([^"']+)["']|None)""", re.MULTILINE)

FIND_REVISION = "SELECT revision FROM core_revisions WHERE system = ?"
STORE_REVISION = (
    "INSERT INTO core_revisions (system, revision) VALUES (?, ?) "
    "ON CONFLICT (system) DO UPDATE SET revision = excluded.revision"
)


class Baseline(msgspec.Struct, frozen=True):
    """The schema of one system at `revision`, as statements for SQLite."""

    revision: str
    statements: tuple[str, ...]

    @property
    def tables(self) -> list[str]:
        """The names of its tables."""
        return [found[1] for statement in self.statements if (found := _TABLE.match(statement))]


class Prepared:
    """Which system has which table, in one database: names are shared by all, so none may be taken twice."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def claim(self, name: str, tables: Iterable[str]) -> None:
        """Raises `SchemaError` where another system has a table of one of these names."""
        for table in tables:
            owner = self._owners.setdefault(table, name)
            if owner != name:
                raise SchemaError(f"{name} and {owner} both have a table named {table}")


def first_revision(name: str) -> str:
    return f"{name}_0001"


def newest_revision(name: str, folder: Path | None) -> str:
    """The revision that no script in `folder` goes on from. Raises `SchemaError` where the scripts are not one line."""
    below: dict[str, str | None] = {}
    for script in sorted(folder.glob("*.py")) if folder is not None else ():
        text = script.read_text(encoding="utf-8")
        revision, down = _REVISION.search(text), _DOWN.search(text)
        if revision is None or down is None:
            raise SchemaError(f"{script} names no revision and down_revision")
        below[revision[1]] = down[1]
    if not below:
        return first_revision(name)
    heads = below.keys() - set(below.values())
    if len(heads) != 1:
        raise SchemaError(f"{name}: its migrations end in {sorted(heads)}, not in one revision")
    return heads.pop()


def create_statements(metadata: "sa.MetaData", dialect: "Dialect") -> list[str]:
    """The statements that create all tables and indexes of `metadata`, in an order that works."""
    from sqlalchemy.schema import CreateIndex, CreateTable

    statements = []
    for table in metadata.sorted_tables:
        statements.append(_tidy(str(CreateTable(table).compile(dialect=dialect))))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements += [_tidy(str(CreateIndex(index).compile(dialect=dialect))) for index in indexes]
    return statements


def baseline_text(name: str, metadata: "sa.MetaData", folder: Path | None) -> str:
    """What `baseline.sql` must hold for these tables and scripts."""
    from mainspring.core.database.dialects import sqlite_dialect

    lines = [
        f"-- The tables of {name} on SQLite, written by `python -m mainspring.core.database.baseline`: change tables.py.",
        f"-- revision: {newest_revision(name, folder)}",
        "",
        "",
    ]
    statements = create_statements(metadata, sqlite_dialect())
    return "\n".join(lines) + "".join(statement + END_OF_STATEMENT for statement in statements).rstrip("\n") + "\n"


def read_baseline(name: str, tables: Tables, folder: Path | None) -> Baseline:
    """The baseline in `folder`, or, without a folder, the one that `tables` give."""
    if folder is None:
        from mainspring.core.database.dialects import sqlite_dialect

        return Baseline(first_revision(name), tuple(create_statements(metadata_of(tables), sqlite_dialect())))
    path = folder / BASELINE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SchemaError(f"{path} is missing: write it with python -m mainspring.core.database.baseline") from None
    header = _HEADER.search(text)
    if header is None:
        raise SchemaError(f"{path} has no line `-- revision: ...`")
    statements = (text[header.end() :] + "\n").split(END_OF_STATEMENT)
    return Baseline(header[1], tuple(each.strip().rstrip(";") for each in statements if each.strip()))


def metadata_of(tables: Tables) -> "sa.MetaData":
    return tables() if callable(tables) else tables


def prepare_sqlite(raw: Any, name: str, baseline: Baseline, folder: Path | None) -> None:
    """Creates or migrates the tables of `name` on the driver's connection `raw`, in one transaction."""
    current = _sqlite_revision(raw, name)
    if current == baseline.revision:
        return
    if current is not None:
        _migrate_sqlite(raw, name, folder, current, baseline.revision)
        return
    raw.execute("BEGIN IMMEDIATE")
    for statement in baseline.statements:
        raw.execute(statement)
    raw.execute(STORE_REVISION, (name, baseline.revision))
    raw.execute("COMMIT")


def _migrate_sqlite(raw: Any, name: str, folder: Path | None, current: str, newest: str) -> None:
    """Runs the scripts with foreign keys unchecked until the end, since changing a table may mean to make it anew."""
    import sqlalchemy as sa

    engine = sa.create_engine("sqlite://", module=_driver(), creator=lambda: raw, poolclass=sa.StaticPool)
    raw.execute("PRAGMA foreign_keys=OFF")
    try:
        raw.execute("BEGIN IMMEDIATE")
        with engine.connect() as connection:
            run_scripts(connection, name, folder, current)
            raw.execute(STORE_REVISION, (name, newest))
            broken = raw.execute("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise SchemaError(f"{name}: migrating to {newest} would leave {len(broken)} rows pointing nowhere")
            connection.commit()
    finally:
        if raw.in_transaction:
            raw.execute("ROLLBACK")
        raw.execute("PRAGMA foreign_keys=ON")


def prepare_postgres(
    raw: Any, connect: Callable[[], Any], name: str, metadata: "sa.MetaData", folder: Path | None
) -> None:
    """Creates or migrates the tables of `name` on the driver's connection `raw`; scripts run on one from `connect`.

    A new system's tables are made from `metadata` itself, at the revision that `baseline.sql` names.
    """
    import sqlalchemy as sa

    from mainspring.core.database.dialects import postgres_dialect

    newest = read_baseline(name, metadata, folder).revision
    store = STORE_REVISION.replace("?", "%s")
    raw.execute("BEGIN")
    raw.execute("SELECT pg_advisory_xact_lock(hashtext('mainspring.revisions ' || current_schema()))")
    raw.execute("CREATE TABLE IF NOT EXISTS core_revisions (system text PRIMARY KEY, revision text NOT NULL)")
    row = raw.execute(FIND_REVISION.replace("?", "%s"), (name,)).fetchone()
    if row is not None and row[0] != newest:
        engine = sa.create_engine("postgresql+psycopg://", creator=connect, poolclass=sa.NullPool)
        with engine.begin() as connection:
            run_scripts(connection, name, folder, row[0])
            connection.exec_driver_sql(store, (name, newest))
    elif row is None:
        for statement in create_statements(metadata, postgres_dialect()):
            if not statement.startswith("CREATE TABLE core_revisions"):
                raw.execute(statement)
        raw.execute(store, (name, newest))
    raw.execute("COMMIT")


def run_scripts(connection: "sa.Connection", name: str, folder: Path | None, current: str) -> None:
    """Runs the scripts that lead from `current` to the newest revision. Raises `SchemaError` where there are none."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.script.revision import RevisionError
    from alembic.util import CommandError

    if folder is None:
        raise SchemaError(f"{name} is at {current}, and no folder of migrations was given")
    try:
        directory = ScriptDirectory(str(folder), version_locations=[str(folder)])
        scripts = list(directory.iterate_revisions("heads", current))
    except (CommandError, RevisionError) as error:
        raise SchemaError(f"{name} is at {current}, which this version does not know ({error})") from error
    with Operations.context(MigrationContext.configure(connection)):
        for script in reversed(scripts):
            script.module.upgrade()


def _sqlite_revision(raw: Any, name: str) -> str | None:
    exists = raw.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'core_revisions'").fetchone()
    row = raw.execute(FIND_REVISION, (name,)).fetchone() if exists else None
    return row[0] if row else None


def _driver() -> Any:
    import pysqlite3.dbapi2  # type: ignore[import-untyped]

    return pysqlite3.dbapi2


def _tidy(statement: str) -> str:
    lines = (line.rstrip().replace("\t", "  ") for line in statement.strip().splitlines())
    return "\n".join(line for line in lines if line)
