//! The statements of the log, shaped after ScyllaDB: one partition a method, no joins, timestamps given by the caller.
//! Stores are dumb: they keep promises about single statements, and the appender makes a log of them.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Cleared, ConversationRecord, Flags, Head, Location, LogRow, Member, Membership};
use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::store::StoreResult;

/// How a conditional insert went.
#[derive(Clone, Debug, PartialEq)]
pub enum Insert {
    /// All rows are there.
    Applied,
    /// None is: this row stands at the first one's place.
    Exists(Box<LogRow>),
}

/// A conditional change of one row, with the row of the log that tells of it when both are in one bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewrite {
    /// The row as it shall be; applied only while the stored `version` is one less.
    pub target: LogRow,
    /// Appended in the same breath, at its own `seq`, if that is free; must be in the target's bucket.
    pub notice: Option<LogRow>,
}

/// How a conditional change went.
#[derive(Clone, Debug, PartialEq)]
pub enum Rewritten {
    /// Both are done.
    Applied,
    /// Nothing is: the target stands as given here, and the notice's place is taken by the other row, if by any.
    Refused {
        /// The target as stored.
        target: Option<Box<LogRow>>,
        /// What stands at the notice's place.
        taken: Option<Box<LogRow>>,
    },
}

/// A writer's own read mark, moved by his own message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnMark {
    /// Who wrote.
    pub user_id: UserId,
    /// His last row.
    pub seq: Seq,
    /// Messages of people up to there.
    pub n: i64,
}

/// Everything that an append of new messages writes.
#[derive(Clone, Debug, PartialEq)]
pub struct WholeAppend {
    /// Consecutive rows of one bucket.
    pub rows: Vec<LogRow>,
    /// Which of them an earlier attempt may have appended: their messages must not be located yet.
    pub may_exist: Vec<MessageId>,
    /// The floor of all of them: the row before the first.
    pub floor_seq: Seq,
    /// The head after the last.
    pub head: Head,
    /// Whose memberships carry the head.
    pub members: Arc<[UserId]>,
    /// The writers' own read marks.
    pub own: Vec<OwnMark>,
}

/// How a whole append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// All of it is done.
    Applied,
    /// Nothing is: the first place is taken, or a message is located. Step by step it shows which.
    Refused,
    /// Nothing is: a transaction of this store is one partition.
    Unsupported,
}

/// How far a member has received and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberMark {
    /// Who.
    pub user_id: UserId,
    /// The last row that reached a device of his.
    pub delivered_seq: Seq,
    /// The last row that he let others know he has read; 0: none.
    pub read_seq: Seq,
    /// In a DIRECT conversation the other one, whose membership says it too.
    pub peer: Option<UserId>,
}

/// The log, its heads and its memberships.
///
/// *Monotone* cells take the largest value ever written, whatever the order of the writes; a repeated write is harmless.
/// An error other than `Full` of any write means: perhaps done.
#[async_trait]
pub trait LogStore: Send + Sync + 'static {
    /// Appends rows of one bucket with consecutive `seq`: all of them if the first one's place is free, else none.
    async fn insert_rows(&self, rows: &[LogRow]) -> StoreResult<Insert>;

    /// Locations, rows and heads of new messages in one transaction, if the first row's place is free. The one method that
    /// spans partitions: a store that cannot says so, and the appender takes the steps one by one.
    async fn append_whole(&self, append: &WholeAppend) -> StoreResult<Whole>;

    /// Changes a row if its version is the expected one; see [`Rewrite`].
    async fn rewrite_row(&self, rewrite: &Rewrite) -> StoreResult<Rewritten>;

    /// Rows after `after`, ascending, at most `limit`, not beyond the bucket in which `after + 1` stands.
    async fn rows_after(&self, conversation: ConversationId, after: Seq, limit: usize) -> StoreResult<Vec<LogRow>>;

    /// Rows before `before`, descending, at most `limit`, not beyond the bucket in which `before - 1` stands.
    async fn rows_before(&self, conversation: ConversationId, before: Seq, limit: usize) -> StoreResult<Vec<LogRow>>;

    /// One row.
    async fn row(&self, conversation: ConversationId, seq: Seq) -> StoreResult<Option<LogRow>>;

    /// Where a message is to be looked for.
    async fn location(&self, message: MessageId) -> StoreResult<Option<Location>>;

    /// Notes where these messages are to be looked for. Two writers may both write: either floor is right.
    async fn put_locations(&self, messages: &[MessageId], location: &Location) -> StoreResult<()>;

    /// The projected conversation.
    async fn conversation(&self, id: ConversationId) -> StoreResult<Option<ConversationRecord>>;

    /// Projects row `seq`'s view of kind, creator, profile and size; monotone by `seq`. The head stays.
    async fn put_conversation(&self, id: ConversationId, record: &ConversationRecord, seq: Seq) -> StoreResult<()>;

    /// Says in these memberships, then in the conversation, that it is large: before the row that makes it so is appended.
    async fn mark_large(&self, id: ConversationId, members: &[UserId]) -> StoreResult<()>;

    /// Moves the heads of these members' memberships and the conversation's; monotone by `head.seq`. In no order: all of them are
    /// there when it answers, and after an error some may be.
    /// Who wrote has read up to his own last row: `own` moves those read marks in the same writes.
    async fn advance_heads(&self, id: ConversationId, head: &Head, members: &[UserId], own: &[OwnMark]) -> StoreResult<()>;

    /// Notes how far the search index goes; monotone.
    async fn mark_indexed(&self, id: ConversationId, seq: Seq) -> StoreResult<()>;

    /// Conversations whose index lags behind their head, at most `limit`, after `after`: for the worker's start.
    async fn unindexed(&self, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<ConversationId>>;

    /// Members after `after` by id, at most `limit`, gone ones included.
    async fn members(&self, id: ConversationId, after: Option<UserId>, limit: usize) -> StoreResult<Vec<Member>>;

    /// One member.
    async fn member(&self, id: ConversationId, user: UserId) -> StoreResult<Option<Member>>;

    /// Projects states and roles into members and memberships, monotone by `change_seq`, then of joiners `cleared` too.
    async fn put_members(&self, id: ConversationId, record: &ConversationRecord, changes: &[Member], cleared: &Cleared) -> StoreResult<()>;

    /// Moves marks of members, one or many; monotone. Where a peer is told as well, an error may leave one of both done.
    async fn mark_members(&self, id: ConversationId, marks: &[MemberMark], at: Timestamp) -> StoreResult<()>;

    /// All memberships of a person: one partition.
    async fn memberships(&self, user: UserId) -> StoreResult<Vec<Membership>>;

    /// One membership.
    async fn membership(&self, user: UserId, id: ConversationId) -> StoreResult<Option<Membership>>;

    /// Moves a person's own read mark; `n` belongs to `seq`; monotone by `seq`.
    async fn mark_read(&self, user: UserId, id: ConversationId, seq: Seq, n: i64) -> StoreResult<()>;

    /// Hides everything up to a row from a person; monotone by `cleared.seq`.
    async fn clear(&self, user: UserId, id: ConversationId, cleared: &Cleared) -> StoreResult<()>;

    /// Takes the conversation out of a person's list until a row after `seq`; monotone.
    async fn hide(&self, user: UserId, id: ConversationId, seq: Seq) -> StoreResult<()>;

    /// Sets a person's flags; of each flag the latest `at` wins.
    async fn set_flags(&self, user: UserId, id: ConversationId, flags: &Flags, at: Timestamp) -> StoreResult<()>;

    /// Turns a person's favourite flag to this if it says otherwise; whether it did. The one way to change it, since who turns it
    /// over must be told what it is now: no clock decides.
    async fn turn_favourite(&self, user: UserId, id: ConversationId, to: bool, at: Timestamp) -> StoreResult<bool>;
}
