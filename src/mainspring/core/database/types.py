"""Column types that hold the same values, in the same order, on SQLite and on PostgreSQL.

`Text` refuses NUL (PostgreSQL cannot store it) and sorts by code point on both. `Int64` is the rowid on SQLite where it
is the only primary key. `Json` is text of compact JSON: both sides give back exactly what was written.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from mainspring.core.database.errors import Violation

Processor = Callable[[Any], Any]


class Text(TypeDecorator[str]):
    """Unicode text of any length, without NUL."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[str]:
        return dialect.type_descriptor(sa.TEXT() if dialect.name == "sqlite" else sa.TEXT(collation="C"))

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return without_nul

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return None


class Int64(TypeDecorator[int]):
    """A signed integer of 64 bits."""

    impl = sa.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[int]:
        return dialect.type_descriptor(sa.INTEGER() if dialect.name == "sqlite" else sa.BIGINT())


class Bool(TypeDecorator[bool]):
    """True or false; 0 and 1 on SQLite."""

    impl = sa.Boolean
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(sa.INTEGER() if dialect.name == "sqlite" else sa.BOOLEAN())

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return _truth if dialect.name == "sqlite" else None


class Bytes(TypeDecorator[bytes]):
    """Bytes of any length."""

    impl = sa.LargeBinary
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return None


class Json(TypeDecorator[Any]):
    """Any value that msgspec can encode, as text; read back as plain dicts, lists, strings and numbers. None is NULL."""

    impl = sa.Text
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Processor | None:
        return _json_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor | None:
        return _json_value


def without_nul(value: Any) -> Any:
    if value is not None and "\0" in value:
        raise Violation("text must not hold NUL")
    return value


def _json_text(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


def _json_value(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _truth(number: int | None) -> bool | None:
    return None if number is None else bool(number)
