"""How SQLAlchemy writes SQL for the two drivers: with positional parameters, and without opening a connection."""

from sqlalchemy.dialects import sqlite
from sqlalchemy.engine.interfaces import Dialect


def sqlite_dialect() -> Dialect:
    return sqlite.dialect(paramstyle="qmark")


def postgres_dialect() -> Dialect:
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    dialect: Dialect = PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]
    return dialect
