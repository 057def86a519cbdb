"""Tables of pastes, in the metadata of links.

What somebody wrote lies in `links_paste_part` only, so that it is deleted in one place. Its `filler` is what makes deletion
final on SQLite: `secure_delete` overwrites freed pages, but the room inside a B-tree page that was rebuilt may keep copies of
cells that have moved on. Of a row of this table at most 1,002 bytes lie in the tree itself (SQLite's file format, section
1.6: an index cell's local payload), which key and filler take up; all else is on overflow pages, which are only ever zeroed.
"""

import sqlalchemy as sa

from mainspring.core.database import Bool, Bytes, Int64, Json, Text
from mainspring.social.links.tables import tables

FILLER = bytes(1_002)
PART_BYTES = 256 << 10

paste = tables.table(
    "links_paste",
    sa.Column("id", Text, primary_key=True),
    sa.Column("number", Int64, nullable=False),
    sa.Column("owner", Int64),
    sa.Column("title", Text, nullable=False),
    sa.Column("visibility", Text, nullable=False),
    sa.Column("password", Text),
    sa.Column("sealed", Bool, nullable=False),
    sa.Column("verifier", Bytes),
    sa.Column("discussion", Bool, nullable=False),
    sa.Column("reads_left", Int64),
    sa.Column("forked_from", Text),
    sa.Column("created_us", Int64, nullable=False),
    sa.Column("ends_us", Int64, nullable=False, index=True),
    sa.Column("version", Int64, nullable=False),
    sa.Index("ix_links_paste_owner_number", "owner", "number"),
    sa.Index("ix_links_paste_visibility_number", "visibility", "number"),
)
"""`ends_us` is when it expires; 0 once it was deleted or burned, so that no step of a clock brings it back."""

version = tables.table(
    "links_paste_version",
    sa.Column("paste_id", Text, primary_key=True),
    sa.Column("number", Int64, primary_key=True, autoincrement=False),
    sa.Column("format", Text, nullable=False),
    sa.Column("language", Text, nullable=False),
    sa.Column("adata", Json),
    sa.Column("size_bytes", Int64, nullable=False),
    sa.Column("created_us", Int64, nullable=False),
    without_rowid=True,
)

comment = tables.table(
    "links_paste_comment",
    sa.Column("paste_id", Text, primary_key=True),
    sa.Column("id", Text, primary_key=True),
    sa.Column("parent_id", Text, nullable=False),
    sa.Column("adata", Json, nullable=False),
    sa.Column("size_bytes", Int64, nullable=False),
    sa.Column("created_us", Int64, nullable=False),
    without_rowid=True,
)

file = tables.table(
    "links_paste_file",
    sa.Column("paste_id", Text, primary_key=True),
    sa.Column("name", Text, primary_key=True),
    sa.Column("content_type", Text, nullable=False),
    sa.Column("size_bytes", Int64, nullable=False),
    without_rowid=True,
)

part = tables.table(
    "links_paste_part",
    sa.Column("paste_id", Text, primary_key=True),
    sa.Column("body", Text, primary_key=True),
    sa.Column("n", Int64, primary_key=True, autoincrement=False),
    sa.Column("filler", Bytes, nullable=False),
    sa.Column("bytes", Bytes, nullable=False),
    without_rowid=True,
)
"""The bodies of a paste in pieces of 256 KiB: `v1`, `v2`, … its versions, `c<id>` a comment, `f<name>` a file."""
