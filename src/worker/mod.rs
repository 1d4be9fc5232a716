//! Work that nobody waits for: it runs beside the requests, may be repeated at any time, and is found again after a crash.

mod index;
mod outbox;

pub use index::Indexer;
pub use outbox::Drainer;
