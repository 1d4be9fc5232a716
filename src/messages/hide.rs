//! Deleting: for everyone what one wrote oneself (`change.rs`), from one's own view everything else.
//! A hidden message stays in the log and with the others; the caller never sees it again.

use super::service::Visible;
use super::{Messages, change};
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::id::{MessageId, UserId};

/// Messages of one conversation that one person may hide.
pub const MAX_HIDDEN: i64 = 10_000;

/// For whom a message is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, poem_openapi::Enum)]
#[oai(rename_all = "lowercase")]
pub enum Scope {
    /// For all: its sender may.
    Everyone,
    /// From the caller's own view.
    Me,
}

impl Messages {
    /// Deletes a message. Without a scope: for everyone if the caller wrote it, else from his own view.
    /// Returns for whom it is deleted now; again is the same.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the message, or `everyone` was asked for somebody else's; `BadRequest`: [`MAX_HIDDEN`].
    pub async fn delete(&self, caller: UserId, id: MessageId, scope: Option<Scope>, origin: Origin) -> Result<Scope> {
        let found = self.located(caller, id).await?;
        let own = change::is_own(&found.row, caller);
        let scope = scope.unwrap_or(if own { Scope::Everyone } else { Scope::Me });
        match scope {
            Scope::Everyone => drop(self.delete_for_everyone(caller, id, origin).await?),
            Scope::Me => self.hide(caller, found, origin).await?,
        }
        Ok(scope)
    }

    async fn hide(&self, caller: UserId, found: Visible, origin: Origin) -> Result<()> {
        let Visible { row, membership, .. } = found;
        let (conversation, seq) = (row.conversation_id, row.seq);
        if seq <= membership.cleared_seq || !self.store.hidden_in(caller, conversation, seq, seq).await?.is_empty() {
            return Ok(());
        }
        if self.store.hidden_count(caller, conversation, membership.cleared_seq).await? >= MAX_HIDDEN {
            return Err(Error::bad_request(format!(
                "you have deleted {MAX_HIDDEN} messages of this conversation from your view, as many as one can: clear it instead"
            )));
        }
        self.store.put_hidden(caller, conversation, seq, row.body.is_counted()).await?;
        self.store.remove_star(caller, conversation, seq).await?;
        self.refresh(caller, conversation, origin).await;
        Ok(())
    }
}
