//! A conversation is a gap-free log: every lasting fact of it is one row with the next [`Seq`].
//! Here are the rows, the heads and memberships that are projected from them, the one way to append ([`Appender`])
//! and the one way to read. What a row means to a reader (views, events, receipts) is the features' business.

mod append;
mod batch;
mod reader;
mod sqlite;
mod state;
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use append::{Announce, Announcement, Appender, Change, Permit, Posted, Proposal, Revise};
pub use reader::LogReader;
use serde::{Deserialize, Serialize};
pub use state::ConversationState;
pub use store::{Insert, LogStore, OwnMark, Rewrite, Rewritten};

use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, Seq, UserId};

/// Rows a bucket: the partition of the log is (conversation, seq / this).
pub const BUCKET_ROWS: Seq = 4_096;
/// Above this many members a conversation is `large`: heads are then read on demand and status stays SENT.
pub const LARGE_ABOVE: usize = 64;

/// The bucket that a row stands in.
pub fn bucket_of(seq: Seq) -> i64 {
    seq / BUCKET_ROWS
}

/// Two people, or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, poem_openapi::Enum)]
#[serde(rename_all = "UPPERCASE")]
#[oai(rename_all = "UPPERCASE")]
pub enum ConversationKind {
    /// Exactly two people, once.
    Direct,
    /// A named group.
    Group,
}

/// What somebody is to a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, poem_openapi::Enum)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, poem_openapi::Enum)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, poem_openapi::Enum)]
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
}

impl Body {
    /// Whether readers see a message at this row (`total` counts it).
    pub fn is_shown(&self) -> bool {
        matches!(self, Self::Message(_) | Self::Members(_) | Self::Profile(_))
    }

    /// Whether it counts as unread (`n` counts it): SYSTEM messages do not.
    pub fn is_counted(&self) -> bool {
        matches!(self, Self::Message(_))
    }
}

/// A row of the log, as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRow {
    /// Whose log.
    pub conversation_id: ConversationId,
    /// Its place.
    pub seq: Seq,
    /// Its own id; for a message the message's.
    pub message_id: MessageId,
    /// Who caused it.
    pub sender_id: UserId,
    /// Messages of people up to and including this row.
    pub n: i64,
    /// Messages of people and of the system up to and including this row.
    pub total: i64,
    /// The row that an edit or deletion is about.
    pub target_seq: Option<Seq>,
    /// What it says.
    pub body: Body,
    /// Never before the previous row's.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it was deleted for everyone.
    pub deleted_at: Option<Timestamp>,
    /// 0, and one more with each change.
    pub version: i64,
    /// The row of the log that this state comes from.
    pub change_seq: Seq,
    /// The id of that row: by it a writer knows its own change again.
    pub change_id: MessageId,
}

/// How far a log goes. Orders by `seq`: a later head replaces an earlier one, never the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Head {
    /// The last row.
    pub seq: Seq,
    /// Messages of people up to there.
    pub n: i64,
    /// Messages of people and of the system up to there.
    pub total: i64,
    /// The last row that readers see as a message; 0 when there is none.
    pub message_seq: Seq,
    /// When the last message was written, or the conversation made.
    pub at: Timestamp,
}

impl Head {
    /// The head after `row`, which must be the next one.
    #[must_use]
    pub fn after(self, row: &LogRow) -> Self {
        let shown = row.body.is_shown();
        Self {
            seq: row.seq,
            n: row.n,
            total: row.total,
            message_seq: if shown { row.seq } else { self.message_seq },
            at: if shown || row.seq == 1 { row.created_at.max(self.at) } else { self.at },
        }
    }
}

/// Where a message stands, or will: after `floor_seq` in this conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Whose log.
    pub conversation_id: ConversationId,
    /// A row that is certainly before it.
    pub floor_seq: Seq,
}

/// The projected conversation: what is known without reading its log.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationRecord {
    /// DIRECT or GROUP.
    pub kind: ConversationKind,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// Name and rules.
    pub profile: Profile,
    /// Has, or had, more than [`LARGE_ABOVE`] members.
    pub large: bool,
    /// How far the log is projected; a stale one is safe.
    pub head: Head,
    /// How far the search index goes.
    pub indexed_seq: Seq,
}

/// A member as the conversation sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user_id: UserId,
    /// Member, gone or removed.
    pub state: MemberState,
    /// Office.
    pub role: Role,
    /// The row that last changed state or role.
    pub change_seq: Seq,
    /// The row that (last) made him a member.
    pub joined_seq: Seq,
    /// When.
    pub joined_at: Timestamp,
    /// Everything up to here has reached one of his devices.
    pub delivered_seq: Seq,
    /// When it did.
    pub delivered_at: Timestamp,
    /// He has read up to here (never moved while he hides receipts).
    pub read_seq: Seq,
    /// When he did.
    pub read_at: Timestamp,
}

/// A conversation as a member sees it: one row of his list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Which conversation.
    pub conversation_id: ConversationId,
    /// DIRECT or GROUP.
    pub kind: ConversationKind,
    /// `head` is not kept here but read from the conversation.
    pub large: bool,
    /// The other person of a DIRECT one.
    pub peer_id: Option<UserId>,
    /// Member, gone or removed.
    pub state: MemberState,
    /// Office.
    pub role: Role,
    /// The row that last changed state or role.
    pub change_seq: Seq,
    /// The row that (last) made him a member.
    pub joined_seq: Seq,
    /// How far the log goes.
    pub head: Head,
    /// He has read up to here.
    pub read_seq: Seq,
    /// Messages of people up to `read_seq`.
    pub read_n: i64,
    /// DIRECT: the other has read up to here.
    pub peer_read_seq: Seq,
    /// DIRECT: the other's devices have everything up to here.
    pub peer_delivered_seq: Seq,
    /// He sees nothing at or below this row.
    pub cleared_seq: Seq,
    /// Messages of people up to `cleared_seq`.
    pub cleared_n: i64,
    /// Messages of people and of the system up to `cleared_seq`.
    pub cleared_total: i64,
    /// Not in his list while the log ends at or below this row.
    pub hidden_seq: Seq,
    /// No notifications.
    pub muted: bool,
    /// Kept apart from the list.
    pub archived: bool,
    /// On top of the list.
    pub favourite: bool,
}

impl Membership {
    /// Messages of people that he has not read.
    pub fn unread(&self) -> i64 {
        (self.head.n - self.read_n.max(self.cleared_n)).max(0)
    }
}

/// Everything shown up to a row: what clearing or joining leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cleared {
    /// Nothing at or below this row is shown.
    pub seq: Seq,
    /// Messages of people up to there.
    pub n: i64,
    /// Messages of people and of the system up to there.
    pub total: i64,
}

/// A wish to change the caller's own flags; `None` leaves a flag alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags {
    /// No notifications.
    pub muted: Option<bool>,
    /// Kept apart.
    pub archived: Option<bool>,
    /// On top.
    pub favourite: Option<bool>,
}

/// The members of a conversation, by id.
pub type Members = Arc<BTreeMap<UserId, Member>>;
