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
            error if request.is_idempotent && may_be_done(error) => RetryDecision::RetryNextTarget(None),
            _ => RetryDecision::DontRetry,
        }
    }

    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Whether another replica may do better, this one having perhaps done it.
fn may_be_done(error: &RequestAttemptError) -> bool {
    let RequestAttemptError::DbError(error, _) = error else { return matches!(error, RequestAttemptError::BrokenConnectionError(_)) };
    matches!(
        error,
        DbError::WriteTimeout { .. }
            | DbError::WriteFailure { .. }
            | DbError::ReadTimeout { .. }
            | DbError::ReadFailure { .. }
            | DbError::Overloaded
            | DbError::ServerError
    )
}
