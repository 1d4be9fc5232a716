//! A conversation is a gap-free log: every lasting fact of it is one row with the next [`Seq`].
//! Here are the rows, the heads and memberships that are projected from them, the one way to append ([`Appender`])
//! and the one way to read. What a row means to a reader (views, events, receipts) is the features' business.

mod append;
mod batch;
mod body;
mod load;
mod numbers;
mod reader;
mod record;
mod redo;
mod revise;
mod scylla;
mod spoilt;
mod sqlite;
mod state;
mod store;
mod turns;
mod whole;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use append::{Announce, Announcement, Appender, Change, Permit, Posted, Proposal, Revise};
pub use body::{
    Body, Content, ConversationKind, Creation, GroupRules, MemberState, MembersChange, MessageType, Profile, ProfileChange, Reply, Role,
};
pub use reader::LogReader;
pub use record::{Cleared, ConversationRecord, Flags, Head, Location, LogRow, Member, Membership};
pub use scylla::LogStatements;
pub(crate) use spoilt::unless_spoilt;
pub use state::ConversationState;
pub use store::{Insert, LogStore, MemberMark, OwnMark, Rewrite, Rewritten, Whole, WholeAppend};
pub(crate) use turns::Turns;

use crate::id::{Seq, UserId};

/// Rows a bucket: the partition of the log is (conversation, seq / this).
pub const BUCKET_ROWS: Seq = 4_096;
/// Above this many members a conversation is `large`: heads are then read on demand and status stays SENT.
pub const LARGE_ABOVE: usize = 64;

/// The bucket that a row stands in.
pub fn bucket_of(seq: Seq) -> i64 {
    seq / BUCKET_ROWS
}

/// The members of a conversation, by id.
pub type Members = Arc<BTreeMap<UserId, Member>>;
