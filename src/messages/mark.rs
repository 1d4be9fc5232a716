//! Marking as read and delivered: what the calls and commands for it do. The marks themselves are `receipts.rs`.

use std::collections::HashMap;

use super::{MessageStatus, Messages};
use crate::error::{Error, Result};
use crate::event::{Envelope, Origin};
use crate::id::{ConversationId, MessageId, Seq, UserId};

/// Messages that one call may name.
pub const MAX_MARKED: usize = 500;

impl Messages {
    /// The caller has read the conversation, up to `upto` or its end. Returns how many messages turned READ.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the conversation.
    pub async fn read_upto(&self, caller: UserId, id: ConversationId, upto: Option<Seq>, origin: Origin) -> Result<usize> {
        let (_, membership) = self.membership(caller, id).await?;
        let target = upto.unwrap_or(membership.head.seq).min(membership.head.seq);
        if target > membership.read_seq {
            let n = if target == membership.head.seq {
                membership.head.n
            } else {
                self.reader.row(id, target).await?.map_or(membership.read_n, |row| row.n)
            };
            self.log.mark_read(caller, id, target, n).await?;
            self.refresh(caller, id, origin).await;
        }
        self.receipts.mark_upto(caller, id, target, true).await
    }

    /// The caller has read up to this message.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the message; `Invalid`: it is in another conversation than said.
    pub async fn read(&self, caller: UserId, id: MessageId, said: Option<ConversationId>, origin: Origin) -> Result<usize> {
        let visible = self.visible(caller, id).await?;
        if said.is_some_and(|said| said != visible.row.conversation_id) {
            return Err(Error::invalid("conversation_id", "the message is not in this conversation"));
        }
        self.read_upto(caller, visible.row.conversation_id, Some(visible.row.seq), origin).await
    }

    /// The caller has read these, up to the newest one of each conversation.
    ///
    /// # Errors
    /// As [`Messages::read`], if it holds for all of them; ones that the caller no longer sees are passed over.
    pub async fn read_many(&self, caller: UserId, ids: &[MessageId], said: Option<ConversationId>, origin: Origin) -> Result<usize> {
        if ids.len() > MAX_MARKED {
            return Err(Error::invalid("message_ids", format!("message_ids must name at most {MAX_MARKED} messages")));
        }
        let mut newest: HashMap<ConversationId, Seq> = HashMap::new();
        let mut refused = None;
        for id in ids {
            let row = match self.visible(caller, *id).await {
                Ok(visible) => visible.row,
                Err(error) if error.retry_after.is_some() => return Err(error),
                Err(error) => {
                    refused.get_or_insert(error);
                    continue;
                }
            };
            if said.is_some_and(|said| said != row.conversation_id) {
                return Err(Error::invalid("message_ids", "a message is not in this conversation"));
            }
            let seq = newest.entry(row.conversation_id).or_default();
            *seq = row.seq.max(*seq);
        }
        if let (true, Some(error)) = (newest.is_empty(), refused) {
            return Err(error);
        }
        let mut updated = 0;
        for (conversation, seq) in newest {
            updated += self.read_upto(caller, conversation, Some(seq), origin).await?;
        }
        Ok(updated)
    }

    /// This message has reached a device of the caller.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`: the message.
    pub async fn delivered(&self, caller: UserId, id: MessageId) -> Result<()> {
        let row = self.visible(caller, id).await?.row;
        self.receipts.mark_upto(caller, row.conversation_id, row.seq, false).await?;
        Ok(())
    }

    /// Raises a message's status for the caller; returns how many messages turned READ.
    ///
    /// # Errors
    /// As [`Messages::read`].
    pub async fn raise_status(&self, caller: UserId, id: MessageId, status: MessageStatus, origin: Origin) -> Result<usize> {
        match status {
            MessageStatus::Read => self.read(caller, id, None, origin).await,
            MessageStatus::Delivered => self.delivered(caller, id).await.map(|()| 0),
            MessageStatus::Sent => self.visible(caller, id).await.map(|_| 0),
        }
    }

    /// Tells the caller's other devices that the conversation changed for him.
    pub(super) async fn refresh(&self, user_id: UserId, conversation_id: ConversationId, origin: Origin) {
        if let Err(error) = self.bus.publish(Envelope::Refresh { user_id, conversation_id, origin }).await {
            tracing::warn!(%error, "a change was not published");
        }
    }
}
