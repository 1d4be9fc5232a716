//! The log's statements on ScyllaDB and Cassandra: one statement a promise of [`LogStore`], no rule of the log. A row claims its
//! place by `IF NOT EXISTS`, which is also the condition of a whole batch in one bucket; monotone cells are written with
//! their place in the log as timestamp, so that the largest wins whatever comes last.

mod row;
mod statement;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use row::{ConversationRow, MemberRow, MembershipRow, RowTuple, row_values};
pub use statement::LogStatements;

use super::numbers::{kind_number, role_number, state_number};
use super::spoilt::readable;
use super::store::{Insert, LogStore, MemberMark, OwnMark, Rewrite, Rewritten, Whole, WholeAppend};
use super::{
    BUCKET_ROWS, Cleared, ConversationKind, ConversationRecord, Flags, Head, Location, LogRow, Member, MemberState, Membership, bucket_of,
};
use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::store::{Prepared, Scylla, StoreError, StoreResult, Writes, limit};

/// The timestamp of what is said once and never taken back.
const FOR_EVER: i64 = 1;
/// A claim that has not been answered by then is read back, and tried again at the same place: its node may stand still. So may a
/// replica, for which two claims that met wait, though all the others answer.
const CLAIM_LIMIT: Duration = Duration::from_millis(500);
/// Members that are written side by side.
const TOGETHER: usize = 32;
/// Marks that share a batch: it stays below what servers warn of.
const MARKS_A_BATCH: usize = 32;

type Log = Prepared<LogStatements>;

/// A claim that is not answered in time is one of which nothing is known.
async fn in_time(claim: impl Future<Output = StoreResult<bool>>) -> StoreResult<bool> {
    let claimed = tokio::time::timeout(CLAIM_LIMIT, claim).await;
    if let Ok(claimed) = claimed {
        return claimed;
    }
    // Those who met would meet again.
    tokio::time::sleep(CLAIM_LIMIT.mul_f64(rand::random())).await;
    Err(StoreError::Unavailable("the store did not answer a claim in time".into()))
}

impl Log {
    /// What stands at this place, after whatever has been begun there is finished: what became of a condition.
    async fn settled(&self, conversation: ConversationId, seq: Seq) -> StoreResult<Option<LogRow>> {
        let found = Scylla::row(self, &self.statements.settled_row, (conversation.0, bucket_of(seq), seq)).await?;
        Ok(found.map(row::log_row))
    }

    /// Projects one member into the conversation's partition, and into his own.
    async fn put_member(
        &self,
        id: ConversationId,
        record: &ConversationRecord,
        member: &Member,
        peer: Option<UserId>,
        cleared: &Cleared,
    ) -> StoreResult<()> {
        let statements = &self.statements;
        let (user, seq) = (member.user_id.0, member.change_seq);
        let (state, role) = (state_number(member.state), role_number(member.role));
        let mut of_conversation = Writes::default();
        of_conversation.add(&statements.put_member, (seq, state, role, seq, member.joined_seq, member.joined_at.0, id.0, user));
        for (statement, mark) in [(&statements.member_has, member.delivered_seq), (&statements.member_reads, member.read_seq)] {
            if mark > 0 {
                of_conversation.add(statement, (mark, mark, id.0, user));
            }
        }
        let mut of_member = Writes::default();
        of_member.add(&statements.put_membership, (seq, kind_number(record.kind), state, role, seq, member.joined_seq, user, id.0));
        if let Some(peer) = peer {
            of_member.add(&statements.put_peer, (seq, peer.0, user, id.0));
        }
        if record.large {
            of_member.add(&statements.membership_is_large, (FOR_EVER, user, id.0));
        }
        if member.joined_seq == member.change_seq && member.state == MemberState::Active && cleared.seq > 0 {
            let Cleared { seq, n, total } = *cleared;
            of_member.add(&statements.clear, (seq, seq, n, total, user, id.0));
            of_member.add(&statements.mark_read, (seq, seq, n, user, id.0));
        }
        let written = [of_conversation, of_member]
            .map(|Writes { statements, values }| async move { self.write_batch(&statements, &values[..]).await });
        try_join_all(written).await.map(drop)
    }
}

#[async_trait]
impl LogStore for Log {
    async fn insert_rows(&self, rows: &[LogRow]) -> StoreResult<Insert> {
        let Some(first) = rows.first() else { return Ok(Insert::Applied) };
        let bodies = rows.iter().map(row::encode).collect::<StoreResult<Vec<_>>>()?;
        let values: Vec<_> = rows.iter().zip(&bodies).map(|(row, body)| row_values(row, body)).collect();
        let LogStatements { insert_row, insert_next, .. } = &self.statements;
        let applied = if let [values] = values.as_slice() {
            in_time(self.apply(insert_row, values)).await
        } else {
            let mut statements = vec![insert_next; rows.len()];
            statements[0] = insert_row;
            in_time(self.apply_batch(&statements, values)).await
        };
        let error = match applied {
            Ok(true) => return Ok(Insert::Applied),
            Ok(false) => None,
            // Perhaps done: what stands there now says whether, and by whom.
            Err(error @ StoreError::Unavailable(_)) => Some(error),
            Err(error) => return Err(error),
        };
        match (self.settled(first.conversation_id, first.seq).await, error) {
            (Ok(Some(row)), _) => Ok(Insert::Exists(Box::new(row))),
            (Ok(None), None) => Err(StoreError::Corrupt(format!("row {} was refused for one that is not there", first.seq))),
            (_, Some(error)) | (Err(error), None) => Err(error),
        }
    }

    async fn append_whole(&self, _append: &WholeAppend) -> StoreResult<Whole> {
        Ok(Whole::Unsupported)
    }

    async fn rewrite_row(&self, rewrite: &Rewrite) -> StoreResult<Rewritten> {
        let Rewrite { target, notice } = rewrite;
        let LogStatements { rewrite_row, insert_row, .. } = &self.statements;
        let body = row::encode(target)?;
        let change = row::rewrite_values(target, &body);
        let applied = match notice {
            None => in_time(self.apply(rewrite_row, &change)).await?,
            Some(notice) => {
                let body = row::encode(notice)?;
                in_time(self.apply_batch(&[rewrite_row, insert_row], (change, row_values(notice, &body)))).await?
            }
        };
        if applied {
            return Ok(Rewritten::Applied);
        }
        let stored = self.settled(target.conversation_id, target.seq).await?;
        let taken = match notice {
            Some(notice) => self.settled(notice.conversation_id, notice.seq).await?,
            None => None,
        };
        Ok(Rewritten::Refused { target: stored.map(Box::new), taken: taken.map(Box::new) })
    }

    async fn rows_after(&self, conversation: ConversationId, after: Seq, rows: usize) -> StoreResult<Vec<LogRow>> {
        let bucket = bucket_of(after.saturating_add(1));
        let end = (bucket + 1).saturating_mul(BUCKET_ROWS);
        let found: Vec<RowTuple> = self.rows(&self.statements.rows_after, (conversation.0, bucket, after, end, limit(rows))).await?;
        Ok(found.into_iter().map(row::log_row).collect())
    }

    async fn rows_before(&self, conversation: ConversationId, before: Seq, rows: usize) -> StoreResult<Vec<LogRow>> {
        let bucket = bucket_of(before.saturating_sub(1));
        let found: Vec<RowTuple> = self.rows(&self.statements.rows_before, (conversation.0, bucket, before, limit(rows))).await?;
        Ok(found.into_iter().map(row::log_row).collect())
    }

    async fn row(&self, conversation: ConversationId, seq: Seq) -> StoreResult<Option<LogRow>> {
        let found = Scylla::row(self, &self.statements.row, (conversation.0, bucket_of(seq), seq)).await?;
        Ok(found.map(row::log_row))
    }

    async fn location(&self, message: MessageId) -> StoreResult<Option<Location>> {
        let found: Option<(uuid::Uuid, i64)> = Scylla::row(self, &self.statements.location, (message.0,)).await?;
        Ok(found.map(|(id, floor_seq)| Location { conversation_id: ConversationId(id), floor_seq }))
    }

    async fn put_locations(&self, messages: &[MessageId], location: &Location) -> StoreResult<()> {
        let statements = vec![&self.statements.put_location; messages.len()];
        let values: Vec<_> = messages.iter().map(|message| (message.0, location.conversation_id.0, location.floor_seq)).collect();
        self.write_apart(&statements, &values).await
    }

    async fn conversation(&self, id: ConversationId) -> StoreResult<Option<ConversationRecord>> {
        let found: Option<ConversationRow> = Scylla::row(self, &self.statements.conversation, (id.0,)).await?;
        found.map_or(Ok(None), row::conversation)
    }

    async fn put_conversation(&self, id: ConversationId, record: &ConversationRecord, seq: Seq) -> StoreResult<()> {
        let LogStatements { put_conversation, conversation_is_large, .. } = &self.statements;
        let profile = serde_json::to_string(&record.profile).map_err(|error| StoreError::Statement(Box::new(error)))?;
        let values = (seq, kind_number(record.kind), record.created_by.0, record.created_at.0, profile, id.0);
        if record.large {
            self.write_batch(&[put_conversation, conversation_is_large], (values, (FOR_EVER, id.0))).await
        } else {
            self.write(put_conversation, values).await
        }
    }

    async fn mark_large(&self, id: ConversationId, members: &[UserId]) -> StoreResult<()> {
        for members in members.chunks(TOGETHER) {
            let values: Vec<_> = members.iter().map(|user| (FOR_EVER, user.0, id.0)).collect();
            self.write_all(&self.statements.membership_is_large, &values).await?;
        }
        self.write(&self.statements.conversation_is_large, (FOR_EVER, id.0)).await
    }

    async fn advance_heads(&self, id: ConversationId, head: &Head, members: &[UserId], own: &[OwnMark]) -> StoreResult<()> {
        let LogStatements { move_head, mark_read, put_head, .. } = &self.statements;
        let Head { seq, n, total, message_seq, at } = *head;
        let mut writes = Writes::default();
        for user in members {
            writes.add(move_head, (seq, seq, n, total, message_seq, at.0, user.0, id.0));
        }
        for mark in own.iter().filter(|mark| mark.seq > 0) {
            writes.add(mark_read, (mark.seq, mark.seq, mark.n, mark.user_id.0, id.0));
        }
        writes.add(put_head, (seq, seq, n, total, message_seq, at.0, id.0));
        self.write_apart(&writes.statements, &writes.values).await
    }

    async fn mark_indexed(&self, id: ConversationId, seq: Seq) -> StoreResult<()> {
        if seq <= 0 {
            return Ok(());
        }
        self.write(&self.statements.mark_indexed, (seq, seq, id.0)).await
    }

    async fn unindexed(&self, after: Option<ConversationId>, wanted: usize) -> StoreResult<Vec<ConversationId>> {
        /// Conversations that are looked at in one go.
        const LOOKED_AT: usize = 1_000;
        let (mut lagging, mut after) = (Vec::new(), after);
        while lagging.len() < wanted {
            let LogStatements { conversations, conversations_after, .. } = &self.statements;
            let found: Vec<(uuid::Uuid, Option<i64>, Option<i64>)> = match after {
                None => self.rows(conversations, (limit(LOOKED_AT),)).await?,
                Some(id) => self.rows(conversations_after, (id.0, limit(LOOKED_AT))).await?,
            };
            let (is_last, last) = (found.len() < LOOKED_AT, found.last().map(|(id, ..)| ConversationId(*id)));
            let lags = found.into_iter().filter(|(_, indexed, last)| indexed.unwrap_or(0) < last.unwrap_or(0));
            lagging.extend(lags.map(|(id, ..)| ConversationId(id)));
            if is_last {
                break;
            }
            after = last;
        }
        lagging.truncate(wanted);
        Ok(lagging)
    }

    async fn members(&self, id: ConversationId, after: Option<UserId>, wanted: usize) -> StoreResult<Vec<Member>> {
        let (mut members, mut after) = (Vec::new(), after.map_or(uuid::Uuid::nil(), |user| user.0));
        // Rows of marks alone are no members: until there are enough, or no more rows.
        while members.len() < wanted {
            let found: Vec<MemberRow> = self.rows(&self.statements.members, (id.0, after, limit(wanted))).await?;
            let is_last = found.len() < wanted;
            after = found.last().map_or(after, |row| row.0);
            members.extend(found.into_iter().filter_map(|row| readable("members", id, row::member(row))?));
            if is_last {
                break;
            }
        }
        members.truncate(wanted);
        Ok(members)
    }

    async fn member(&self, id: ConversationId, user: UserId) -> StoreResult<Option<Member>> {
        let found: Option<MemberRow> = Scylla::row(self, &self.statements.member, (id.0, user.0)).await?;
        found.map_or(Ok(None), row::member)
    }

    async fn put_members(&self, id: ConversationId, record: &ConversationRecord, changes: &[Member], cleared: &Cleared) -> StoreResult<()> {
        let peer = |member: &Member| match (record.kind, changes) {
            (ConversationKind::Direct, [a, b]) => Some(if a.user_id == member.user_id { b.user_id } else { a.user_id }),
            _ => None,
        };
        for some in changes.chunks(TOGETHER) {
            try_join_all(some.iter().map(|member| self.put_member(id, record, member, peer(member), cleared))).await?;
        }
        Ok(())
    }

    async fn mark_members(&self, id: ConversationId, marks: &[MemberMark], at: Timestamp) -> StoreResult<()> {
        let LogStatements { mark_delivered, mark_member_read, peer_has, peer_reads, .. } = &self.statements;
        for marks in marks.chunks(MARKS_A_BATCH) {
            let mut writes = Writes::default();
            for mark in marks {
                for (seq, mine, his) in [(mark.delivered_seq, mark_delivered, peer_has), (mark.read_seq, mark_member_read, peer_reads)] {
                    if seq > 0 {
                        writes.add(mine, (seq, seq, at.0, id.0, mark.user_id.0));
                    }
                    if let Some(peer) = mark.peer.filter(|_| seq > 0) {
                        writes.add(his, (seq, seq, peer.0, id.0));
                    }
                }
            }
            if !writes.statements.is_empty() {
                self.write_batch(&writes.statements, &writes.values[..]).await?;
            }
        }
        Ok(())
    }

    async fn memberships(&self, user: UserId) -> StoreResult<Vec<Membership>> {
        let found: Vec<MembershipRow> = self.rows(&self.statements.memberships, (user.0,)).await?;
        Ok(found.iter().filter_map(|row| readable("memberships", row.conversation(), row::membership(row))?).collect())
    }

    async fn membership(&self, user: UserId, id: ConversationId) -> StoreResult<Option<Membership>> {
        let found: Option<MembershipRow> = Scylla::row(self, &self.statements.membership, (user.0, id.0)).await?;
        found.as_ref().map_or(Ok(None), row::membership)
    }

    async fn mark_read(&self, user: UserId, id: ConversationId, seq: Seq, n: i64) -> StoreResult<()> {
        if seq <= 0 {
            return Ok(());
        }
        self.write(&self.statements.mark_read, (seq, seq, n, user.0, id.0)).await
    }

    async fn clear(&self, user: UserId, id: ConversationId, cleared: &Cleared) -> StoreResult<()> {
        if cleared.seq <= 0 {
            return Ok(());
        }
        self.write(&self.statements.clear, (cleared.seq, cleared.seq, cleared.n, cleared.total, user.0, id.0)).await
    }

    async fn hide(&self, user: UserId, id: ConversationId, seq: Seq) -> StoreResult<()> {
        if seq <= 0 {
            return Ok(());
        }
        self.write(&self.statements.hide, (seq, seq, user.0, id.0)).await
    }

    async fn set_flags(&self, user: UserId, id: ConversationId, flags: &Flags, at: Timestamp) -> StoreResult<()> {
        let LogStatements { set_muted, set_archived, .. } = &self.statements;
        // In microseconds, as the servers themselves stamp a favourite.
        let stamp = at.0.saturating_mul(1_000);
        let flags = [(set_muted, flags.muted), (set_archived, flags.archived)];
        let (statements, values): (Vec<_>, Vec<_>) =
            flags.into_iter().filter_map(|(statement, flag)| Some((statement, (stamp, flag?, user.0, id.0)))).unzip();
        if statements.is_empty() { Ok(()) } else { self.write_batch(&statements, values).await }
    }

    async fn turn_favourite(&self, user: UserId, id: ConversationId, to: bool, _at: Timestamp) -> StoreResult<bool> {
        let LogStatements { settled_favourite, turn_favourite, .. } = &self.statements;
        let found: Option<(Option<i64>, Option<bool>)> = Scylla::row(self, settled_favourite, (user.0, id.0)).await?;
        match found {
            Some((Some(_), favourite)) if favourite.unwrap_or(false) != to => {
                self.apply(turn_favourite, (to, user.0, id.0, favourite)).await
            }
            _ => Ok(false),
        }
    }
}
