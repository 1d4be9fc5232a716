-- Each flag of a member has a time of its own, as each cell of a CQL row has: the latest wins, flag by flag.

ALTER TABLE memberships ADD COLUMN muted_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE memberships ADD COLUMN archived_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE memberships ADD COLUMN favourite_at INTEGER NOT NULL DEFAULT 0;
UPDATE memberships SET muted_at = flags_at, archived_at = flags_at, favourite_at = flags_at WHERE flags_at > 0;
ALTER TABLE memberships DROP COLUMN flags_at;
