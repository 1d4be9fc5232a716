//! Messages: sending, changing and reading them, and who has received and read them.
//! A message is a row of its conversation's log (`log/`); here is what people may do with it and how it reads on the wire.
//! Not here: what a conversation is to its members (`conversations/`), and how events reach sockets (`gateway/`).

mod across;
mod announce;
mod api;
mod candidates;
mod change;
mod deferred;
mod departure;
mod forward;
mod hide;
mod history;
mod index_queue;
mod mark;
mod marking;
mod readers;
mod receipts;
mod scylla;
mod search;
mod send;
mod service;
mod sqlite;
mod star;
mod store;
mod turned;
mod view;
mod words;

pub use announce::{Announcer, Appended};
pub use api::MessagesApi;
pub use forward::{ForwardMessages, Forwarded, MAX_FORWARDED, MAX_TARGETS};
pub use hide::{MAX_HIDDEN, Scope};
pub use history::{History, HistoryQuery};
pub use index_queue::IndexQueue;
pub use readers::{Receipt, ReceiptKind, ReceiptPage};
pub use receipts::{Receipts, Turn};
pub use scylla::MessageStatements;
pub use search::{FoundMessages, MAX_CONVERSATIONS};
pub use send::Sent;
use serde::Deserialize;
pub use service::Messages;
pub use star::{MAX_STARS, Starred};
pub use store::{MessageStore, RowWords, SEARCH_BLOCK_ROWS, Star, TermMatch, search_block_of};
pub use turned::Turned;
pub use view::{Message, MessageStatus, ReplyView};
pub use words::{Query, terms};

use crate::error::{Error, Result};
use crate::id::{ConversationId, MessageId};
use crate::log::MessageType;
use crate::users::is_web_address;

/// The longest content, in bytes.
pub const MAX_CONTENT_BYTES: usize = 16 * 1024;
/// The longest client_message_id, in bytes.
pub const MAX_CLIENT_ID_BYTES: usize = 128;
/// The longest address of a file, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;
/// What stands in place of a message deleted for everyone.
pub const DELETED_CONTENT: &str = "This message was deleted";
/// How much of a message an answer to it quotes, in characters.
const QUOTE_CHARS: usize = 200;

/// POST /messages and `message:sent`.
#[derive(Clone, Debug, Default, Deserialize, poem_openapi::Object)]
#[serde(default)]
#[oai(example)]
pub struct SendMessage {
    /// Where to.
    pub conversation_id: Option<ConversationId>,
    /// The words, at most 16 KiB; required unless there is media.
    pub content: Option<String>,
    /// TEXT (the default), IMAGE, VIDEO, AUDIO, DOCUMENT, LOCATION, CONTACT or VOICE.
    pub message_type: Option<String>,
    /// The same under its other name: a client may send back a message as it got it.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    pub kind: Option<String>,
    /// The file's http(s) address.
    pub media_url: Option<String>,
    /// The http(s) address of its small picture.
    pub thumbnail_url: Option<String>,
    /// Seconds of sound.
    pub audio_duration: Option<f64>,
    /// The message that this one answers to, in the same conversation.
    pub reply_to_id: Option<MessageId>,
    /// The content is a cipher text of the clients.
    pub is_encrypted: Option<bool>,
    /// The client's own name for the message, 1 to 128 bytes: the same again gives the same message, never a second one.
    pub client_message_id: Option<String>,
    /// A message that may be stored already: then it is answered with, and nothing is sent twice.
    #[serde(deserialize_with = "any_id")]
    pub id: Option<String>,
}

impl poem_openapi::types::Example for SendMessage {
    fn example() -> Self {
        Self {
            conversation_id: "0190f3f0-7f6c-7c3e-9a55-0b1f6f7f9a11".parse().ok(),
            content: Some("Hello!".into()),
            client_message_id: Some("4f6b1c".into()),
            ..Self::default()
        }
    }
}

/// An id as clients send it along: their own temporary ones may be numbers, and name no message.
fn any_id<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<String>, D::Error> {
    Ok(serde_json::Value::deserialize(deserializer)?.as_str().map(str::to_owned))
}

/// The type that a client names, in either field; SYSTEM is the server's own.
fn message_type(message_type: Option<&str>, kind: Option<&str>, has_media: bool) -> Result<MessageType> {
    let (field, name) = match (message_type, kind) {
        (Some(name), _) => ("message_type", name),
        (None, Some(name)) => ("type", name),
        (None, None) => return Ok(if has_media { MessageType::Document } else { MessageType::Text }),
    };
    Ok(match name.to_ascii_uppercase().as_str() {
        "TEXT" => MessageType::Text,
        "IMAGE" => MessageType::Image,
        "VIDEO" => MessageType::Video,
        "AUDIO" => MessageType::Audio,
        "DOCUMENT" => MessageType::Document,
        "LOCATION" => MessageType::Location,
        "CONTACT" => MessageType::Contact,
        "VOICE" => MessageType::Voice,
        _ => {
            let allowed = "TEXT, IMAGE, VIDEO, AUDIO, DOCUMENT, LOCATION, CONTACT or VOICE";
            return Err(Error::invalid(field, format!("{field} must be {allowed}")));
        }
    })
}

/// Content as it may be stored.
fn content(text: Option<&str>, has_media: bool) -> Result<String> {
    let text = text.unwrap_or_default();
    if text.len() > MAX_CONTENT_BYTES {
        return Err(Error::invalid("content", format!("content is {} bytes long, at most {MAX_CONTENT_BYTES} are allowed", text.len())));
    }
    if !has_media && crate::text::clean_text(text).trim().is_empty() {
        return Err(Error::invalid("content", "content is required unless there is media"));
    }
    Ok(text.to_owned())
}

/// An address of a file as it may be stored.
fn url(field: &str, text: Option<String>) -> Result<Option<String>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    if !is_web_address(&text) || text.len() > MAX_URL_BYTES || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::invalid(field, format!("{field} must be an http(s) address of at most {MAX_URL_BYTES} bytes")));
    }
    Ok(Some(text))
}
