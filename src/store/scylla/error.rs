//! The driver's errors as the store's. What was perhaps done is `Unavailable`, like everything that another try may mend.

use scylla::errors::{BadQuery, DbError, ExecutionError, PrepareError, RequestAttemptError};

use crate::store::StoreError;

/// What a failed request means.
pub fn map(error: ExecutionError) -> StoreError {
    match &error {
        ExecutionError::BadQuery(BadQuery::SerializationError(_)) | ExecutionError::PrepareError(_) => {
            StoreError::Statement(Box::new(error))
        }
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(reason, _)) if is_ours(reason) => {
            StoreError::Statement(Box::new(error))
        }
        ExecutionError::LastAttemptError(RequestAttemptError::CqlResultParseError(_)) => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

/// The statement, its values or the schema are wrong, and will be the next time.
fn is_ours(reason: &DbError) -> bool {
    matches!(
        reason,
        DbError::SyntaxError
            | DbError::Invalid
            | DbError::AlreadyExists { .. }
            | DbError::FunctionFailure { .. }
            | DbError::ConfigError
            | DbError::Unauthorized
    )
}

/// What a statement that cannot be prepared means.
pub fn of_preparing(error: PrepareError) -> StoreError {
    match error {
        PrepareError::ConnectionPoolError(_) => StoreError::Unavailable(Box::new(error)),
        _ => StoreError::Statement(Box::new(error)),
    }
}

/// An answer that cannot be read.
pub fn corrupt(error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(error.to_string())
}

/// Nodes that do not come to have the same schema.
pub fn of_agreeing(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
