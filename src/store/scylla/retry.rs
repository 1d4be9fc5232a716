//! What is tried again: anything that was certainly not done, and of what perhaps was only what may be repeated. The driver's own
//! policy gives up after a write timeout, though a write with its own timestamp may be repeated on the next replica.

use scylla::errors::{DbError, RequestAttemptError, WriteType};
use scylla::policies::retry::{RequestInfo, RetryDecision, RetryPolicy, RetrySession};

/// Tries on top of the first.
const TRIES: u8 = 2;

#[derive(Debug)]
pub struct Retries;

impl RetryPolicy for Retries {
    fn new_session(&self) -> Box<dyn RetrySession> {
        Box::new(Tried(0))
    }
}

struct Tried(u8);

impl RetrySession for Tried {
    fn decide_should_retry(&mut self, request: RequestInfo<'_>) -> RetryDecision {
        if self.0 >= TRIES {
            return RetryDecision::DontRetry;
        }
        self.0 += 1;
        match request.error {
            // It did not begin: whatever it is.
            RequestAttemptError::UnableToAllocStreamId
            | RequestAttemptError::DbError(DbError::IsBootstrapping | DbError::Unavailable { .. }, _) => {
                RetryDecision::RetryNextTarget(None)
            }
            // Whether a condition held is read, not tried again.
            RequestAttemptError::DbError(DbError::WriteTimeout { write_type: WriteType::Cas, .. }, _) => RetryDecision::DontRetry,
            RequestAttemptError::DbError(DbError::WriteTimeout { .. } | DbError::Overloaded | DbError::ServerError, _)
            | RequestAttemptError::BrokenConnectionError(_)
                if request.is_idempotent =>
            {
                RetryDecision::RetryNextTarget(None)
            }
            RequestAttemptError::DbError(DbError::ReadTimeout { .. } | DbError::ReadFailure { .. }, _) if request.is_idempotent => {
                RetryDecision::RetryNextTarget(None)
            }
            _ => RetryDecision::DontRetry,
        }
    }

    fn reset(&mut self) {
        self.0 = 0;
    }
}
