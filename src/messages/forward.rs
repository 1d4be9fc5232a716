//! Forwarding: copies of messages that the caller can read, into conversations that he may write to.
//! Everything is checked before the first copy is made, so that a refusal leaves nothing behind.

use futures_util::future::{join_all, try_join_all};
use futures_util::{StreamExt as _, stream};
use poem_openapi::Object;
use serde::{Deserialize, Serialize};

use super::send::client_message_id;
use super::{Message, Messages, Sent};
use crate::error::{Error, ErrorCode, Result};
use crate::id::{ConversationId, MessageId, UserId};
use crate::log::{Body, Content};

/// Messages that one call forwards at most.
pub const MAX_FORWARDED: usize = 100;
/// Conversations that one call forwards to at most.
pub const MAX_TARGETS: usize = 20;
/// Messages that are looked up, or conversations that are written to, side by side.
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
    /// The client's own name for this, 1 to 128 bytes: the same again gives the same copies, never second ones.
    pub client_message_id: Option<String>,
}

impl ForwardMessages {
    /// How many copies it asks for, one at least.
    pub(super) fn copies(&self) -> u32 {
        let targets = usize::from(self.conversation_id.is_some()) + self.conversation_ids.len();
        (self.message_ids.len().clamp(1, MAX_FORWARDED) * targets.clamp(1, MAX_TARGETS)) as u32
    }
}

impl poem_openapi::types::Example for ForwardMessages {
    fn example() -> Self {
        let message = Message::example();
        Self { message_ids: vec![message.id], conversation_id: Some(message.conversation_id), ..Self::default() }
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
    /// In all these cases nothing is forwarded. `Unavailable`: perhaps some are; with a `client_message_id`, send the same again.
    pub async fn forward(&self, caller: UserId, command: ForwardMessages, sent: Sent) -> Result<Forwarded> {
        let _place = self.sends.enter()?;
        let messages = some_of(command.message_ids, MAX_FORWARDED, "message_ids")?;
        let targets: Vec<_> = command.conversation_id.into_iter().chain(command.conversation_ids).collect();
        let targets = some_of(targets, MAX_TARGETS, "conversation_ids")?;
        let name = client_message_id(command.client_message_id)?;
        let mut contents = Vec::with_capacity(messages.len());
        for part in messages.chunks(SIDE_BY_SIDE) {
            contents.extend(try_join_all(part.iter().map(|id| self.forwardable(caller, *id))).await?);
        }
        // What one append refuses would leave behind what the others have made.
        try_join_all(targets.iter().map(|target| self.may_write_now(caller, *target))).await?;
        let wanted = contents.len() * targets.len();
        let (contents, name) = (&contents, name.as_deref());
        let posts = targets.into_iter().map(|target| {
            // All are queued in this order before the first is waited for: so they share inserts, and the order holds.
            join_all(contents.iter().map(move |(original, content)| {
                let id = name.map(|name| MessageId::forwarded(caller, target, name, *original));
                self.post(caller, target, id, content.clone(), sent)
            }))
        });
        let posted: Vec<_> = stream::iter(posts).buffered(SIDE_BY_SIDE).flat_map(stream::iter).collect().await;
        let mut forwarded = Vec::with_capacity(wanted);
        let mut failure: Option<Error> = None;
        for one in posted {
            match one {
                Ok(message) => forwarded.push(message),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        let count = forwarded.len();
        let message = match failure {
            // With a name the same again makes up for what is missing, and makes nothing twice.
            Some(error) if count == 0 || (name.is_some() && error.retry_after.is_some()) => return Err(error),
            Some(error) => {
                tracing::warn!(
                    code = error.code.name(),
                    source = error.source.map(tracing::field::display),
                    count,
                    wanted,
                    "not all copies were stored"
                );
                format!("{count} of {wanted} messages forwarded, the others could not be")
            }
            None if count == 1 => "1 message forwarded".to_owned(),
            None => format!("{count} messages forwarded"),
        };
        Ok(Forwarded { success: true, message, forwarded_count: count, messages: forwarded })
    }

    async fn forwardable(&self, caller: UserId, id: MessageId) -> Result<(MessageId, Content)> {
        let row = match self.visible(caller, id).await {
            Ok(visible) => visible.row,
            Err(error) if error.code == ErrorCode::NotFound => return Err(Error::forbidden("you cannot read one of these messages")),
            Err(error) => return Err(error),
        };
        match row.body {
            _ if row.deleted_at.is_some() => Err(Error::bad_request("a deleted message cannot be forwarded")),
            Body::Message(content) => {
                Ok((id, Content { is_forwarded: true, is_edited: false, reply_to: None, client_message_id: None, ..content }))
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
