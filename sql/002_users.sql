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

-- Logins, one-time codes and what is counted of them. Rows with an end are swept once it is past (CQL: TTL).

CREATE TABLE sessions (
    user_id BLOB NOT NULL,
    session_id BLOB NOT NULL,
    device TEXT NOT NULL,
    address TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    secret_hash BLOB NOT NULL,
    PRIMARY KEY (user_id, session_id)
) WITHOUT ROWID;

CREATE TABLE one_time_codes (
    phone TEXT NOT NULL,
    purpose INTEGER NOT NULL,
    code_id BLOB NOT NULL,
    code_hash BLOB NOT NULL,
    sent_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    tries INTEGER NOT NULL,
    state INTEGER NOT NULL,
    PRIMARY KEY (phone, purpose)
) WITHOUT ROWID;
CREATE INDEX one_time_codes_by_end ON one_time_codes (expires_at);

CREATE TABLE budgets (
    name TEXT PRIMARY KEY,
    spent INTEGER NOT NULL,
    ends_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX budgets_by_end ON budgets (ends_at);

CREATE TABLE login_tickets (
    user_id BLOB PRIMARY KEY,
    tries INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE socket_tickets (
    ticket_hash BLOB PRIMARY KEY,
    user_id BLOB NOT NULL,
    session_id BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX socket_tickets_by_end ON socket_tickets (expires_at);
