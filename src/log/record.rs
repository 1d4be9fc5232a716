//! The records of a log and of what is projected from it: rows, heads, members, memberships.

use super::{Body, ConversationKind, MemberState, Profile, Role};
use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, Seq, UserId};

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
            // A row that cannot be read counts nothing.
            n: row.n.max(self.n),
            total: row.total.max(self.total),
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
    /// Has, or had, more than [`super::LARGE_ABOVE`] members.
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
    /// When any of these flags was last set.
    pub flags_at: Timestamp,
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
}
