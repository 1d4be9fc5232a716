//! The data folder: made for its owner alone, and held by one node at a time. Two nodes on one store would each keep
//! in memory what the other changes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use super::StartError;
use crate::server::Opening;

/// What is locked; nothing stands in it. The lock ends with its process, however that ends.
const LOCK_FILE: &str = "lock";
/// How long a node waits for its predecessor to drain: short enough for whoever starts it again to do so in time.
const HANDOVER: Duration = Duration::from_secs(6);
/// How often it looks: a thread that waited for the lock could not be called off at a shutdown.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Makes the folder if it is not there, for its owner alone; one that is there is left as it is.
pub fn prepare(folder: &Path) -> Result<(), StartError> {
    let made = || {
        if let Some(parent) = folder.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(folder) {
            Err(_) if folder.is_dir() => Ok(()),
            made => made,
        }
    };
    made().map_err(|source| failed(folder, source))
}

/// Opens a file of the folder; one that is not there is made, for its owner alone.
pub fn open(folder: &Path, name: &str) -> Result<File, StartError> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(folder.join(name)).map_err(|source| failed(folder, source))
}

fn failed(folder: &Path, source: io::Error) -> StartError {
    StartError::Folder { folder: folder.to_owned(), source }
}

/// The folder, held until this is dropped.
pub struct Held {
    _file: File,
}

impl Held {
    /// Takes the folder; waits for another node that is about to end.
    ///
    /// # Errors
    /// `Taken`: it does not end.
    pub async fn take(folder: &Path, opening: &Opening) -> Result<Self, StartError> {
        prepare(folder)?;
        let file = open(folder, LOCK_FILE)?;
        let mut waits = false;
        let taking = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return,
                    Err(TryLockError::WouldBlock) if !waits => {
                        waits = true;
                        tracing::info!("another node has the data folder; waiting for it to end");
                        opening.lasts_for("another node has the data folder", None);
                    }
                    Err(TryLockError::WouldBlock) => {}
                    Err(TryLockError::Error(error)) => {
                        // Some shared file systems have no such locks.
                        tracing::warn!(%error, "the data folder cannot be locked: see to it that no other node uses it");
                        return;
                    }
                }
                // Waiting for the lock itself would hold up a thread that nothing can wake.
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let taken = tokio::time::timeout(HANDOVER, taking).await;
        taken.map_err(|_| StartError::Taken { folder: folder.to_owned() })?;
        Ok(Self { _file: file })
    }
}
