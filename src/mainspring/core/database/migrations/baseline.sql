-- The tables of core on SQLite, written by `python -m mainspring.core.database.baseline`: change tables.py.
-- revision: core_0002

CREATE TABLE core_revisions (
  system TEXT NOT NULL,
  revision TEXT NOT NULL,
  CONSTRAINT pk_core_revisions PRIMARY KEY (system)
)
 STRICT;

CREATE TABLE idempotency (
  "key" TEXT NOT NULL,
  digest BLOB NOT NULL,
  result BLOB NOT NULL,
  at_us INTEGER NOT NULL,
  CONSTRAINT pk_idempotency PRIMARY KEY ("key")
)
 STRICT;

CREATE INDEX ix_idempotency_at_us ON idempotency (at_us);

CREATE TABLE log_commits (
  consumer_group TEXT NOT NULL,
  topic TEXT NOT NULL,
  partition INTEGER NOT NULL,
  position INTEGER NOT NULL,
  CONSTRAINT pk_log_commits PRIMARY KEY (consumer_group, topic, partition)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE log_positions (
  consumer_group TEXT NOT NULL,
  topic TEXT NOT NULL,
  position INTEGER NOT NULL,
  CONSTRAINT pk_log_positions PRIMARY KEY (consumer_group, topic)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE log_records (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  topic TEXT NOT NULL,
  partition INTEGER DEFAULT 0 NOT NULL,
  "key" BLOB,
  value BLOB NOT NULL,
  headers BLOB,
  at_us INTEGER NOT NULL
)
 STRICT;

CREATE INDEX ix_log_records_topic_id ON log_records (topic, id);
