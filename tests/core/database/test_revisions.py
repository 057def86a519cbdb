"""Creating tables from a baseline, and bringing older ones up to date by Alembic scripts, on both sides."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mainspring.core.database import Int64, Metadata, SchemaError, SqliteDatabase, Text, Violation, core_tables
from mainspring.core.database.baseline import difference, write
from mainspring.core.database.revisions import create_statements, newest_revision, read_baseline
from mainspring.core.outbox import commits
from mainspring.core.ports import Connection


def pets_as_released() -> Metadata:
    tables = Metadata("pets")
    tables.table("pets_pet", sa.Column("name", Text, primary_key=True), sa.Column("legs", Int64, index=True))
    return tables


def pets_with_owner() -> Metadata:
    tables = Metadata("pets")
    tables.table(
        "pets_pet",
        sa.Column("name", Text, primary_key=True),
        sa.Column("legs", Int64, index=True),
        sa.Column("owner", Text, nullable=False, server_default=sa.text("'nobody'")),
    )
    return tables


ADD_OWNER = '''"""Pets have owners."""

import sqlalchemy as sa
from alembic import op

from mainspring.core.database import Text

revision = "pets_0002"
down_revision = "pets_0001"


def upgrade() -> None:
    op.add_column("pets_pet", sa.Column("owner", Text, nullable=False, server_default=sa.text("'nobody'")))
'''

FAIL_HALFWAY = '''"""Does half of its work."""

import sqlalchemy as sa
from alembic import op

revision = "pets_0002"
down_revision = "pets_0001"


def upgrade() -> None:
    op.create_table("pets_half", sa.Column("id", sa.Integer, primary_key=True))
    raise ZeroDivisionError
'''


def add_pet(connection: Connection, name: str) -> None:
    connection.execute(sa.insert(pets_as_released().tables["pets_pet"]), {"name": name, "legs": 4})


def owners(connection: Connection) -> list[Any]:
    table = pets_with_owner().tables["pets_pet"]
    return connection.execute(sa.select(table.c.name, table.c.owner).order_by(table.c.name)).all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "migrations"


async def test_a_new_system_is_created_from_its_baseline(database: Any, folder: Path) -> None:
    write(pets_as_released(), folder)
    await database.prepare("pets", pets_as_released(), folder)
    await database.write(add_pet, "rex")


async def test_older_tables_are_migrated_and_keep_their_rows(database: Any, folder: Path) -> None:
    write(pets_as_released(), folder)
    await database.prepare("pets", pets_as_released(), folder)
    await database.write(add_pet, "rex")
    (folder / "0002_owner.py").write_text(ADD_OWNER)
    write(pets_with_owner(), folder)
    for _ in range(2):
        await database.prepare("pets", pets_with_owner(), folder)
        assert await database.read(owners) == [("rex", "nobody")]


async def test_a_new_system_with_scripts_starts_at_the_newest_without_running_them(database: Any, folder: Path) -> None:
    write(pets_as_released(), folder)
    (folder / "0002_owner.py").write_text(
        ADD_OWNER.replace("def upgrade() -> None:", "def upgrade() -> None:\n    1 / 0")
    )
    write(pets_with_owner(), folder)
    await database.prepare("pets", pets_with_owner(), folder)
    await database.write(add_pet, "rex")
    assert await database.read(owners) == [("rex", "nobody")]


async def test_a_script_that_fails_leaves_everything_as_it_was(database: Any, folder: Path) -> None:
    write(pets_as_released(), folder)
    await database.prepare("pets", pets_as_released(), folder)
    await database.write(add_pet, "rex")
    script = folder / "0002_half.py"
    script.write_text(FAIL_HALFWAY)
    write(pets_as_released(), folder)
    with pytest.raises(ZeroDivisionError):
        await database.prepare("pets", pets_as_released(), folder)
    await database.write(add_pet, "tom")
    script.unlink()
    (folder / "0002_owner.py").write_text(ADD_OWNER)
    write(pets_with_owner(), folder)
    await database.prepare("pets", pets_with_owner(), folder)
    assert await database.read(owners) == [("rex", "nobody"), ("tom", "nobody")]


REMAKE = '''"""Pets have at most a hundred legs, which SQLite can only say by making the table anew."""

from alembic import op

revision = "pets_0002"
down_revision = "pets_0001"


def upgrade() -> None:
    with op.batch_alter_table("pets_pet", table_kwargs={"sqlite_strict": True}) as table:
        table.create_check_constraint("legs", "legs <= 100")
'''


async def test_a_table_that_others_point_to_can_be_made_anew(database: Any, folder: Path) -> None:
    toys = Metadata("toys")
    pet = sa.Table("pets_pet", sa.MetaData(), sa.Column("name", Text, primary_key=True))
    toys.table("toys_toy", sa.Column("pet", Text, sa.ForeignKey(pet.c.name), primary_key=True))
    write(pets_as_released(), folder)
    await database.prepare("pets", pets_as_released(), folder)
    await database.prepare("toys", toys)
    await database.write(add_pet, "rex")
    await database.write(
        lambda connection: connection.execute(sa.insert(toys.tables["toys_toy"]), {"pet": "rex"}).rowcount
    )
    (folder / "0002_remake.py").write_text(REMAKE)
    write(pets_as_released(), folder)
    await database.prepare("pets", pets_as_released(), folder)
    found = await database.read(lambda connection: connection.execute(sa.select(toys.tables["toys_toy"])).all())
    assert found == [("rex",)]
    with pytest.raises(Violation):
        await database.write(
            lambda connection: (
                connection.execute(
                    sa.insert(pets_as_released().tables["pets_pet"]), {"name": "worm", "legs": 101}
                ).rowcount
            )
        )
    with pytest.raises(Violation):
        await database.write(
            lambda connection: connection.execute(sa.insert(toys.tables["toys_toy"]), {"pet": "nobody"}).rowcount
        )


async def test_tables_of_a_newer_version_are_left_alone(database: Any, folder: Path, tmp_path: Path) -> None:
    write(pets_as_released(), folder)
    (folder / "0002_owner.py").write_text(ADD_OWNER)
    write(pets_with_owner(), folder)
    await database.prepare("pets", pets_with_owner(), folder)
    older = tmp_path / "older"
    write(pets_as_released(), older)
    with pytest.raises(SchemaError, match="pets is at pets_0002, which this version does not know"):
        await database.prepare("pets", pets_as_released(), older)
    await database.write(add_pet, "rex")


async def test_a_folder_without_a_baseline_says_how_to_write_one(database: Any, folder: Path) -> None:
    with pytest.raises(SchemaError, match=r"python -m mainspring\.core\.database\.baseline"):
        await database.prepare("pets", pets_as_released(), folder)


def test_scripts_that_end_in_two_revisions_are_refused(folder: Path) -> None:
    write(pets_as_released(), folder)
    (folder / "0002_owner.py").write_text(ADD_OWNER)
    (folder / "0002_other.py").write_text(ADD_OWNER.replace('"pets_0002"', '"pets_0002b"'))
    with pytest.raises(SchemaError, match="not in one revision"):
        newest_revision("pets", folder)


def test_a_baseline_says_when_tables_have_changed_without_it(folder: Path) -> None:
    write(pets_as_released(), folder)
    assert difference(pets_as_released(), folder) is None
    assert "differs from tables.py" in str(difference(pets_with_owner(), folder))


def test_a_baseline_reads_back_as_the_statements_that_tables_give(folder: Path) -> None:
    from mainspring.core.database.dialects import sqlite_dialect

    write(pets_with_owner(), folder)
    baseline = read_baseline("pets", pets_with_owner(), folder)
    assert list(baseline.statements) == create_statements(pets_with_owner(), sqlite_dialect())
    assert all("STRICT" in each for each in baseline.statements if each.startswith("CREATE TABLE"))


def test_the_core_has_the_baseline_of_its_tables() -> None:
    assert difference(core_tables.tables, Path(core_tables.__file__).parent / "migrations") is None


async def test_a_core_of_the_first_release_is_migrated_when_the_database_starts(database: Any) -> None:
    def as_first_released(connection: Connection) -> None:
        connection.execute(sa.text("DROP TABLE log_commits"))
        connection.execute(sa.text("UPDATE core_revisions SET revision = 'core_0001' WHERE system = 'core'"))

    await database.write(as_first_released)
    if database.dialect == "sqlite":
        await database.stop()
        later: Any = SqliteDatabase(database.path, ballast_bytes=0, floor_bytes=0)
    else:
        from psycopg.conninfo import make_conninfo

        from mainspring.core.database.postgres import PostgresDatabase

        later = PostgresDatabase(make_conninfo(**database.parameters), pool_size=2)
    await later.start()
    try:
        await later.write(commits.put, "g", {("t", 0): 7})
        assert await later.read(commits.all_positions, "g") == {("t", 0): 7}
    finally:
        await later.stop()


def test_neither_alembic_nor_psycopg_is_imported_for_a_new_embedded_database(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from mainspring.core.database import SqliteDatabase
async def main():
    database = SqliteDatabase({str(tmp_path / "new.db")!r}, ballast_bytes=0)
    await database.start()
    await database.stop()
asyncio.run(main())
assert not {{"alembic", "psycopg"}} & set(sys.modules), "imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
