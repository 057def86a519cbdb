-- The tables of accounts on SQLite, written by `python -m mainspring.core.database.baseline`: change tables.py.
-- revision: accounts_0001

CREATE TABLE accounts_account (
  id INTEGER NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  scopes TEXT NOT NULL,
  password TEXT,
  created_us INTEGER NOT NULL,
  disabled_us INTEGER,
  CONSTRAINT pk_accounts_account PRIMARY KEY (id),
  CONSTRAINT uq_accounts_account_name UNIQUE (name)
)
 STRICT;

CREATE TABLE accounts_audit (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  at_us INTEGER NOT NULL,
  actor_id INTEGER,
  actor TEXT NOT NULL,
  means TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  address TEXT NOT NULL
)
 STRICT;

CREATE TABLE accounts_session (
  id INTEGER NOT NULL,
  account_id INTEGER NOT NULL,
  hash BLOB NOT NULL,
  address TEXT NOT NULL,
  agent TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  seen_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL,
  CONSTRAINT pk_accounts_session PRIMARY KEY (id),
  CONSTRAINT fk_accounts_session_account_id FOREIGN KEY(account_id) REFERENCES accounts_account (id),
  CONSTRAINT uq_accounts_session_hash UNIQUE (hash)
)
 STRICT;

CREATE INDEX ix_accounts_session_account_id ON accounts_session (account_id);

CREATE INDEX ix_accounts_session_expires_us ON accounts_session (expires_us);

CREATE TABLE accounts_token (
  id INTEGER NOT NULL,
  account_id INTEGER NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  hint TEXT NOT NULL,
  hash BLOB NOT NULL,
  scopes TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  expires_us INTEGER,
  last_used_us INTEGER,
  CONSTRAINT pk_accounts_token PRIMARY KEY (id),
  CONSTRAINT fk_accounts_token_account_id FOREIGN KEY(account_id) REFERENCES accounts_account (id),
  CONSTRAINT uq_accounts_token_hash UNIQUE (hash)
)
 STRICT;

CREATE INDEX ix_accounts_token_account_id ON accounts_token (account_id);
