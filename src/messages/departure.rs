//! A member who leaves a group takes along that its messages waited for him: those that everybody else has received or
//! read turn DELIVERED or READ by his leaving. Nobody's marks move; that is `receipts.rs`.

use std::sync::Arc;

use super::deferred::RETRY_PAUSE;
use super::receipts::{MAX_TURNS, Receipts, Risen, Turn, status_for_all, status_of};
use crate::error::Result;
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{Body, LogRow, MemberState};

impl Receipts {
    /// A row that was appended: if it puts somebody out, the senders of messages that it turned are told in the background.
    pub fn note(self: &Arc<Self>, row: &LogRow) {
        let Body::Members(change) = &row.body else { return };
        let is_out = |state: MemberState| state != MemberState::Active;
        let gone: Vec<_> = change.members.iter().filter(|(_, state, _)| is_out(*state)).map(|(user, ..)| *user).collect();
        if !gone.is_empty() {
            let (receipts, id, seq) = (Arc::clone(self), row.conversation_id, row.seq);
            self.tasks.spawn(async move {
                let stopping = receipts.tasks.stopping();
                while let Err(error) = receipts.tell_departure(id, seq, &gone).await {
                    tracing::warn!(%error, "what somebody's leaving turned was not told; it shows when messages are listed");
                    let passes = error.retry_after.is_some();
                    if !passes || stopping.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await.is_none() {
                        return;
                    }
                }
            });
        }
    }

    async fn tell_departure(&self, id: ConversationId, seq: Seq, gone: &[UserId]) -> Result<()> {
        if self.appender.state(id).await?.is_large() {
            return Ok(());
        }
        let _in_turn = self.in_turn.turn(id).await;
        let members = self.reader.active_members(id).await?;
        let mut left = Vec::with_capacity(gone.len());
        for user in gone {
            // Who is back already waits for new messages only, and what he had is no longer known.
            left.extend(self.log.member(id, *user).await?.filter(|member| member.state != MemberState::Active));
        }
        let Some(from) = left.iter().map(|member| member.read_seq.min(member.delivered_seq).max(member.joined_seq - 1)).min() else {
            return Ok(());
        };
        let limit = usize::try_from(seq - 1 - from).unwrap_or(0).min(MAX_TURNS);
        let rows = self.reader.before(id, seq, limit).await?;
        let mut turned = Vec::new();
        for row in rows.into_iter().rev().filter(|row| row.seq > from && row.body.is_counted()) {
            let turn = Turn { seq: row.seq, message_id: row.message_id, sender_id: row.sender_id };
            let status = status_for_all(&members, &row);
            let concerned = left.iter().filter(|member| member.user_id != turn.sender_id && member.joined_seq <= turn.seq);
            let held = concerned.map(|member| (status_of(member.delivered_seq, member.read_seq, turn.seq), member.user_id)).min();
            if let Some((held, by)) = held
                && status > held
                && members.iter().any(|member| member.user_id == turn.sender_id)
            {
                turned.push(Risen { turn, status, by });
            }
        }
        self.tell_turned(id, turned).await;
        Ok(())
    }
}
