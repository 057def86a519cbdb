"""The `Database` port's two sides, and the language that statements and tables are written in.

`SqliteDatabase` is embedded; `PostgresDatabase` is in `mainspring.core.database.postgres`, which alone imports psycopg. The
language brings SQLAlchemy with it, so each of its words is imported when it is first named.
"""

from typing import TYPE_CHECKING

from mainspring.core.database.errors import Damaged, Duplicate, ReadOnly, SchemaError, Timeout, Violation
from mainspring.core.database.isolation import read_committed
from mainspring.core.database.sqlite import SqliteDatabase
from mainspring.core.faces import lazily

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


__getattr__ = lazily(__name__, _LANGUAGE)
