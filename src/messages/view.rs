//! The one wire object of a message and the one function that makes it of a row.
//! REST, sync, acks and live events all show this; in live events `isStarred` is absent, for it differs by recipient.

use poem_openapi::types::Example;
use poem_openapi::{Enum, Object};
use serde::{Deserialize, Serialize};

use super::DELETED_CONTENT;
use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::log::{Body, Content, LogRow, MessageType};

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Enum)]
#[serde(rename_all = "UPPERCASE")]
#[oai(rename_all = "UPPERCASE")]
pub enum MessageStatus {
    /// Stored.
    Sent,
    /// On a device of every recipient.
    Delivered,
    /// Read by every recipient.
    Read,
}

/// What a message answers to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct ReplyView {
    /// The message answered to.
    pub id: MessageId,
    /// Who wrote it.
    pub sender_name: Option<String>,
    /// The beginning of its content.
    pub content: String,
}

/// A message as the app reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// Its place in the conversation, from 1, without gaps; edits and the like take places too.
    pub seq: Seq,
    /// The row of the log that this state comes from: `seq` when new, the edit's row after an edit.
    pub change_seq: Seq,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// Who wrote it.
    pub sender_id: UserId,
    /// What the sender is called.
    pub sender_name: Option<String>,
    /// The sender's picture.
    pub sender_avatar: Option<String>,
    /// Its words.
    pub content: String,
    /// Its type.
    pub message_type: MessageType,
    /// The same again.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    pub kind: MessageType,
    /// SENT, DELIVERED or READ.
    pub status: MessageStatus,
    /// Its file.
    pub media_url: Option<String>,
    /// The small picture of its file.
    pub thumbnail_url: Option<String>,
    /// Seconds of sound.
    pub audio_duration: Option<f64>,
    /// What it answers to.
    pub reply_to_id: Option<MessageId>,
    /// What that said.
    pub reply_to: Option<ReplyView>,
    /// The sender has changed its words.
    pub is_edited: bool,
    /// Deleted for everyone.
    pub is_deleted: bool,
    /// The content is a cipher text of the clients.
    pub is_encrypted: bool,
    /// Starred by the caller; absent in live events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[oai(skip_serializing_if_is_none)]
    pub is_starred: Option<bool>,
    /// Forwarded from another conversation.
    pub is_forwarded: bool,
    /// The client's own name for it.
    pub client_message_id: Option<String>,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it was deleted for everyone.
    pub deleted_at: Option<Timestamp>,
}

impl Example for Message {
    fn example() -> Self {
        let at = Timestamp(1_769_860_800_123);
        Self {
            id: MessageId(uuid::Uuid::from_u128(0x0197_5a3c_9a01_7c00_9d21_6b0a_51f3_8c01)),
            seq: 42,
            change_seq: 42,
            conversation_id: ConversationId(uuid::Uuid::from_u128(0x0197_5a3c_8b10_7a00_8c44_2f9e_10ad_7b02)),
            sender_id: UserId(uuid::Uuid::from_u128(0x0197_5a3c_77d2_7f00_8e11_3f5b_2c9d_4e10)),
            sender_name: Some("Ada Lovelace".into()),
            sender_avatar: None,
            content: "Hello!".into(),
            message_type: MessageType::Text,
            kind: MessageType::Text,
            status: MessageStatus::Sent,
            media_url: None,
            thumbnail_url: None,
            audio_duration: None,
            reply_to_id: None,
            reply_to: None,
            is_edited: false,
            is_deleted: false,
            is_encrypted: false,
            is_starred: Some(false),
            is_forwarded: false,
            client_message_id: Some("4f6b1c".into()),
            created_at: at,
            updated_at: at,
            deleted_at: None,
        }
    }
}

/// A person as a message names him.
#[derive(Clone, Debug, Default)]
pub(super) struct Author {
    pub name: Option<String>,
    pub avatar_url: Option<String>,
}

/// The message of a row, or nothing if the row is none. `author_of` knows sender and quoted sender.
pub(super) fn message(
    row: LogRow,
    status: MessageStatus,
    is_starred: Option<bool>,
    author_of: impl Fn(UserId) -> Author,
) -> Option<Message> {
    let author = author_of(row.sender_id);
    let is_deleted = row.deleted_at.is_some();
    let content = match row.body {
        Body::Message(content) => content,
        Body::Members(change) => system(change.text),
        Body::Profile(change) => system(change.text),
        Body::Created(_) | Body::Edited | Body::Deleted | Body::Unreadable => return None,
    };
    let reply_to =
        content.reply_to.map(|reply| ReplyView { id: reply.id, sender_name: author_of(reply.sender_id).name, content: reply.content });
    Some(Message {
        id: row.message_id,
        seq: row.seq,
        change_seq: row.change_seq,
        conversation_id: row.conversation_id,
        sender_id: row.sender_id,
        sender_name: author.name,
        sender_avatar: author.avatar_url,
        content: if is_deleted { DELETED_CONTENT.to_owned() } else { content.content },
        message_type: content.message_type,
        kind: content.message_type,
        status,
        media_url: content.media_url,
        thumbnail_url: content.thumbnail_url,
        audio_duration: content.audio_duration,
        reply_to_id: reply_to.as_ref().map(|reply| reply.id),
        reply_to,
        is_edited: content.is_edited,
        is_deleted,
        is_encrypted: content.is_encrypted,
        is_starred,
        is_forwarded: content.is_forwarded,
        client_message_id: content.client_message_id,
        created_at: row.created_at,
        updated_at: row.updated_at,
        deleted_at: row.deleted_at,
    })
}

fn system(text: String) -> Content {
    Content { message_type: MessageType::System, content: text, ..Content::default() }
}
