"""The `Database` port's two sides, and the language that statements and tables are written in.

`SqliteDatabase` is embedded; `PostgresDatabase` is in `mainspring.core.database.postgres`, which alone imports psycopg. The
language brings SQLAlchemy with it, so each of its words is imported when it is first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mainspring.core.database.errors import Damaged, Duplicate, ReadOnly, SchemaError, Timeout, Violation
from mainspring.core.database.isolation import read_committed
from mainspring.core.database.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from mainspring.core.database.schema import Metadata
    from mainspring.core.database.types import Bool, Bytes, Int64, Json, Text
    from mainspring.core.database.upserts import insert

__all__ = [
    "Bool",
    "Bytes",
    "Damaged",
    "Duplicate",
    "Int64",
    "Json",
    "Metadata",
    "ReadOnly",
    "SchemaError",
    "SqliteDatabase",
    "Text",
    "Timeout",
    "Violation",
    "insert",
    "read_committed",
]

_LANGUAGE = {
    "Metadata": "schema",
    "insert": "upserts",
    **dict.fromkeys(("Bool", "Bytes", "Int64", "Json", "Text"), "types"),
}


def __getattr__(name: str) -> Any:
    if name not in _LANGUAGE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LANGUAGE[name]}"), name)
