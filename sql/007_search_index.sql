-- The words of messages as an inverted index that is written in runs and merged (FTS5): a table with a row a word dirtied a
-- page a word. A document is one put_terms of one row; its tokens carry conversation and block, its rowid the row's place.

DROP TABLE search_terms;

CREATE VIRTUAL TABLE search_terms USING fts5 (terms, content = '', columnsize = 0, detail = none, tokenize = 'ascii');

-- Counts documents: rowids that ascend keep the index from flushing half-filled runs.
CREATE TABLE search_documents (n INTEGER NOT NULL);
INSERT INTO search_documents VALUES (0);

-- Everything is indexed anew.
UPDATE conversations SET indexed_seq = 0;
