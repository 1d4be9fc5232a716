//! Reading a log across its buckets: because a log has no gap, the end of a bucket is known by its number
//! and the end of the log by a bucket that ends early. Nothing is cached and nobody is asked for permission here.

use std::sync::Arc;

use super::{BUCKET_ROWS, LogRow, LogStore, Member, MemberState};
use crate::id::{ConversationId, MessageId, Seq};
use crate::store::StoreResult;

/// Members that are read at a time.
const MEMBERS_AT_ONCE: usize = 256;

/// Reads logs.
#[derive(Clone)]
pub struct LogReader {
    store: Arc<dyn LogStore>,
}

impl LogReader {
    /// A reader of this store.
    pub fn new(store: Arc<dyn LogStore>) -> Self {
        Self { store }
    }

    /// Rows after `after`, ascending, at most `limit`; fewer only at the end of the log.
    pub async fn after(&self, conversation: ConversationId, after: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        let mut rows: Vec<LogRow> = Vec::new();
        let mut at = after.max(0);
        while rows.len() < limit {
            let mut more = self.store.rows_after(conversation, at, limit - rows.len()).await?;
            let Some(last) = more.last().map(|row| row.seq) else { break };
            at = last;
            rows.append(&mut more);
            if (last + 1) % BUCKET_ROWS != 0 && rows.len() < limit {
                break;
            }
        }
        Ok(rows)
    }

    /// Rows after `after` up to and including `upto`, ascending.
    pub async fn between(&self, conversation: ConversationId, after: Seq, upto: Seq) -> StoreResult<Vec<LogRow>> {
        let wanted = usize::try_from(upto - after.max(0)).unwrap_or(0);
        let mut rows = self.after(conversation, after, wanted).await?;
        rows.retain(|row| row.seq <= upto);
        Ok(rows)
    }

    /// The members of now with their marks; those who have gone are read over.
    pub async fn active_members(&self, conversation: ConversationId) -> StoreResult<Vec<Member>> {
        let mut active = Vec::new();
        let mut after = None;
        loop {
            let members = self.store.members(conversation, after, MEMBERS_AT_ONCE).await?;
            let is_last = members.len() < MEMBERS_AT_ONCE;
            after = members.last().map(|member| member.user_id);
            active.extend(members.into_iter().filter(|member| member.state == MemberState::Active));
            if is_last {
                return Ok(active);
            }
        }
    }

    /// Rows before `before`, descending, at most `limit`; fewer only at the beginning of the log.
    pub async fn before(&self, conversation: ConversationId, before: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        let mut rows: Vec<LogRow> = Vec::new();
        let mut at = before;
        while rows.len() < limit && at > 1 {
            let mut more = self.store.rows_before(conversation, at, limit - rows.len()).await?;
            match more.last() {
                Some(row) => at = row.seq,
                // A bucket that has not been begun: `before` was beyond the end of the log.
                None => at = (at - 1) / BUCKET_ROWS * BUCKET_ROWS,
            }
            rows.append(&mut more);
        }
        Ok(rows)
    }

    /// One row.
    pub async fn row(&self, conversation: ConversationId, seq: Seq) -> StoreResult<Option<LogRow>> {
        self.store.row(conversation, seq).await
    }

    /// The row of a message, wherever it stands; absent when it was never appended.
    pub async fn find(&self, message: MessageId) -> StoreResult<Option<LogRow>> {
        let Some(location) = self.store.location(message).await? else { return Ok(None) };
        let mut after = location.floor_seq;
        // Mostly it is the first row after its floor; a busy log or an abandoned attempt makes it a walk.
        for limit in std::iter::successors(Some(8_usize), |limit| Some((limit * 4).min(1_024))) {
            let rows = self.after(location.conversation_id, after, limit).await?;
            let (count, last) = (rows.len(), rows.last().map(|row| row.seq));
            if let Some(row) = rows.into_iter().find(|row| row.message_id == message) {
                return Ok(Some(row));
            }
            match last {
                Some(last) if count == limit => after = last,
                _ => break,
            }
        }
        Ok(None)
    }
}
