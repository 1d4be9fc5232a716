//! Moving what has been committed from the write-ahead log into the database file, on a thread of its own: inside the
//! writer, as SQLite does by itself, it makes every send of that moment wait for it (tens of milliseconds).
//! While writes go on, such a checkpoint never reaches the log's end, and the file would grow: above a size the writer
//! is asked for the last step, which has little left to do then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rusqlite::Connection;

/// Pause between two looks at the log.
const PAUSE: Duration = Duration::from_millis(250);
/// Bytes that wait in the log before they are moved: 32 MiB. The fewer checkpoints, the fewer commits that have to wait for
/// the disk beside one, and a page that is written again and again is moved once.
const WORTH_BYTES: i64 = 32 << 20;
/// Looks after which even little is moved.
const PATIENCE: u32 = 40;
/// Bytes in the log above which the writer begins it anew: 64 MiB.
const RESTART_BYTES: i64 = 64 << 20;

/// What the writer and the checkpointer tell each other.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pause: Duration,
    worth_pages: i64,
    restart_pages: i64,
    /// Something has been committed since the last checkpoint.
    is_due: AtomicBool,
    /// The log is to begin anew.
    restart: AtomicBool,
}

impl Checkpoints {
    /// For a file of such pages.
    pub fn of_pages(page_bytes: i64) -> Self {
        Self::new(PAUSE, WORTH_BYTES / page_bytes, RESTART_BYTES / page_bytes)
    }

    fn new(pause: Duration, worth_pages: i64, restart_pages: i64) -> Self {
        Self { pause, worth_pages, restart_pages, is_due: AtomicBool::new(false), restart: AtomicBool::new(false) }
    }

    /// Checkpoints on this connection until `stop` is closed; gives it back.
    pub fn run(&self, connection: Connection, stop: &Receiver<()>) -> Connection {
        let mut looks = 0;
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(self.pause) {
            looks += 1;
            if !self.is_due.load(Ordering::Relaxed) {
                continue;
            }
            match self.look(&connection, looks >= PATIENCE) {
                Ok(true) => looks = 0,
                Ok(false) => {}
                // Disk full, for one: the log keeps everything, and the writer says so if it cannot grow.
                Err(error) => tracing::debug!(%error, "a checkpoint was not made; the next one makes up for it"),
            }
        }
        connection
    }

    /// Moves what is worth it, or anything; says whether it did.
    fn look(&self, connection: &Connection, anything: bool) -> rusqlite::Result<bool> {
        let log = checkpoint(connection, "NOOP")?;
        if !anything && log.pages - log.moved < self.worth_pages {
            return Ok(false);
        }
        self.is_due.store(false, Ordering::Relaxed);
        if checkpoint(connection, "PASSIVE")?.pages > self.restart_pages {
            // What has come meanwhile is moved too, so that little is left for the writer.
            checkpoint(connection, "PASSIVE")?;
            self.restart.store(true, Ordering::Release);
        }
        Ok(true)
    }

    /// The writer's part, between two commits.
    pub fn committed(&self, connection: &Connection) {
        self.is_due.store(true, Ordering::Relaxed);
        if self.restart.swap(false, Ordering::Acquire)
            && let Err(error) = checkpoint(connection, "RESTART")
        {
            tracing::debug!(%error, "the write-ahead log was not begun anew; it is tried again later");
        }
    }
}

/// The log after a checkpoint.
struct Log {
    /// Pages that it holds.
    pages: i64,
    /// Those of them that are in the database file too.
    moved: i64,
}

fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Log> {
    let log = |row: &rusqlite::Row<'_>| Ok(Log { pages: row.get(1)?, moved: row.get(2)? });
    connection.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?.query_row([], log)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_log_does_not_grow_without_end_while_writes_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let connect = || {
            let connection = Connection::open(&path).unwrap();
            connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA busy_timeout = 3000").unwrap();
            connection
        };
        let (writer, checkpointer) = (connect(), connect());
        writer.execute_batch("CREATE TABLE t (b BLOB)").unwrap();
        let checkpoints = Checkpoints::new(Duration::from_millis(1), 32, 64);
        let (stopper, stop) = crossbeam_channel::bounded(0);
        std::thread::scope(|scope| {
            let due = &checkpoints;
            let running = scope.spawn(move || due.run(checkpointer, &stop));
            let mut restarts = 0;
            // What would be 32 MiB; the file never shrinks, so that its size is the most that it held.
            for _ in 0..2_000 {
                writer.execute("INSERT INTO t VALUES (zeroblob(16384))", []).unwrap();
                restarts += usize::from(checkpoints.restart.load(Ordering::Acquire));
                checkpoints.committed(&writer);
            }
            drop(stopper);
            running.join().unwrap();
            let size = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
            assert!(restarts > 0 && size < 16 << 20, "{restarts} restarts, {size} bytes");
        });
    }
}
