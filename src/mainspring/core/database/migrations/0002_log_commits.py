"""Positions in a log outside of the database, which change together with its rows."""

import sqlalchemy as sa
from alembic import op

from mainspring.core.database.types import Int64, Text

revision = "core_0002"
down_revision = "core_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "log_commits",
        sa.Column("consumer_group", Text, nullable=False),
        sa.Column("topic", Text, nullable=False),
        sa.Column("partition", Int64, nullable=False),
        sa.Column("position", Int64, nullable=False),
        sa.PrimaryKeyConstraint("consumer_group", "topic", "partition", name="pk_log_commits"),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
