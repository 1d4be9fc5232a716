//! The driver's errors as the store's. What was perhaps done is `Unavailable`, like everything that another try may mend.

use scylla::errors::{
    BadQuery, ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError, MetadataError,
    NewSessionError, PrepareError, RequestAttemptError,
};

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

/// What a connection that was not made means: a server that does not know us will not know us the next time.
pub fn of_connecting(error: NewSessionError) -> StoreError {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken { last_connection_error })) = &error
    else {
        return StoreError::Unavailable(Box::new(error));
    };
    match last_connection_error {
        ConnectionError::ConnectionSetupRequestError(request) => match &request.error {
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                StoreError::Refused("the store asks who this is: set URGE_STORE_SCYLLA_USER and URGE_STORE_SCYLLA_PASSWORD".to_owned())
            }
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, cause) => {
                StoreError::Refused(format!("the store does not let this user in ({cause}): check URGE_STORE_SCYLLA_USER and its password"))
            }
            _ => StoreError::Unavailable(Box::new(error)),
        },
        _ => StoreError::Unavailable(Box::new(error)),
    }
}

/// What it means that something failed for which a user may lack the right.
pub fn of_rights(keyspace: &str, error: ExecutionError) -> StoreError {
    match error {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Unauthorized, cause)) => StoreError::Refused(format!(
            "the user of the store lacks rights on the keyspace {keyspace} ({cause}): grant it SELECT and MODIFY, \
             and for `urge migrate` CREATE and ALTER too"
        )),
        error => map(error),
    }
}
