//! What a member switches for himself: archived, muted, favourite, and what he has read.
//! Nobody else is told; his own other devices get `conversation:updated`.

use super::Conversations;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::id::{ConversationId, UserId};
use crate::log::{Flags, Membership};

/// Turns of a favourite that lose against others before we say that it is busy.
const TURNS: usize = 16;

impl Conversations {
    /// Keeps the conversation apart from the list, or puts it back.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the conversation.
    pub async fn archive(&self, caller: UserId, id: ConversationId, archived: bool, origin: Origin) -> Result<()> {
        self.switch(caller, id, Flags { archived: Some(archived), ..Flags::default() }, origin).await
    }

    /// Ends the notifications, or lets them through again.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the conversation.
    pub async fn mute(&self, caller: UserId, id: ConversationId, muted: bool, origin: Origin) -> Result<()> {
        self.switch(caller, id, Flags { muted: Some(muted), ..Flags::default() }, origin).await
    }

    /// Marks the conversation as a favourite, or no longer; turns it over when nothing is said. Answers with what it is now.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the conversation.
    pub async fn favourite(&self, caller: UserId, id: ConversationId, wanted: Option<bool>, origin: Origin) -> Result<bool> {
        for _ in 0..TURNS {
            let (_, membership) = self.parts.messages.membership(caller, id).await?;
            let favourite = wanted.unwrap_or(!membership.favourite);
            if membership.favourite == favourite || self.parts.log.turn_favourite(caller, id, favourite, self.stamp(&membership)).await? {
                self.refresh(caller, id, origin).await;
                return Ok(favourite);
            }
        }
        Err(Error::unavailable("this is being turned from many places at once, try again in a moment"))
    }

    async fn switch(&self, caller: UserId, id: ConversationId, flags: Flags, origin: Origin) -> Result<()> {
        let (_, membership) = self.parts.messages.membership(caller, id).await?;
        self.parts.log.set_flags(caller, id, &flags, self.stamp(&membership)).await?;
        self.refresh(caller, id, origin).await;
        Ok(())
    }

    /// After all that was set before, also when the clock has been put back since.
    fn stamp(&self, membership: &Membership) -> Timestamp {
        self.parts.clock.now().max(Timestamp(membership.flags_at.0 + 1))
    }
}
