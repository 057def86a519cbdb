"""The tables as first released, which are created from baseline.sql."""

revision = "keys_0001"
down_revision = None
branch_labels = ("keys",)


def upgrade() -> None:
    """Nothing: a database that has this system at all has at least this revision."""
