//! How a node learns of a conversation, and of the rows that others have appended to it: what the store's projections tell,
//! then what stands in the log behind them. Whoever meets rows that nobody has seen to does that for them.

use std::sync::Arc;

use super::append::Shared;
use super::batch::persist;
use super::{ConversationState, LogRow, Member};
use crate::clock::Timestamp;
use crate::id::{ConversationId, Seq};
use crate::store::{StoreError, StoreResult};

/// Rows that are read at a time when catching up.
const CATCH_UP_ROWS: usize = 256;

impl Shared {
    /// The conversation with everything that is in its log: projections first, then the rows behind them.
    pub async fn load(&self, id: ConversationId) -> StoreResult<Arc<ConversationState>> {
        self.known_or_read(id).await.map(|(state, _)| state)
    }

    /// The same, and whether it was read here and now, so that nothing which was there before is missing.
    async fn known_or_read(&self, id: ConversationId) -> StoreResult<(Arc<ConversationState>, bool)> {
        if let Some(state) = self.cached(id) {
            return Ok((state, false));
        }
        // One at a time: of a group whose members all connect at once the members are read once, and two that roll the
        // same rows forward would both tell of them.
        let _turn = self.loading.turn(id).await;
        if let Some(state) = self.cached(id) {
            return Ok((state, false));
        }
        // The head before the members: whoever moved it had projected everything up to there.
        let record = self.store.conversation(id).await?;
        let mut members = Vec::new();
        loop {
            let after = members.last().map(|member: &Member| member.user_id);
            let page = self.store.members(id, after, 1_000).await?;
            let full = page.len() == 1_000;
            members.extend(page);
            if !full {
                break;
            }
        }
        let head = record.as_ref().map_or(0, |record| record.head.seq);
        // The last row, for its time, and with it those behind it: mostly there are none.
        let mut rows = self.reader.after(id, (head - 1).max(0), CATCH_UP_ROWS).await?;
        let is_next = rows.iter().zip(head.max(1)..).all(|(row, seq)| row.seq == seq);
        let is_whole = is_next && (usize::from(head > 0)..CATCH_UP_ROWS).contains(&rows.len());
        let last = match head {
            0 => None,
            _ if is_whole => Some(rows.remove(0)),
            _ => self.store.row(id, head).await?,
        };
        let last_at = last.map_or(Timestamp(0), |row| row.created_at);
        let mut state = ConversationState::projected(id, record, members, last_at);
        if is_whole {
            self.take_in(&mut state, &rows).await?;
        } else {
            self.catch_up(&mut state).await?;
        }
        let state = Arc::new(state);
        if state.record.is_some() {
            self.remember(Arc::clone(&state));
        }
        Ok((state, true))
    }

    /// The conversation with every row that stands in the log now, for what a stale one must not answer. Where only this node
    /// appends that is what it knows.
    pub async fn load_whole(&self, id: ConversationId) -> StoreResult<Arc<ConversationState>> {
        let (state, is_read) = self.known_or_read(id).await?;
        if is_read || !self.announce.has_others() {
            return Ok(state);
        }
        let head = self.store.conversation(id).await?.map_or(0, |record| record.head.seq);
        if head <= state.head.seq {
            return Ok(state);
        }
        let _turn = self.loading.turn(id).await;
        let known = self.cached(id).unwrap_or(state);
        if known.head.seq >= head {
            return Ok(known);
        }
        let mut state = (*known).clone();
        self.catch_up(&mut state).await?;
        let state = Arc::new(state);
        self.remember(Arc::clone(&state));
        Ok(state)
    }

    /// The conversation with every row up to `head` at least, which somebody has read. Whoever moved a head had projected everything
    /// up to there: that is taken in, and nothing is done for anybody.
    pub async fn load_upto(&self, id: ConversationId, head: Seq) -> StoreResult<Arc<ConversationState>> {
        let state = self.load(id).await?;
        if head <= state.head.seq {
            return Ok(state);
        }
        let _turn = self.loading.turn(id).await;
        let known = self.cached(id).unwrap_or(state);
        if head <= known.head.seq {
            return Ok(known);
        }
        let mut state = (*known).clone();
        while state.head.seq < head {
            for row in self.whole_rows(id, state.head.seq, head).await?.iter().take_while(|row| row.seq <= head) {
                state.apply(row);
                self.announce.took_in(row);
            }
        }
        let state = Arc::new(state);
        self.remember(Arc::clone(&state));
        Ok(state)
    }

    /// Takes in the rows behind the state, and does for them what their writer may not have lived to do.
    /// Returns them.
    pub(super) async fn catch_up(&self, state: &mut ConversationState) -> StoreResult<Vec<LogRow>> {
        let mut all = Vec::new();
        loop {
            let rows = persist(|| self.whole_rows(state.id, state.head.seq, 0)).await?;
            let is_last = rows.len() < CATCH_UP_ROWS;
            self.take_in(state, &rows).await?;
            all.extend(rows);
            if is_last {
                return Ok(all);
            }
        }
    }

    /// Takes in the next rows.
    async fn take_in(&self, state: &mut ConversationState, rows: &[LogRow]) -> StoreResult<()> {
        if rows.is_empty() {
            return Ok(());
        }
        // Whoever moved the head had projected everything up to there: what another node has seen to is taken in, not
        // done again. Read after the rows, so that it is not older than they are.
        let settled = persist(|| self.store.conversation(state.id)).await?.map_or(0, |record| record.head.seq);
        let (done, left) = rows.split_at(rows.partition_point(|row| row.seq <= settled));
        for row in done {
            state.apply(row);
            self.announce.took_in(row);
        }
        if !left.is_empty() {
            metrics::counter!("urge_log_rows_rolled_forward_total").increment(left.len() as u64);
            self.settle(state, left, None, &[]).await?;
        }
        Ok(())
    }

    /// Rows after `after`, some at least while the log goes to `upto`: a replica that lacks rows must not pass for a log without them.
    pub(super) async fn whole_rows(&self, id: ConversationId, after: Seq, upto: Seq) -> StoreResult<Vec<LogRow>> {
        let rows = self.reader.after(id, after, CATCH_UP_ROWS).await?;
        let next_to_each_other = rows.iter().zip(after + 1..).all(|(row, seq)| row.seq == seq);
        if next_to_each_other && (!rows.is_empty() || after >= upto) {
            Ok(rows)
        } else {
            Err(StoreError::Unavailable(format!("the log of {id} was read with a gap after row {after}").into()))
        }
    }
}
