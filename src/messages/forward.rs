//! Forwarding: copies of messages that the caller can read, into conversations that he may write to.
//! Everything is checked before the first copy is made, so that a refusal leaves nothing behind.

use futures_util::future::{join_all, try_join_all};
use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::{Message, Messages, Sent};
use crate::error::{Error, ErrorCode, Result};
use crate::id::{ConversationId, MessageId, UserId};
use crate::log::{Body, Content};

/// Messages that one call forwards at most.
pub const MAX_FORWARDED: usize = 100;
/// Conversations that one call forwards to at most.
pub const MAX_TARGETS: usize = 20;
/// Messages that are looked up side by side.
const SIDE_BY_SIDE: usize = 16;

/// POST /messages/forward
#[derive(Clone, Debug, Default, Deserialize, Object)]
#[serde(default)]
#[oai(example)]
pub struct ForwardMessages {
    /// The messages, at most 100, in the order in which they are to arrive.
    pub message_ids: Vec<MessageId>,
    /// Where to.
    pub conversation_id: Option<ConversationId>,
    /// Where to, at most 20; instead of `conversation_id`, or beside it.
    #[oai(default)]
    pub conversation_ids: Vec<ConversationId>,
}

impl poem_openapi::types::Example for ForwardMessages {
    fn example() -> Self {
        let message = Message::example();
        Self { message_ids: vec![message.id], conversation_id: Some(message.conversation_id), conversation_ids: Vec::new() }
    }
}

/// What was forwarded.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Forwarded {
    /// Always true.
    pub success: bool,
    /// A sentence for the person in front of the app.
    pub message: String,
    /// How many messages were made.
    pub forwarded_count: usize,
    /// The new messages, conversation by conversation.
    pub messages: Vec<Message>,
}

impl poem_openapi::types::Example for Forwarded {
    fn example() -> Self {
        let message = Message { is_forwarded: true, ..Message::example() };
        Self { success: true, message: "1 message forwarded".into(), forwarded_count: 1, messages: vec![message] }
    }
}

impl Messages {
    /// Forwards messages, in order, to each of the conversations.
    ///
    /// # Errors
    /// `Invalid`: none or too many; `Forbidden`: a message that the caller cannot read, or a conversation that he may not
    /// write to; `NotFound`: no such conversation; `BadRequest`: a deleted message, or one of the system.
    /// In all these cases nothing is forwarded.
    pub async fn forward(&self, caller: UserId, command: ForwardMessages, sent: Sent) -> Result<Forwarded> {
        let _place = self.sends.enter()?;
        let messages = some_of(command.message_ids, MAX_FORWARDED, "message_ids")?;
        let targets: Vec<_> = command.conversation_id.into_iter().chain(command.conversation_ids).collect();
        let targets = some_of(targets, MAX_TARGETS, "conversation_ids")?;
        let mut contents = Vec::with_capacity(messages.len());
        for part in messages.chunks(SIDE_BY_SIDE) {
            contents.extend(try_join_all(part.iter().map(|id| self.forwardable(caller, *id))).await?);
        }
        for target in &targets {
            self.may_write(caller, *target).await?;
        }
        let mut forwarded = Vec::with_capacity(contents.len() * targets.len());
        let mut failure = None;
        for target in targets {
            // All are queued in this order before the first is waited for: so they share inserts, and the order holds.
            let posts = contents.iter().map(|content| self.post(caller, target, None, content.clone(), sent));
            for posted in join_all(posts).await {
                match posted {
                    Ok(message) => forwarded.push(message),
                    Err(error) => failure = Some(error),
                }
            }
        }
        match failure {
            // Some are there: who tries again would send them twice, so he is told what he got.
            Some(error) if forwarded.is_empty() => Err(error),
            _ => {
                let count = forwarded.len();
                let message = if count == 1 { "1 message forwarded".to_owned() } else { format!("{count} messages forwarded") };
                Ok(Forwarded { success: true, message, forwarded_count: count, messages: forwarded })
            }
        }
    }

    async fn forwardable(&self, caller: UserId, id: MessageId) -> Result<Content> {
        let row = match self.visible(caller, id).await {
            Ok(visible) => visible.row,
            Err(error) if error.code == ErrorCode::NotFound => return Err(Error::forbidden("you cannot read one of these messages")),
            Err(error) => return Err(error),
        };
        match row.body {
            _ if row.deleted_at.is_some() => Err(Error::bad_request("a deleted message cannot be forwarded")),
            Body::Message(content) => {
                Ok(Content { is_forwarded: true, is_edited: false, reply_to: None, client_message_id: None, ..content })
            }
            _ => Err(Error::bad_request("a message of the system cannot be forwarded")),
        }
    }
}

/// Each once, in their order; 1 to `limit`.
fn some_of<T: PartialEq>(wanted: Vec<T>, limit: usize, field: &str) -> Result<Vec<T>> {
    let mut each = Vec::with_capacity(wanted.len().min(limit + 1));
    for one in wanted {
        if !each.contains(&one) {
            each.push(one);
        }
        if each.len() > limit {
            break;
        }
    }
    if each.is_empty() || each.len() > limit {
        return Err(Error::invalid(field, format!("{field} must name 1 to {limit}")));
    }
    Ok(each)
}
