//! The death of a node in this process, played by copying its files while it has them open.

use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;

/// The store's file, as a node names it.
const STORE_FILE: &str = "urge.db";

/// The files of the store in this folder as the death of its process would leave them now: neither closed nor checkpointed.
pub fn files_after_a_crash(folder: &Path) -> TempDir {
    // Two files cannot be copied at one moment. While somebody reads, what he sees stays in the log and the log is not
    // begun anew: so the log, copied first, covers whatever is moved into the file meanwhile.
    let reader = Connection::open(folder.join(STORE_FILE)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema").unwrap();
    let crashed = TempDir::new().unwrap();
    for file in [format!("{STORE_FILE}-wal"), STORE_FILE.to_owned()] {
        std::fs::copy(folder.join(&file), crashed.path().join(&file)).unwrap();
    }
    crashed
}
