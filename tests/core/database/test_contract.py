"""What every `Database` does, embedded and on PostgreSQL alike."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import bindparam

from mainspring.core.database import Duplicate, ReadOnly, SchemaError, Violation, insert
from mainspring.core.database.plans import Written
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Problem, Unavailable
from tests.core.database import shelf
from tests.core.database.shelf import add, add_any, book, codes, count, pages, turn_page

SHORT = Written("SELECT code, pages FROM shelf_book WHERE pages < :pages OR code = :code ORDER BY code")
THICKEN = Written("UPDATE shelf_book SET pages = pages + :more WHERE pages <= :upto AND pages + :more > :upto")
ADD_WRITTEN = Written("INSERT INTO shelf_book (code, title) VALUES (:code, 'Written') ON CONFLICT DO NOTHING")


class Unwanted(Problem):
    status, type, title = 409, "shelf/unwanted", "Not wanted"


WHOLE = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
INT64 = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none() | st.booleans() | INT64 | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=8,
)


async def test_a_read_sees_what_was_written_before_it_started(shelves: Database) -> None:
    assert await shelves.write(add, "a", pages=7) == "a"
    assert await shelves.read(pages, "a") == 7


async def test_a_statement_written_as_sql_means_the_same_on_both_sides(shelves: Database) -> None:
    def work(connection: Connection) -> tuple[list[Any], list[int]]:
        added = [connection.execute(ADD_WRITTEN, {"code": code}).rowcount for code in ("a", "b", "a")]
        thicker = connection.execute(THICKEN, {"more": 5, "upto": 3}).rowcount
        connection.execute_many(ADD_WRITTEN, [{"code": "c"}, {"code": "d"}])
        return connection.execute(SHORT, {"pages": 1, "code": "a"}).all(), [*added, thicker]

    rows, counts = await shelves.write(work)
    assert [tuple(row) for row in rows] == [("a", 5), ("c", 0), ("d", 0)] and counts == [1, 1, 0, 2]
    with pytest.raises(TypeError, match="code"):
        await shelves.read(lambda connection: connection.execute(SHORT, {"pages": 1}).all())


async def test_a_function_that_raises_has_changed_nothing(shelves: Database) -> None:
    def add_two_and_regret(connection: Connection) -> None:
        add(connection, "a")
        add(connection, "b")
        raise Unwanted("changed my mind")

    with pytest.raises(Unwanted, match="changed my mind"):
        await shelves.write(add_two_and_regret)
    assert await shelves.read(count) == 0


async def test_among_many_at_once_only_those_that_raise_change_nothing(shelves: Database) -> None:
    def perhaps_add(connection: Connection, number: int) -> int:
        add(connection, f"{number:03}")
        if number % 3 == 0:
            raise Unwanted(str(number))
        return number

    results = await asyncio.gather(
        *(shelves.write(perhaps_add, number) for number in range(100)), return_exceptions=True
    )
    for number, result in enumerate(results):
        assert isinstance(result, Unwanted) if number % 3 == 0 else result == number
    assert await shelves.read(codes) == [f"{number:03}" for number in range(100) if number % 3]


async def test_a_read_that_tries_to_write_is_refused(shelves: Database) -> None:
    with pytest.raises(ReadOnly):
        await shelves.read(add, "a")
    with pytest.raises(ReadOnly):
        await shelves.read(lambda connection: connection.emit("books", b"value"))
    with pytest.raises(ReadOnly):
        await shelves.read(lambda connection: connection.after_commit(lambda: None))
    assert await shelves.read(count) == 0
    await shelves.write(add, "a")


async def test_a_taken_key_is_a_duplicate_that_names_it(shelves: Database) -> None:
    await shelves.write(add_any, code="a", title="A", isbn="1")
    with pytest.raises(Duplicate) as by_code:
        await shelves.write(add, "a")
    with pytest.raises(Duplicate) as by_isbn:
        await shelves.write(add_any, code="b", title="B", isbn="1")
    assert (by_code.value.key, by_isbn.value.key) == ("shelf_book.code", "shelf_book.isbn")


@pytest.mark.parametrize(
    "values",
    [
        {"code": "a", "title": None},
        {"code": "a", "title": "A", "pages": -1},
        {"code": "a", "title": "A", "shelf_id": 404},
        {"code": "a", "title": "A", "pages": 2**63},
        {"code": "a", "title": "has\0nul"},
        {"code": "a", "title": "half a pair \ud800"},
    ],
    ids=["null", "check", "foreign key", "too large", "NUL", "surrogate"],
)
async def test_a_value_that_does_not_fit_is_a_violation(shelves: Database, values: dict[str, Any]) -> None:
    with pytest.raises(Violation) as raised:
        await shelves.write(add_any, **values)
    assert not isinstance(raised.value, Duplicate)
    assert await shelves.read(count) == 0


async def test_a_failed_statement_ends_its_transaction_even_when_the_error_is_caught(shelves: Database) -> None:
    await shelves.write(add, "a")

    def add_twice(connection: Connection, go_on: bool) -> str:
        add(connection, "b")
        try:
            add(connection, "a")
        except Duplicate:
            if go_on:
                add(connection, "c")
        return "fine"

    with pytest.raises(Duplicate):
        await shelves.write(add_twice, False)
    with pytest.raises(RuntimeError, match="nothing more can run"):
        await shelves.write(add_twice, True)
    assert await shelves.read(codes) == ["a"]


async def test_a_service_may_raise_its_own_error_for_a_duplicate(shelves: Database) -> None:
    def add_new(connection: Connection) -> None:
        try:
            add(connection, "a")
        except Duplicate:
            raise Unwanted("taken") from None

    await shelves.write(add_new)
    with pytest.raises(Unwanted, match="taken"):
        await shelves.write(add_new)


@WHOLE
@given(title=TEXTS, number=st.integers(0, 2**63 - 1), lent=st.booleans(), cover=st.binary(max_size=64), notes=JSON)
async def test_values_come_back_as_they_went_in(
    shelves: Database, title: str, number: int, lent: bool, cover: bytes, notes: Any
) -> None:
    def store(connection: Connection) -> Any:
        connection.execute(sa.delete(book))
        add_any(connection, code="x", title=title, pages=number, lent=lent, cover=cover, notes=notes)

    def load(connection: Connection) -> Any:
        return connection.execute(
            sa.select(book.c.title, book.c.pages, book.c.lent, book.c.cover, book.c.notes)
        ).first()

    await shelves.write(store)
    for loaded in (await shelves.read(load), await shelves.write(load)):
        assert loaded == (title, number, lent, cover, notes)
        assert type(loaded[2]) is bool and type(loaded[3]) is bytes


@WHOLE
@given(st.lists(TEXTS, unique=True, max_size=12), st.lists(TEXTS, max_size=12))
async def test_text_sorts_by_code_point_and_is_found_in_lists_of_any_length(
    shelves: Database, stored: list[str], wanted: list[str]
) -> None:
    def store(connection: Connection) -> int:
        connection.execute(sa.delete(book))
        return connection.execute_many(shelf.ADD, [{"code": code, "title": "", "pages": 0} for code in stored])

    def find(connection: Connection, looked_for: list[str]) -> list[str]:
        return [row[0] for row in connection.execute(shelf.BY_CODES, {"codes": looked_for})]

    assert await shelves.write(store) == len(stored)
    assert await shelves.read(codes) == sorted(stored)
    for looked_for in (wanted, stored, stored[:3] + wanted):
        assert await shelves.read(find, looked_for) == sorted({*stored} & {*looked_for})


async def test_statements_give_rows_in_each_of_the_ways_of_the_port(shelves: Database) -> None:
    def look(connection: Connection) -> None:
        rows = connection.execute(sa.select(book.c.code, book.c.lent).order_by(book.c.code))
        assert list(rows) == [("a", False), ("b", False)]
        assert connection.execute(shelf.CODES).all() == [("a",), ("b",)]
        assert connection.execute(shelf.CODES).first() == ("a",)
        assert connection.execute(shelf.CODES).scalar() == "a"
        nothing = {"code": "none"}
        assert connection.execute(shelf.PAGES, nothing).all() == []
        assert connection.execute(shelf.PAGES, nothing).first() is None
        assert connection.execute(shelf.PAGES, nothing).scalar() is None

    await shelves.write(add, "a")
    await shelves.write(add, "b")
    await shelves.read(look)
    await shelves.write(look)


async def test_upserts_returning_and_row_counts_agree_on_both_sides(shelves: Database) -> None:
    table = book
    once = insert(table).values(code=bindparam("code"), title="new").on_conflict_do_nothing().returning(table.c.code)
    upsert = insert(table).values(code=bindparam("code"), title="old")
    upsert = upsert.on_conflict_do_update(
        index_elements=["code"], set_={"pages": table.c.pages + 1, "title": upsert.excluded.title}
    )

    def work(connection: Connection) -> None:
        assert connection.execute(once, {"code": "a"}).scalar() == "a"
        assert connection.execute(once, {"code": "a"}).first() is None
        assert connection.execute(upsert, {"code": "a"}).rowcount == 1
        add(connection, "b")
        lend = sa.update(table).values(lent=True).returning(table.c.code, table.c.lent)
        lent = connection.execute(lend)
        assert lent.rowcount == 2
        assert sorted(lent) == [("a", True), ("b", True)]
        assert connection.execute(sa.update(table).values(lent=False).where(table.c.pages > 99)).rowcount == 0
        assert connection.execute(sa.delete(table).where(table.c.lent)).rowcount == 2

    await shelves.write(work)


async def test_a_bare_insert_takes_the_columns_of_each_call(shelves: Database) -> None:
    def work(connection: Connection) -> None:
        add_any(connection, code="a", title="A")
        add_any(connection, code="b", title="B", pages=3)
        add_any(connection, title="C", code="c")
        assert connection.execute_many(shelf.ADD_ANY, []) == 0
        assert connection.execute_many(shelf.ADD_ANY, [{"code": c, "title": c, "isbn": c} for c in "de"]) == 2
        with_isbn = sa.select(book.c.code).where(book.c.isbn.is_not(None)).order_by(book.c.code.desc().nulls_last())
        assert connection.execute(with_isbn).all() == [("e",), ("d",)]

    await shelves.write(work)
    assert await shelves.read(pages, "b") == 3


async def test_sums_and_averages_are_plain_numbers(shelves: Database) -> None:
    await shelves.write(add, "a", pages=1)
    await shelves.write(add, "b", pages=2)

    def numbers(connection: Connection) -> Any:
        return connection.execute(sa.select(sa.func.sum(book.c.pages), sa.func.avg(book.c.pages))).first()

    found = await shelves.read(numbers)
    assert found == (3, 1.5) and type(found[0]) is int and type(found[1]) is float


async def test_what_the_layer_cannot_run_is_refused_with_the_reason(shelves: Database) -> None:
    odd = sa.Table("odd", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True, default=lambda: 1))

    def run(connection: Connection, statement: sa.Executable, parameters: dict[str, Any]) -> None:
        connection.execute(statement, parameters)

    with pytest.raises(TypeError, match=r"odd\.id: a default that is a Python function"):
        await shelves.write(run, sa.insert(odd).values(), {})
    with pytest.raises(TypeError, match="needs the parameter 'code'"):
        await shelves.write(run, shelf.PAGES, {})
    with pytest.raises(TypeError, match="unread rows"):
        await shelves.write(lambda connection: connection.execute(shelf.CODES))
    with pytest.raises(TypeError, match="unread rows"):
        await shelves.read(lambda connection: connection.execute(shelf.CODES))


async def test_transactions_that_read_before_they_write_do_not_overlap(shelves: Database) -> None:
    await shelves.write(add, "a", pages=0)
    results = await asyncio.gather(*(shelves.write(turn_page, "a") for _ in range(60)))
    assert sorted(results) == list(range(1, 61))
    assert await shelves.read(pages, "a") == 60


async def test_of_two_doctors_who_see_each_other_on_call_only_one_goes_home(shelves: Database) -> None:
    """Write skew: each transaction writes only its own row, having read both."""
    still_lent = sa.select(sa.func.count()).select_from(book).where(book.c.lent)
    bring_back = sa.update(book).where(book.c.code == bindparam("of")).values(lent=False)

    def go_home(connection: Connection, code: str) -> bool:
        if connection.execute(still_lent).scalar() < 2:
            return False
        connection.execute(bring_back, {"of": code})
        return True

    for round_number in range(15):
        pair = [f"{round_number}{side}" for side in "ab"]
        await shelves.write(lambda connection: connection.execute(sa.delete(book)).rowcount)
        for code in pair:
            await shelves.write(add_any, code=code, title="", lent=True)
        assert sum(await asyncio.gather(*(shelves.write(go_home, code) for code in pair))) == 1


async def test_hooks_run_once_after_the_commit_and_before_the_answer(shelves: Database) -> None:
    seen: list[str] = []

    def add_with_hook(connection: Connection, code: str, fail: bool) -> None:
        add(connection, code)
        connection.after_commit(lambda: seen.append(code))
        if fail:
            raise Unwanted

    await shelves.write(add_with_hook, "a", False)
    assert seen == ["a"]
    results = await asyncio.gather(
        *(shelves.write(add_with_hook, code, code in "cd") for code in "bcde"), return_exceptions=True
    )
    assert [isinstance(result, Unwanted) for result in results] == [False, True, True, False]
    assert sorted(seen) == ["a", "b", "e"]


async def test_a_hook_belongs_to_its_function_and_not_to_the_one_before_it(shelves: Database) -> None:
    seen: list[str] = []

    def with_hook(connection: Connection, code: str) -> None:
        connection.after_commit(lambda: seen.append(code))
        add(connection, code)

    for _ in range(2):  # a failure makes the next groups be run with savepoints
        work = [
            shelves.write(count),
            shelves.write(with_hook, "a"),
            shelves.write(count),
            shelves.write(with_hook, "a"),
        ]
        results = await asyncio.gather(*work, return_exceptions=True)
        assert seen == ["a"], results


async def test_a_hook_that_raises_hurts_nobody(shelves: Database) -> None:
    def add_with_bad_hook(connection: Connection) -> str:
        connection.after_commit(lambda: 1 // 0)  # type: ignore[arg-type]
        return add(connection, "a")

    assert await shelves.write(add_with_bad_hook) == "a"
    assert await shelves.read(count) == 1


async def test_a_caller_that_goes_away_disturbs_nobody(shelves: Database) -> None:
    tasks = [asyncio.create_task(shelves.write(add, f"{number:02}")) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result for result in results if isinstance(result, str)] == [f"{n:02}" for n in range(1, 20, 2)]
    assert {f"{n:02}" for n in range(1, 20, 2)} <= {*await shelves.read(codes)}


async def test_two_systems_must_not_have_a_table_of_the_same_name(shelves: Any) -> None:
    with pytest.raises(SchemaError, match="rack and shelf both have a table named shelf_"):
        await shelves.prepare("rack", shelf.tables)


async def test_preparing_again_and_at_once_changes_nothing(shelves: Any) -> None:
    await shelves.write(add, "a")
    await asyncio.gather(*(shelves.prepare("shelf", shelf.tables) for _ in range(4)))
    assert await shelves.read(codes) == ["a"]


async def test_a_stopped_database_refuses_and_has_finished_what_it_accepted(shelves: Any) -> None:
    accepted = [asyncio.create_task(shelves.write(add, f"{number}")) for number in range(9)]
    await asyncio.sleep(0)
    await shelves.stop()
    assert await asyncio.gather(*accepted) == [f"{number}" for number in range(9)]
    assert shelves.unready() is not None
    attempts: list[Callable[[], Any]] = [lambda: shelves.write(add, "late"), lambda: shelves.read(count)]
    for attempt in attempts:
        with pytest.raises(Unavailable):
            await attempt()
    await shelves.stop()


async def test_a_write_may_change_the_table_that_it_is_looking_through(shelves: Database) -> None:
    def double_all(connection: Connection) -> int:
        seen = 0
        for (code,) in connection.execute(shelf.CODES):
            add(connection, f"{code}+")
            seen += 1
        return seen

    for number in range(50):
        await shelves.write(add, f"{number:02}")
    assert await shelves.write(double_all) == 50
    assert await shelves.read(count) == 100
