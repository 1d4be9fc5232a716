//! What a writer may have died before, between its row and the answer: some of the heads, which are written in no order, telling of
//! it, and the word to workers. Whoever is told that all is done already relies on it, so it is done again before he is.

use std::sync::Arc;

use super::append::{Announcement, Posted, Shared};
use super::batch::{Waiting, announcement_of, own_marks, persist};
use super::{ConversationState, LogRow};
use crate::event::Origin;
use crate::id::{ConversationId, UserId};
use crate::store::StoreResult;

impl Shared {
    /// For this row, which the state has; hubs drop what they have.
    pub(super) async fn redo(&self, state: &ConversationState, row: &LogRow, origin: Origin) -> StoreResult<()> {
        self.redo_heads(state, std::slice::from_ref(row)).await?;
        self.tell_again(Announcement { origin, ..announcement_of(state, row.clone(), None) }).await;
        self.enqueue(state.id, row.seq).await
    }

    /// For all rows of a state that has the whole log: to whom the last one is told, he lacks none before it.
    pub(super) async fn redo_last(&self, state: &ConversationState) -> StoreResult<()> {
        let last = self.announcements(state.id, state.head.seq - 1, 1).await?;
        let rows: Vec<_> = last.iter().map(|last| last.row.clone()).collect();
        self.redo_heads(state, &rows).await?;
        for announcement in last {
            self.tell_again(announcement).await;
        }
        self.enqueue(state.id, state.head.seq).await
    }

    /// The same for a conversation as it stands: before somebody is answered that what he wants is so already.
    pub(super) async fn redo_whole(&self, id: ConversationId) -> StoreResult<()> {
        let state = self.load_whole(id).await?;
        if state.head.seq == 0 {
            return Ok(());
        }
        self.redo_last(&state).await
    }

    /// For one row that was found by its id. The head by which a state that is kept would be found stale may be what its writer did
    /// not live to move, so the log itself is asked.
    pub(super) async fn redo_row(&self, row: &LogRow, origin: Origin) -> StoreResult<()> {
        let mut state = self.load(row.conversation_id).await?;
        if state.head.seq < row.seq {
            let _turn = self.loading.turn(row.conversation_id).await;
            let mut behind = (*self.cached(row.conversation_id).unwrap_or(state)).clone();
            self.catch_up(&mut behind).await?;
            state = Arc::new(behind);
            self.remember(Arc::clone(&state));
        }
        self.redo(&state, row, origin).await
    }

    /// Answers those whose row another attempt has appended, as these rows of the log show.
    pub(super) async fn answer_found(&self, state: &ConversationState, waiting: &mut Vec<Waiting>, rows: Vec<LogRow>) -> StoreResult<()> {
        let mut found = rows;
        found.retain(|row| waiting.iter().any(|one| one.proposal.message_id == row.message_id));
        let Some(last) = found.last() else { return Ok(()) };
        self.redo_heads(state, &found).await?;
        for row in &found {
            let own = waiting.iter().find(|one| one.proposal.message_id == row.message_id);
            let origin = own.map(|one| one.proposal.origin).unwrap_or_default();
            self.tell_again(Announcement { origin, ..announcement_of(state, row.clone(), None) }).await;
        }
        self.enqueue(last.conversation_id, last.seq).await?;
        for row in found {
            if let Some(at) = waiting.iter().position(|one| one.proposal.message_id == row.message_id) {
                waiting.remove(at).answer(&Ok(Posted { row, fresh: false }));
            }
        }
        Ok(())
    }

    async fn redo_heads(&self, state: &ConversationState, rows: &[LogRow]) -> StoreResult<()> {
        let (members, own): (&[UserId], _) = (if state.is_large() { &[] } else { state.active() }, own_marks(rows));
        persist(|| self.store.advance_heads(state.id, &state.head, members, &own)).await
    }

    async fn tell_again(&self, announcement: Announcement) {
        self.announce.announce(vec![Announcement { again: true, ..announcement }]).await;
    }
}
