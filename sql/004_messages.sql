-- What people do to messages for themselves, and the words that messages are found by. One table a CQL table, partition key first.

CREATE TABLE stars (
    user_id BLOB NOT NULL,
    conversation_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    starred_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, conversation_id, seq)
) WITHOUT ROWID;

CREATE TABLE hidden (
    user_id BLOB NOT NULL,
    conversation_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (user_id, conversation_id, seq)
) WITHOUT ROWID;

CREATE TABLE search_terms (
    conversation_id BLOB NOT NULL,
    block INTEGER NOT NULL,
    term TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (conversation_id, block, term, seq)
) WITHOUT ROWID;
