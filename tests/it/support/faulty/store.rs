//! The log that goes wrong: [`Faults`](super::Faults) says when, this how.

use std::sync::Arc;

use async_trait::async_trait;
use urge::clock::Timestamp;
use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{
    Cleared, ConversationRecord, Flags, Head, Insert, Location, LogRow, LogStore, Member, MemberMark, Membership, OwnMark, Rewrite,
    Rewritten, Whole, WholeAppend,
};
use urge::store::StoreResult;

use super::{Fault, Faulty};

/// A write whose arguments are owned, so that it can be made twice, or later than its caller is there.
macro_rules! write {
    ($self:ident, [$($owned:ident),*] $method:ident($($argument:expr),*)) => {{
        let backend = Arc::clone(&$self.backend);
        $self.faults.write(move || {
            let backend = Arc::clone(&backend);
            $(let $owned = $owned.clone();)*
            async move { backend.$method($($argument),*).await }
        }).await
    }};
}

#[async_trait]
impl LogStore for Faulty<dyn LogStore> {
    async fn insert_rows(&self, rows: &[LogRow]) -> StoreResult<Insert> {
        let rows = rows.to_vec();
        write!(self, [rows] insert_rows(&rows))
    }

    async fn append_whole(&self, append: &WholeAppend) -> StoreResult<Whole> {
        if self.faults.roll(&[(Fault::Stepwise, self.faults.odds.stepwise)]).is_some() {
            return Ok(Whole::Unsupported);
        }
        let append = append.clone();
        write!(self, [append] append_whole(&append))
    }

    async fn rewrite_row(&self, rewrite: &Rewrite) -> StoreResult<Rewritten> {
        write!(self, [rewrite] rewrite_row(&rewrite))
    }

    async fn rows_after(&self, conversation: ConversationId, after: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        let mut rows = self.faults.read(self.backend.rows_after(conversation, after, limit)).await?;
        if self.faults.is_stale() {
            let end = self.ends.lock().get(&conversation).copied().unwrap_or(0);
            rows.retain(|row| row.seq <= end);
        } else if let Some(last) = rows.last() {
            self.ends.lock().insert(conversation, last.seq);
        }
        Ok(rows)
    }

    async fn rows_before(&self, conversation: ConversationId, before: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        self.faults.read(self.backend.rows_before(conversation, before, limit)).await
    }

    async fn row(&self, conversation: ConversationId, seq: Seq) -> StoreResult<Option<LogRow>> {
        self.faults.read(self.backend.row(conversation, seq)).await
    }

    async fn location(&self, message: MessageId) -> StoreResult<Option<Location>> {
        self.faults.read(self.backend.location(message)).await
    }

    async fn put_locations(&self, messages: &[MessageId], location: &Location) -> StoreResult<()> {
        let (messages, location) = (messages.to_vec(), *location);
        write!(self, [messages] put_locations(&messages, &location))
    }

    async fn conversation(&self, id: ConversationId) -> StoreResult<Option<ConversationRecord>> {
        if self.faults.is_stale()
            && let Some(earlier) = self.records.lock().get(&id)
        {
            return Ok(earlier.clone());
        }
        let record = self.faults.read(self.backend.conversation(id)).await?;
        self.records.lock().insert(id, record.clone());
        Ok(record)
    }

    async fn put_conversation(&self, id: ConversationId, record: &ConversationRecord, seq: Seq) -> StoreResult<()> {
        let record = record.clone();
        write!(self, [record] put_conversation(id, &record, seq))
    }

    async fn mark_large(&self, id: ConversationId, members: &[UserId]) -> StoreResult<()> {
        let members = members.to_vec();
        write!(self, [members] mark_large(id, &members))
    }

    async fn advance_heads(&self, id: ConversationId, head: &Head, members: &[UserId], own: &[OwnMark]) -> StoreResult<()> {
        let (head, members, own) = (*head, members.to_vec(), own.to_vec());
        write!(self, [members, own] advance_heads(id, &head, &members, &own))
    }

    async fn mark_indexed(&self, id: ConversationId, seq: Seq) -> StoreResult<()> {
        write!(self, [] mark_indexed(id, seq))
    }

    async fn unindexed(&self, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<ConversationId>> {
        self.faults.read(self.backend.unindexed(after, limit)).await
    }

    async fn members(&self, id: ConversationId, after: Option<UserId>, limit: usize) -> StoreResult<Vec<Member>> {
        self.faults.read(self.backend.members(id, after, limit)).await
    }

    async fn member(&self, id: ConversationId, user: UserId) -> StoreResult<Option<Member>> {
        self.faults.read(self.backend.member(id, user)).await
    }

    async fn put_members(&self, id: ConversationId, record: &ConversationRecord, changes: &[Member], cleared: &Cleared) -> StoreResult<()> {
        let (record, changes, cleared) = (record.clone(), changes.to_vec(), *cleared);
        write!(self, [record, changes] put_members(id, &record, &changes, &cleared))
    }

    async fn mark_members(&self, id: ConversationId, marks: &[MemberMark], at: Timestamp) -> StoreResult<()> {
        let marks = marks.to_vec();
        write!(self, [marks] mark_members(id, &marks, at))
    }

    async fn memberships(&self, user: UserId) -> StoreResult<Vec<Membership>> {
        self.faults.read(self.backend.memberships(user)).await
    }

    async fn membership(&self, user: UserId, id: ConversationId) -> StoreResult<Option<Membership>> {
        self.faults.read(self.backend.membership(user, id)).await
    }

    async fn mark_read(&self, user: UserId, id: ConversationId, seq: Seq, n: i64) -> StoreResult<()> {
        write!(self, [] mark_read(user, id, seq, n))
    }

    async fn clear(&self, user: UserId, id: ConversationId, cleared: &Cleared) -> StoreResult<()> {
        let cleared = *cleared;
        write!(self, [] clear(user, id, &cleared))
    }

    async fn hide(&self, user: UserId, id: ConversationId, seq: Seq) -> StoreResult<()> {
        write!(self, [] hide(user, id, seq))
    }

    async fn set_flags(&self, user: UserId, id: ConversationId, flags: &Flags, at: Timestamp) -> StoreResult<()> {
        let flags = *flags;
        write!(self, [] set_flags(user, id, &flags, at))
    }

    async fn turn_favourite(&self, user: UserId, id: ConversationId, to: bool, at: Timestamp) -> StoreResult<bool> {
        write!(self, [] turn_favourite(user, id, to, at))
    }
}
