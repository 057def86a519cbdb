-- The tables of objects on SQLite, written by `python -m mainspring.core.database.baseline`: change tables.py.
-- revision: objects_0001

CREATE TABLE objects_bucket (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  owner TEXT NOT NULL,
  region TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  versioning INTEGER NOT NULL,
  lock TEXT,
  snapshot INTEGER NOT NULL,
  profile TEXT,
  CONSTRAINT uq_objects_bucket_name UNIQUE (name)
)
 STRICT;

CREATE TABLE objects_disk (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  directory TEXT NOT NULL,
  zone TEXT NOT NULL,
  state TEXT NOT NULL
)
 STRICT;

CREATE TABLE objects_intent (
  disk INTEGER NOT NULL,
  segment INTEGER NOT NULL,
  CONSTRAINT pk_objects_intent PRIMARY KEY (disk, segment)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE objects_part (
  upload TEXT NOT NULL,
  number INTEGER NOT NULL,
  size INTEGER NOT NULL,
  etag TEXT NOT NULL,
  modified_us INTEGER NOT NULL,
  pieces BLOB NOT NULL,
  about BLOB NOT NULL,
  CONSTRAINT pk_objects_part PRIMARY KEY (upload, number)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE objects_setting (
  bucket INTEGER NOT NULL,
  kind TEXT NOT NULL,
  document BLOB NOT NULL,
  CONSTRAINT pk_objects_setting PRIMARY KEY (bucket, kind)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE objects_state (
  name TEXT NOT NULL,
  value BLOB NOT NULL,
  CONSTRAINT pk_objects_state PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE objects_stripe (
  id INTEGER NOT NULL,
  k INTEGER NOT NULL,
  m INTEGER NOT NULL,
  size INTEGER NOT NULL,
  live INTEGER NOT NULL,
  placement BLOB NOT NULL,
  CONSTRAINT pk_objects_stripe PRIMARY KEY (id)
)
 STRICT;

CREATE TABLE objects_upload (
  bucket INTEGER NOT NULL,
  "key" BLOB NOT NULL,
  id TEXT NOT NULL,
  begun_us INTEGER NOT NULL,
  about BLOB NOT NULL,
  tags TEXT,
  lock TEXT,
  CONSTRAINT pk_objects_upload PRIMARY KEY (bucket, "key", id)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE objects_version (
  bucket INTEGER NOT NULL,
  "key" BLOB NOT NULL,
  rank INTEGER NOT NULL,
  flags INTEGER NOT NULL,
  gone INTEGER,
  size INTEGER NOT NULL,
  etag TEXT NOT NULL,
  page INTEGER,
  pieces BLOB NOT NULL,
  about BLOB NOT NULL,
  tags TEXT,
  lock TEXT,
  CONSTRAINT pk_objects_version PRIMARY KEY (bucket, "key", rank)
)
 WITHOUT ROWID,
 STRICT;

CREATE INDEX ix_objects_version_gone ON objects_version (gone) WHERE gone IS NOT NULL;

CREATE INDEX ix_objects_version_page ON objects_version (page) WHERE page IS NOT NULL;
