"""Keys by name, and the versions of their material, wrapped under a master key."""

import sqlalchemy as sa

from mainspring.core.database import Bytes, Int64, Metadata, Text

tables = Metadata("keys")

keys = tables.table(
    "keys_key",
    sa.Column("name", Text, primary_key=True),
    sa.Column("state", Text, nullable=False),
    sa.Column("newest", Int64, nullable=False),
    sa.Column("created_us", Int64, nullable=False),
    sa.Column("rotated_us", Int64, nullable=False),
)
"""`newest` is the version that seals."""

versions = tables.table(
    "keys_version",
    sa.Column("name", Text, sa.ForeignKey("keys_key.name"), primary_key=True),
    sa.Column("version", Int64, primary_key=True, autoincrement=False),
    sa.Column("master", Text, nullable=False, index=True),
    sa.Column("wrapped", Bytes, nullable=False),
)
"""`master` is the fingerprint of the master key under which the material is wrapped."""

masters = tables.table(
    "keys_master",
    sa.Column("fingerprint", Text, primary_key=True),
    sa.Column("material", Bytes, nullable=False),
)
"""The master key of an installation that was given none: at most one row, which goes once one is configured."""
