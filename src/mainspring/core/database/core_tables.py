"""The tables that the database itself keeps: revisions, results of idempotent requests, the outbox, and positions in a log.

`log_records` is the outbox and the SQL log in one. Its `id` is an event's offset and rises in commit order:

- SQLite: the next number, given by the one writer.
- PostgreSQL: `(transaction id << 20) + n`, because a plain sequence is drawn long before a slow transaction commits, and
  a reader that had gone past would miss it. All below the oldest running transaction are final, so a consumer reads
  `id > position AND id < log_horizon()` and never skips one.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from mainspring.core.database.schema import Metadata
from mainspring.core.database.types import Bytes, Int64, Text

tables = Metadata("core")

revisions = tables.table(
    "core_revisions",
    sa.Column("system", Text, primary_key=True),
    sa.Column("revision", Text, nullable=False),
)

idempotency = tables.table(
    "idempotency",
    sa.Column("key", Text, primary_key=True),
    sa.Column("digest", Bytes, nullable=False),
    sa.Column("result", Bytes, nullable=False),
    sa.Column("at_us", Int64, nullable=False, index=True),
)

log_records = tables.table(
    "log_records",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("topic", Text, nullable=False),
    sa.Column("partition", Int64, nullable=False, server_default=sa.text("0")),
    sa.Column("key", Bytes),
    sa.Column("value", Bytes, nullable=False),
    sa.Column("headers", Bytes),
    sa.Column("at_us", Int64, nullable=False),
    sa.Index("ix_log_records_topic_id", "topic", "id"),
    never_reuse_ids=True,
)
"""`headers` is NULL or the MessagePack of a list of pairs (name, value)."""

log_positions = tables.table(
    "log_positions",
    sa.Column("consumer_group", Text, primary_key=True),
    sa.Column("topic", Text, primary_key=True),
    sa.Column("position", Int64, nullable=False),
    without_rowid=True,
)
"""`position` is the `id` of the last record that the group has finished with."""

log_commits = tables.table(
    "log_commits",
    sa.Column("consumer_group", Text, primary_key=True),
    sa.Column("topic", Text, primary_key=True),
    sa.Column("partition", Int64, primary_key=True, autoincrement=False),
    sa.Column("position", Int64, nullable=False),
    without_rowid=True,
)
"""Positions in a log outside of this database that are part of its transactions: the next offset to read."""

postgres_tables = Metadata("core_postgres")

write_marks = postgres_tables.table(
    "core_write_marks",
    sa.Column("writer", Text, primary_key=True),
    sa.Column("number", Int64, nullable=False),
    sa.Column("at_us", Int64, nullable=False),
)
"""What each writing session on PostgreSQL committed last: see `postgres_session`."""

FORGET_MARKS = sa.delete(write_marks).where(write_marks.c.at_us < sa.bindparam("before_us"))

OFFSET_BITS = 20
"""At most a million events in one transaction; 43 bits of transaction ids last 27 years at 10,000 a second."""

NEWEST_AND_NEXT_OFFSET = sa.text(
    "SELECT greatest(0, (SELECT max(id) FROM log_records), (SELECT max(position) FROM log_positions)), "
    f"pg_current_xact_id()::text::bigint << {OFFSET_BITS}"
)
"""On PostgreSQL: the newest offset that anybody has seen, and the least that a transaction can now give."""


class log_horizon(GenericFunction[int]):
    """Every `log_records.id` below this is final: no transaction can still commit one."""

    type = Int64()
    inherit_cache = True


@compiles(log_horizon, "sqlite")
def _sqlite_horizon(element: Any, compiler: Any, **options: Any) -> str:
    return "9223372036854775807"


@compiles(log_horizon, "postgresql")
def _postgres_horizon(element: Any, compiler: Any, **options: Any) -> str:
    return f"(pg_snapshot_xmin(pg_current_snapshot())::text::bigint << {OFFSET_BITS})"
