"""Metadata of the object store. Bodies are in volume segments; a row here is what makes them an object.

`rank` is minus the version's sequence number (microseconds UTC, raised where needed so that it grows for each key), so that
the newest version of a key comes first. `gone` is the sequence number at which a row ended that is only kept for listings
that began before. Reads of the present ask for `gone IS NULL`.
"""

import sqlalchemy as sa

from mainspring.core.database import Bytes, Int64, Json, Metadata, Text

tables = Metadata("objects")

bucket = tables.table(
    "objects_bucket",
    sa.Column("id", Int64, primary_key=True),
    sa.Column("name", Text, nullable=False, unique=True),
    sa.Column("owner", Text, nullable=False),
    sa.Column("region", Text, nullable=False),
    sa.Column("created_us", Int64, nullable=False),
    sa.Column("versioning", Int64, nullable=False),
    sa.Column("lock", Json),
    sa.Column("snapshot", Int64, nullable=False),
    sa.Column("profile", Text),
    never_reuse_ids=True,
)
"""`versioning` is 0 (never), 1 (enabled) or 2 (suspended). `lock` is a `LockDefault` where object lock is on. `snapshot` is
the newest sequence number that a listing in several pages shows. `profile` is `k+m` where it was chosen."""

setting = tables.table(
    "objects_setting",
    sa.Column("bucket", Int64, primary_key=True, autoincrement=False),
    sa.Column("kind", Text, primary_key=True),
    sa.Column("document", Bytes, nullable=False),
    without_rowid=True,
)

version = tables.table(
    "objects_version",
    sa.Column("bucket", Int64, primary_key=True, autoincrement=False),
    sa.Column("key", Bytes, primary_key=True),
    sa.Column("rank", Int64, primary_key=True, autoincrement=False),
    sa.Column("flags", Int64, nullable=False),
    sa.Column("gone", Int64),
    sa.Column("size", Int64, nullable=False),
    sa.Column("etag", Text, nullable=False),
    sa.Column("page", Int64),
    sa.Column("pieces", Bytes, nullable=False),
    sa.Column("about", Bytes, nullable=False),
    sa.Column("tags", Json),
    sa.Column("lock", Json),
    without_rowid=True,
)
"""`flags`: 1 is a null version, 2 a delete marker. `pieces` says where the body is (`model.Piece`), `page` in which shared
page, if it is small. `about` is a `model.About`."""
for _column in (version.c.page, version.c.gone):
    _there = _column.is_not(None)
    sa.Index(f"ix_objects_version_{_column.name}", _column, sqlite_where=_there, postgresql_where=_there)

stripe = tables.table(
    "objects_stripe",
    sa.Column("id", Int64, primary_key=True, autoincrement=False),
    sa.Column("k", Int64, nullable=False),
    sa.Column("m", Int64, nullable=False),
    sa.Column("size", Int64, nullable=False),
    sa.Column("live", Int64, nullable=False),
    sa.Column("placement", Bytes, nullable=False),
)
"""What was cut into shards at once: up to 8 MiB of one body, or a page of small ones. `live` counts the bytes that versions
and parts refer to, those of copies again; the row goes with the last of them."""

upload = tables.table(
    "objects_upload",
    sa.Column("bucket", Int64, primary_key=True, autoincrement=False),
    sa.Column("key", Bytes, primary_key=True),
    sa.Column("id", Text, primary_key=True),
    sa.Column("begun_us", Int64, nullable=False),
    sa.Column("about", Bytes, nullable=False),
    sa.Column("tags", Json),
    sa.Column("lock", Json),
    without_rowid=True,
)

part = tables.table(
    "objects_part",
    sa.Column("upload", Text, primary_key=True),
    sa.Column("number", Int64, primary_key=True, autoincrement=False),
    sa.Column("size", Int64, nullable=False),
    sa.Column("etag", Text, nullable=False),
    sa.Column("modified_us", Int64, nullable=False),
    sa.Column("pieces", Bytes, nullable=False),
    sa.Column("about", Bytes, nullable=False),
    without_rowid=True,
)

disk = tables.table(
    "objects_disk",
    sa.Column("id", Int64, primary_key=True),
    sa.Column("directory", Text, nullable=False),
    sa.Column("zone", Text, nullable=False),
    sa.Column("state", Text, nullable=False),
    never_reuse_ids=True,
)
"""`state` is `live`, `draining` or `lost`. A directory that was lost and made again is another disk."""

intent = tables.table(
    "objects_intent",
    sa.Column("disk", Int64, primary_key=True, autoincrement=False),
    sa.Column("segment", Int64, primary_key=True, autoincrement=False),
    without_rowid=True,
)
"""Segments that are being written: what a crash leaves in them without a stripe's row is an orphan, and is reclaimed."""

state = tables.table(
    "objects_state",
    sa.Column("name", Text, primary_key=True),
    sa.Column("value", Bytes, nullable=False),
    without_rowid=True,
)
"""Single values: how far stripe ids are reserved, where scrubbing stands, the keys that sign and wrap."""
