//! A socket's seat in the hub: what comes between the hub's events and the socket's outbox while the client resumes.
//! A seat begins held: live events wait in it until the client has resumed, has asked for something else, or some
//! time has passed. A row that a replay has sent, or will send, never goes out a second time.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::socket::{CloseReason, Outgoing, Socket};
use crate::id::{ConversationId, Seq};

/// Events that a held seat keeps; a client that lets more pile up is too slow.
const MAX_HELD: usize = 4_096;
/// Conversations whose first live row is remembered for a late resume.
const MAX_FIRST_LIVE: usize = 256;

/// A place in a log.
pub(super) type Place = (ConversationId, Seq);

#[derive(Default)]
struct Gate {
    /// Live events that wait, while the seat is held.
    held: Option<Vec<(Option<Place>, Arc<Outgoing>)>>,
    /// Counts the holds, so that the timer of an earlier one does not end a later one.
    hold: u64,
    /// Up to where a replay has sent a log whose live events may still lag behind it.
    replayed: HashMap<ConversationId, Seq>,
    /// The first live row of each conversation since the seat was taken; dropped once the client has resumed.
    first_live: Option<HashMap<ConversationId, Seq>>,
    /// The heads of the user's conversations have been read since the seat was taken.
    knows_heads: bool,
}

impl Gate {
    /// Whether a replay has sent this row.
    fn was_replayed(&self, (conversation, seq): Place) -> bool {
        self.replayed.get(&conversation).is_some_and(|upto| seq <= *upto)
    }
}

/// A socket in the hub.
pub(super) struct Seat {
    pub socket: Arc<Socket>,
    gate: Mutex<Gate>,
}

impl Seat {
    /// A held seat.
    pub fn held(socket: Arc<Socket>) -> Arc<Self> {
        let gate = Gate { held: Some(Vec::new()), first_live: Some(HashMap::new()), ..Gate::default() };
        Arc::new(Self { socket, gate: Mutex::new(gate) })
    }

    /// A live event, in the order of its log if it has a place in one.
    pub fn send(&self, place: Option<Place>, outgoing: &Arc<Outgoing>) {
        let mut gate = self.gate.lock();
        if place.is_some_and(|place| gate.was_replayed(place)) {
            return;
        }
        match &mut gate.held {
            Some(held) if held.len() < MAX_HELD => held.push((place, Arc::clone(outgoing))),
            Some(_) => self.socket.close(CloseReason::TooSlow),
            None => {
                if let (Some((conversation, seq)), Some(first)) = (place, &mut gate.first_live) {
                    if first.len() < MAX_FIRST_LIVE || first.contains_key(&conversation) {
                        first.entry(conversation).or_insert(seq);
                    } else {
                        gate.first_live = None;
                    }
                }
                // The rows of a log come in order: none at or below the replay's end can follow. While the seat is held some wait.
                if let Some((conversation, _)) = place {
                    gate.replayed.remove(&conversation);
                }
                self.socket.send(Arc::clone(outgoing));
            }
        }
    }

    /// Holds the seat (again); returns the number of this hold.
    pub fn hold(&self) -> u64 {
        let mut gate = self.gate.lock();
        gate.held.get_or_insert_default();
        gate.hold += 1;
        gate.hold
    }

    /// Lets what waits go, in order, and everything after it; `hold` names the hold to end, `None` whichever there is.
    pub fn release(&self, hold: Option<u64>) {
        let mut gate = self.gate.lock();
        if hold.is_some_and(|hold| hold != gate.hold) {
            return;
        }
        let Some(waiting) = gate.held.take() else { return };
        for (place, outgoing) in waiting {
            if place.is_none_or(|place| !gate.was_replayed(place)) {
                if let (Some((conversation, seq)), Some(first)) = (place, &mut gate.first_live) {
                    first.entry(conversation).or_insert(seq);
                }
                self.socket.send(outgoing);
            }
        }
    }

    /// The last row that a replay of this conversation has to send, if it goes to `head`: live rows have gone out already.
    /// Live rows up to there are dropped from now on.
    pub fn replay_upto(&self, conversation: ConversationId, head: Seq) -> Seq {
        let mut gate = self.gate.lock();
        let first = gate.first_live.as_ref().and_then(|first| first.get(&conversation)).copied();
        let upto = first.map_or(head, |first| head.min(first - 1));
        // Rows behind the first live one come live too, each once.
        if first.is_none() {
            gate.replayed.insert(conversation, head);
        }
        upto
    }

    /// The client has everything of this log up to `head`, though live rows up to there may still be on their way.
    pub fn skip_upto(&self, conversation: ConversationId, head: Seq) {
        self.gate.lock().replayed.insert(conversation, head);
    }

    /// Whether rows of this log wait for the hold to end.
    pub fn holds_row_of(&self, conversation: ConversationId) -> bool {
        let gate = self.gate.lock();
        gate.held.as_ref().is_some_and(|held| held.iter().any(|(place, _)| place.is_some_and(|(of, _)| of == conversation)))
    }

    /// From here on a conversation that the hub knows nothing of is new to this user.
    pub fn heads_read(&self) {
        self.gate.lock().knows_heads = true;
    }

    /// Whether the user's conversations were read since the seat was taken.
    pub fn knows_heads(&self) -> bool {
        self.gate.lock().knows_heads
    }

    /// Whether a replay can know what has gone out live: not when too many conversations had live rows before it.
    pub fn can_resume(&self) -> bool {
        self.gate.lock().first_live.is_some()
    }

    /// The client has resumed: it will not do so again.
    pub fn resumed(&self) {
        let mut gate = self.gate.lock();
        gate.first_live = None;
        gate.replayed.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::event::{Event, EventKind};
    use crate::gateway::{Door, Login};
    use crate::id::{SessionId, UserId};

    fn seat() -> Arc<Seat> {
        Seat::held(Socket::new(Login { user_id: UserId::fresh(), session_id: SessionId::fresh() }, Door::WebSocket, 1_024))
    }

    fn row(seq: Seq) -> Arc<Outgoing> {
        Outgoing::new(Event::new(EventKind::MessageReceived, &seq).unwrap(), None)
    }

    fn sent(seat: &Seat) -> Vec<Seq> {
        let number = |frame: &str| frame.rsplit(':').next().unwrap().trim_end_matches('}').parse().unwrap();
        seat.socket.take(usize::MAX).frames.iter().map(|frame| number(frame.as_str())).collect()
    }

    #[test]
    fn live_rows_wait_for_the_replay_and_come_once() {
        let (seat, c) = (seat(), ConversationId::fresh());
        for seq in [5, 6, 7] {
            seat.send(Some((c, seq)), &row(seq));
        }
        assert!(sent(&seat).is_empty());
        assert_eq!(seat.replay_upto(c, 6), 6);
        seat.socket.send(row(6));
        seat.release(None);
        seat.send(Some((c, 8)), &row(8));
        assert_eq!(sent(&seat), [6, 7, 8], "5 and 6 were replayed, 7 waited");
    }

    #[test]
    fn a_row_that_comes_during_the_replay_lets_no_earlier_one_through() {
        let (seat, c) = (seat(), ConversationId::fresh());
        for seq in [5, 6] {
            seat.send(Some((c, seq)), &row(seq));
        }
        assert_eq!(seat.replay_upto(c, 6), 6);
        (5..=6).for_each(|seq| seat.socket.send(row(seq)));
        seat.send(Some((c, 7)), &row(7));
        seat.release(None);
        seat.send(Some((c, 8)), &row(8));
        assert_eq!(sent(&seat), [5, 6, 7, 8]);
    }

    #[test]
    fn a_late_resume_sends_only_what_was_before_the_first_live_row() {
        let (seat, c) = (seat(), ConversationId::fresh());
        seat.release(None);
        seat.send(Some((c, 8)), &row(8));
        assert_eq!(seat.replay_upto(c, 9), 7);
        seat.send(Some((c, 9)), &row(9));
        assert_eq!(sent(&seat), [8, 9]);
    }

    #[test]
    fn the_timer_of_an_earlier_hold_ends_no_later_one() {
        let seat = seat();
        let (first, c) = (seat.hold(), ConversationId::fresh());
        let second = seat.hold();
        seat.send(Some((c, 1)), &row(1));
        seat.release(Some(first));
        assert!(sent(&seat).is_empty());
        seat.release(Some(second));
        assert_eq!(sent(&seat), [1]);
    }
}
