//! `/messages`: the calls, a few lines each.

use std::time::Duration;

use poem_openapi::param::{Path, Query};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi, Tags};
use serde::{Deserialize, Serialize};

use super::{
    ForwardMessages, Forwarded, FoundMessages, Message, MessageStatus, Messages, ReceiptKind, ReceiptPage, Scope, SendMessage, Sent,
    Starred,
};
use crate::auth::Caller;
use crate::error::Error;
use crate::event::Origin;
use crate::id::{ConversationId, MessageId, UserId};
use crate::rate::Limiter;
use crate::rest::{ApiResult, Choice, Json, Success, Whole, page};

#[derive(Tags)]
enum Tag {
    /// Messages: sending, changing, finding and marking them.
    Messages,
}

/// The calls about messages.
pub struct MessagesApi {
    /// The service.
    pub messages: Messages,
    /// How fast each person may send.
    pub sends: Limiter<UserId>,
}

/// Messages that one person may send a second by these calls, and …
const SENDS_PER_S: u32 = 10;
/// … at once: as much as by a socket.
const SENDS_AT_ONCE: u32 = 50;

impl MessagesApi {
    /// The calls on this service; `limited` says whether people may send only so fast.
    pub fn new(messages: Messages, limited: bool) -> Self {
        Self { messages, sends: Limiter::new(limited, SENDS_PER_S, Duration::from_secs(1), SENDS_AT_ONCE) }
    }
}

/// A message's new words.
#[derive(Clone, Debug, Default, Deserialize, Object)]
#[serde(default)]
#[oai(example)]
pub struct EditMessage {
    /// The words, at most 16 KiB; required unless the message has media.
    pub content: Option<String>,
}

impl Example for EditMessage {
    fn example() -> Self {
        Self { content: Some("Hello, world!".into()) }
    }
}

/// How far a message has come for the caller.
#[derive(Clone, Debug, Deserialize, Object)]
#[oai(example)]
pub struct UpdateStatus {
    /// DELIVERED or READ; SENT changes nothing, for a status never falls.
    pub status: String,
}

impl Example for UpdateStatus {
    fn example() -> Self {
        Self { status: "READ".into() }
    }
}

/// Messages that the caller has read.
#[derive(Clone, Debug, Deserialize, Object)]
#[oai(example)]
pub struct ReadMessages {
    /// The messages, at most 500; everything before the newest of each conversation counts as read too.
    pub message_ids: Vec<MessageId>,
    /// Their conversation, to be checked.
    pub conversation_id: Option<ConversationId>,
}

impl Example for ReadMessages {
    fn example() -> Self {
        let message = Message::example();
        Self { message_ids: vec![message.id], conversation_id: Some(message.conversation_id) }
    }
}

/// What marking did.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Marked {
    /// Always true.
    pub success: bool,
    /// How many messages turned READ.
    pub updated: usize,
}

impl Example for Marked {
    fn example() -> Self {
        Self { success: true, updated: 1 }
    }
}

impl Marked {
    fn of(updated: usize) -> Json<Self> {
        Json(Self { success: true, updated })
    }
}

fn origin(caller: &Caller) -> Origin {
    Origin { session_id: Some(caller.session_id), socket_id: None }
}

fn posted(caller: &Caller) -> Sent {
    Sent { origin: origin(caller), posted: true }
}

fn status(name: &str) -> Result<MessageStatus, Error> {
    match name.to_ascii_uppercase().as_str() {
        "SENT" => Ok(MessageStatus::Sent),
        "DELIVERED" => Ok(MessageStatus::Delivered),
        "READ" => Ok(MessageStatus::Read),
        _ => Err(Error::invalid("status", "status must be SENT, DELIVERED or READ")),
    }
}

#[OpenApi(tag = "Tag::Messages")]
impl MessagesApi {
    /// Send a message
    ///
    /// Content is required unless there is media. The same `client_message_id` of the same sender in the same conversation
    /// gives the same message again, never a second one, for ever: after a failure, send the same once more.
    /// 403 in a conversation of others, where only admins may post, and in a DIRECT one with a block either way.
    #[oai(path = "/messages", method = "post", operation_id = "send_message")]
    async fn send_message(&self, caller: Caller, body: Json<SendMessage>) -> ApiResult<Message> {
        self.sends.check(caller.user_id)?;
        Ok(Json(self.messages.send(caller.user_id, body.0, posted(&caller)).await?))
    }

    /// Forward messages
    ///
    /// Copies of up to 100 messages, in their order, into up to 20 conversations, with `isForwarded` set. 403 when the caller
    /// cannot read one of the messages or may not write to one of the conversations; deleted messages and those of the
    /// system are refused with 400. In all these cases nothing is forwarded.
    /// Each copy counts as a message sent. With `client_message_id` the same again gives the same copies: after a failure,
    /// send the same once more. Without it, `forwarded_count` and `message` say so when some could not be stored.
    #[oai(path = "/messages/forward", method = "post", operation_id = "forward_messages")]
    async fn forward_messages(&self, caller: Caller, body: Json<ForwardMessages>) -> ApiResult<Forwarded> {
        let copies = body.0.copies();
        self.sends.charge(caller.user_id, copies)?;
        let forwarded = self.messages.forward(caller.user_id, body.0, posted(&caller)).await;
        if forwarded.as_ref().is_err_and(|error| error.retry_after.is_none()) {
            self.sends.give_back(&caller.user_id, copies);
        }
        Ok(Json(forwarded?))
    }

    /// Mark messages as read
    ///
    /// Up to the newest one named, per conversation; read receipts go out unless the caller switched them off.
    #[oai(path = "/messages/read", method = "post", operation_id = "read_messages")]
    async fn read_messages(&self, caller: Caller, body: Json<ReadMessages>) -> ApiResult<Marked> {
        let ReadMessages { message_ids, conversation_id } = body.0;
        Ok(Marked::of(self.messages.read_many(caller.user_id, &message_ids, conversation_id, origin(&caller)).await?))
    }

    /// List starred messages
    ///
    /// The caller's, the latest star first. Messages that he no longer sees (deleted, cleared, or in a conversation that he
    /// has left) are not among them.
    #[oai(path = "/messages/starred", method = "get", operation_id = "list_starred_messages")]
    async fn list_starred_messages(
        &self,
        caller: Caller,
        /// How many, 1 to 100; 50 when absent.
        limit: Query<Option<Whole>>,
        /// How many to skip, up to 1,000.
        offset: Query<Option<Whole>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> ApiResult<Starred> {
        let page = page(limit.0, offset.0, cursor.0);
        Ok(Json(self.messages.starred(caller.user_id, &page).await?))
    }

    /// Search messages
    ///
    /// Every word must be in the message, the last one at least as the beginning of a word, whatever case and accents.
    /// Newest first, in the caller's conversations: one of them, or page by page the 200 with the latest activity.
    /// Encrypted, deleted and cleared messages and those of the system are never found; new ones are within 2 seconds.
    /// A page may be short, or empty, and still have a `next_cursor`: each does a bounded amount of work.
    #[oai(path = "/messages/search", method = "get", operation_id = "search_messages")]
    #[allow(clippy::too_many_arguments)]
    async fn search_messages(
        &self,
        caller: Caller,
        /// The words, at most 256 characters; without a usable one nothing is found.
        q: Query<Option<String>>,
        /// In this conversation alone.
        conversation_id: Query<Option<ConversationId>>,
        /// How many, 1 to 100; 50 when absent.
        limit: Query<Option<Whole>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> ApiResult<FoundMessages> {
        let text = q.0.ok_or_else(|| Error::invalid_at("query", "q", "q is required"))?;
        let page = page(limit.0, None, cursor.0);
        Ok(Json(self.messages.search(caller.user_id, &text, conversation_id.0, &page).await?))
    }

    /// Get a message
    ///
    /// 404 when the caller cleared it or deleted it from his view, 403 when its conversation is not his.
    #[oai(path = "/messages/:id", method = "get", operation_id = "get_message")]
    async fn get_message(&self, caller: Caller, id: Path<MessageId>) -> ApiResult<Message> {
        Ok(Json(self.messages.get(caller.user_id, id.0).await?))
    }

    /// Edit a message
    ///
    /// Its sender may; `isEdited` is set and the others get `message:updated`.
    #[oai(path = "/messages/:id", method = "put", operation_id = "edit_message")]
    async fn edit_message(&self, caller: Caller, id: Path<MessageId>, body: Json<EditMessage>) -> ApiResult<Message> {
        Ok(Json(self.messages.edit(caller.user_id, id.0, body.0.content, origin(&caller)).await?))
    }

    /// Delete a message
    ///
    /// What the caller wrote is deleted for everyone, unless `scope` is `me`: its content is replaced by "This message was
    /// deleted" and the others get `message:deleted`. What others wrote goes from the caller's own view; `everyone` is 403.
    #[oai(path = "/messages/:id", method = "delete", operation_id = "delete_message")]
    async fn delete_message(
        &self,
        caller: Caller,
        id: Path<MessageId>,
        /// For whom; when absent, everyone for one's own messages and me for those of others.
        scope: Query<Option<Choice<Scope>>>,
    ) -> ApiResult<Success> {
        match self.messages.delete(caller.user_id, id.0, scope.0.map(|scope| scope.0), origin(&caller)).await? {
            Scope::Everyone => Success::answer("message deleted"),
            Scope::Me => Success::answer("message deleted from your view"),
        }
    }

    /// Star a message
    ///
    /// For the caller alone; again is the same. 400 for a deleted message, and beyond 2,000 stars.
    #[oai(path = "/messages/:id/star", method = "post", operation_id = "star_message")]
    async fn star_message(&self, caller: Caller, id: Path<MessageId>) -> ApiResult<Success> {
        self.messages.star(caller.user_id, id.0).await?;
        Success::answer("message starred")
    }

    /// Unstar a message
    ///
    /// For the caller alone; a message without a star is as good.
    #[oai(path = "/messages/:id/star", method = "delete", operation_id = "unstar_message")]
    async fn unstar_message(&self, caller: Caller, id: Path<MessageId>) -> ApiResult<Success> {
        self.messages.unstar(caller.user_id, id.0).await?;
        Success::answer("message unstarred")
    }

    /// Set a message's status
    ///
    /// DELIVERED or READ for the caller; READ goes up to this message. A status never falls.
    #[oai(path = "/messages/:id/status", method = "put", operation_id = "update_message_status")]
    async fn update_message_status(&self, caller: Caller, id: Path<MessageId>, body: Json<UpdateStatus>) -> ApiResult<Marked> {
        let status = status(&body.0.status)?;
        Ok(Marked::of(self.messages.raise_status(caller.user_id, id.0, status, origin(&caller)).await?))
    }

    /// List receipts of a message
    ///
    /// Who has read it, or has it on a device, in conversations of any size; who hides read receipts counts as delivered only.
    #[oai(path = "/messages/:id/receipts", method = "get", operation_id = "list_receipts")]
    async fn list_receipts(
        &self,
        caller: Caller,
        id: Path<MessageId>,
        /// `read` (the default) or `delivered`.
        kind: Query<Option<Choice<ReceiptKind>>>,
        /// How many, 1 to 100; 50 when absent.
        limit: Query<Option<Whole>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> ApiResult<ReceiptPage> {
        let page = page(limit.0, None, cursor.0);
        let kind = kind.0.map_or_else(ReceiptKind::default, |kind| kind.0);
        Ok(Json(self.messages.receipts_of(caller.user_id, id.0, kind, &page).await?))
    }
}
