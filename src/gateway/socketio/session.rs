//! An Engine.IO session that polls: what its requests share with the task that drives it, and the table that finds it by `sid`.
//! Sessions are bound to this node. One that starts on a websocket never needs the table.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::engine::{self, MAX_PACKETS, SEPARATOR};
use super::packet::DISCONNECT;
use crate::gateway::wire::Wire;
use crate::gateway::{CloseReason, Gateway, Mark, Socket};

/// What requests hand to the task.
pub enum Inbound {
    /// The body of a POST.
    Payload(String),
    /// The websocket that takes over.
    Upgraded(Box<Wire>),
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Polling,
    /// A websocket is being probed: polls come back at once.
    Upgrading,
    Upgraded,
    /// Closing: what waits may still be fetched.
    Ending(Option<CloseReason>),
    Over,
}

struct State {
    phase: Phase,
    /// Packets of the transport and of a stranger, in front of the socket's.
    packets: Vec<String>,
    socket: Option<Arc<Socket>>,
    /// In the last poll's answer; the next request of this client tells that it has come.
    unconfirmed: Vec<Mark>,
    is_polled: bool,
    is_posted: bool,
}

/// See the module.
pub struct Session {
    /// Its id.
    pub sid: String,
    inbox: mpsc::Sender<Inbound>,
    state: Mutex<State>,
    /// Wakes the poll that waits.
    pub woken: Notify,
    /// Wakes the task when the session is to end.
    pub ended: Notify,
}

/// A poll's answer.
pub enum Collected {
    /// Nothing yet.
    Nothing,
    /// A payload.
    Payload(String),
    /// The session is over.
    Over,
}

impl Session {
    /// A session, and the other end of its inbox.
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Inbound>) {
        let (inbox, receiver) = mpsc::channel(1);
        let state =
            State { phase: Phase::Polling, packets: Vec::new(), socket: None, unconfirmed: Vec::new(), is_polled: false, is_posted: false };
        let session = Self { sid: engine::fresh_sid(), inbox, state: Mutex::new(state), woken: Notify::new(), ended: Notify::new() };
        (Arc::new(session), receiver)
    }

    /// Puts a packet before all that waits in the socket's outbox.
    pub fn put(&self, packet: impl Into<String>) {
        let mut state = self.state.lock();
        // Pings that nobody fetches do not add up: the heartbeat ends such a session.
        if state.packets.len() < MAX_PACKETS {
            state.packets.push(packet.into());
        }
        drop(state);
        self.woken.notify_one();
    }

    /// The client has connected: its outbox is fetched from now on.
    pub fn connected(&self, socket: Arc<Socket>) {
        self.state.lock().socket = Some(socket);
        self.woken.notify_one();
    }

    /// Its socket, if it has connected.
    pub fn socket(&self) -> Option<Arc<Socket>> {
        self.state.lock().socket.clone()
    }

    /// Whether requests of the polling transport are in their place.
    pub fn is_polling(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Polling | Phase::Upgrading | Phase::Ending(_))
    }

    /// Begins a poll, or a post; one of each at a time.
    pub fn begin(self: &Arc<Self>, is_poll: bool) -> Option<Request> {
        let mut state = self.state.lock();
        let flag = if is_poll { &mut state.is_polled } else { &mut state.is_posted };
        if std::mem::replace(flag, true) {
            return None;
        }
        Some(Request { session: self.clone(), is_poll })
    }

    /// The client has got the last poll's answer: it came with another request.
    pub fn confirm(&self, gateway: &dyn Gateway) {
        let mut state = self.state.lock();
        let marks = std::mem::take(&mut state.unconfirmed);
        let socket = state.socket.clone().filter(|_| !marks.is_empty());
        drop(state);
        if let Some(socket) = socket {
            gateway.wrote(&socket, &marks);
        }
    }

    /// What a poll answers with now.
    pub fn collect(&self) -> Collected {
        let mut state = self.state.lock();
        if state.phase == Phase::Upgraded {
            return Collected::Payload(engine::NOOP.to_owned());
        }
        let mut packets = std::mem::take(&mut state.packets);
        if let Some(socket) = state.socket.clone() {
            let batch = socket.take(MAX_PACKETS.saturating_sub(packets.len()));
            packets.extend(batch.frames.iter().map(ToString::to_string));
            state.unconfirmed.extend(batch.marks);
            if let Some(reason) = batch.closing.filter(|_| matches!(state.phase, Phase::Polling | Phase::Upgrading)) {
                state.phase = Phase::Ending(Some(reason));
                self.ended.notify_one();
            }
        }
        if let Phase::Ending(reason) = state.phase {
            if reason.is_some_and(CloseReason::is_final) && packets.len() < MAX_PACKETS {
                packets.push(DISCONNECT.to_owned());
                state.phase = Phase::Ending(None);
            } else if packets.is_empty() {
                state.phase = Phase::Over;
                self.ended.notify_one();
                return Collected::Over;
            }
        }
        match state.phase {
            Phase::Over => Collected::Over,
            Phase::Upgrading if packets.is_empty() => Collected::Payload(engine::NOOP.to_owned()),
            _ if packets.is_empty() => Collected::Nothing,
            _ => Collected::Payload(packets.join(SEPARATOR.encode_utf8(&mut [0; 4]))),
        }
    }

    /// Hands something to the task; false when that has ended.
    pub async fn hand(&self, inbound: Inbound) -> bool {
        self.inbox.send(inbound).await.is_ok()
    }

    /// Begins to probe a websocket; false when it is not the time for it.
    pub fn begin_upgrade(&self) -> bool {
        let mut state = self.state.lock();
        let may = state.phase == Phase::Polling;
        if may {
            state.phase = Phase::Upgrading;
        }
        may
    }

    /// The websocket has been probed: the poll that waits is let go, and the client stops to poll.
    pub fn probed(&self) {
        self.woken.notify_one();
    }

    /// The upgrade came to nothing.
    pub fn abandon_upgrade(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Upgrading {
            state.phase = Phase::Polling;
        }
    }

    /// The websocket is the transport: polls get nothing any more, the outbox goes on as it is.
    pub fn upgraded(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Upgrading {
            state.phase = Phase::Upgraded;
        }
        drop(state);
        self.woken.notify_one();
    }

    /// The websocket became the transport of a session that ends: what waits is collected as for a poll.
    pub fn moved_too_late(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Upgraded {
            state.phase = Phase::Polling;
        }
    }

    /// The transport's own packets that no poll has fetched.
    pub fn rest(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().packets)
    }

    /// Begins the end: what waits may still be fetched, polls get no more than that.
    pub fn end(&self, reason: Option<CloseReason>) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Ending(_) | Phase::Over) {
            state.phase = Phase::Ending(reason);
        }
        drop(state);
        self.woken.notify_one();
        self.ended.notify_one();
    }

    /// Ends it at once.
    pub fn abort(&self) {
        self.state.lock().phase = Phase::Over;
        self.woken.notify_one();
        self.ended.notify_one();
    }

    /// Whether it has begun to end.
    pub fn is_ending(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Ending(_) | Phase::Over)
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.state.lock().phase == Phase::Over
    }
}

/// A request that is being answered; its place is free again when it is dropped, answered or not.
pub struct Request {
    session: Arc<Session>,
    is_poll: bool,
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = self.session.state.lock();
        if self.is_poll {
            state.is_polled = false;
        } else {
            state.is_posted = false;
        }
    }
}

/// The polling sessions of this node, by `sid`.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// The session with this id.
    pub fn find(&self, sid: &str) -> Option<Arc<Session>> {
        self.0.lock().get(sid).cloned()
    }

    /// Adds one.
    pub fn add(&self, session: Arc<Session>) {
        self.0.lock().insert(session.sid.clone(), session);
    }

    /// Takes one out.
    pub fn remove(&self, sid: &str) {
        self.0.lock().remove(sid);
    }
}
