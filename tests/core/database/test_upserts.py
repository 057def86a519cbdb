"""An upsert reads the same on both sides, and the embedded one does without PostgreSQL's dialect."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from mainspring.core.database import insert
from mainspring.core.database.dialects import postgres_dialect, sqlite_dialect
from tests.needs import need_module

table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer, primary_key=True), sa.Column("b", sa.Text))


def upserts(insert: object) -> Iterator[sa.Executable]:
    new = insert(table).values(a=sa.bindparam("a"), b=sa.bindparam("b"))  # type: ignore[operator]
    yield new.on_conflict_do_nothing()
    yield new.on_conflict_do_nothing(index_elements=["a"])
    yield new.on_conflict_do_update(index_elements=["a"], set_={"b": new.excluded.b})
    longer = new.on_conflict_do_update(index_elements=[table.c.a], set_={"b": table.c.b + new.excluded["b"]})
    yield longer.returning(table.c.b)
    yield new.on_conflict_do_update(index_elements=["a"], set_={"b": "x"}, where=table.c.b < new.excluded.b)
    yield new.on_conflict_do_update(index_elements=["a"], set_={"b": "x"}, index_where=table.c.b == "y")


@pytest.mark.parametrize("side", ["sqlite", "postgresql"])
def test_it_is_written_as_postgresqls_own_insert_would_be(side: str) -> None:
    need_module("psycopg")
    dialect = sqlite_dialect() if side == "sqlite" else postgres_dialect()
    for ours, theirs in zip(upserts(insert), upserts(postgresql.insert), strict=True):
        assert str(ours.compile(dialect=dialect)) == str(theirs.compile(dialect=dialect))  # type: ignore[attr-defined]


def test_a_server_on_the_embedded_side_loads_nothing_of_postgresql() -> None:
    program = (
        "import sys, mainspring.core.application, mainspring.core.accounts.changes, mainspring.core.database as it\n"
    )
    program += "it.Metadata, it.insert\n"
    program += "print(it.SqliteDatabase.dialect, *(name for name in sys.modules if 'postgresql' in name))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == ["sqlite"]
