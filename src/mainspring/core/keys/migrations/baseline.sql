-- The tables of keys on SQLite, written by `python -m mainspring.core.database.baseline`: change tables.py.
-- revision: keys_0001

CREATE TABLE keys_key (
  name TEXT NOT NULL,
  state TEXT NOT NULL,
  newest INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  rotated_us INTEGER NOT NULL,
  CONSTRAINT pk_keys_key PRIMARY KEY (name)
)
 STRICT;

CREATE TABLE keys_master (
  fingerprint TEXT NOT NULL,
  material BLOB NOT NULL,
  CONSTRAINT pk_keys_master PRIMARY KEY (fingerprint)
)
 STRICT;

CREATE TABLE keys_version (
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  master TEXT NOT NULL,
  wrapped BLOB NOT NULL,
  CONSTRAINT pk_keys_version PRIMARY KEY (name, version),
  CONSTRAINT fk_keys_version_name FOREIGN KEY(name) REFERENCES keys_key (name)
)
 STRICT;

CREATE INDEX ix_keys_version_master ON keys_version (master);
