"""Tables of the limiter: policies and overrides that people have set, and, for the SQL store, what keys have spent."""

import sqlalchemy as sa

from mainspring.core.database import Int64, Metadata, Text

tables = Metadata("limiter")

policy = tables.table(
    "limiter_policy",
    sa.Column("name", Text, primary_key=True),
    sa.Column("text", Text, nullable=False),
    sa.Column("version", Int64, nullable=False),
    sa.Column("updated_us", Int64, nullable=False),
)

override = tables.table(
    "limiter_override",
    sa.Column("policy", Text, primary_key=True),
    sa.Column("key", Text, primary_key=True),
    sa.Column("text", Text, nullable=False),
    sa.Column("updated_us", Int64, nullable=False),
    without_rowid=True,
)

change = tables.table(
    "limiter_change",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("count", Int64, nullable=False),
)
"""One row, whose count grows with every change above: what a node looks at to learn that it must read them again."""

state = tables.table(
    "limiter_state",
    sa.Column("id", Text, primary_key=True),
    sa.Column("state", Text, nullable=False),
    sa.Column("expires_us", Int64, nullable=False, index=True),
    without_rowid=True,
)
"""`id` is bucket and key, `state` the integers of a rule's state, which may be longer than 64 bits, in decimal."""
