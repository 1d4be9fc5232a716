//! The embedded store's schema: `sql/NNN_*.sql`, compiled in, applied once each in order and remembered with a checksum.
//! A file that is newer, altered or no database at all is refused with what to do.

use std::path::Path;

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::{StoreError, StoreResult, sqlite};

/// One file of `sql/`.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number, from 1 without a gap.
    pub number: i64,
    /// Its file name.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($folder:literal; $($number:literal $name:literal),* $(,)?) => {
        /// Every migration, in order.
        pub const MIGRATIONS: &[Migration] =
            &[$(Migration { number: $number, name: $name, sql: include_str!(concat!($folder, $name)) }),*];
    };
}
pub(super) use migrations;

migrations! { "../../sql/";
    1 "001_log.sql",
    2 "002_users.sql",
    3 "003_settings.sql",
    4 "004_messages.sql",
    5 "005_logins.sql",
    6 "006_flags.sql",
    7 "007_search_index.sql",
    8 "008_messages.sql",
    9 "009_budgets.sql",
    10 "010_search_merges.sql",
    11 "011_outbox.sql",
}

/// Checks the schema of an opened file and, if allowed, brings it up to date.
pub(super) fn prepare(connection: &Connection, path: &Path, apply: bool) -> StoreResult<()> {
    let explain = |error| explain(path, error);
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)")
        .map_err(explain)?;
    let mut statement = connection.prepare("SELECT number, name, checksum FROM migrations ORDER BY number").map_err(explain)?;
    let applied = statement
        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))
        .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
        .map_err(explain)?;
    let missing = checked(MIGRATIONS, &applied, &path.display().to_string(), "URGE_DATA_DIR")?;
    if missing.is_empty() {
        return Ok(());
    }
    if !apply {
        let names: Vec<_> = missing.iter().map(|migration| migration.name).collect();
        return Err(StoreError::Refused(format!("{} lacks {}: run `urge migrate` first", path.display(), names.join(", "))));
    }
    for migration in missing {
        let applied = connection
            .execute_batch("BEGIN IMMEDIATE")
            .and_then(|()| apply_once(connection, migration))
            .and_then(|applied| connection.execute_batch("COMMIT").map(|()| applied))
            .map_err(|error| {
                let _ = connection.execute_batch("ROLLBACK");
                explain(error)
            })?;
        if applied {
            tracing::info!(migration = migration.name, "schema migrated");
        }
    }
    Ok(())
}

/// Which of these migrations have not been applied to `place`, which `setting` names; refused when what has been is not what this version knows.
pub(super) fn checked(
    known: &'static [Migration],
    applied: &[(i64, String, String)],
    place: &str,
    setting: &str,
) -> StoreResult<Vec<&'static Migration>> {
    for (number, name, checksum) in applied {
        let Some(migration) = known.iter().find(|migration| migration.number == *number) else {
            return Err(StoreError::Refused(format!(
                "{place} was written by a newer version of urge (it has migration {name}): run that version or newer, or point {setting} elsewhere"
            )));
        };
        if checksum_of(migration.sql) != *checksum {
            return Err(StoreError::Refused(format!(
                "{place}: migration {name} is not the one that this version carries: run the version that made it, or restore a backup"
            )));
        }
    }
    Ok(known.iter().filter(|migration| !applied.iter().any(|(number, ..)| *number == migration.number)).collect())
}

/// Applies it, in a transaction, unless another process has done so since the file was looked at.
fn apply_once(connection: &Connection, migration: &Migration) -> rusqlite::Result<bool> {
    let applied: bool =
        connection.query_row("SELECT EXISTS (SELECT 1 FROM migrations WHERE number = ?1)", [migration.number], |row| row.get(0))?;
    if !applied {
        connection.execute_batch(migration.sql)?;
        let checksum = checksum_of(migration.sql);
        connection.execute("INSERT INTO migrations VALUES (?1, ?2, ?3)", (migration.number, migration.name, checksum))?;
    }
    Ok(!applied)
}

/// An error about the file itself, in words that say what to do.
pub(super) fn explain(path: &Path, error: rusqlite::Error) -> StoreError {
    let file = path.display();
    match sqlite::map(error) {
        StoreError::Corrupt(cause) => StoreError::Refused(format!(
            "{file} is damaged or no database ({cause}): restore a backup, or move the file away to start with an empty one"
        )),
        StoreError::Unavailable(cause) => StoreError::Refused(format!(
            "{file} cannot be opened ({cause}): check that the folder exists, that this user may write to it and that the disk has room"
        )),
        other => other,
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn checksum_of(sql: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(sql.as_bytes()).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_another_process_has_applied_meanwhile_is_not_applied_again() {
        let connection = Connection::open_in_memory().unwrap();
        prepare(&connection, Path::new("t.db"), true).unwrap();
        for migration in MIGRATIONS {
            assert!(!apply_once(&connection, migration).unwrap(), "{}", migration.name);
        }
    }
}
