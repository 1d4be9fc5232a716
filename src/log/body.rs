//! What a row of a log can say, as it is stored: messages, changes of members and profile, and the notices of edits.

use poem_openapi::Enum;
use serde::{Deserialize, Serialize};

use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::store::count_unreadable;

/// Two people, or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Enum)]
#[serde(rename_all = "UPPERCASE")]
#[oai(rename_all = "UPPERCASE")]
pub enum ConversationKind {
    /// Exactly two people, once.
    Direct,
    /// A named group.
    Group,
}

/// What somebody is to a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Enum)]
#[serde(rename_all = "UPPERCASE")]
#[oai(rename_all = "UPPERCASE")]
pub enum MemberState {
    /// A member.
    Active,
    /// Went.
    Left,
    /// Was removed.
    Removed,
}

/// A member's office in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Enum)]
#[serde(rename_all = "UPPERCASE")]
#[oai(rename_all = "UPPERCASE")]
pub enum Role {
    /// The owner: one a group.
    Founder,
    /// Co-founder.
    Accountant,
    /// Co-founder; may add and remove.
    Moderator,
    /// Co-founder; may add.
    Recruiter,
    /// Co-founder.
    Support,
    /// Co-founder.
    Cheerleader,
    /// Everybody else.
    Member,
}

impl Role {
    /// Founder or co-founder.
    pub fn is_admin(self) -> bool {
        self != Self::Member
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, Enum)]
#[serde(rename_all = "UPPERCASE")]
#[oai(rename_all = "UPPERCASE")]
pub enum MessageType {
    /// Words.
    #[default]
    Text,
    /// A picture.
    Image,
    /// A film.
    Video,
    /// Sound.
    Audio,
    /// A file.
    Document,
    /// A place.
    Location,
    /// A business card.
    Contact,
    /// A voice message.
    Voice,
    /// Written by the server: who joined, what was renamed.
    System,
}

/// What was answered to, as it read when it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The message answered to.
    pub id: MessageId,
    /// Its place in the same conversation: readers see what it says now.
    #[serde(default)]
    pub seq: Seq,
    /// Who wrote it.
    pub sender_id: UserId,
    /// The beginning of its content.
    pub content: String,
}

/// What a person wrote.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// Its type.
    #[serde(rename = "t")]
    pub message_type: MessageType,
    /// Its words.
    #[serde(rename = "c")]
    pub content: String,
    /// Its file.
    #[serde(rename = "m", skip_serializing_if = "Option::is_none")]
    pub media_url: Option<String>,
    /// The small picture of its file.
    #[serde(rename = "th", skip_serializing_if = "Option::is_none")]
    pub thumbnail_url: Option<String>,
    /// Seconds of sound.
    #[serde(rename = "ad", skip_serializing_if = "Option::is_none")]
    pub audio_duration: Option<f64>,
    /// What it answers to.
    #[serde(rename = "r", skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Reply>,
    /// The content is a cipher text of the clients.
    #[serde(rename = "e", skip_serializing_if = "std::ops::Not::not")]
    pub is_encrypted: bool,
    /// Was forwarded from another conversation.
    #[serde(rename = "f", skip_serializing_if = "std::ops::Not::not")]
    pub is_forwarded: bool,
    /// The client's own name for it.
    #[serde(rename = "ci", skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<String>,
    /// Its words have been changed by the sender.
    #[serde(rename = "ed", skip_serializing_if = "std::ops::Not::not")]
    pub is_edited: bool,
}

/// A group's rules; a DIRECT conversation has the defaults and nobody reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupRules {
    /// May be found and joined by anybody.
    pub is_public: bool,
    /// Every member may add others.
    pub allow_member_invites: bool,
    /// Joining by link needs an admin's yes.
    pub require_admin_approval: bool,
    /// Only founder and co-founders may write.
    pub only_admins_can_post: bool,
    /// Only founder and co-founders may change name, description and picture.
    pub only_admins_can_edit_info: bool,
    /// 12 letters or digits that let one join.
    pub invite_link: Option<String>,
    /// The link works.
    pub invite_link_enabled: bool,
    /// Members get no pushes.
    pub mute_notifications: bool,
    /// A colour for the app.
    pub theme_color: Option<String>,
}

impl Default for GroupRules {
    fn default() -> Self {
        Self {
            is_public: false,
            allow_member_invites: false,
            require_admin_approval: false,
            only_admins_can_post: false,
            only_admins_can_edit_info: true,
            invite_link: None,
            invite_link_enabled: false,
            mute_notifications: false,
            theme_color: None,
        }
    }
}

/// What a conversation is called and how it is run.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// A group's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A group's description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A group's picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    /// A group's rules.
    pub rules: GroupRules,
}

/// Row 1 of every log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Creation {
    /// DIRECT or GROUP.
    pub kind: ConversationKind,
    /// Name and rules.
    pub profile: Profile,
    /// Everybody in it from the start, the creator included.
    pub members: Vec<(UserId, Role)>,
}

/// A change of who belongs to a conversation, and in what office.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MembersChange {
    /// Whom it concerns, and what they are from this row on.
    pub members: Vec<(UserId, MemberState, Role)>,
    /// The SYSTEM message that readers see.
    pub text: String,
}

/// A change of name, description, picture or rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProfileChange {
    /// What holds from this row on.
    pub profile: Profile,
    /// The SYSTEM message that readers see.
    pub text: String,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// The conversation began.
    Created(Creation),
    /// A person wrote something.
    Message(Content),
    /// The row at `target_seq` was edited; its new words stand there.
    Edited,
    /// The row at `target_seq` was deleted for everyone.
    Deleted,
    /// People came, went or changed office.
    Members(MembersChange),
    /// Name, picture or rules changed.
    Profile(ProfileChange),
    /// It cannot be read: it is spoilt, or a newer version has written it. Readers see nothing at its place, and what is
    /// after it; nobody can write it.
    #[serde(skip)]
    Unreadable,
}

impl Body {
    /// What the store keeps of the row `seq`. One that cannot be read keeps nobody from reading the others.
    pub fn read(json: &[u8], conversation: ConversationId, seq: Seq) -> Self {
        serde_json::from_slice(json).unwrap_or_else(|error| {
            count_unreadable();
            let (line, column) = (error.line(), error.column());
            tracing::error!(%conversation, seq, line, column, "a row of the log cannot be read, and is passed over");
            Self::Unreadable
        })
    }

    /// Whether readers see a message at this row (`total` counts it).
    pub fn is_shown(&self) -> bool {
        matches!(self, Self::Message(_) | Self::Members(_) | Self::Profile(_))
    }

    /// Whether it counts as unread (`n` counts it): SYSTEM messages do not.
    pub fn is_counted(&self) -> bool {
        matches!(self, Self::Message(_))
    }
}
