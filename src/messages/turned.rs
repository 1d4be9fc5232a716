//! What others received and read while a client of a person was away: for clients that are told of receipts message by
//! message, his own messages that turned DELIVERED or READ since; for the others, whose marks were moved since.
//! The marks themselves are `receipts.rs`.

use super::{MessageStatus, Messages};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{MessageId, UserId};
use crate::log::{Member, MemberState, Membership};

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
        let id = membership.conversation_id;
        let others = self.others(caller, membership).await?;
        let Some(last) = others.iter().max_by_key(|member| marked_at(member)).filter(|last| marked_at(last) > since) else {
            return Ok(Vec::new());
        };
        if let Some(peer) = membership.peer_id
            && self.settings.is_blocked_either(caller, peer).await?
        {
            return Ok(Vec::new());
        }
        let reached = others.iter().map(|member| member.delivered_seq.max(member.read_seq)).max().unwrap_or(0);
        let mut rows = self.reader.before(id, reached + 1, LOOK_BACK_ROWS).await?;
        rows.retain(|row| row.sender_id == caller && row.body.is_counted() && row.seq > membership.cleared_seq);
        let state = self.appender.state_upto(id, membership.head.seq).await?;
        let statuses = self.receipts.statuses(caller, &state, membership, &rows).await?;
        let turned = rows.iter().zip(statuses).rev().filter(|(_, status)| *status > MessageStatus::Sent);
        Ok(turned.map(|(row, status)| Turned { message_id: row.message_id, status, user_id: last.user_id }).collect())
    }

    /// The other members of a group whose marks were moved after `since`. None above [`crate::log::LARGE_ABOVE`], where
    /// nobody is told of marks. Who hides that he reads has moved none but his delivery mark.
    ///
    /// # Errors
    /// The store's.
    pub async fn marked(&self, caller: UserId, membership: &Membership, since: Timestamp) -> Result<Vec<Member>> {
        let mut others = self.others(caller, membership).await?;
        others.retain(|member| marked_at(member) > since);
        Ok(others)
    }

    /// The other members, where marks are told of.
    async fn others(&self, caller: UserId, membership: &Membership) -> Result<Vec<Member>> {
        if membership.large || membership.state != MemberState::Active {
            return Ok(Vec::new());
        }
        let mut others = self.reader.active_members(membership.conversation_id).await?;
        others.retain(|member| member.user_id != caller);
        Ok(others)
    }
}

/// When a mark of his was last moved.
fn marked_at(member: &Member) -> Timestamp {
    member.delivered_at.max(member.read_at)
}
