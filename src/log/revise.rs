//! Changing a row that is in the log: conditional on its version, and told by a notice at the log's end.
//! Both in one statement where they stand in one bucket, else the row first, so that no reader of the notice finds it unchanged.

use std::sync::Arc;

use super::append::{Change, Posted, Reply, Shared};
use super::batch::{begin, persist};
use super::store::{Insert, Rewrite, Rewritten};
use super::{Body, ConversationState, LogRow, bucket_of};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::event::Origin;
use crate::fail_point;
use crate::id::MessageId;

impl Shared {
    /// Changes a row: conditional on its version, and told in the log, in one statement where both stand in one bucket.
    pub async fn change(&self, change: Change, reply: Reply) {
        let answer = self.change_row(&change).await;
        if answer.as_ref().is_err_and(|error| error.code == ErrorCode::Unavailable) {
            self.forget(change.conversation_id);
        }
        let _ = reply.send(answer);
    }

    async fn change_row(&self, change: &Change) -> Result<Posted> {
        let mut state = (*self.load(change.conversation_id).await?).clone();
        let change_id = MessageId::fresh();
        let mut caught_up = false;
        loop {
            let stored = begin(|| self.reader.row(state.id, change.target_seq)).await?;
            let stored = stored.ok_or_else(|| Error::not_found("there is no such message"))?;
            self.complete(&mut state, &stored).await?;
            let revised = match (change.revise)(&state, &stored) {
                // What a stale state refuses is asked again of the log as it is.
                Err(_) if !caught_up => {
                    caught_up = true;
                    self.catch_up(&mut state).await?;
                    continue;
                }
                revised => revised?,
            };
            let Some(content) = revised else {
                // It is so already, perhaps by the hand of a node that did not live to tell of it.
                self.catch_up(&mut state).await?;
                self.redo_last(&state).await?;
                self.remember(Arc::new(state));
                return Ok(Posted { row: stored, fresh: false });
            };
            let now = self.clock.now().max(state.last_at);
            let notice = notice_row(&state, change, change_id, now);
            let deleted = matches!(change.notice, Body::Deleted);
            let target = LogRow {
                body: Body::Message(content),
                updated_at: now,
                deleted_at: if deleted { Some(now) } else { stored.deleted_at },
                version: stored.version + 1,
                change_seq: notice.seq,
                change_id,
                ..stored
            };
            let together = bucket_of(target.seq) == bucket_of(notice.seq);
            let rewrite = Rewrite { target: target.clone(), notice: together.then(|| notice.clone()) };
            match begin(|| self.store.rewrite_row(&rewrite)).await? {
                Rewritten::Applied => {}
                // Ours after all: the first try was applied, and its answer was lost.
                Rewritten::Refused { target: Some(found), .. } if found.change_id == change_id => {}
                Rewritten::Refused { .. } => {
                    metrics::counter!("urge_log_append_conflicts_total").increment(1);
                    let others = self.catch_up(&mut state).await?;
                    // Applied by a try whose answer was lost, and changed again by somebody else since: once is enough.
                    if let Some(own) = others.iter().find(|row| row.message_id == change_id) {
                        let row = LogRow { change_seq: own.seq, ..target };
                        self.remember(Arc::new(state));
                        return Ok(Posted { row, fresh: true });
                    }
                    continue;
                }
            }
            fail_point::reached("change.rewritten");
            let notice = if together { notice } else { self.insert_notice(&mut state, change, notice).await? };
            let target = LogRow { change_seq: notice.seq, ..target };
            self.settle(&mut state, std::slice::from_ref(&notice), Some(&target), &[(change.origin, false)]).await?;
            self.remember(Arc::new(state));
            return Ok(Posted { row: target, fresh: true });
        }
    }

    /// A change across buckets whose writer did not live to tell of it is told now: whoever repeats it must not be answered
    /// while the log knows nothing of it.
    async fn complete(&self, state: &mut ConversationState, stored: &LogRow) -> Result<()> {
        if stored.version == 0 || bucket_of(stored.seq) == bucket_of(stored.change_seq) {
            return Ok(());
        }
        let there = persist(|| self.reader.row(state.id, stored.change_seq)).await?;
        if there.is_some_and(|row| row.message_id == stored.change_id)
            || self.scan(state, stored.change_seq - 1, stored.change_id).await?.is_some()
        {
            return Ok(());
        }
        let change = Change {
            conversation_id: state.id,
            target_seq: stored.seq,
            sender_id: stored.sender_id,
            notice: if stored.deleted_at.is_some() { Body::Deleted } else { Body::Edited },
            revise: Arc::new(|_, _| Ok(None)),
            origin: Origin::default(),
        };
        let notice = notice_row(state, &change, stored.change_id, self.clock.now().max(state.last_at));
        let notice = self.insert_notice(state, &change, notice).await?;
        let target = LogRow { change_seq: notice.seq, ..stored.clone() };
        self.settle(state, std::slice::from_ref(&notice), Some(&target), &[]).await?;
        self.remember(Arc::new(state.clone()));
        Ok(())
    }

    /// The notice of a change in an older bucket: the target is changed already, and the notice takes the next free place.
    async fn insert_notice(&self, state: &mut ConversationState, change: &Change, mut notice: LogRow) -> Result<LogRow> {
        loop {
            match persist(|| self.store.insert_rows(std::slice::from_ref(&notice))).await? {
                Insert::Applied => return Ok(notice),
                Insert::Exists(row) if row.message_id == notice.message_id => return Ok(notice),
                Insert::Exists(_) => {
                    self.catch_up(state).await?;
                    notice = notice_row(state, change, notice.message_id, notice.created_at.max(state.last_at));
                }
            }
        }
    }
}

fn notice_row(state: &ConversationState, change: &Change, id: MessageId, now: Timestamp) -> LogRow {
    let seq = state.head.seq + 1;
    LogRow {
        conversation_id: state.id,
        seq,
        message_id: id,
        sender_id: change.sender_id,
        n: state.head.n,
        total: state.head.total,
        target_seq: Some(change.target_seq),
        body: change.notice.clone(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
        version: 0,
        change_seq: seq,
        change_id: id,
    }
}
