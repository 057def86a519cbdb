"""The compile-once layer gives what SQLAlchemy itself gives, and holds no more than it should."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam, func, select

from mainspring.core.clock import SystemClock
from mainspring.core.database.plans import PLANS_MAX, Plans
from mainspring.core.database.sqlite_connection import SqliteConnection
from tests.core.database.shelf import book, tables

CODES = st.sampled_from("abcdefgh")
STATEMENTS: list[tuple[sa.Executable, dict[str, Any]]] = [
    (select(book.c.code).where(book.c.code == bindparam("code")), {"code": CODES}),
    (select(book).where(book.c.code > bindparam("code")).order_by(book.c.code), {"code": CODES}),
    (select(book.c.code, book.c.lent).where(book.c.pages > 2, book.c.lent).order_by(book.c.code), {}),
    (
        select(book.c.code).where(book.c.code.in_(bindparam("codes"))).order_by(book.c.code),
        {"codes": st.lists(CODES, max_size=9)},
    ),
    (
        select(book.c.code).where(book.c.code.not_in(bindparam("codes"))).order_by(book.c.code),
        {"codes": st.lists(CODES, max_size=5)},
    ),
    (
        select(book.c.code)
        .where(sa.tuple_(book.c.code, book.c.pages).in_(bindparam("pairs")), book.c.pages < bindparam("most"))
        .order_by(book.c.code),
        {"pairs": st.lists(st.tuples(CODES, st.integers(0, 9)), min_size=1, max_size=5), "most": st.integers(0, 9)},
    ),
    (
        select(book.c.code, func.lower(book.c.title))
        .where(func.lower(book.c.title).like(bindparam("pattern")))
        .order_by(book.c.pages.desc().nulls_last(), book.c.code)
        .limit(bindparam("limit"))
        .offset(2),
        {"pattern": st.sampled_from(["%", "t%e", "%8%"]), "limit": st.integers(0, 9)},
    ),
    (select(book.c.notes, book.c.cover).where(book.c.notes.is_not(None)).order_by(book.c.code), {}),
    (select(func.count(), func.max(book.c.pages)).select_from(book).group_by(book.c.lent).order_by(book.c.lent), {}),
    (select(book.c.code).where(book.c.code == "c").union_all(select(book.c.title).where(book.c.pages == 3)), {}),
    (sa.text("SELECT code, pages FROM shelf_book WHERE pages < :most ORDER BY code"), {"most": st.integers(0, 9)}),
    (
        sa.text("SELECT lent FROM shelf_book ORDER BY code").columns(book.c.lent),
        {},
    ),
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SqliteConnection, sa.Connection]]:
    path: Path = tmp_path_factory.mktemp("compiled") / "test.db"
    engine = sa.create_engine(f"sqlite:///{path}", module=pysqlite3.dbapi2)
    tables.create_all(engine)
    with engine.begin() as connection:
        for number, code in enumerate("abcdefgh"):
            row = {"title": f"Title {number}", "pages": number, "lent": number % 3 == 0, "cover": b"\0" * number}
            connection.execute(sa.insert(book), {"code": code, **row, "notes": [number] if number % 2 else None})
    raw = pysqlite3.dbapi2.connect(str(path), isolation_level=None)
    ours = SqliteConnection(raw, Plans("sqlite"), SystemClock(), writes=False)
    with engine.connect() as connection:
        yield ours, connection
    raw.close()
    engine.dispose()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_kind_of_statement_gives_what_sqlalchemys_executor_gives(
    both: tuple[SqliteConnection, sa.Connection], data: st.DataObject
) -> None:
    ours, theirs = both
    statement, strategies = data.draw(st.sampled_from(STATEMENTS))
    parameters = {name: data.draw(strategy) for name, strategy in strategies.items()}
    expected = [tuple(row) for row in theirs.execute(statement, parameters)]
    assert ours.execute(statement, parameters).all() == expected
    assert list(ours.execute(statement, parameters)) == expected
    assert ours.execute(statement, parameters).first() == (expected[0] if expected else None)
    assert ours.execute(statement, parameters).scalar() == (expected[0][0] if expected else None)


def test_a_value_in_a_statement_may_be_replaced_by_name(both: tuple[SqliteConnection, sa.Connection]) -> None:
    ours, _ = both
    statement = select(book.c.code).where(book.c.code == bindparam("code", "a"), book.c.pages >= 0)
    assert ours.execute(statement).all() == [("a",)]
    assert ours.execute(statement, {"code": "b"}).all() == [("b",)]
    only = select(book.c.code).where(book.c.code == bindparam("code", "a"))
    assert ours.execute(only).all() == [("a",)]
    assert ours.execute(only, {"code": "b"}).all() == [("b",)]


def test_statements_built_anew_on_every_call_do_not_fill_the_memory() -> None:
    plans = Plans("sqlite")
    for number in range(PLANS_MAX + 10):
        plans.compile(sa.text(f"SELECT {number}"), {})
    assert len(plans._plans) <= PLANS_MAX


@pytest.mark.parametrize(
    "sql", ["COMMIT", "rollback", " BEGIN IMMEDIATE", "savepoint x", "PRAGMA query_only=OFF", "END;"]
)
def test_a_function_cannot_end_its_own_transaction(both: tuple[SqliteConnection, sa.Connection], sql: str) -> None:
    ours, _ = both
    with pytest.raises(TypeError, match="returning commits"):
        ours.execute(sa.text(sql))
    ours.begin_function()


def test_parameters_that_would_be_written_into_the_sql_are_refused(
    both: tuple[SqliteConnection, sa.Connection],
) -> None:
    ours, _ = both
    with pytest.raises(TypeError, match="literal_execute"):
        ours.execute(select(book.c.code).where(book.c.code == bindparam("code", literal_execute=True)), {"code": "a"})
    with pytest.raises(TypeError, match="must not be a function"):
        ours.execute(select(book.c.code).where(book.c.code == bindparam("code", callable_=lambda: "a")))


def test_a_statement_with_limit_and_offset_is_planned_once() -> None:
    raw = pysqlite3.dbapi2.connect(":memory:", isolation_level=None)
    raw.execute("CREATE TABLE shelf_book (code TEXT PRIMARY KEY, title TEXT)")
    planned: list[object] = []
    raw.set_authorizer(lambda *asked: planned.append(asked) or 0)
    connection = SqliteConnection(raw, Plans("sqlite"), SystemClock(), writes=False)
    after = select(book.c.code).where(book.c.code > bindparam("code")).limit(bindparam("limit")).offset(1)
    connection.execute(after, {"code": "a", "limit": 5}).all()
    once = len(planned)
    for limit in range(5):
        connection.execute(after, {"code": "b", "limit": limit}).all()
    assert once and len(planned) == once
    raw.close()
