//! One socket as the hub sees it, whichever door it came through: a bounded outbox, what it has open, why it closes.
//! No protocol and no I/O in here: the door takes what waits ([`Socket::take`]) and writes it in one go.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

pub use super::close::CloseReason;
pub use super::outgoing::{Mark, Outgoing};

use super::Login;
use super::outbox::{Frame, Outbox};
use crate::id::{ConversationId, SessionId, SocketId, UserId};

/// Frames that may wait for one socket, unless the settings say otherwise.
pub const MAX_WAITING: usize = 1024;
/// Conversations that one socket may have open; opening one more closes the one opened first.
pub const MAX_OPEN: usize = 32;

/// Which protocol a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// The plain WebSocket at `/ws`.
    WebSocket,
    /// Socket.IO, by whichever transport.
    SocketIo,
}

impl Door {
    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::SocketIo => "socketio",
        }
    }
}

/// What a door writes in one go.
#[derive(Debug, Default)]
pub struct Batch {
    /// The frames, in order.
    pub frames: Vec<Utf8Bytes>,
    /// The messages among them.
    pub marks: Vec<Mark>,
    /// After these frames the socket closes, for this reason.
    pub closing: Option<CloseReason>,
}

impl Batch {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.closing.is_none()
    }
}

/// One authenticated socket of one login on this node.
#[derive(Debug)]
pub struct Socket {
    /// Its own id.
    pub id: SocketId,
    /// Whose it is.
    pub user_id: UserId,
    /// The login it is bound to.
    pub session_id: SessionId,
    /// What it speaks.
    pub door: Door,
    outbox: Mutex<Outbox>,
    filled: Notify,
    emptied: Notify,
    over: Notify,
}

impl Socket {
    /// A socket with an empty outbox that holds up to `max_waiting` frames.
    pub fn new(login: Login, door: Door, max_waiting: usize) -> Arc<Self> {
        let Login { user_id, session_id } = login;
        let (outbox, filled, emptied, over) = (Mutex::new(Outbox::new(max_waiting)), Notify::new(), Notify::new(), Notify::new());
        Arc::new(Self { id: SocketId::fresh(), user_id, session_id, door, outbox, filled, emptied, over })
    }

    /// Puts an event into the outbox; never waits. A socket that does not keep up loses typing and presence,
    /// then is closed as [`CloseReason::TooSlow`].
    pub fn send(&self, outgoing: Arc<Outgoing>) {
        let mut outbox = self.outbox.lock();
        if self.door == Door::SocketIo && !outbox.dialect.wants(&outgoing) {
            return;
        }
        outbox.push(Frame::Event(outgoing));
        let closes = outbox.closing.is_some();
        drop(outbox);
        self.wake(closes);
    }

    fn wake(&self, closes: bool) {
        self.filled.notify_one();
        if closes {
            self.emptied.notify_waiters();
        }
    }

    /// The same, but waits while the outbox is half full: for replays, which are larger than any outbox.
    pub async fn send_paced(&self, outgoing: Arc<Outgoing>) {
        self.roomy().await;
        self.send(outgoing);
    }

    /// The talk is over, for whatever reason: whoever waits for room goes on, and nothing more is put in. What is in may
    /// still be fetched by a last poll.
    pub fn end(&self) {
        self.outbox.lock().is_over = true;
        self.wake(true);
        self.over.notify_waiters();
    }

    /// Returns once it is.
    pub async fn ended(&self) {
        let over = self.over.notified();
        if !self.outbox.lock().is_over {
            over.await;
        }
    }

    /// Returns once the outbox is less than half full, or the socket closes or has ended.
    pub async fn roomy(&self) {
        loop {
            let emptied = self.emptied.notified();
            if !self.is_crowded() {
                return;
            }
            emptied.await;
        }
    }

    /// Whether the outbox is half full.
    pub fn is_crowded(&self) -> bool {
        let outbox = self.outbox.lock();
        outbox.closing.is_none() && !outbox.is_over && outbox.is_crowded()
    }

    /// Puts a frame into the outbox that the door has encoded itself: acks and errors.
    pub fn reply(&self, text: impl Into<Utf8Bytes>) {
        let mut outbox = self.outbox.lock();
        outbox.push(Frame::Reply(text.into()));
        let closes = outbox.closing.is_some();
        drop(outbox);
        self.wake(closes);
    }

    /// Closes the socket; the first reason stands.
    pub fn close(&self, reason: CloseReason) {
        self.outbox.lock().close(reason);
        self.wake(true);
    }

    /// A command begins, or has been answered: a close in good order waits for that.
    pub(super) fn asked(&self, is_asked: bool) {
        let closes = {
            let mut outbox = self.outbox.lock();
            outbox.is_asked = is_asked;
            outbox.closes().is_some()
        };
        // Mostly nothing waits for it.
        if closes {
            self.wake(true);
        }
    }

    /// Why it closes, once it does.
    pub fn closing(&self) -> Option<CloseReason> {
        self.outbox.lock().closing
    }

    /// Takes up to `limit` waiting frames, encoded for this socket. An idle socket keeps no buffer.
    pub fn take(&self, limit: usize) -> Batch {
        let mut outbox = self.outbox.lock();
        let count = outbox.frames.len().min(limit);
        let frames: Vec<Frame> = outbox.frames.drain(..count).collect();
        let weight: usize = frames.iter().map(Frame::weight).sum();
        outbox.bytes = outbox.bytes.saturating_sub(weight);
        let closing = outbox.closes().filter(|_| outbox.frames.is_empty());
        if outbox.frames.is_empty() && outbox.frames.capacity() > 8 {
            outbox.frames = VecDeque::new();
        }
        let bare = outbox.dialect.is_bare();
        drop(outbox);
        self.emptied.notify_waiters();
        let mut batch = Batch { frames: Vec::with_capacity(count), marks: Vec::new(), closing };
        for frame in frames {
            batch.frames.push(match frame {
                Frame::Reply(text) => text,
                Frame::Event(outgoing) => {
                    batch.marks.extend(outgoing.mark);
                    match self.door {
                        Door::WebSocket => outgoing.websocket(),
                        Door::SocketIo if bare => outgoing.socketio_bare(),
                        Door::SocketIo => outgoing.socketio(),
                    }
                }
            });
        }
        batch
    }

    /// Whether something waits to be written, or the socket closes.
    pub fn has_waiting(&self) -> bool {
        let outbox = self.outbox.lock();
        !outbox.frames.is_empty() || outbox.closes().is_some()
    }

    /// Returns once something waits to be written, or the socket closes. For one waiter at a time: its door.
    pub async fn filled(&self) {
        while !self.has_waiting() {
            self.filled.notified().await;
        }
    }

    /// Returns once the socket closes and a stuck write is waited for no longer. For its door alone, instead of [`Socket::filled`].
    pub async fn closed_at_once(&self) -> CloseReason {
        loop {
            let (closing, at) = {
                let outbox = self.outbox.lock();
                (outbox.closing, outbox.closed_at)
            };
            if let (Some(reason), Some(at)) = (closing, at) {
                tokio::time::sleep_until(at).await;
                return reason;
            }
            self.filled.notified().await;
        }
    }

    /// Returns once the socket closes, whoever takes from it.
    pub async fn closed(&self) -> CloseReason {
        loop {
            let emptied = self.emptied.notified();
            if let Some(reason) = self.outbox.lock().closes() {
                return reason;
            }
            emptied.await;
        }
    }

    /// Marks a conversation as open on this device. `bare`: asked for by its bare id, as the shipped app does;
    /// `peer` is the other person of a DIRECT one. From then on such a socket hears of the presence of the last peer alone.
    pub fn opened(&self, conversation: ConversationId, bare: bool, peer: Option<UserId>) {
        let mut outbox = self.outbox.lock();
        outbox.opened.retain(|open| *open != conversation);
        if outbox.opened.len() >= MAX_OPEN {
            outbox.opened.remove(0);
        }
        outbox.opened.push(conversation);
        if bare {
            outbox.dialect.joined(peer);
        }
    }

    /// Takes the mark away.
    pub fn left(&self, conversation: ConversationId) {
        self.outbox.lock().opened.retain(|open| *open != conversation);
    }

    /// Whether the conversation is open on this device.
    pub fn has_open(&self, conversation: ConversationId) -> bool {
        self.outbox.lock().opened.contains(&conversation)
    }

    /// The conversations that are open on this device, the last opened one last.
    pub fn open_conversations(&self) -> Vec<ConversationId> {
        self.outbox.lock().opened.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures_util::poll;

    use super::*;
    use crate::event::{Event, EventKind};
    use crate::id::MessageId;

    fn socket() -> Arc<Socket> {
        Socket::new(Login { user_id: UserId::fresh(), session_id: SessionId::fresh() }, Door::WebSocket, MAX_WAITING)
    }

    fn event(kind: EventKind, size: usize) -> Arc<Outgoing> {
        Outgoing::new(Event::new(kind, &"x".repeat(size)).unwrap(), None)
    }

    #[test]
    fn frames_come_out_in_order_and_bytes_are_shared() {
        let (one, two) = (socket(), socket());
        let mark = Mark {
            conversation_id: ConversationId::fresh(),
            seq: 4,
            message_id: MessageId::fresh(),
            sender_id: UserId::fresh(),
            is_large: false,
        };
        let outgoing = Outgoing::new(Event::new(EventKind::MessageReceived, &1).unwrap(), Some(mark));
        one.reply("a");
        one.send(outgoing.clone());
        two.send(outgoing);
        let (one, two) = (one.take(usize::MAX), two.take(usize::MAX));
        assert_eq!(one.frames[0].as_str(), "a");
        assert_eq!(one.frames[1].as_str(), r#"{"event":"message:received","data":1}"#);
        assert_eq!(one.frames[1].as_ptr(), two.frames[0].as_ptr());
        assert_eq!((one.marks, one.closing), (vec![mark], None));
    }

    #[test]
    fn a_close_in_good_order_waits_for_the_answer_to_what_is_under_way() {
        let draining = socket();
        draining.asked(true);
        draining.close(CloseReason::Draining);
        draining.send(event(EventKind::MessageReceived, 1));
        assert!(!draining.has_waiting(), "nothing but the answer is waited for");
        draining.reply("done");
        let last = draining.take(usize::MAX);
        assert_eq!((last.frames.len(), last.frames[0].as_str(), last.closing), (1, "done", None));
        draining.asked(false);
        assert!(draining.has_waiting());
        assert_eq!(draining.take(usize::MAX).closing, Some(CloseReason::Draining));
        // Who is no longer let in is answered nothing.
        let revoked = socket();
        revoked.asked(true);
        revoked.close(CloseReason::Revoked);
        revoked.reply("done");
        let last = revoked.take(usize::MAX);
        assert_eq!((last.frames.len(), last.closing), (0, Some(CloseReason::Revoked)));
    }

    #[test]
    fn a_slow_socket_loses_typing_first_and_is_closed_then() {
        let socket = socket();
        (0..MAX_WAITING / 2).for_each(|_| socket.send(event(EventKind::TypingStart, 1)));
        (0..MAX_WAITING).for_each(|_| socket.send(event(EventKind::MessageUpdated, 1)));
        socket.send(event(EventKind::TypingStart, 1));
        assert_eq!(socket.closing(), None, "typing made room");
        assert_eq!(socket.take(3).frames.len(), 3);
        (0..4).for_each(|_| socket.send(event(EventKind::MessageUpdated, 1)));
        assert_eq!(socket.closing(), Some(CloseReason::TooSlow));
        let batch = socket.take(usize::MAX);
        assert!(batch.frames.is_empty() && batch.closing == Some(CloseReason::TooSlow));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let socket = socket();
        (0..5).for_each(|_| socket.send(event(EventKind::MessageUpdated, 1 << 20)));
        assert_eq!(socket.closing(), Some(CloseReason::TooSlow));
    }

    #[test]
    fn an_orderly_close_comes_after_what_waits_and_a_revocation_before() {
        let (draining, revoked) = (socket(), socket());
        for socket in [&draining, &revoked] {
            socket.reply("a");
            socket.reply("b");
        }
        draining.close(CloseReason::Draining);
        draining.close(CloseReason::Revoked);
        draining.reply("late");
        revoked.close(CloseReason::Revoked);
        let first = draining.take(1);
        assert_eq!((first.frames.len(), first.closing), (1, None));
        let second = draining.take(1);
        assert_eq!((second.frames.len(), second.closing), (1, Some(CloseReason::Draining)));
        assert!(revoked.take(9).frames.is_empty());
    }

    #[tokio::test]
    async fn a_replay_waits_for_room() {
        let socket = socket();
        let writer = {
            let socket = socket.clone();
            tokio::spawn(async move {
                let mut count = 0;
                while count < 4 * MAX_WAITING {
                    socket.filled().await;
                    count += socket.take(100).frames.len();
                }
            })
        };
        for _ in 0..4 * MAX_WAITING {
            socket.send_paced(event(EventKind::MessageReceived, 1)).await;
        }
        writer.await.unwrap();
        assert_eq!(socket.closing(), None);
    }

    #[tokio::test]
    async fn nobody_waits_for_room_in_a_socket_that_has_ended() {
        let socket = socket();
        (0..MAX_WAITING / 2).for_each(|_| socket.send(event(EventKind::MessageReceived, 1)));
        let mut waiting = Box::pin(socket.roomy());
        assert!(poll!(waiting.as_mut()).is_pending());
        socket.end();
        waiting.await;
        socket.ended().await;
        socket.send(event(EventKind::MessageReceived, 1));
        assert_eq!((socket.take(usize::MAX).frames.len(), socket.closing()), (MAX_WAITING / 2, None));
    }

    #[test]
    fn open_conversations_are_bounded() {
        let socket = socket();
        let all: Vec<_> = (0..=MAX_OPEN).map(|_| ConversationId::fresh()).collect();
        for id in &all {
            socket.opened(*id, false, None);
        }
        assert!(!socket.has_open(all[0]) && socket.has_open(all[1]) && socket.has_open(all[MAX_OPEN]));
        socket.left(all[1]);
        assert_eq!(socket.open_conversations(), all[2..]);
    }

    #[test]
    fn an_idle_socket_is_small() {
        assert!(size_of::<Socket>() < 400, "{}", size_of::<Socket>());
    }
}
