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

/// What requests hand to the task. A websocket has a way of its own: the task takes it while packets before it wait,
/// for what they wait for may be room in an outbox that nobody but the websocket empties.
pub struct Inbox {
    /// The bodies of POSTs.
    pub payloads: mpsc::Receiver<String>,
    /// The websocket that takes over.
    pub upgraded: mpsc::Receiver<Box<Wire>>,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Polling,
    /// A websocket is there, and has not shown yet that packets come through it: polls go on as they were.
    Probing,
    /// It has: the client stops to poll, and the poll that it waits for comes back at once.
    Probed,
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
    /// In the last poll's answer; the next poll of this client tells that it has come.
    unconfirmed: Vec<Mark>,
    /// The last poll's answer under the name that its request bore: should it be lost on the way, its client, or
    /// whatever stands between, asks for it under the same name.
    answered: Option<(String, String)>,
    is_polled: bool,
    is_posted: bool,
}

/// See the module.
pub struct Session {
    /// Its id.
    pub sid: String,
    payloads: mpsc::Sender<String>,
    upgrade: mpsc::Sender<Box<Wire>>,
    state: Mutex<State>,
    /// Wakes the poll that waits.
    pub woken: Notify,
    /// Wakes the task when the session is to end.
    pub ended: Notify,
    /// Tells the task that the client has polled: it is alive, whatever its packets wait for.
    pub polled: Notify,
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
    pub fn new() -> (Arc<Self>, Inbox) {
        let (payloads, posted) = mpsc::channel(1);
        let (upgrade, upgraded) = mpsc::channel(1);
        let state = State {
            phase: Phase::Polling,
            packets: Vec::new(),
            socket: None,
            unconfirmed: Vec::new(),
            answered: None,
            is_polled: false,
            is_posted: false,
        };
        let (woken, ended, polled) = (Notify::new(), Notify::new(), Notify::new());
        let session = Self { sid: engine::fresh_sid(), payloads, upgrade, state: Mutex::new(state), woken, ended, polled };
        (Arc::new(session), Inbox { payloads: posted, upgraded })
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
        matches!(self.state.lock().phase, Phase::Polling | Phase::Probing | Phase::Probed | Phase::Ending(_))
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

    /// The answer that a poll of this name was given already.
    pub fn answered(&self, name: Option<&str>) -> Option<String> {
        let state = self.state.lock();
        state.answered.as_ref().filter(|(of, _)| Some(of.as_str()) == name).map(|(_, payload)| payload.clone())
    }

    /// Keeps the answer to the poll of this name.
    pub fn keep(&self, name: &str, payload: &str) {
        self.state.lock().answered = Some((name.to_owned(), payload.to_owned()));
    }

    /// The client has got the last poll's answer: it polls again, or has moved on.
    pub fn confirm(&self, gateway: &dyn Gateway) {
        let mut state = self.state.lock();
        state.answered = None;
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
            if let Some(reason) = batch.closing.filter(|_| matches!(state.phase, Phase::Polling | Phase::Probing | Phase::Probed)) {
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
            Phase::Probed if packets.is_empty() => Collected::Payload(engine::NOOP.to_owned()),
            _ if packets.is_empty() => Collected::Nothing,
            _ => Collected::Payload(packets.join(SEPARATOR.encode_utf8(&mut [0; 4]))),
        }
    }

    /// Hands the body of a POST to the task; false when that has ended.
    pub async fn post(&self, payload: String) -> bool {
        self.payloads.send(payload).await.is_ok()
    }

    /// Hands the websocket that takes over to the task.
    pub async fn take_over(&self, wire: Wire) {
        let _ = self.upgrade.send(Box::new(wire)).await;
    }

    /// Begins to probe a websocket; false when it is not the time for it.
    pub fn begin_upgrade(&self) -> bool {
        let mut state = self.state.lock();
        let may = state.phase == Phase::Polling;
        if may {
            state.phase = Phase::Probing;
        }
        may
    }

    /// The websocket has been probed: the poll that waits is let go, and the client stops to poll.
    pub fn probed(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Probing {
            state.phase = Phase::Probed;
        }
        drop(state);
        self.woken.notify_one();
    }

    /// The upgrade came to nothing.
    pub fn abandon_upgrade(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Probing | Phase::Probed) {
            state.phase = Phase::Polling;
        }
    }

    /// The websocket is the transport: polls get nothing any more, the outbox goes on as it is.
    pub fn upgraded(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Probed {
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
