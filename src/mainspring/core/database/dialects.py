"""How SQLAlchemy writes SQL for the two drivers: with positional parameters, and without opening a connection."""

from typing import Any

from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine.interfaces import Dialect


class PlannedOnce(SQLiteCompiler):
    """Where a LIMIT is a bare parameter SQLite plans for its value, and so plans anew at every execution, which costs more
    than most executions do. It does not look through an expression."""

    def limit_clause(self, select: Any, **options: Any) -> str:
        clause: str = super().limit_clause(select, **options)  # type: ignore[no-untyped-call]
        return clause.replace("LIMIT ", "LIMIT +", 1)


def sqlite_dialect() -> Dialect:
    dialect: Dialect = sqlite.dialect(paramstyle="qmark")
    dialect.statement_compiler = PlannedOnce
    return dialect


def postgres_dialect() -> Dialect:
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    dialect: Dialect = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
    return dialect
