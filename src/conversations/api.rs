//! `/conversations` and `/sync`: the calls, a few lines each.

use std::sync::Arc;

use poem_openapi::param::{Path, Query};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi, Tags};
use serde::{Deserialize, Serialize};

use super::listing::ConversationPage;
use super::{Conversation, Conversations, CreateConversation, Sync, Synced};
use crate::auth::Caller;
use crate::event::Origin;
use crate::id::{ConversationId, MessageId};
use crate::messages::{History, HistoryQuery, Messages};
use crate::rest::{ApiResult, Json, Success, Whole, page};

#[derive(Tags)]
enum Tag {
    /// Conversations: making, listing and keeping them.
    Conversations,
    /// Catching up after having been away.
    Sync,
}

/// The calls about conversations.
pub struct ConversationsApi {
    /// The service.
    pub conversations: Arc<Conversations>,
    /// Their messages.
    pub messages: Messages,
}

/// POST /sync.
pub struct SyncApi {
    /// The service.
    pub conversations: Arc<Conversations>,
}

/// Whether a conversation shall be a favourite.
#[derive(Clone, Copy, Debug, Default, Deserialize, Object)]
#[serde(default)]
#[oai(example)]
pub struct Favor {
    /// What it shall be; turned over when absent.
    pub is_favorite: Option<bool>,
    /// The same under its other name; `is_favorite` wins.
    pub is_favourite: Option<bool>,
}

impl Example for Favor {
    fn example() -> Self {
        Self { is_favorite: Some(true), is_favourite: None }
    }
}

/// Whether a conversation is a favourite now.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Favored {
    /// Always true.
    pub success: bool,
    /// A sentence for the person in front of the app.
    pub message: String,
    /// What it is now.
    pub is_favorite: bool,
}

impl Favored {
    fn new(is_favorite: bool) -> Self {
        let message = if is_favorite { "added to favourites" } else { "removed from favourites" };
        Self { success: true, message: message.to_owned(), is_favorite }
    }
}

impl Example for Favored {
    fn example() -> Self {
        Self::new(true)
    }
}

fn origin(caller: &Caller) -> Origin {
    Origin { session_id: Some(caller.session_id), socket_id: None }
}

#[OpenApi(tag = "Tag::Conversations")]
impl ConversationsApi {
    /// List conversations
    ///
    /// The caller's conversations, newest activity first; archived and deleted ones are left out. `total` is exact.
    #[oai(path = "/conversations", method = "get", operation_id = "list_conversations")]
    async fn list_conversations(
        &self,
        caller: Caller,
        /// How many, 1 to 100.
        limit: Query<Option<Whole>>,
        /// How many to skip, up to 1,000.
        offset: Query<Option<Whole>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> ApiResult<ConversationPage> {
        let page = page(limit.0, offset.0, cursor.0);
        let listed = self.conversations.list(caller.user_id, false, &page).await?;
        Ok(Json(ConversationPage::of(listed, &page)?))
    }

    /// List archived conversations
    ///
    /// What `GET /conversations` leaves out because the caller archived it.
    #[oai(path = "/conversations/archived", method = "get", operation_id = "list_archived_conversations")]
    async fn list_archived_conversations(
        &self,
        caller: Caller,
        /// How many, 1 to 100.
        limit: Query<Option<Whole>>,
        /// How many to skip, up to 1,000.
        offset: Query<Option<Whole>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> ApiResult<ConversationPage> {
        let page = page(limit.0, offset.0, cursor.0);
        let listed = self.conversations.list(caller.user_id, true, &page).await?;
        Ok(Json(ConversationPage::of(listed, &page)?))
    }

    /// Create a conversation
    ///
    /// A DIRECT one between two people exists once: creating it again, also by the other person at the same moment, gives
    /// the same one. Of a GROUP the caller is the FOUNDER. Everybody in it gets `conversation:created`.
    #[oai(path = "/conversations", method = "post", operation_id = "create_conversation")]
    async fn create_conversation(&self, caller: Caller, body: Json<CreateConversation>) -> ApiResult<Conversation> {
        Ok(Json(self.conversations.create(caller.user_id, body.0, origin(&caller)).await?))
    }

    /// Get a conversation
    ///
    /// As the caller sees it, with its first 50 participants. 403 for who is no participant (any more).
    #[oai(path = "/conversations/:id", method = "get", operation_id = "get_conversation")]
    async fn get_conversation(&self, caller: Caller, id: Path<ConversationId>) -> ApiResult<Conversation> {
        Ok(Json(self.conversations.view_for(caller.user_id, id.0).await?))
    }

    /// Delete a conversation
    ///
    /// For the caller alone: hidden and cleared. It comes back, empty, with the next message; in a GROUP he stays a member.
    #[oai(path = "/conversations/:id", method = "delete", operation_id = "delete_conversation")]
    async fn delete_conversation(&self, caller: Caller, id: Path<ConversationId>) -> ApiResult<Success> {
        self.conversations.delete(caller.user_id, id.0, origin(&caller)).await?;
        Success::answer("conversation deleted")
    }

    /// List messages
    ///
    /// The newest page, or the one before or after a place, oldest first within it; `total` is exact.
    /// They count as delivered to the caller.
    #[oai(path = "/conversations/:id/messages", method = "get", operation_id = "list_messages")]
    #[allow(clippy::too_many_arguments)]
    async fn list_messages(
        &self,
        caller: Caller,
        id: Path<ConversationId>,
        /// How many, 1 to 100.
        limit: Query<Option<Whole>>,
        /// How many to skip, up to 1,000.
        offset: Query<Option<Whole>>,
        /// Older than this message.
        before: Query<Option<MessageId>>,
        /// Newer than this message.
        after: Query<Option<MessageId>>,
        /// Older than this place.
        before_seq: Query<Option<Whole>>,
        /// Newer than this place.
        after_seq: Query<Option<Whole>>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> ApiResult<History> {
        let page = page(limit.0, offset.0, cursor.0);
        let (before_seq, after_seq) = (before_seq.0.map(|seq| seq.0), after_seq.0.map(|seq| seq.0));
        let query = HistoryQuery { before: before.0, after: after.0, before_seq, after_seq };
        Ok(Json(self.messages.history(caller.user_id, id.0, &query, &page).await?))
    }

    /// Mark a conversation as read
    ///
    /// Up to its end: `unreadCount` is 0, and read receipts go out unless the caller switched them off.
    #[oai(path = "/conversations/:id/read", method = "put", operation_id = "read_conversation")]
    async fn read_conversation(&self, caller: Caller, id: Path<ConversationId>) -> ApiResult<Success> {
        self.messages.read_upto(caller.user_id, id.0, None, origin(&caller)).await?;
        Success::answer("conversation read")
    }

    /// Archive a conversation
    ///
    /// It moves from the list to the archived ones, for the caller alone.
    #[oai(path = "/conversations/:id/archive", method = "put", operation_id = "archive_conversation")]
    async fn archive_conversation(&self, caller: Caller, id: Path<ConversationId>) -> ApiResult<Success> {
        self.conversations.archive(caller.user_id, id.0, true, origin(&caller)).await?;
        Success::answer("conversation archived")
    }

    /// Take a conversation out of the archive
    ///
    /// It is in the list again, for the caller alone.
    #[oai(path = "/conversations/:id/unarchive", method = "put", operation_id = "unarchive_conversation")]
    async fn unarchive_conversation(&self, caller: Caller, id: Path<ConversationId>) -> ApiResult<Success> {
        self.conversations.archive(caller.user_id, id.0, false, origin(&caller)).await?;
        Success::answer("conversation taken out of the archive")
    }

    /// Mute a conversation
    ///
    /// No notifications for the caller.
    #[oai(path = "/conversations/:id/mute", method = "put", operation_id = "mute_conversation")]
    async fn mute_conversation(&self, caller: Caller, id: Path<ConversationId>) -> ApiResult<Success> {
        self.conversations.mute(caller.user_id, id.0, true, origin(&caller)).await?;
        Success::answer("conversation muted")
    }

    /// Unmute a conversation
    ///
    /// Notifications again for the caller.
    #[oai(path = "/conversations/:id/unmute", method = "put", operation_id = "unmute_conversation")]
    async fn unmute_conversation(&self, caller: Caller, id: Path<ConversationId>) -> ApiResult<Success> {
        self.conversations.mute(caller.user_id, id.0, false, origin(&caller)).await?;
        Success::answer("conversation unmuted")
    }

    /// Mark a conversation as a favourite
    ///
    /// Turns the mark over, or sets what the body says.
    #[oai(path = "/conversations/:id/favorite", method = "put", operation_id = "favor_conversation")]
    async fn favor_conversation(&self, caller: Caller, id: Path<ConversationId>, body: Json<Favor>) -> ApiResult<Favored> {
        let wanted = body.0.is_favorite.or(body.0.is_favourite);
        Ok(Json(Favored::new(self.conversations.favourite(caller.user_id, id.0, wanted, origin(&caller)).await?)))
    }

    /// Clear a conversation
    ///
    /// The caller no longer sees what was said so far; others still do.
    #[oai(path = "/conversations/:id/clear", method = "delete", operation_id = "clear_conversation")]
    async fn clear_conversation(&self, caller: Caller, id: Path<ConversationId>) -> ApiResult<Success> {
        self.conversations.clear(caller.user_id, id.0, origin(&caller)).await?;
        Success::answer("conversation cleared")
    }
}

#[OpenApi(tag = "Tag::Sync")]
impl SyncApi {
    /// Catch up
    ///
    /// Exactly what changed since the places that the client says it has; no clock is involved and nothing arrives late.
    /// The messages in it count as delivered to the caller.
    #[oai(path = "/sync", method = "post", operation_id = "sync")]
    async fn sync(&self, caller: Caller, body: Json<Sync>) -> ApiResult<Synced> {
        Ok(Json(self.conversations.sync(caller.user_id, body.0).await?))
    }
}
