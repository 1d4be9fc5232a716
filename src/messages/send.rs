//! Sending: check, build the row, append, show. What makes it exactly once is the log's business.

use std::sync::Arc;

use super::{MAX_CLIENT_ID_BYTES, Message, Messages, QUOTE_CHARS, SendMessage};
use crate::error::{Error, Result};
use crate::event::Origin;
use crate::id::{ConversationId, MessageId, UserId};
use crate::log::{Body, Content, ConversationState, LogRow, Permit, Proposal, Reply};

/// Where a send comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// The socket or login that is not told of its own message.
    pub origin: Origin,
    /// By POST: receipts wait until the answer has arrived.
    pub posted: bool,
}

impl Messages {
    /// Sends a message, or answers with the one that the same `client_message_id` (or `id`) already stands for.
    ///
    /// # Errors
    /// `Invalid` names the field; `NotFound`/`Forbidden`: the conversation, a block, or only admins may post;
    /// `Unavailable`: perhaps stored, send the same again.
    pub async fn send(&self, caller: UserId, command: SendMessage, sent: Sent) -> Result<Message> {
        let _place = self.sends.enter()?;
        if let Some(stored) = self.stored(caller, &command, sent.origin).await? {
            return Ok(stored);
        }
        let conversation_id = command.conversation_id.ok_or_else(|| Error::invalid("conversation_id", "conversation_id is required"))?;
        let client_id = client_message_id(command.client_message_id.clone())?;
        let message_id = client_id.as_deref().map(|id| MessageId::derived(caller, conversation_id, id));
        let checked = async {
            self.may_write(caller, conversation_id).await?;
            self.content(caller, conversation_id, command).await
        };
        match (checked.await, message_id) {
            (Ok(content), _) => {
                let content = Content { client_message_id: client_id, ..content };
                self.post(caller, conversation_id, message_id, content, sent).await
            }
            // What was sent stays sent: a retry is answered with it, whatever has changed since.
            (Err(error), Some(id)) if error.retry_after.is_none() => self.own(caller, id, sent.origin).await?.ok_or(error),
            (Err(error), _) => Err(error),
        }
    }

    /// Appends a message whose content is checked. With a `message_id` an earlier attempt is looked for.
    pub(super) async fn post(
        &self,
        caller: UserId,
        conversation_id: ConversationId,
        message_id: Option<MessageId>,
        content: Content,
        sent: Sent,
    ) -> Result<Message> {
        let proposal = Proposal {
            conversation_id,
            message_id: message_id.unwrap_or_else(MessageId::fresh),
            may_exist: message_id.is_some(),
            sender_id: caller,
            body: Body::Message(content),
            permit: may_post(caller),
            origin: sent.origin,
            posted: sent.posted,
        };
        let posted = self.appender.append(proposal).await?;
        if posted.fresh {
            self.receipts.wrote(caller, conversation_id, posted.row.seq);
            return self.fresh_view(posted.row).await;
        }
        self.own_view(caller, posted.row).await
    }

    /// Whether the caller may write here as things stand: a participant, and in a DIRECT one no block either way.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`.
    pub(super) async fn may_write(&self, caller: UserId, conversation_id: ConversationId) -> Result<Arc<ConversationState>> {
        // The append asks again, with every row before it; here a refusal alone must not be old.
        let mut state = self.appender.known(conversation_id).await?;
        if may_post(caller)(&state).is_err() {
            state = self.appender.state(conversation_id).await?;
            may_post(caller)(&state)?;
        }
        self.must_not_be_blocked(caller, &state).await?;
        Ok(state)
    }

    /// The same where the appends are too late to refuse: what is permitted must not be old either.
    ///
    /// # Errors
    /// `NotFound`, `Forbidden`.
    pub(super) async fn may_write_now(&self, caller: UserId, conversation_id: ConversationId) -> Result<()> {
        let state = self.appender.state(conversation_id).await?;
        may_post(caller)(&state)?;
        self.must_not_be_blocked(caller, &state).await
    }

    /// Refuses who has a block between himself and the other person of a DIRECT conversation.
    pub(super) async fn must_not_be_blocked(&self, caller: UserId, state: &ConversationState) -> Result<()> {
        match state.peer(caller) {
            Some(peer) if self.settings.is_blocked_either(caller, peer).await? => Err(Error::forbidden("you cannot write to this person")),
            _ => Ok(()),
        }
    }

    /// The message that the socket's `id` names, if the caller has sent it before.
    async fn stored(&self, caller: UserId, command: &SendMessage, origin: Origin) -> Result<Option<Message>> {
        match command.id.as_deref().and_then(|id| id.parse::<MessageId>().ok()) {
            Some(id) => self.own(caller, id, origin).await,
            None => Ok(None),
        }
    }

    /// A message that the caller has sent. He is told that it is sent, so the others must know of it: who stored it may have died
    /// before it came to that.
    async fn own(&self, caller: UserId, id: MessageId, origin: Origin) -> Result<Option<Message>> {
        let Some(row) = self.reader.find(id).await? else { return Ok(None) };
        if row.sender_id != caller || !row.body.is_counted() {
            return Ok(None);
        }
        self.appender.redo_row(&row, origin).await?;
        self.own_view(caller, row).await.map(Some)
    }

    /// A message of the caller's own, who may have left or been removed since: what was sent stays sent.
    async fn own_view(&self, caller: UserId, row: LogRow) -> Result<Message> {
        let id = row.conversation_id;
        let (state, membership) = (self.appender.state(id).await?, self.log.membership(caller, id).await?);
        match membership {
            Some(membership) => self.view(caller, &state, &membership, row).await,
            None => self.fresh_view(row).await,
        }
    }

    async fn content(&self, caller: UserId, conversation_id: ConversationId, command: SendMessage) -> Result<Content> {
        let media_url = super::url("media_url", command.media_url)?;
        let thumbnail_url = super::url("thumbnail_url", command.thumbnail_url)?;
        let message_type = super::message_type(command.message_type.as_deref(), command.kind.as_deref(), media_url.is_some())?;
        let content = super::content(command.content.as_deref(), media_url.is_some())?;
        if command.audio_duration.is_some_and(|seconds| !(0.0..=86_400.0).contains(&seconds)) {
            return Err(Error::invalid("audio_duration", "audio_duration is in seconds, from 0 to 86400"));
        }
        let reply_to = match command.reply_to_id {
            Some(id) => Some(self.quote(caller, conversation_id, id).await?),
            None => None,
        };
        Ok(Content {
            message_type,
            content,
            media_url,
            thumbnail_url,
            audio_duration: command.audio_duration,
            reply_to,
            is_encrypted: command.is_encrypted.unwrap_or(false),
            ..Content::default()
        })
    }

    async fn quote(&self, caller: UserId, conversation_id: ConversationId, id: MessageId) -> Result<Reply> {
        let wrong = || Error::invalid("reply_to_id", "reply_to_id is no message of this conversation");
        let row = match self.visible(caller, id).await {
            Ok(visible) if visible.row.conversation_id == conversation_id => visible.row,
            Err(error) if error.retry_after.is_some() => return Err(error),
            Ok(_) | Err(_) => return Err(wrong()),
        };
        let content = quoted(&row).ok_or_else(wrong)?;
        Ok(Reply { id, seq: row.seq, sender_id: row.sender_id, content })
    }
}

/// What an answer to this row quotes of it.
pub(super) fn quoted(row: &LogRow) -> Option<String> {
    let text = match &row.body {
        Body::Message(content) => &content.content,
        Body::Members(change) => &change.text,
        Body::Profile(change) => &change.text,
        Body::Created(_) | Body::Edited | Body::Deleted | Body::Unreadable => return None,
    };
    Some(text.chars().take(QUOTE_CHARS).collect())
}

/// A member, and an admin where only admins may post.
fn may_post(caller: UserId) -> Permit {
    Arc::new(move |state| {
        let member = state.member(caller)?;
        if state.record()?.profile.rules.only_admins_can_post && !member.role.is_admin() {
            return Err(Error::forbidden("only admins may write in this group"));
        }
        Ok(())
    })
}

pub(super) fn client_message_id(id: Option<String>) -> Result<Option<String>> {
    match id {
        Some(id) if id.is_empty() || id.len() > MAX_CLIENT_ID_BYTES => {
            Err(Error::invalid("client_message_id", format!("client_message_id must have 1 to {MAX_CLIENT_ID_BYTES} bytes")))
        }
        id => Ok(id),
    }
}
