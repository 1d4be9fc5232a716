//! Why a run cannot go on: one sentence for the person who started it.

/// See the module.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(String);

/// What may fail here.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// In these words.
    pub fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }
}

/// Says what was tried when it fails.
pub trait Trying<T> {
    /// The failure reads `<what>: <why>`.
    fn trying(self, what: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: std::fmt::Display> Trying<T> for std::result::Result<T, E> {
    fn trying(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}
