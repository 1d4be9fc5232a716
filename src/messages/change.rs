//! Editing, and deleting for everyone: the sender's own, by one conditional change of the row and a notice in the log.

use std::sync::Arc;

use super::service::Visible;
use super::{DELETED_CONTENT, Message, Messages, content};
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::id::{MessageId, UserId};
use crate::log::{Body, Change, Content, LogRow, Revise};

impl Messages {
    /// Changes a message's words.
    ///
    /// # Errors
    /// `Forbidden`: somebody else's, or a block; `BadRequest`: deleted; `Invalid`: no words or too many.
    pub async fn edit(&self, caller: UserId, id: MessageId, text: Option<String>, origin: Origin) -> Result<Message> {
        let visible = self.visible(caller, id).await?;
        if !is_own(&visible.row, caller) {
            return Err(Error::forbidden("only its sender may edit a message"));
        }
        let has_media = matches!(&visible.row.body, Body::Message(content) if content.media_url.is_some());
        let text = text.ok_or_else(|| Error::invalid("content", "content is required"))?;
        let words = content(Some(&text), has_media)?;
        // What he may no longer write he has written; a block ends all that reaches the other.
        self.must_not_be_blocked(caller, &visible.state).await?;
        let revise: Revise = Arc::new(move |state, row| {
            state.member(caller)?;
            if row.deleted_at.is_some() {
                return Err(Error::bad_request("a deleted message cannot be edited"));
            }
            match &row.body {
                // Nothing changes, so there is nothing to tell.
                Body::Message(content) if row.sender_id == caller && content.content == words => Ok(None),
                Body::Message(content) if row.sender_id == caller => {
                    Ok(Some(Content { content: words.clone(), is_edited: true, ..content.clone() }))
                }
                _ => Err(Error::forbidden("only its sender may edit a message")),
            }
        });
        self.change(caller, visible, Body::Edited, revise, origin).await
    }

    /// Deletes a message for everyone; again is the same.
    ///
    /// # Errors
    /// `Forbidden`: somebody else's.
    pub async fn delete_for_everyone(&self, caller: UserId, id: MessageId, origin: Origin) -> Result<Message> {
        let visible = self.visible(caller, id).await?;
        let revise: Revise = Arc::new(move |state, row| {
            state.member(caller)?;
            match &row.body {
                Body::Message(_) if row.sender_id == caller && row.deleted_at.is_some() => Ok(None),
                Body::Message(content) if row.sender_id == caller => Ok(Some(Content {
                    content: DELETED_CONTENT.to_owned(),
                    client_message_id: content.client_message_id.clone(),
                    ..Content::default()
                })),
                _ => Err(Error::forbidden("only its sender may delete a message for everyone")),
            }
        });
        self.change(caller, visible, Body::Deleted, revise, origin).await
    }

    async fn change(&self, caller: UserId, visible: Visible, notice: Body, revise: Revise, origin: Origin) -> Result<Message> {
        let Visible { row, state, membership } = visible;
        let (conversation_id, target_seq) = (row.conversation_id, row.seq);
        let change = Change { conversation_id, target_seq, sender_id: caller, notice, revise, origin };
        let changed = self.appender.change(change).await?;
        self.view(caller, &state, &membership, changed.row).await
    }
}

/// Whether this person wrote it, as a person.
pub(super) fn is_own(row: &LogRow, user: UserId) -> bool {
    row.sender_id == user && row.body.is_counted()
}
