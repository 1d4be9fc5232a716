//! What a member switches for himself: archived, muted, favourite, and what he has read.
//! Nobody else is told; his own other devices get `conversation:updated`.

use super::Conversations;
use crate::error::Result;
use crate::event::Origin;
use crate::id::{ConversationId, UserId};
use crate::log::Flags;

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
        let (_, membership) = self.parts.messages.membership(caller, id).await?;
        let favourite = wanted.unwrap_or(!membership.favourite);
        let flags = Flags { favourite: Some(favourite), ..Flags::default() };
        self.parts.log.set_flags(caller, id, &flags, self.parts.clock.now()).await?;
        self.refresh(caller, id, origin).await;
        Ok(favourite)
    }

    async fn switch(&self, caller: UserId, id: ConversationId, flags: Flags, origin: Origin) -> Result<()> {
        self.parts.messages.membership(caller, id).await?;
        self.parts.log.set_flags(caller, id, &flags, self.parts.clock.now()).await?;
        self.refresh(caller, id, origin).await;
        Ok(())
    }
}
