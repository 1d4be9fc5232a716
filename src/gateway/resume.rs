//! Resume: everything that a client missed, in order, before anything live; docs/adr/0006. No clock in it:
//! the client says how far its copy of each log goes, the store how far the log goes, and the difference is sent.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::seat::Seat;
use super::session::Sessions;
use super::socket::{Door, Outgoing, Socket};
use super::tell::outgoing_of;
use crate::clock::Timestamp;
use crate::conversations::is_listed;
use crate::error::{Error, Result};
use crate::event::{Event, EventKind, Origin};
use crate::id::{ConversationId, Seq, UserId};
use crate::log::{MemberState, Membership, unless_spoilt};
use crate::messages::MessageStatus;
use crate::task::Gate;

/// Rows that one resume replays at most; a client that missed more calls `/sync`.
pub const MAX_REPLAY: Seq = 1_000;
/// Rows of a replay in memory at a time.
const PAGE_ROWS: Seq = 64;
/// Resumes that read the store at a time: when everybody comes back at once they are done one after the other.
pub(super) const READING: usize = 32;
/// How long a receipt may take from the mark to the client, in milliseconds, with some more for clocks that differ.
const RECEIPT_LAG_MS: i64 = 60_000;

/// The answer to `resume`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Resumed {
    recovered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<usize>,
}

impl Resumed {
    /// The client has to ask `/sync`.
    const NOT: Self = Self { recovered: false, sent: None };
}

/// A resume's place among those who read the store. It keeps the place to its end: were they to take turns at each read, all would be
/// done when the last one is. While its client reads nothing others have it.
struct Reading<'a> {
    gate: &'a Gate,
    held: Option<OwnedSemaphorePermit>,
}

impl Reading<'_> {
    async fn take(&mut self) {
        if self.held.is_none() {
            self.held = self.gate.wait().await;
        }
    }

    async fn send(&mut self, socket: &Socket, outgoing: Arc<Outgoing>) {
        if socket.is_crowded() {
            self.held = None;
        }
        socket.send_paced(outgoing).await;
    }
}

/// What of one conversation is to be sent.
struct Missed {
    membership: Membership,
    after: Seq,
    is_new: bool,
}

impl Missed {
    /// Whether the conversation itself is shown.
    fn is_shown(&self) -> bool {
        self.is_new || self.membership.head.seq > self.after
    }
}

impl Sessions {
    /// Sends what the client lacks. The seat is held meanwhile; the caller releases it.
    pub(super) async fn resume(&self, socket: &Arc<Socket>, seat: &Seat, known: HashMap<ConversationId, Seq>) -> Result<Resumed> {
        let hub = &self.shared.parts.hub;
        seat.hold();
        let _turn = seat.resuming().await;
        if !seat.can_resume() {
            return Ok(Resumed::NOT);
        }
        // The heads after the seat was taken: a row is behind them and read here, or after them and comes live.
        let mut place = Reading { gate: &self.shared.replays, held: None };
        place.take().await;
        let now = Instant::now();
        let memberships = hub.memberships(socket.user_id).await?;
        let since = last_seen(&known, &memberships);
        let mut on_their_way = Vec::new();
        for membership in memberships.iter().filter(|membership| known.contains_key(&membership.conversation_id)) {
            let (id, head) = (membership.conversation_id, membership.head.seq);
            if hub.lags(id, head) || seat.holds_row_of(id) {
                on_their_way.push((id, head));
            }
        }
        let missed: Vec<_> = memberships.iter().filter_map(|membership| missed(&known, membership.clone())).collect();
        let rows: Seq = missed.iter().map(|missed| (missed.membership.head.seq - missed.after).max(0)).sum();
        if rows > MAX_REPLAY {
            return Ok(Resumed::NOT);
        }
        // What the client has is not sent again when it comes live.
        for (id, head) in on_their_way {
            if missed.iter().all(|missed| missed.membership.conversation_id != id || missed.after >= head) {
                seat.skip_upto(id, head);
            }
        }
        let shown: Vec<_> = missed.iter().filter(|missed| missed.is_shown()).map(|missed| missed.membership.conversation_id).collect();
        let lagging: Vec<_> = missed.iter().map(|missed| missed.membership.clone()).collect();
        let replayed = async {
            let count = self.replay_all(&mut place, socket, seat, missed, since).await?;
            hub.ensure(socket.user_id, &lagging).await.map(|()| count)
        };
        match replayed.await {
            Ok(count) => {
                // Of the others too. What cannot be read of those the next look finds, and says why it cannot.
                if hub.ensure(socket.user_id, &memberships).await.is_ok() {
                    seat.heads_read(now);
                }
                seat.resumes_no_more();
                // What waits was made before what has been shown, and comes after it.
                let holds_view = seat.holds_view();
                for id in shown {
                    if holds_view {
                        hub.refresh(socket.user_id, id, Origin::default());
                    } else {
                        hub.refresh_again(socket.user_id, id);
                    }
                }
                Ok(Resumed { recovered: true, sent: Some(count) })
            }
            // Something of it has been sent: what follows live would leave a gap that the client cannot see.
            Err(error) => {
                tracing::warn!(%error, socket = %socket.id, "a replay was broken off; the client is sent to /sync");
                Ok(Resumed::NOT)
            }
        }
    }

    async fn replay_all(
        &self,
        place: &mut Reading<'_>,
        socket: &Arc<Socket>,
        seat: &Seat,
        missed: Vec<Missed>,
        since: Timestamp,
    ) -> Result<usize> {
        let mut count = 0;
        for missed in missed {
            let replayed = async {
                let rows = self.replay(place, socket, seat, &missed).await?;
                Ok::<_, Error>(rows + self.replay_receipts(place, socket, &missed, since).await?)
            };
            count += unless_spoilt(missed.membership.conversation_id, replayed.await)?.unwrap_or(0);
        }
        Ok(count)
    }

    async fn replay(&self, place: &mut Reading<'_>, socket: &Arc<Socket>, seat: &Seat, missed: &Missed) -> Result<usize> {
        let hub = &self.shared.parts.hub;
        let (user, membership) = (socket.user_id, &missed.membership);
        let (id, head) = (membership.conversation_id, membership.head.seq);
        let upto = seat.replay_upto(id, head);
        let mut count = 0;
        if missed.is_new {
            count += self.show(place, socket, EventKind::ConversationCreated, id).await?;
        }
        let mut after = missed.after;
        while after < upto {
            let end = upto.min(after + PAGE_ROWS);
            place.take().await;
            let hidden = self.shared.parts.messages.hidden(user, id, membership.cleared_seq).await?;
            let rows = hub.replay(user, id, after, end).await?;
            let is_seen = |seq: Seq| seq > membership.cleared_seq && !hidden.contains(&seq);
            for row in rows {
                if let Some(outgoing) = outgoing_of(&row).filter(|_| is_seen(row.target_seq.unwrap_or(row.seq))) {
                    place.send(socket, Arc::clone(outgoing.of(user))).await;
                    count += 1;
                }
            }
            after = end;
            if hub.lags(id, end) || seat.holds_row_of(id) {
                seat.skip_upto(id, end);
            }
        }
        // Own marks and flags, and who belongs to it, may have changed with or without rows.
        if !missed.is_new && missed.is_shown() {
            count += self.show(place, socket, EventKind::ConversationUpdated, id).await?;
        }
        Ok(count)
    }

    /// What others have received and read meanwhile, as the door tells it: by marks, or message by message.
    async fn replay_receipts(&self, place: &mut Reading<'_>, socket: &Arc<Socket>, missed: &Missed, since: Timestamp) -> Result<usize> {
        let (membership, id) = (&missed.membership, missed.membership.conversation_id);
        let mut events = Vec::new();
        match (socket.door, membership.peer_id) {
            (Door::WebSocket, Some(peer)) => {
                if membership.peer_delivered_seq > 0 {
                    events.push(receipts(id, peer, membership.peer_delivered_seq, membership.peer_read_seq));
                }
            }
            (Door::WebSocket, None) => {
                place.take().await;
                let marked = self.shared.parts.messages.marked(socket.user_id, membership, since).await?;
                events.extend(marked.iter().map(|member| receipts(id, member.user_id, member.delivered_seq, member.read_seq)));
            }
            (Door::SocketIo, _) => {
                place.take().await;
                for turned in self.shared.parts.messages.turned(socket.user_id, membership, since).await? {
                    let kind = if turned.status == MessageStatus::Read { EventKind::MessageRead } else { EventKind::MessageDelivered };
                    events.push((kind, json!({"messageId": turned.message_id, "conversationId": id, "userId": turned.user_id})));
                }
            }
        }
        let count = events.len();
        for (kind, data) in events {
            if let Ok(event) = Event::new(kind, &data) {
                place.send(socket, Outgoing::new(event, None)).await;
            }
        }
        Ok(count)
    }

    async fn show(&self, place: &mut Reading<'_>, socket: &Arc<Socket>, kind: EventKind, id: ConversationId) -> Result<usize> {
        place.take().await;
        let view = self.shared.parts.hub.view(socket.user_id, id).await?;
        let Some(data) = view else { return Ok(0) };
        place.send(socket, Outgoing::new(Event { kind, data }, None)).await;
        Ok(1)
    }
}

fn receipts(id: ConversationId, user: UserId, delivered: Seq, read: Seq) -> (EventKind, Value) {
    (EventKind::Receipts, json!({"conversationId": id, "userId": user, "deliveredSeq": delivered, "readSeq": read}))
}

/// What the client lacks of a conversation, or may: of one whose rows it has, receipts. None of one that is not in its list.
fn missed(known: &HashMap<ConversationId, Seq>, membership: Membership) -> Option<Missed> {
    let told = known.get(&membership.conversation_id).copied();
    let is_active = membership.state == MemberState::Active;
    // Who was put out sees the log up to the row that did it.
    let last = if is_active { membership.head.seq } else { membership.change_seq };
    let after = told.unwrap_or(0).max(membership.cleared_seq).max(0);
    let is_new = told.is_none();
    let may_lack = if is_active { is_listed(&membership) } else { !is_new && last > after };
    let mut membership = membership;
    membership.head.seq = last;
    may_lack.then_some(Missed { membership, after, is_new })
}

/// When the client was certainly connected, by the last row that it has of a log that it has whole; receipts of before
/// then it has been told. Times of this node's rows against times of this node's marks: no clock of the client's.
fn last_seen(known: &HashMap<ConversationId, Seq>, memberships: &[Membership]) -> Timestamp {
    let is_whole = |membership: &&Membership| known.get(&membership.conversation_id).is_some_and(|seq| *seq >= membership.head.seq);
    let last = memberships.iter().filter(is_whole).map(|membership| membership.head.at.0).max();
    Timestamp(last.map_or(0, |last| last - RECEIPT_LAG_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{ConversationKind, Head, Role};

    fn membership(head: Seq, at: i64) -> Membership {
        Membership {
            conversation_id: ConversationId::fresh(),
            kind: ConversationKind::Direct,
            large: false,
            peer_id: Some(UserId::fresh()),
            state: MemberState::Active,
            role: Role::Member,
            change_seq: 1,
            joined_seq: 1,
            head: Head { seq: head, message_seq: head, at: Timestamp(at), ..Head::default() },
            read_seq: 0,
            read_n: 0,
            peer_read_seq: 0,
            peer_delivered_seq: 0,
            cleared_seq: 0,
            cleared_n: 0,
            cleared_total: 0,
            hidden_seq: 0,
            muted: false,
            archived: false,
            favourite: false,
            flags_at: Timestamp(0),
        }
    }

    #[test]
    fn the_last_row_of_a_whole_log_says_when_the_client_was_there() {
        let (whole, behind, unknown) = (membership(5, 1_000_000), membership(9, 3_000_000), membership(1, 4_000_000));
        let known = HashMap::from([(whole.conversation_id, 5), (behind.conversation_id, 8)]);
        assert_eq!(last_seen(&known, &[whole, behind.clone(), unknown]), Timestamp(940_000));
        assert_eq!(last_seen(&known, &[behind]), Timestamp(0), "then everything may be news");
    }

    #[test]
    fn what_is_out_of_the_list_stays_out() {
        let hidden = Membership { hidden_seq: 5, ..membership(5, 0) };
        let known = HashMap::from([(hidden.conversation_id, 3)]);
        assert!(missed(&known, hidden.clone()).is_none() && missed(&HashMap::new(), hidden.clone()).is_none());
        // An edit does not bring it back, a message does.
        let edited = Membership { head: Head { seq: 6, message_seq: 5, ..Head::default() }, ..hidden.clone() };
        assert!(missed(&HashMap::new(), edited).is_none());
        let written = Membership { head: Head { seq: 7, message_seq: 7, ..Head::default() }, ..hidden };
        assert!(missed(&HashMap::new(), written).is_some_and(|missed| missed.is_new));
    }

    #[test]
    fn who_was_put_out_sees_how() {
        let gone = Membership { state: MemberState::Removed, change_seq: 4, ..membership(9, 0) };
        let known = |seq| HashMap::from([(gone.conversation_id, seq)]);
        assert!(missed(&known(3), gone.clone()).is_some_and(|missed| missed.membership.head.seq == 4));
        assert!(missed(&known(4), gone.clone()).is_none() && missed(&HashMap::new(), gone.clone()).is_none());
    }
}
