-- Who signed in, when and from where; forgotten after a while.
CREATE TABLE sign_ins (
  user        BLOB    NOT NULL,
  at          INTEGER NOT NULL,
  session     BLOB    NOT NULL,
  address     TEXT    NOT NULL,
  device_name TEXT,
  PRIMARY KEY (user, at DESC, session)
) WITHOUT ROWID;
CREATE INDEX sign_ins_by_time ON sign_ins (at);
