-- Whether a hidden row is a message of a person, which counts as unread.
ALTER TABLE hidden ADD COLUMN counted INTEGER NOT NULL DEFAULT 1;

-- The index can let documents go: those of a row that an edit or deletion changed. A document is one put_words of one row.
DROP TABLE search_terms;
CREATE VIRTUAL TABLE search_terms USING fts5 (terms, content = '', contentless_delete = 1, detail = none, tokenize = 'ascii');

-- Up to which version the changed rows are indexed.
CREATE TABLE search_changes (
    conversation_id BLOB NOT NULL,
    block INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (conversation_id, block, seq)
) WITHOUT ROWID;

-- Everything is indexed anew.
UPDATE conversations SET indexed_seq = 0;
