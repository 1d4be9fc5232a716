-- What people switch on and off, and whom they have blocked. NULL is the default.

CREATE TABLE settings (
    user_id BLOB PRIMARY KEY,
    show_online_status INTEGER,
    show_last_seen INTEGER,
    show_profile_photo INTEGER,
    show_read_receipts INTEGER,
    push_enabled INTEGER,
    push_preview INTEGER,
    push_sound INTEGER,
    push_vibration INTEGER,
    push_messages INTEGER,
    push_groups INTEGER
) WITHOUT ROWID;

CREATE TABLE blocks (
    user_id BLOB NOT NULL,
    blocked_id BLOB NOT NULL,
    blocked_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, blocked_id)
) WITHOUT ROWID;

CREATE TABLE blocked_by (
    user_id BLOB NOT NULL,
    blocker_id BLOB NOT NULL,
    blocked_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, blocker_id)
) WITHOUT ROWID;
