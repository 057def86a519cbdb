-- The tables of links on SQLite, written by `python -m mainspring.core.database.baseline`: change tables.py.
-- revision: links_0001

CREATE TABLE links_batch (
  node TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  CONSTRAINT pk_links_batch PRIMARY KEY (node, sequence)
)
 WITHOUT ROWID,
 STRICT;

CREATE INDEX ix_links_batch_at_us ON links_batch (at_us);

CREATE TABLE links_domain (
  id INTEGER NOT NULL,
  host TEXT NOT NULL,
  base_redirect TEXT,
  not_found_redirect TEXT,
  invalid_redirect TEXT,
  expired_redirect TEXT,
  strategy TEXT NOT NULL,
  alphabet TEXT NOT NULL,
  CONSTRAINT pk_links_domain PRIMARY KEY (id),
  CONSTRAINT uq_links_domain_host UNIQUE (host)
)
 STRICT;

CREATE TABLE links_history (
  link_id INTEGER NOT NULL,
  version INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  "before" TEXT NOT NULL,
  CONSTRAINT pk_links_history PRIMARY KEY (link_id, version)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE links_lease (
  name TEXT NOT NULL,
  next INTEGER NOT NULL,
  CONSTRAINT pk_links_lease PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE links_link (
  id INTEGER NOT NULL,
  domain_id INTEGER NOT NULL,
  code TEXT NOT NULL,
  target TEXT NOT NULL,
  state INTEGER NOT NULL,
  redirect INTEGER NOT NULL,
  valid_since_us INTEGER,
  valid_until_us INTEGER,
  max_visits INTEGER,
  visits_left INTEGER,
  password TEXT,
  rules TEXT,
  forward_query INTEGER NOT NULL,
  crawlable INTEGER NOT NULL,
  owner INTEGER,
  title TEXT NOT NULL,
  notes TEXT NOT NULL,
  folder TEXT NOT NULL,
  tags TEXT,
  card TEXT,
  archived INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  version INTEGER NOT NULL,
  target_hash INTEGER NOT NULL,
  CONSTRAINT pk_links_link PRIMARY KEY (domain_id, code)
)
 STRICT;

CREATE INDEX ix_links_link_id ON links_link (id);

CREATE INDEX ix_links_link_owner_id ON links_link (owner, id);

CREATE INDEX ix_links_link_target_hash ON links_link (target_hash);

CREATE TABLE links_paste (
  id TEXT NOT NULL,
  number INTEGER NOT NULL,
  owner INTEGER,
  title TEXT NOT NULL,
  visibility TEXT NOT NULL,
  password TEXT,
  sealed INTEGER NOT NULL,
  verifier BLOB,
  discussion INTEGER NOT NULL,
  reads_left INTEGER,
  forked_from TEXT,
  created_us INTEGER NOT NULL,
  ends_us INTEGER NOT NULL,
  version INTEGER NOT NULL,
  CONSTRAINT pk_links_paste PRIMARY KEY (id)
)
 STRICT;

CREATE INDEX ix_links_paste_ends_us ON links_paste (ends_us);

CREATE INDEX ix_links_paste_owner_number ON links_paste (owner, number);

CREATE INDEX ix_links_paste_visibility_number ON links_paste (visibility, number);

CREATE TABLE links_paste_comment (
  paste_id TEXT NOT NULL,
  id TEXT NOT NULL,
  parent_id TEXT NOT NULL,
  adata TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  CONSTRAINT pk_links_paste_comment PRIMARY KEY (paste_id, id)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE links_paste_file (
  paste_id TEXT NOT NULL,
  name TEXT NOT NULL,
  content_type TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  CONSTRAINT pk_links_paste_file PRIMARY KEY (paste_id, name)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE links_paste_part (
  paste_id TEXT NOT NULL,
  body TEXT NOT NULL,
  n INTEGER NOT NULL,
  filler BLOB NOT NULL,
  bytes BLOB NOT NULL,
  CONSTRAINT pk_links_paste_part PRIMARY KEY (paste_id, body, n)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE links_paste_version (
  paste_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  format TEXT NOT NULL,
  language TEXT NOT NULL,
  adata TEXT,
  size_bytes INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  CONSTRAINT pk_links_paste_version PRIMARY KEY (paste_id, number)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE links_report (
  id INTEGER NOT NULL,
  link_id INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  reporter TEXT NOT NULL,
  reason TEXT NOT NULL,
  CONSTRAINT pk_links_report PRIMARY KEY (id),
  CONSTRAINT uq_links_report_link_id_reporter UNIQUE (link_id, reporter)
)
 STRICT;

CREATE INDEX ix_links_report_link_id ON links_report (link_id);

CREATE TABLE links_rollup (
  scope TEXT NOT NULL,
  day INTEGER NOT NULL,
  n INTEGER NOT NULL,
  bots INTEGER NOT NULL,
  facets BLOB NOT NULL,
  visitors BLOB,
  CONSTRAINT pk_links_rollup PRIMARY KEY (scope, day)
)
 STRICT;

CREATE TABLE links_secret (
  name TEXT NOT NULL,
  value BLOB NOT NULL,
  CONSTRAINT pk_links_secret PRIMARY KEY (name)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE links_tag (
  tag TEXT NOT NULL,
  link_id INTEGER NOT NULL,
  CONSTRAINT pk_links_tag PRIMARY KEY (tag, link_id)
)
 WITHOUT ROWID,
 STRICT;

CREATE TABLE links_visit (
  id INTEGER NOT NULL,
  link_id INTEGER,
  domain_id INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  kind TEXT NOT NULL,
  bot INTEGER NOT NULL,
  path TEXT NOT NULL,
  target TEXT,
  referrer TEXT NOT NULL,
  user_agent TEXT NOT NULL,
  country TEXT NOT NULL,
  city TEXT NOT NULL,
  CONSTRAINT pk_links_visit PRIMARY KEY (id)
)
 STRICT;

CREATE INDEX ix_links_visit_at_us ON links_visit (at_us);

CREATE INDEX ix_links_visit_link_id_at_us ON links_visit (link_id, at_us);
