//! What became of a person's own messages while a client of his was away: those that turned DELIVERED or READ since.
//! For clients that are told of receipts message by message; the marks themselves are `receipts.rs`.

use super::{MessageStatus, Messages};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{MessageId, UserId};
use crate::log::{MemberState, Membership};

/// Rows that are looked through for a person's own messages, from the last that anybody has.
const LOOK_BACK_ROWS: usize = 50;

/// A message whose status has risen, for all that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned {
    /// Which.
    pub message_id: MessageId,
    /// DELIVERED or READ.
    pub status: MessageStatus,
    /// Whose mark moved last.
    pub user_id: UserId,
}

impl Messages {
    /// The caller's newest messages that others have received or read, oldest first, if a mark of theirs was moved after
    /// `since`: which messages it passed then is not known.
    ///
    /// # Errors
    /// The store's.
    pub async fn turned(&self, caller: UserId, membership: &Membership, since: Timestamp) -> Result<Vec<Turned>> {
        if membership.large || membership.state != MemberState::Active {
            return Ok(Vec::new());
        }
        let id = membership.conversation_id;
        let mut others = self.reader.active_members(id).await?;
        others.retain(|member| member.user_id != caller);
        let Some(last) = others.iter().max_by_key(|member| member.delivered_at.max(member.read_at)) else { return Ok(Vec::new()) };
        if last.delivered_at.max(last.read_at) <= since {
            return Ok(Vec::new());
        }
        if let Some(peer) = membership.peer_id
            && self.settings.is_blocked_either(caller, peer).await?
        {
            return Ok(Vec::new());
        }
        let reached = others.iter().map(|member| member.delivered_seq.max(member.read_seq)).max().unwrap_or(0);
        let mut rows = self.reader.before(id, reached + 1, LOOK_BACK_ROWS).await?;
        rows.retain(|row| row.sender_id == caller && row.body.is_counted() && row.seq > membership.cleared_seq);
        let state = self.appender.state(id).await?;
        let statuses = self.receipts.statuses(caller, &state, membership, &rows).await?;
        let turned = rows.iter().zip(statuses).rev().filter(|(_, status)| *status > MessageStatus::Sent);
        Ok(turned.map(|(row, status)| Turned { message_id: row.message_id, status, user_id: last.user_id }).collect())
    }
}
