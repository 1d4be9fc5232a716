//! What is tried again: anything that was certainly not done, and of what perhaps was only what may be repeated. The driver's own
//! policy gives up after a write timeout, though a write with its own timestamp may be repeated on the next replica.

use scylla::errors::{DbError, RequestAttemptError, WriteType};
use scylla::policies::retry::{RequestInfo, RetryDecision, RetryPolicy, RetrySession};
use scylla::statement::Consistency;

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

impl Tried {
    fn decide(&mut self, error: &RequestAttemptError, is_idempotent: bool) -> RetryDecision {
        if self.0 < TRIES && is_tried_again(error, is_idempotent) {
            self.0 += 1;
            RetryDecision::RetryNextTarget(None)
        } else {
            RetryDecision::DontRetry
        }
    }
}

impl RetrySession for Tried {
    fn decide_should_retry(&mut self, request: RequestInfo<'_>) -> RetryDecision {
        self.decide(request.error, request.is_idempotent)
    }

    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Whether another replica is asked, by what the one said.
fn is_tried_again(error: &RequestAttemptError, is_idempotent: bool) -> bool {
    match error {
        // It did not begin: whatever it is.
        RequestAttemptError::UnableToAllocStreamId | RequestAttemptError::DbError(DbError::IsBootstrapping, _) => true,
        // Nor did this, unless it has a condition, is agreed on, and too few are left to be told of it (`commitPaxos` of Cassandra's
        // first Paxos). Tried again it would find itself done, and that its condition does not hold. Servers name the level that
        // they lack: before it is agreed on that of the agreement.
        RequestAttemptError::DbError(DbError::Unavailable { consistency, .. }, _) => {
            is_idempotent || matches!(consistency, Consistency::Serial | Consistency::LocalSerial)
        }
        // Whether a condition held is read, not tried again.
        RequestAttemptError::DbError(DbError::WriteTimeout { write_type: WriteType::Cas, .. }, _) => false,
        error => is_idempotent && may_be_done(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The same, as something with a condition and without.
    fn with_and_without(error: DbError) -> [bool; 2] {
        let error = RequestAttemptError::DbError(error, String::new());
        [false, true].map(|is_idempotent| is_tried_again(&error, is_idempotent))
    }

    #[test]
    fn a_condition_is_tried_again_only_when_nothing_was_done() {
        let lacking = |consistency| DbError::Unavailable { consistency, required: 2, alive: 1 };
        let late = |write_type| DbError::WriteTimeout { consistency: Consistency::LocalQuorum, received: 1, required: 2, write_type };
        assert_eq!(with_and_without(DbError::IsBootstrapping), [true, true]);
        assert_eq!(with_and_without(lacking(Consistency::LocalSerial)), [true, true]);
        // Agreed on, and too few are left to be told.
        assert_eq!(with_and_without(lacking(Consistency::LocalQuorum)), [false, true]);
        assert_eq!(with_and_without(late(WriteType::Simple)), [false, true]);
        assert_eq!(with_and_without(late(WriteType::Cas)), [false, false]);
        assert_eq!(with_and_without(DbError::Overloaded), [false, true]);
        assert_eq!(with_and_without(DbError::Invalid), [false, false]);
    }

    #[test]
    fn tries_end_and_begin_anew_with_the_next_request() {
        let error = RequestAttemptError::DbError(DbError::Overloaded, String::new());
        let mut tried = Tried(0);
        for _request in 0..2 {
            let decided = [true; 4].map(|is_idempotent| tried.decide(&error, is_idempotent));
            let again = RetryDecision::RetryNextTarget(None);
            assert_eq!(decided, [again.clone(), again, RetryDecision::DontRetry, RetryDecision::DontRetry]);
            tried.reset();
        }
        assert_eq!(tried.decide(&error, false), RetryDecision::DontRetry, "a condition is perhaps done");
    }
}
