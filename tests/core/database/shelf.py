"""A small system whose tables the tests of the database work on."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from mainspring.core.database import Bool, Bytes, Int64, Json, Metadata, Text
from mainspring.core.ports import Connection

tables = Metadata("shelf")

shelf = tables.table(
    "shelf_shelf",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("name", Text, nullable=False),
)

book = tables.table(
    "shelf_book",
    sa.Column("code", Text, primary_key=True),
    sa.Column("title", Text, nullable=False),
    sa.Column("pages", Int64, nullable=False, server_default=sa.text("0")),
    sa.Column("lent", Bool, nullable=False, server_default=sa.false()),
    sa.Column("cover", Bytes),
    sa.Column("notes", Json),
    sa.Column("isbn", Text, unique=True),
    sa.Column("shelf_id", Int64, sa.ForeignKey("shelf_shelf.id")),
    sa.CheckConstraint("pages >= 0", name="pages"),
)

ADD = sa.insert(book).values(code=bindparam("code"), title=bindparam("title"), pages=bindparam("pages"))
ADD_ANY = sa.insert(book)
PAGES = sa.select(book.c.pages).where(book.c.code == bindparam("code"))
SET_PAGES = sa.update(book).where(book.c.code == bindparam("code")).values(pages=bindparam("new_pages"))
CODES = sa.select(book.c.code).order_by(book.c.code)
BY_CODES = sa.select(book.c.code).where(book.c.code.in_(bindparam("codes"))).order_by(book.c.code)
COUNT = sa.select(sa.func.count()).select_from(book)


def add(connection: Connection, code: str, title: str = "A title", pages: int = 1) -> str:
    connection.execute(ADD, {"code": code, "title": title, "pages": pages})
    return code


def add_any(connection: Connection, **values: Any) -> None:
    connection.execute(ADD_ANY, values)


def pages(connection: Connection, code: str) -> Any:
    return connection.execute(PAGES, {"code": code}).scalar()


def turn_page(connection: Connection, code: str) -> int:
    """Reads and writes back one more: right only where transactions do not overlap."""
    new_pages: int = pages(connection, code) + 1
    connection.execute(SET_PAGES, {"code": code, "new_pages": new_pages})
    return new_pages


def codes(connection: Connection) -> list[str]:
    return [row[0] for row in connection.execute(CODES)]


def count(connection: Connection) -> int:
    found: int = connection.execute(COUNT).scalar()
    return found
