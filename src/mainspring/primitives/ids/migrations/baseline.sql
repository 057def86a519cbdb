-- The tables of ids on SQLite, written by `python -m mainspring.core.database.baseline`: change tables.py.
-- revision: ids_0001

CREATE TABLE ids_holders (
  worker INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  holder TEXT NOT NULL,
  low_ms INTEGER NOT NULL,
  CONSTRAINT pk_ids_holders PRIMARY KEY (worker, fence)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE ids_sequences (
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  taken INTEGER NOT NULL,
  CONSTRAINT pk_ids_sequences PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE ids_workers (
  worker INTEGER NOT NULL,
  holder TEXT,
  fence INTEGER NOT NULL,
  reserved_ms INTEGER NOT NULL,
  renewed_ms INTEGER NOT NULL,
  CONSTRAINT pk_ids_workers PRIMARY KEY (worker)
)
 STRICT;
