//! What every store shares: its errors, and the connection that the features' statements run on.
//! The statements themselves stand with their features (`log/sqlite.rs`, `users/sqlite.rs` …);
//! `app.rs` alone knows which store is behind the traits.

mod cached;
mod checkpoint;
mod migrate;
mod queue;
mod scylla;
mod sqlite;

pub use cached::{BeforeRead, Cached};
pub use migrate::{MIGRATIONS, Migration};
pub use scylla::{Kind, Prepared, Scylla, ScyllaOptions, Server, Statements, Writes};
pub(crate) use scylla::{corrupt, limit, statements};
pub use sqlite::{Sqlite, SqliteOptions};

use async_trait::async_trait;

use crate::error::{Error, ErrorCode};

/// Why a store did not answer.
///
/// A write that ends in `Unavailable` may or may not have happened: the caller repeats the same write,
/// or reads what is there. No store method says more than that.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Too much is waiting; nothing was tried.
    #[error("too many store operations are waiting")]
    Full,
    /// The store is away, full, read-only or too slow.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What is stored there cannot be read.
    #[error("a stored row cannot be read: {0}")]
    Corrupt(String),
    /// The file or schema is none that this version can work with.
    #[error("{0}")]
    Refused(String),
    /// A statement of ours is wrong.
    #[error("a statement failed: {0}")]
    Statement(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// Whether something could not be answered because what is stored there cannot be read.
    pub fn is_unreadable(error: &Error) -> bool {
        error.source.as_ref().and_then(|source| source.downcast_ref()).is_some_and(|cause| matches!(cause, Self::Corrupt(_)))
    }
}

/// Counts a row that cannot be read, and is passed over.
pub(crate) fn count_unreadable() {
    metrics::counter!("urge_log_unreadable_rows_total").increment(1);
}

/// What store methods return.
pub type StoreResult<T> = Result<T, StoreError>;

/// Whether a store can be written to now: what `/ready` asks.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// Writes something that means nothing.
    async fn probe(&self) -> StoreResult<()>;
}

#[async_trait]
impl Probe for Sqlite {
    async fn probe(&self) -> StoreResult<()> {
        Self::probe(self).await
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::unavailable("the server is busy, try again in a moment").with_source(error),
            StoreError::Unavailable(_) => Self::unavailable("the store is unavailable, try again in a moment").with_source(error),
            StoreError::Corrupt(_) | StoreError::Refused(_) | StoreError::Statement(_) => {
                Self::new(ErrorCode::Internal, "something went wrong on our side").with_source(error)
            }
        }
    }
}
