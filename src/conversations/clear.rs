//! Clearing and deleting a conversation: both are marks of the caller alone, and the log stays as it is.
//! What is cleared stays cleared for ever; what is hidden comes back, empty, with the next message.

use super::Conversations;
use crate::error::Result;
use crate::event::Origin;
use crate::id::{ConversationId, UserId};
use crate::log::{Cleared, Membership};

impl Conversations {
    /// Hides everything said so far from the caller.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the conversation.
    pub async fn clear(&self, caller: UserId, id: ConversationId, origin: Origin) -> Result<()> {
        let (_, membership) = self.parts.messages.membership(caller, id).await?;
        self.clear_up_to_head(caller, &membership).await?;
        self.refresh(caller, id, origin).await;
        Ok(())
    }

    /// Takes the conversation out of the caller's list and clears it. In a group he stays a member.
    ///
    /// # Errors
    /// `NotFound`; `Forbidden`: not, or no longer, a participant.
    pub async fn delete(&self, caller: UserId, id: ConversationId, origin: Origin) -> Result<()> {
        let (_, membership) = self.parts.messages.membership(caller, id).await?;
        // Cleared first: should hiding fail, it is in the list and empty, and can be deleted again.
        self.clear_up_to_head(caller, &membership).await?;
        self.parts.log.hide(caller, id, membership.head.seq).await?;
        self.refresh(caller, id, origin).await;
        Ok(())
    }

    async fn clear_up_to_head(&self, caller: UserId, membership: &Membership) -> Result<()> {
        let head = membership.head;
        let cleared = Cleared { seq: head.seq, n: head.n, total: head.total };
        Ok(self.parts.log.clear(caller, membership.conversation_id, &cleared).await?)
    }
}
