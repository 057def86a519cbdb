"""The rows behind ids: who may mint which milliseconds, who did, and how far each sequence has counted."""

import sqlalchemy as sa

from mainspring.core.database import Int64, Metadata, Text

tables = Metadata("ids")

workers = tables.table(
    "ids_workers",
    sa.Column("worker", Int64, primary_key=True, autoincrement=False),
    sa.Column("holder", Text),
    sa.Column("fence", Int64, nullable=False),
    sa.Column("reserved_ms", Int64, nullable=False),
    sa.Column("renewed_ms", Int64, nullable=False),
)
"""One row per worker id that was ever taken; `lease.py` says what the columns mean."""

holders = tables.table(
    "ids_holders",
    sa.Column("worker", Int64, primary_key=True, autoincrement=False),
    sa.Column("fence", Int64, primary_key=True, autoincrement=False),
    sa.Column("holder", Text, nullable=False),
    sa.Column("low_ms", Int64, nullable=False),
    without_rowid=True,
)
"""Who held a worker from which millisecond on: it tells which process minted an id. The last 64 of each worker are kept."""

sequences = tables.table(
    "ids_sequences",
    sa.Column("name", Text, primary_key=True),
    sa.Column("kind", Text, nullable=False),
    sa.Column("taken", Int64, nullable=False),
    without_rowid=True,
)
"""`kind` is `cached` or `gapless`; `taken` is the last number that was handed out or reserved."""
