"""`Metadata`: the tables of one system, written once for both databases.

```python
tables = Metadata("links")
link = tables.table("links_link", Column("code", Text, primary_key=True), Column("url", Text, nullable=False))
```
On SQLite they come out STRICT, so that a column holds what it says, as it does on PostgreSQL.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.schema import SchemaItem

CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
"""Every constraint has a name on both sides, because a migration can only drop what has one."""


class Metadata(sa.MetaData):
    """The tables of the system `name`."""

    def __init__(self, name: str) -> None:
        super().__init__(naming_convention=CONVENTION)
        self.name = name

    def table(
        self, name: str, *items: SchemaItem, without_rowid: bool = False, never_reuse_ids: bool = False
    ) -> sa.Table:
        """Declares a table.

        `without_rowid` stores a SQLite table in the order of its primary key, which saves one of two trees where rows
        are small and read by that key. `never_reuse_ids` keeps SQLite from giving the id of a deleted last row again
        (PostgreSQL never does). Names are shared by all systems, so begin them with the system's.
        """
        options: dict[str, Any] = {"sqlite_strict": True}
        if without_rowid:
            options["sqlite_with_rowid"] = False
        if never_reuse_ids:
            options["sqlite_autoincrement"] = True
        return sa.Table(name, self, *items, **options)
