"""Tables of links. A click never writes `links_link`: it is folded into `links_rollup` and kept a while in `links_visit`."""

import sqlalchemy as sa

from mainspring.core.database import Bool, Bytes, Int64, Json, Metadata, Text

tables = Metadata("links")

domain = tables.table(
    "links_domain",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("host", Text, nullable=False, unique=True),
    sa.Column("base_redirect", Text),
    sa.Column("not_found_redirect", Text),
    sa.Column("invalid_redirect", Text),
    sa.Column("expired_redirect", Text),
    sa.Column("strategy", Text, nullable=False),
    sa.Column("alphabet", Text, nullable=False),
)
"""Domain 0 is the default one; its host comes from the settings."""

link = tables.table(
    "links_link",
    sa.Column("id", Int64, nullable=False, index=True),
    sa.Column("domain_id", Int64, primary_key=True, autoincrement=False),
    sa.Column("code", Text, primary_key=True),
    sa.Column("target", Text, nullable=False),
    sa.Column("state", Int64, nullable=False),
    sa.Column("redirect", Int64, nullable=False),
    sa.Column("valid_since_us", Int64),
    sa.Column("valid_until_us", Int64),
    sa.Column("max_visits", Int64),
    sa.Column("visits_left", Int64),
    sa.Column("password", Text),
    sa.Column("rules", Json),
    sa.Column("forward_query", Bool, nullable=False),
    sa.Column("crawlable", Bool, nullable=False),
    sa.Column("owner", Int64),
    sa.Column("title", Text, nullable=False),
    sa.Column("notes", Text, nullable=False),
    sa.Column("folder", Text, nullable=False),
    sa.Column("tags", Json),
    sa.Column("card", Json),
    sa.Column("archived", Bool, nullable=False),
    sa.Column("created_us", Int64, nullable=False),
    sa.Column("version", Int64, nullable=False),
    sa.Column("target_hash", Int64, nullable=False, index=True),
    sa.Index("ix_links_link_owner_id", "owner", "id"),
)
"""A deleted link keeps its row, so that its code stays its own for ever. Columns stand in the order of `model.Link`."""

tag = tables.table(
    "links_tag",
    sa.Column("tag", Text, primary_key=True),
    sa.Column("link_id", Int64, primary_key=True, autoincrement=False),
    without_rowid=True,
)
"""The index of `links_link.tags`."""

history = tables.table(
    "links_history",
    sa.Column("link_id", Int64, primary_key=True, autoincrement=False),
    sa.Column("version", Int64, primary_key=True, autoincrement=False),
    sa.Column("at_us", Int64, nullable=False),
    sa.Column("actor", Text, nullable=False),
    sa.Column("before", Json, nullable=False),
    without_rowid=True,
)
"""For each edit, the values that it replaced."""

lease = tables.table(
    "links_lease",
    sa.Column("name", Text, primary_key=True),
    sa.Column("next", Int64, nullable=False),
    without_rowid=True,
)

secret = tables.table(
    "links_secret",
    sa.Column("name", Text, primary_key=True),
    sa.Column("value", Bytes, nullable=False),
    without_rowid=True,
)
"""Keys of this deployment: the permutation of codes, and the hash of visitors."""

rollup = tables.table(
    "links_rollup",
    sa.Column("scope", Text, primary_key=True),
    sa.Column("day", Int64, primary_key=True, autoincrement=False),
    sa.Column("n", Int64, nullable=False),
    sa.Column("bots", Int64, nullable=False),
    sa.Column("facets", Bytes, nullable=False),
    sa.Column("visitors", Bytes),
)
"""One row a day and scope (`link:<id>`, `tag:<tag>`, `domain:<id>`, `owner:<id>`, `all`, `orphan`), and one of day -1 for
all time. `facets` is the MessagePack of {dimension: {key: [n, bots]}}, `visitors` a HyperLogLog sketch."""

visit = tables.table(
    "links_visit",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("link_id", Int64),
    sa.Column("domain_id", Int64, nullable=False),
    sa.Column("at_us", Int64, nullable=False, index=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("bot", Bool, nullable=False),
    sa.Column("path", Text, nullable=False),
    sa.Column("target", Text),
    sa.Column("referrer", Text, nullable=False),
    sa.Column("user_agent", Text, nullable=False),
    sa.Column("country", Text, nullable=False),
    sa.Column("city", Text, nullable=False),
    sa.Index("ix_links_visit_link_id_at_us", "link_id", "at_us"),
)
"""Single visits of the last days, for lists and exports; orphans have no link."""

batch = tables.table(
    "links_batch",
    sa.Column("node", Text, primary_key=True),
    sa.Column("sequence", Int64, primary_key=True, autoincrement=False),
    sa.Column("at_us", Int64, nullable=False, index=True),
    without_rowid=True,
)
"""Batches of clicks that have been folded: what makes a second delivery harmless."""

report = tables.table(
    "links_report",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("link_id", Int64, nullable=False, index=True),
    sa.Column("at_us", Int64, nullable=False),
    sa.Column("reporter", Text, nullable=False),
    sa.Column("reason", Text, nullable=False),
    sa.UniqueConstraint("link_id", "reporter"),
)

# Pastes declare theirs in the same metadata.
from mainspring.social.links import paste_tables as paste_tables  # noqa: E402
