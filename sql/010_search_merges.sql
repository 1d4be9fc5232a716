-- The index merges its runs in steps that the node asks for, none of which holds up a send for long: by itself it merges
-- in the middle of some commit, for up to tens of milliseconds.
INSERT INTO search_terms (search_terms, rank) VALUES ('automerge', 0);
