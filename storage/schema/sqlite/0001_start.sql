-- A conversation: its own row and the head of its log, because every append touches both.
-- `no` is a short name for the indexes below; it never leaves this database.
CREATE TABLE conversations (
  no         INTEGER PRIMARY KEY,
  id         BLOB    NOT NULL UNIQUE,
  epoch      INTEGER NOT NULL,
  owner      BLOB    NOT NULL,
  seq        INTEGER NOT NULL,
  post_no    INTEGER NOT NULL,
  at         INTEGER NOT NULL,
  kind       INTEGER NOT NULL,
  title      TEXT,
  pair_a     BLOB,
  pair_b     BLOB,
  members    INTEGER NOT NULL,
  created_at INTEGER NOT NULL
);

-- The logs, all of them, in the order of their commits: an append goes to the end of the file's largest table.
CREATE TABLE log (
  no           INTEGER PRIMARY KEY,
  conversation INTEGER NOT NULL,
  lane         INTEGER NOT NULL,  -- 0 posts, 1 everything else
  seq          INTEGER NOT NULL,
  event_id     BLOB    NOT NULL,
  sender       BLOB    NOT NULL,
  client_id    TEXT,
  request_hash BLOB    NOT NULL,
  at           INTEGER NOT NULL,
  post_no      INTEGER NOT NULL,
  kind         INTEGER NOT NULL,
  body         BLOB    NOT NULL
);
-- Lane before seq: a page of posts costs the same however many other events lie between them.
CREATE UNIQUE INDEX log_by_seq ON log (conversation, lane, seq);
CREATE UNIQUE INDEX log_by_client_id ON log (conversation, sender, client_id) WHERE client_id IS NOT NULL;

-- Never deleted: who was a member, from where to where.
CREATE TABLE members (
  conversation INTEGER NOT NULL,
  user         BLOB    NOT NULL,
  role         INTEGER NOT NULL,
  joined_seq   INTEGER NOT NULL,
  left_seq     INTEGER,
  read         INTEGER NOT NULL,
  delivered    INTEGER NOT NULL,
  read_post    INTEGER NOT NULL,
  PRIMARY KEY (conversation, user)
) WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user, conversation) WHERE left_seq IS NULL;

CREATE TABLE users (
  id            BLOB PRIMARY KEY,
  username      TEXT NOT NULL,
  display_name  TEXT NOT NULL,
  email         TEXT,
  password_hash TEXT NOT NULL,
  created_at    INTEGER NOT NULL,
  banned_at     INTEGER,
  deleted_at    INTEGER
) WITHOUT ROWID;

-- Usernames in the form in which they are unique.
CREATE TABLE user_handles (
  handle TEXT PRIMARY KEY,
  user   BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE signing_keys (
  kid        TEXT PRIMARY KEY,
  sealed     BLOB NOT NULL,
  public     BLOB NOT NULL,
  created_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sessions (
  id           BLOB PRIMARY KEY,
  user         BLOB NOT NULL,
  device       TEXT,
  device_name  TEXT,
  generation   INTEGER NOT NULL,
  created_at   INTEGER NOT NULL,
  last_seen_at INTEGER NOT NULL,
  expires_at   INTEGER NOT NULL,
  revoked_at   INTEGER
) WITHOUT ROWID;
CREATE INDEX sessions_by_user ON sessions (user, created_at) WHERE revoked_at IS NULL;
CREATE INDEX sessions_by_last_seen ON sessions (user, last_seen_at);

-- The live refresh token of every session, and the one before it.
CREATE TABLE families (
  session          BLOB PRIMARY KEY,
  generation       INTEGER NOT NULL,
  hash             BLOB NOT NULL,
  predecessor_hash BLOB,
  rotated_at       INTEGER,
  expires_at       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX families_by_end ON families (expires_at);

CREATE TABLE tickets (
  hash             BLOB PRIMARY KEY,
  user             BLOB NOT NULL,
  session          BLOB NOT NULL,
  token_expires_at INTEGER NOT NULL,
  expires_at       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tickets_by_end ON tickets (expires_at);

-- Sessions whose access tokens may outlive them.
CREATE TABLE revocations (
  session BLOB PRIMARY KEY,
  at      INTEGER NOT NULL,
  until   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX revocations_by_time ON revocations (at);
CREATE INDEX revocations_by_end ON revocations (until);

-- One row that is written after a failure, to see whether there is space again.
CREATE TABLE probe (no INTEGER PRIMARY KEY, filler BLOB);
