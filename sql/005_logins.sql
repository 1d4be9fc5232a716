-- What ends logins and uses codes up in one write. A session of an earlier epoch than its owner's is over.

ALTER TABLE users ADD COLUMN login_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN login_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE one_time_codes ADD COLUMN claim BLOB;
