-- People. One table a CQL table, partition key first.

CREATE TABLE users (
    id BLOB PRIMARY KEY,
    phone TEXT NOT NULL,
    email TEXT,
    display_name TEXT,
    avatar_url TEXT,
    role INTEGER NOT NULL,
    bio TEXT,
    social_links TEXT NOT NULL,
    is_verified INTEGER NOT NULL,
    password_hash TEXT,
    totp TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    last_seen INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE users_by_phone (
    phone TEXT PRIMARY KEY,
    user_id BLOB NOT NULL,
    claimed_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE user_prefixes (
    prefix TEXT NOT NULL,
    shard INTEGER NOT NULL,
    user_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (prefix, shard, user_id)
) WITHOUT ROWID;

CREATE TABLE user_directory (
    shard INTEGER NOT NULL,
    user_id BLOB NOT NULL,
    PRIMARY KEY (shard, user_id)
) WITHOUT ROWID;

CREATE TABLE user_lookups (
    user_id BLOB NOT NULL,
    day INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    PRIMARY KEY (user_id, day)
) WITHOUT ROWID;
