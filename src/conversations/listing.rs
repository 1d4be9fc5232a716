//! GET /conversations on the wire: the app's dialect of the list stands here and nowhere else.
//! Beside the camelCase fields each conversation carries `avatar_url`, `unread_count` and `last_message`, the same Message
//! with snake_case names.

use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Conversation, Listed};
use crate::error::{Error, Result};
use crate::page::{Cursor, Page};

/// A conversation in the list.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
pub struct ListedConversation {
    /// The conversation.
    #[serde(flatten)]
    #[oai(flatten)]
    pub conversation: Conversation,
    /// `avatarUrl` again.
    pub avatar_url: Option<String>,
    /// `unreadCount` again.
    pub unread_count: i64,
    /// `lastMessage` again, its fields named in snake_case.
    pub last_message: Option<Value>,
}

/// A page of conversations, newest activity first.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct ConversationPage {
    /// The page.
    pub conversations: Vec<ListedConversation>,
    /// How many there are in all.
    pub total: usize,
    /// The page's size, as taken.
    pub limit: usize,
    /// How many were skipped.
    pub offset: usize,
    /// To be sent as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

impl ConversationPage {
    pub(super) fn of(listed: Listed, page: &Page) -> Result<Self> {
        Ok(Self {
            conversations: listed.conversations.into_iter().map(ListedConversation::of).collect::<Result<_>>()?,
            total: listed.total,
            limit: page.limit,
            offset: page.offset,
            next_cursor: listed.next.map(Cursor::into_text),
        })
    }
}

impl Example for ConversationPage {
    fn example() -> Self {
        let conversation = Conversation::example();
        let conversations = vec![ListedConversation { avatar_url: None, unread_count: 0, last_message: None, conversation }];
        Self { conversations, total: 1, limit: 50, offset: 0, next_cursor: None }
    }
}

impl ListedConversation {
    fn of(conversation: Conversation) -> Result<Self> {
        let message = conversation.last_message.as_ref();
        let last_message = message.map(serde_json::to_value).transpose().map_err(Error::internal)?.map(snake_names);
        Ok(Self { avatar_url: conversation.avatar_url.clone(), unread_count: conversation.unread_count, last_message, conversation })
    }
}

/// The same objects with snake_case names.
fn snake_names(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            Value::Object(object.into_iter().map(|(key, value)| (snake_case(&key), snake_names(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

fn snake_case(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_turn_snake_at_every_depth() {
        let camel = json!({"conversationId": "c", "replyTo": {"senderName": "Ada"}, "type": "TEXT", "seq": 3});
        let snake = json!({"conversation_id": "c", "reply_to": {"sender_name": "Ada"}, "type": "TEXT", "seq": 3});
        assert_eq!(snake_names(camel), snake);
    }
}
