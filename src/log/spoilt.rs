//! What is stored and cannot be read keeps nobody from what stands beside it: it is reported here, and passed over. Who asks
//! for it alone is told that something is wrong.

use std::fmt::Display;

use crate::error::{Error, Result};
use crate::id::ConversationId;
use crate::store::{StoreError, count_unreadable};

/// A row of a page, if it could be read.
pub(super) fn readable<T>(table: &'static str, conversation: ConversationId, row: std::result::Result<T, impl Display>) -> Option<T> {
    let report = |error| {
        count_unreadable();
        tracing::error!(table, %conversation, %error, "a row of the log cannot be read, and is passed over");
    };
    row.map_err(report).ok()
}

/// What was found of one conversation among others, if that could be read.
///
/// # Errors
/// Whatever another try may mend, or is no matter of this conversation.
pub(crate) fn unless_spoilt<T>(conversation: ConversationId, found: Result<T, impl Into<Error>>) -> Result<Option<T>> {
    match found.map_err(Into::into) {
        Err(error) if StoreError::is_unreadable(&error) => {
            count_unreadable();
            tracing::error!(%conversation, %error, source = ?error.source, "a conversation cannot be read, and is passed over");
            Ok(None)
        }
        found => found.map(Some),
    }
}
