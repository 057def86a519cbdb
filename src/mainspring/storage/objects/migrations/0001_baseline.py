"""The tables as first released, which are created from baseline.sql."""

revision = "objects_0001"
down_revision = None
branch_labels = ("objects",)


def upgrade() -> None:
    """Nothing: a database that has this system at all has at least this revision."""
