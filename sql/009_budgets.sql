-- A budget knows when each of its units was spent: no stretch of time of a window's length sees more than its limit.
-- `spent_at` is their times in milliseconds, eight bytes each (little-endian), ascending. What was counted before is forgotten.

DROP TABLE budgets;
CREATE TABLE budgets (
    name TEXT PRIMARY KEY,
    spent_at BLOB NOT NULL,
    ends_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX budgets_by_end ON budgets (ends_at);
