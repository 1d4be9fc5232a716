//! A socket's seat in the hub: what comes between the hub's events and the socket's outbox while the client resumes.
//! A seat begins held: live events wait in it until the client has resumed, has asked for something else, or some
//! time has passed. A row that a replay has sent never goes out a second time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, MutexGuard};
use tokio::time::Instant;

use super::socket::{CloseReason, Outgoing, Socket};
use crate::event::EventKind;
use crate::id::{ConversationId, Seq};

/// Events that a held seat keeps, typing and presence apart; a client that lets more pile up is too slow.
const MAX_HELD: usize = 4_096;
/// Conversations whose first live row is remembered for a late resume.
const MAX_FIRST_LIVE: usize = 256;

/// A place in a log.
pub(super) type Place = (ConversationId, Seq);

#[derive(Default)]
struct Gate {
    /// Live events that wait, while the seat is held.
    held: Option<VecDeque<(Option<Place>, Arc<Outgoing>)>>,
    /// Counts the holds, so that the timer of an earlier one does not end a later one.
    hold: u64,
    /// Up to where a replay has sent a log whose live events still lag behind it.
    replayed: HashMap<ConversationId, Seq>,
    /// The first live row of each conversation since the seat was taken; dropped once it is too late to resume.
    first_live: Option<HashMap<ConversationId, Seq>>,
    /// When the heads of the user's conversations were read last since the seat was taken.
    heads_read: Option<Instant>,
    /// A conversation as it was some time ago waits, while the seat is held.
    holds_view: bool,
}

impl Gate {
    /// Whether a replay has sent this row.
    fn was_replayed(&self, place: Option<Place>) -> bool {
        place.is_some_and(|(conversation, seq)| self.replayed.get(&conversation).is_some_and(|upto| seq <= *upto))
    }

    /// Keeps an event; false when too many wait. Typing and presence go first, and take no place from the others.
    fn keep(&mut self, place: Option<Place>, outgoing: &Arc<Outgoing>) -> bool {
        let Some(held) = &mut self.held else { return false };
        if outgoing.is_ephemeral() && held.len() >= MAX_HELD / 2 {
            return true;
        }
        if held.len() >= MAX_HELD {
            held.retain(|(_, outgoing)| !outgoing.is_ephemeral());
        }
        self.holds_view |= outgoing.event.kind == EventKind::ConversationUpdated;
        let has_room = held.len() < MAX_HELD;
        if has_room {
            held.push_back((place, Arc::clone(outgoing)));
        }
        has_room
    }

    /// An event goes out live.
    fn note_live(&mut self, place: Option<Place>) {
        let (Some((conversation, seq)), Some(first)) = (place, &mut self.first_live) else { return };
        if first.len() < MAX_FIRST_LIVE || first.contains_key(&conversation) {
            first.entry(conversation).or_insert(seq);
        } else {
            self.first_live = None;
        }
    }
}

/// A socket in the hub.
pub(super) struct Seat {
    pub socket: Arc<Socket>,
    gate: Mutex<Gate>,
    resume: Turn<()>,
}

impl Seat {
    /// A held seat.
    pub fn held(socket: Arc<Socket>) -> Arc<Self> {
        let gate = Gate { held: Some(VecDeque::new()), first_live: Some(HashMap::new()), ..Gate::default() };
        Arc::new(Self { socket, gate: Mutex::new(gate), resume: Turn::new(()) })
    }

    /// For who resumes, or is to wait until nobody does.
    pub async fn resuming(&self) -> MutexGuard<'_, ()> {
        self.resume.lock().await
    }

    /// A live event, in the order of its log if it has a place in one.
    pub fn send(&self, place: Option<Place>, outgoing: &Arc<Outgoing>) {
        let mut gate = self.gate.lock();
        if gate.was_replayed(place) {
            return;
        }
        if gate.held.is_some() {
            if !gate.keep(place, outgoing) {
                self.socket.close(CloseReason::TooSlow);
            }
            return;
        }
        gate.note_live(place);
        // The rows of a log come in order: none at or below the replay's end can follow. While the seat is held some wait.
        if let Some((conversation, _)) = place {
            gate.replayed.remove(&conversation);
        }
        self.socket.send(Arc::clone(outgoing));
    }

    /// Rows of a log before all that is live, while the seat is held. Those of them that have come live already come once.
    pub fn send_first(&self, conversation: ConversationId, rows: Vec<(Seq, Arc<Outgoing>)>) {
        let mut gate = self.gate.lock();
        if let Some(held) = &mut gate.held {
            held.retain(|(place, _)| place.is_none_or(|(of, seq)| of != conversation || rows.iter().all(|(first, _)| *first != seq)));
            for (seq, outgoing) in rows.into_iter().rev() {
                held.push_front((Some((conversation, seq)), outgoing));
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

    /// Lets what waits go, in order and as fast as the client takes it, and everything after it; `hold` names the hold to
    /// end, `None` whichever there is.
    pub async fn release(&self, hold: Option<u64>) {
        let hold = hold.unwrap_or_else(|| self.gate.lock().hold);
        while self.release_some(hold) {
            self.socket.roomy().await;
        }
    }

    /// Lets go what there is room for now; the rest follows when the hold's time is over.
    pub fn release_early(&self) {
        let hold = self.gate.lock().hold;
        self.release_some(hold);
    }

    /// Lets go what there is room for; whether something waits still.
    fn release_some(&self, hold: u64) -> bool {
        let mut gate = self.gate.lock();
        while gate.hold == hold
            && let Some(held) = &mut gate.held
        {
            let Some((place, outgoing)) = held.pop_front() else {
                (gate.held, gate.holds_view) = (None, false);
                break;
            };
            if !gate.was_replayed(place) {
                gate.note_live(place);
                self.socket.send(outgoing);
                if self.socket.is_crowded() {
                    return true;
                }
            }
        }
        false
    }

    /// The last row that a replay of this conversation has to send, if it goes to `head`: live rows have gone out already,
    /// and those behind the first one come live too.
    pub fn replay_upto(&self, conversation: ConversationId, head: Seq) -> Seq {
        let gate = self.gate.lock();
        let first = gate.first_live.as_ref().and_then(|first| first.get(&conversation)).copied();
        first.map_or(head, |first| head.min(first - 1))
    }

    /// The client has everything of this log up to `upto`, though live rows up to there may still be on their way.
    pub fn skip_upto(&self, conversation: ConversationId, upto: Seq) {
        let mut gate = self.gate.lock();
        let replayed = gate.replayed.entry(conversation).or_default();
        *replayed = upto.max(*replayed);
    }

    /// Whether rows of this log wait for the hold to end.
    pub fn holds_row_of(&self, conversation: ConversationId) -> bool {
        let gate = self.gate.lock();
        gate.held.as_ref().is_some_and(|held| held.iter().any(|(place, _)| place.is_some_and(|(of, _)| of == conversation)))
    }

    /// Whether a conversation as it was some time ago waits for the hold to end.
    pub fn holds_view(&self) -> bool {
        self.gate.lock().holds_view
    }

    /// They were read at `when`, or later. From here on a conversation that the hub knows nothing of is new to this user.
    pub fn heads_read(&self, when: Instant) {
        self.gate.lock().heads_read = Some(when);
    }

    /// Whether the user's conversations were read since the seat was taken.
    pub fn knows_heads(&self) -> bool {
        self.gate.lock().heads_read.is_some()
    }

    /// Whether they were read since then, and the rows that they tell of are on their way.
    pub fn heads_read_since(&self, since: Instant) -> bool {
        self.gate.lock().heads_read.is_some_and(|read| read >= since)
    }

    /// Whether a replay can know what has gone out live: not when that was long ago, or in too many conversations.
    pub fn can_resume(&self) -> bool {
        self.gate.lock().first_live.is_some()
    }

    /// The client has resumed, or has had its time for it: what only a resume needs is forgotten.
    pub fn resumes_no_more(&self) {
        let mut gate = self.gate.lock();
        gate.first_live = None;
        gate.replayed.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::poll;

    use super::*;
    use crate::event::Event;
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

    #[tokio::test]
    async fn what_is_sent_first_and_had_come_live_comes_once_and_in_order() {
        let (seat, conversation) = (seat(), ConversationId::fresh());
        let hold = seat.hold();
        seat.send(Some((conversation, 6)), &row(6));
        seat.send(Some((ConversationId::fresh(), 7)), &row(70));
        seat.send_first(conversation, vec![(6, row(6)), (7, row(7))]);
        seat.release(Some(hold)).await;
        assert_eq!(sent(&seat), [6, 7, 70]);
    }

    #[tokio::test]
    async fn live_rows_wait_for_the_replay_and_come_once() {
        let (seat, c) = (seat(), ConversationId::fresh());
        for seq in [5, 6, 7] {
            seat.send(Some((c, seq)), &row(seq));
        }
        assert!(sent(&seat).is_empty());
        assert_eq!(seat.replay_upto(c, 6), 6);
        seat.socket.send(row(6));
        seat.skip_upto(c, 6);
        seat.release(None).await;
        seat.send(Some((c, 8)), &row(8));
        assert_eq!(sent(&seat), [6, 7, 8], "5 and 6 were replayed, 7 waited");
    }

    #[tokio::test]
    async fn a_row_that_comes_during_the_replay_lets_no_earlier_one_through() {
        let (seat, c) = (seat(), ConversationId::fresh());
        for seq in [5, 6] {
            seat.send(Some((c, seq)), &row(seq));
        }
        assert_eq!(seat.replay_upto(c, 6), 6);
        (5..=6).for_each(|seq| seat.socket.send(row(seq)));
        seat.skip_upto(c, 6);
        seat.send(Some((c, 7)), &row(7));
        seat.release(None).await;
        seat.send(Some((c, 8)), &row(8));
        assert_eq!(sent(&seat), [5, 6, 7, 8]);
    }

    #[tokio::test]
    async fn a_late_resume_sends_only_what_was_before_the_first_live_row() {
        let (seat, c) = (seat(), ConversationId::fresh());
        seat.release(None).await;
        seat.send(Some((c, 8)), &row(8));
        assert_eq!(seat.replay_upto(c, 9), 7);
        seat.send(Some((c, 9)), &row(9));
        assert_eq!(sent(&seat), [8, 9]);
    }

    #[tokio::test]
    async fn the_timer_of_an_earlier_hold_ends_no_later_one() {
        let seat = seat();
        let (first, c) = (seat.hold(), ConversationId::fresh());
        let second = seat.hold();
        seat.send(Some((c, 1)), &row(1));
        seat.release(Some(first)).await;
        assert!(sent(&seat).is_empty());
        seat.release(Some(second)).await;
        assert_eq!(sent(&seat), [1]);
    }

    #[tokio::test]
    async fn more_than_an_outbox_holds_is_released_as_it_is_taken() {
        let (seat, c) = (seat(), ConversationId::fresh());
        for seq in 1..=3_000 {
            seat.send(Some((c, seq)), &row(seq));
        }
        let mut release = Box::pin(seat.release(None));
        let mut came = Vec::new();
        while poll!(&mut release).is_pending() {
            seat.send(Some((c, 3_001 + came.len() as Seq)), &row(3_001 + came.len() as Seq));
            came.extend(sent(&seat));
        }
        came.extend(sent(&seat));
        assert_eq!(seat.socket.closing(), None);
        assert!(came[..3_000].iter().copied().eq(1..=3_000) && came.is_sorted(), "in order, the later ones behind");
    }

    #[tokio::test]
    async fn a_resume_takes_over_from_a_release() {
        let (seat, c) = (seat(), ConversationId::fresh());
        for seq in 1..=600 {
            seat.send(Some((c, seq)), &row(seq));
        }
        let mut release = Box::pin(seat.release(None));
        assert!(poll!(&mut release).is_pending());
        let hold = seat.hold();
        assert_eq!(sent(&seat).len(), 512);
        assert!(poll!(&mut release).is_ready() && sent(&seat).is_empty(), "the later hold goes on");
        assert_eq!(seat.replay_upto(c, 600), 0, "those rows are live");
        seat.release(Some(hold)).await;
        assert!(sent(&seat).into_iter().eq(513..=600));
    }

    #[tokio::test]
    async fn typing_makes_no_seat_too_slow() {
        let (seat, c) = (seat(), ConversationId::fresh());
        let typing = Outgoing::new(Event::new(EventKind::TypingStart, &0).unwrap(), None);
        for _ in 0..2 * MAX_HELD {
            seat.send(None, &typing);
        }
        for seq in 1..=MAX_HELD as Seq {
            seat.send(Some((c, seq)), &row(seq));
        }
        assert_eq!(seat.socket.closing(), None);
        seat.send(Some((c, 9_999)), &row(9_999));
        assert_eq!(seat.socket.closing(), Some(CloseReason::TooSlow));
    }

    #[tokio::test]
    async fn rows_that_no_replay_sent_come_live() {
        let (seat, c) = (seat(), ConversationId::fresh());
        for seq in 5..=8 {
            seat.send(Some((c, seq)), &row(seq));
        }
        assert_eq!(seat.replay_upto(c, 8), 8);
        // The replay fails after its first page.
        seat.socket.send(row(5));
        seat.skip_upto(c, 5);
        seat.release(None).await;
        assert_eq!(sent(&seat), [5, 6, 7, 8]);
    }
}
