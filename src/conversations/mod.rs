//! Conversations: what one is to each of its members. Making them, listing them, the flags and the cleared history that
//! belong to the caller alone, who belongs to a group, and `/sync`, which tells a client exactly what it lacks.
//! Messages stand above (`messages/`): a conversation shows its last one. Not here: who is told live (`gateway/`).

mod api;
mod clear;
mod create;
mod flags;
mod heads;
mod list;
mod listing;
mod members;
mod service;
mod sync;
mod typing;
mod view;

pub use api::{ConversationsApi, SyncApi};
pub use list::{Listed, is_listed};
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::Deserialize;
pub use service::{Conversations, Parts};
pub use sync::{Sync, SyncEntry, Synced, places};
pub use typing::{Typing, TypingSet};
pub use view::{Conversation, Participant};

use crate::error::{Error, Result};
use crate::id::UserId;
use crate::log::ConversationKind;
use crate::{text, users};

/// Most people whom one call puts into a conversation.
pub const MAX_PARTICIPANT_IDS: usize = 1_000;
/// Most members of a group.
pub const MAX_MEMBERS: usize = 10_000;
/// Longest name of a group, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// Participants that a conversation shows in a list.
pub const LISTED_PARTICIPANTS: usize = 8;
/// Participants that a conversation shows by itself.
pub const VIEWED_PARTICIPANTS: usize = 50;

/// POST /conversations.
#[derive(Clone, Debug, Deserialize, Object)]
#[oai(example)]
pub struct CreateConversation {
    /// DIRECT with exactly one other person, or GROUP.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    pub kind: ConversationKind,
    /// Who shall be in it beside the caller, up to 1,000; naming the caller too changes nothing in a GROUP.
    pub participant_ids: Vec<UserId>,
    /// A GROUP's name, 1 to 100 characters; a DIRECT conversation is called by the other person's.
    #[serde(default)]
    pub name: Option<String>,
    /// http(s) address of a GROUP's picture; anything else is left out.
    #[serde(default)]
    pub avatar_url: Option<String>,
}

impl Example for CreateConversation {
    fn example() -> Self {
        Self {
            kind: ConversationKind::Group,
            participant_ids: vec![UserId(uuid::Uuid::from_u128(0x0197_5a3c_77d2_7f00_8e11_3f5b_2c9d_4e10))],
            name: Some("Analytical engineers".into()),
            avatar_url: None,
        }
    }
}

/// A group's name as it may be stored.
fn group_name(name: Option<&str>) -> Result<String> {
    let name = name.ok_or_else(|| Error::invalid("name", "a group needs a name"))?;
    let name = text::clean_line(name).ok_or_else(|| Error::invalid("name", "name must have at least one visible character"))?;
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(Error::invalid("name", format!("name can be {MAX_NAME_CHARS} characters long")));
    }
    Ok(name)
}

/// A group's picture as it may be stored: what lies on the phone (`file:///…`) is left out.
fn group_picture(url: Option<String>) -> Option<String> {
    url.filter(|url| users::is_web_address(url))
}
