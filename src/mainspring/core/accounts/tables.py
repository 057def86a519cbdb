"""Accounts, their credentials (hashes only) and the audit log, which is only ever added to."""

import sqlalchemy as sa

from mainspring.core.database import Bytes, Int64, Metadata, Text

tables = Metadata("accounts")

accounts = tables.table(
    "accounts_account",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("kind", Text, nullable=False),
    sa.Column("name", Text, nullable=False, unique=True),
    sa.Column("role", Text, nullable=False),
    sa.Column("scopes", Text, nullable=False),
    sa.Column("password", Text),
    sa.Column("created_us", Int64, nullable=False),
    sa.Column("disabled_us", Int64),
)
"""`scopes` are separated by spaces; `password` is a PHC string, NULL where nobody can sign in."""

tokens = tables.table(
    "accounts_token",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("account_id", Int64, sa.ForeignKey("accounts_account.id"), nullable=False, index=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("name", Text, nullable=False),
    sa.Column("hint", Text, nullable=False),
    sa.Column("hash", Bytes, nullable=False, unique=True),
    sa.Column("scopes", Text, nullable=False),
    sa.Column("created_us", Int64, nullable=False),
    sa.Column("expires_us", Int64),
    sa.Column("last_used_us", Int64),
)

sessions = tables.table(
    "accounts_session",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("account_id", Int64, sa.ForeignKey("accounts_account.id"), nullable=False, index=True),
    sa.Column("hash", Bytes, nullable=False, unique=True),
    sa.Column("address", Text, nullable=False),
    sa.Column("agent", Text, nullable=False),
    sa.Column("created_us", Int64, nullable=False),
    sa.Column("seen_us", Int64, nullable=False),
    sa.Column("expires_us", Int64, nullable=False, index=True),
)

audit = tables.table(
    "accounts_audit",
    sa.Column("id", Int64, primary_key=True),
    sa.Column("at_us", Int64, nullable=False),
    sa.Column("actor_id", Int64),
    sa.Column("actor", Text, nullable=False),
    sa.Column("means", Text, nullable=False),
    sa.Column("action", Text, nullable=False),
    sa.Column("target", Text, nullable=False),
    sa.Column("address", Text, nullable=False),
    never_reuse_ids=True,
)
"""`means` is the kind of credentials that the actor used, `target` what was changed, `address` where from."""
