//! Resume: everything that a client missed, in order, before anything live; docs/adr/0006. No clock in it:
//! the client says how far its copy of each log goes, the store how far the log goes, and the difference is sent.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::seat::Seat;
use super::session::Sessions;
use super::socket::{Outgoing, Socket};
use super::tell::outgoing_of;
use crate::error::Result;
use crate::event::{Event, EventKind};
use crate::id::{ConversationId, Seq};
use crate::log::{MemberState, Membership};

/// Rows that one resume replays at most; a client that missed more calls `/sync`.
pub const MAX_REPLAY: Seq = 1_000;

/// The answer to `resume`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Resumed {
    recovered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<usize>,
}

/// What of one conversation is to be sent.
struct Missed {
    membership: Membership,
    after: Seq,
    is_new: bool,
}

impl Sessions {
    /// Sends what the client lacks. The seat is held meanwhile; the caller releases it.
    pub(super) async fn resume(&self, socket: &Arc<Socket>, seat: &Seat, known: HashMap<ConversationId, Seq>) -> Result<Resumed> {
        let hub = &self.shared.parts.hub;
        seat.hold();
        if !seat.can_resume() {
            return Ok(Resumed { recovered: false, sent: None });
        }
        // The heads after the seat was taken: a row is behind them and read here, or after them and comes live.
        let memberships = hub.memberships(socket.user_id).await?;
        let mut on_their_way = Vec::new();
        for membership in memberships.iter().filter(|membership| known.contains_key(&membership.conversation_id)) {
            let (id, head) = (membership.conversation_id, membership.head.seq);
            if hub.lags(id, head) || seat.holds_row_of(id) {
                on_their_way.push((id, head));
            }
        }
        let missed: Vec<_> = memberships.into_iter().filter_map(|membership| missed(&known, membership)).collect();
        let rows: Seq = missed.iter().map(|missed| (missed.membership.head.seq - missed.after).max(0)).sum();
        if rows > MAX_REPLAY {
            return Ok(Resumed { recovered: false, sent: None });
        }
        // What the client has or is sent now is not sent again when it comes live.
        for (id, head) in on_their_way {
            if !missed.iter().any(|missed| missed.membership.conversation_id == id) {
                seat.skip_upto(id, head);
            }
        }
        let lagging: Vec<_> = missed.iter().map(|missed| missed.membership.clone()).collect();
        let mut count = 0;
        for missed in missed {
            count += self.replay(socket, seat, &missed).await?;
        }
        hub.ensure(socket.user_id, &lagging).await?;
        seat.resumed();
        Ok(Resumed { recovered: true, sent: Some(count) })
    }

    async fn replay(&self, socket: &Arc<Socket>, seat: &Seat, missed: &Missed) -> Result<usize> {
        let hub = &self.shared.parts.hub;
        let (user, membership) = (socket.user_id, &missed.membership);
        let (id, head) = (membership.conversation_id, membership.head.seq);
        let upto = seat.replay_upto(id, head);
        let mut count = 0;
        if missed.is_new {
            count += self.show(socket, EventKind::ConversationCreated, id).await?;
        }
        if upto > missed.after {
            let hidden = self.shared.parts.messages.hidden(user, id, membership.cleared_seq).await?;
            let is_seen = |seq: Seq| seq > membership.cleared_seq && !hidden.contains(&seq);
            for row in hub.replay(user, id, missed.after, upto).await? {
                if let Some(outgoing) = outgoing_of(&row).filter(|_| is_seen(row.target_seq.unwrap_or(row.seq))) {
                    socket.send_paced(outgoing).await;
                    count += 1;
                }
            }
        }
        // Own marks and flags, and who belongs to it, may have changed with or without rows.
        if !missed.is_new && membership.head.seq > missed.after {
            count += self.show(socket, EventKind::ConversationUpdated, id).await?;
        }
        if let Some(peer) = membership.peer_id
            && membership.peer_delivered_seq > 0
        {
            let data = json!({
                "conversationId": id, "userId": peer,
                "deliveredSeq": membership.peer_delivered_seq, "readSeq": membership.peer_read_seq,
            });
            if let Ok(event) = Event::new(EventKind::Receipts, &data) {
                socket.send_paced(Outgoing::new(event, None)).await;
                count += 1;
            }
        }
        Ok(count)
    }

    async fn show(&self, socket: &Arc<Socket>, kind: EventKind, id: ConversationId) -> Result<usize> {
        let Some(data) = self.shared.parts.hub.view(socket.user_id, id).await? else { return Ok(0) };
        socket.send_paced(Outgoing::new(Event { kind, data }, None)).await;
        Ok(1)
    }
}

/// What the client lacks of a conversation; none when it has everything.
fn missed(known: &HashMap<ConversationId, Seq>, membership: Membership) -> Option<Missed> {
    let told = known.get(&membership.conversation_id).copied();
    let is_active = membership.state == MemberState::Active;
    // Who was put out sees the log up to the row that did it.
    let last = if is_active { membership.head.seq } else { membership.change_seq };
    let after = told.unwrap_or(0).max(membership.cleared_seq).max(0);
    let mut membership = membership;
    membership.head.seq = last;
    let is_new = told.is_none();
    let lacks = last > after;
    let listed = membership.head.seq > membership.hidden_seq;
    if (is_new && (!is_active || !listed)) || (!is_new && !lacks && membership.peer_delivered_seq == 0) {
        return None;
    }
    Some(Missed { membership, after, is_new })
}
