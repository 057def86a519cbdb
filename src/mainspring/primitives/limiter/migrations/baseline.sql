-- The tables of limiter on SQLite, written by `python -m mainspring.core.database.baseline`: change tables.py.
-- revision: limiter_0001

CREATE TABLE limiter_change (
  id INTEGER NOT NULL,
  count INTEGER NOT NULL,
  CONSTRAINT pk_limiter_change PRIMARY KEY (id)
)
 STRICT;

CREATE TABLE limiter_override (
  policy TEXT NOT NULL,
  "key" TEXT NOT NULL,
  text TEXT NOT NULL,
  updated_us INTEGER NOT NULL,
  CONSTRAINT pk_limiter_override PRIMARY KEY (policy, "key")
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE limiter_policy (
  name TEXT NOT NULL,
  text TEXT NOT NULL,
  version INTEGER NOT NULL,
  updated_us INTEGER NOT NULL,
  CONSTRAINT pk_limiter_policy PRIMARY KEY (name)
)
 STRICT;

CREATE TABLE limiter_state (
  id TEXT NOT NULL,
  state TEXT NOT NULL,
  expires_us INTEGER NOT NULL,
  CONSTRAINT pk_limiter_state PRIMARY KEY (id)
)
 WITHOUT ROWID,
 STRICT;

CREATE INDEX ix_limiter_state_expires_us ON limiter_state (expires_us);
