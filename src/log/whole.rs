//! The append protocol's steps 2-6 in one transaction, for stores whose transactions span partitions (SQLite): one commit
//! instead of three. The conditions are those of the steps, asked inside the transaction: the first place is free, and no
//! earlier attempt of a message is located. Where one fails nothing is done, and `batch.rs` takes the steps one by one.

use std::sync::Arc;

use super::append::{Announcement, Posted, Shared};
use super::batch::{Waiting, begin, own_marks};
use super::store::{Whole, WholeAppend};
use super::{Body, ConversationState};
use crate::store::StoreResult;

impl Shared {
    /// Appends what can be appended so: new messages behind the head that is known, permitted as things are known.
    /// Whoever is still `waiting` afterwards goes step by step: nothing was done for him.
    pub(super) async fn append_whole(&self, state: &mut ConversationState, waiting: &mut Vec<Waiting>) -> StoreResult<()> {
        let is_plain = |one: &Waiting| matches!(one.proposal.body, Body::Message(_)) && (one.proposal.permit)(state).is_ok();
        if state.record.is_none() || !waiting.iter().all(is_plain) {
            return Ok(());
        }
        while !waiting.is_empty() {
            let rows = self.rows_for(state, waiting);
            let mut after = state.clone();
            for row in &rows {
                after.apply(row);
            }
            let append = WholeAppend {
                may_exist: waiting
                    .iter()
                    .take(rows.len())
                    .filter(|one| one.proposal.may_exist)
                    .map(|one| one.proposal.message_id)
                    .collect(),
                floor_seq: state.head.seq,
                head: after.head,
                members: if after.is_large() { [].into() } else { Arc::clone(after.active()) },
                own: own_marks(&rows),
                rows,
            };
            if begin(|| self.store.append_whole(&append)).await? != Whole::Applied {
                return Ok(());
            }
            metrics::histogram!("urge_log_append_rows").record(append.rows.len() as f64);
            *state = after;
            let announcements = append.rows.iter().zip(waiting.iter()).map(|(row, one)| Announcement {
                audience: state.audience_of(row),
                is_large: state.is_large(),
                row: row.clone(),
                target: None,
                introduces: [].into(),
                origin: one.proposal.origin,
                posted: one.proposal.posted,
                again: false,
            });
            self.announce.announce(announcements.collect()).await;
            self.enqueue(state.id, state.head.seq).await?;
            self.remember(Arc::new(state.clone()));
            for (one, row) in waiting.drain(..append.rows.len()).zip(append.rows) {
                one.answer(&Ok(Posted { row, fresh: true }));
            }
        }
        Ok(())
    }
}
