"""`insert` with `ON CONFLICT`, for both sides: SQLite's own, told what PostgreSQL's compiler looks for in addition.

PostgreSQL's `insert` would do as well, but with it come the dialects of all its drivers: a twelfth of a start's time.
"""

from typing import Any, Self, TypeVar

from sqlalchemy import TableClause
from sqlalchemy.dialects.sqlite.dml import Insert

S = TypeVar("S", bound=Insert)


class Upsert(Insert):
    """An `INSERT` that knows what to do about a row that is there already; see `insert` of SQLAlchemy's dialects."""

    inherit_cache = True

    def on_conflict_do_nothing(self, *args: Any, **options: Any) -> Self:
        return _without_constraint(super().on_conflict_do_nothing(*args, **options))

    def on_conflict_do_update(self, *args: Any, **options: Any) -> Self:
        return _without_constraint(super().on_conflict_do_update(*args, **options))


def insert(table: TableClause) -> Upsert:
    """An `INSERT` into `table`."""
    return Upsert(table)


def _without_constraint(statement: S) -> S:
    # PostgreSQL can name a conflict's constraint, SQLite only its columns.
    clause: Any = statement._post_values_clause
    clause.constraint_target = None
    return statement
