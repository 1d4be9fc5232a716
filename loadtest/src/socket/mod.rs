//! One realtime client for every door: events in, commands with acks out, the end with its reason.
//! A socket is one task, a TCP connection and 4 KB of read buffer, so that a process can hold tens of thousands.
//! It never reconnects and never resumes by itself: what happens then is what the tests are about.

mod engine;
mod options;
mod packet;
mod polling;
mod session;
mod websocket;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

pub use self::{
    options::{Auth, Door, Options},
    session::Ack,
};
use self::{
    session::{Command, Dialect, Session, Shared},
    websocket::Stream,
};
use crate::http::Http;

/// Commands that may wait for a socket's task before its owner does.
const COMMAND_QUEUE: usize = 16;

/// Something that the server told.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its data as it came; `null` when there was none.
    pub data: Box<RawValue>,
    /// When its frame had been read.
    pub at: Instant,
}

impl Event {
    /// Its data as JSON; null when it cannot be read.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.data.get()).unwrap_or_default()
    }
}

/// What ended a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A websocket close frame; the code says why.
    CloseFrame,
    /// Socket.IO's DISCONNECT: the official clients do not come back after it.
    Disconnect,
    /// Socket.IO's refusal of the CONNECT: nor after this.
    ConnectError,
    /// Engine.IO's close packet.
    EngineClose,
    /// The connection ended without a word.
    Lost,
    /// An answer to a poll or a post with this status.
    Http(u16),
    /// No ping in time.
    Silent,
    /// The server said something that its protocol does not know.
    Protocol,
    /// This side closed.
    Local,
}

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("closed ({ending:?}, code {code:?}): {reason}")]
pub struct Close {
    /// By what.
    pub ending: Ending,
    /// The close code of the websocket, if it had one.
    pub code: Option<u16>,
    /// The reason in words.
    pub reason: String,
}

impl Close {
    fn new(ending: Ending, code: Option<u16>, reason: &str) -> Self {
        Self { ending, code, reason: reason.to_owned() }
    }
}

/// Why a socket could not be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// Socket.IO's `connect_error`, with its JSON.
    #[error("refused: {0}")]
    Refused(Value),
    /// An answer that is no handshake.
    #[error("refused with status {status}: {body}")]
    Http {
        /// Its status.
        status: u16,
        /// Its body.
        body: String,
    },
    /// It closed before it was open.
    #[error(transparent)]
    Closed(Close),
    /// No connection.
    #[error("cannot connect: {0}")]
    Io(String),
    /// The server does not speak the protocol.
    #[error("bad handshake: {0}")]
    Protocol(String),
    /// It took too long.
    #[error("not open within {0:?}")]
    Timeout(Duration),
}

/// Why a command has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The server answered with this error.
    #[error("refused: {0}")]
    Refused(Value),
    /// The socket has ended.
    #[error(transparent)]
    Closed(Close),
    /// No answer in time.
    #[error("no ack within {0:?}")]
    Timeout(Duration),
    /// The data is no JSON.
    #[error("the command cannot be written: {0}")]
    Data(String),
}

impl CallError {
    /// The machine code of a refusal; empty when there is none.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error["code"].as_str().unwrap_or_default(),
            _ => "",
        }
    }
}

/// Why what was waited for did not come.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WaitError {
    /// It did not come in time.
    #[error("no {wanted} within {limit:?}; there were {seen:?}")]
    Timeout {
        /// What was waited for.
        wanted: String,
        /// How long.
        limit: Duration,
        /// The names of what came instead.
        seen: Vec<String>,
    },
    /// The socket ended first.
    #[error("no {wanted}: {close}")]
    Closed {
        /// What was waited for.
        wanted: String,
        /// The end.
        close: Close,
    },
}

/// The writing half: commands. Clones write to the same socket; when all are gone, it closes.
#[derive(Clone, Debug)]
pub struct Emitter {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    limit: Duration,
}

impl Emitter {
    async fn command(&self, command: Command) -> Result<(), CallError> {
        match timeout(self.limit, self.commands.send(command)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(CallError::Closed(self.shared.close())),
            Err(_) => Err(CallError::Timeout(self.limit)),
        }
    }

    /// Sends an event and wants no answer. Waits while the server reads too slowly.
    pub async fn emit<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<(), CallError> {
        let data = serde_json::to_string(data).map_err(|error| CallError::Data(error.to_string()))?;
        self.command(Command::Emit { event: event.to_owned(), data, reply: None }).await
    }

    /// Sends an event; what comes back later is its ack. For callers that send on without waiting.
    pub async fn begin<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<oneshot::Receiver<Ack>, CallError> {
        let data = serde_json::to_string(data).map_err(|error| CallError::Data(error.to_string()))?;
        let (reply, ack) = oneshot::channel();
        self.command(Command::Emit { event: event.to_owned(), data, reply: Some(reply) }).await?;
        Ok(ack)
    }

    /// Sends an event and waits for its ack.
    pub async fn call<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<Value, CallError> {
        let ack = self.begin(event, data).await?;
        match timeout(self.limit, ack).await {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(CallError::Refused(error)),
            Ok(Err(_)) => Err(CallError::Closed(self.shared.close())),
            Err(_) => Err(CallError::Timeout(self.limit)),
        }
    }

    /// `resume`: `known` maps conversation ids to the highest row that this client has. The ack comes after what was missed.
    pub async fn resume(&self, known: &Value) -> Result<Value, CallError> {
        self.call("resume", &json!({"known": known})).await
    }

    /// Sends this text as one frame, or as the body of one POST.
    pub async fn raw_text(&self, text: &str) -> Result<(), CallError> {
        self.command(Command::Text(text.to_owned())).await
    }

    /// Sends these bytes as one binary frame, or as the body of one octet-stream POST.
    pub async fn raw_binary(&self, bytes: Vec<u8>) -> Result<(), CallError> {
        self.command(Command::Binary(bytes)).await
    }

    /// Writes these bytes to the TCP connection, past the websocket's framing. Long-polling ignores it.
    pub async fn raw_bytes(&self, bytes: Vec<u8>) -> Result<(), CallError> {
        self.command(Command::Bytes(bytes)).await
    }

    /// Stops reading from the connection (no more polls, no answers to pings): a client that hangs.
    pub async fn stop_reading(&self) -> Result<(), CallError> {
        self.command(Command::Reading(false)).await
    }

    /// Reads again.
    pub async fn start_reading(&self) -> Result<(), CallError> {
        self.command(Command::Reading(true)).await
    }

    /// Ends the sending side of the TCP connection; long-polling just drops its poll.
    pub async fn half_close(&self) -> Result<(), CallError> {
        self.command(Command::HalfClose).await
    }

    /// Closes with the farewell of the protocol.
    pub async fn close(&self) -> Result<(), CallError> {
        self.command(Command::Close).await
    }

    /// Drops the connection without a word, as a phone does that loses its network.
    pub async fn abort(&self) -> Result<(), CallError> {
        self.command(Command::Abort).await
    }
}

/// The reading half: events, in the order in which they came.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::UnboundedReceiver<Event>,
    /// What was passed over while something else was waited for.
    passed: VecDeque<Event>,
    shared: Arc<Shared>,
}

impl Events {
    /// The next event, whatever it is; the close when there are no more. Cancel-safe.
    pub async fn next(&mut self) -> Result<Event, Close> {
        if let Some(event) = self.passed.pop_front() {
            return Ok(event);
        }
        self.queue.recv().await.ok_or_else(|| self.shared.close())
    }

    /// Everything that has come and was not taken yet.
    pub fn drain(&mut self) -> Vec<Event> {
        let mut events: Vec<Event> = self.passed.drain(..).collect();
        events.extend(std::iter::from_fn(|| self.queue.try_recv().ok()));
        events
    }

    /// The first event that `accept` takes. Others stay, in their order, for later calls.
    pub async fn next_match(&mut self, wanted: &str, limit: Duration, mut accept: impl FnMut(&Event) -> bool) -> Result<Event, WaitError> {
        if let Some(at) = self.passed.iter().position(&mut accept)
            && let Some(event) = self.passed.remove(at)
        {
            return Ok(event);
        }
        let deadline = Instant::now() + limit;
        loop {
            match timeout_at(deadline, self.queue.recv()).await {
                Ok(Some(event)) if accept(&event) => return Ok(event),
                Ok(Some(event)) => self.passed.push_back(event),
                Ok(None) => return Err(WaitError::Closed { wanted: wanted.to_owned(), close: self.shared.close() }),
                Err(_) => {
                    let seen = self.passed.iter().map(|event| event.name.clone()).collect();
                    return Err(WaitError::Timeout { wanted: wanted.to_owned(), limit, seen });
                }
            }
        }
    }

    /// The data of the first event of this name.
    pub async fn next_event(&mut self, name: &str, limit: Duration) -> Result<Value, WaitError> {
        Ok(self.next_match(name, limit, |event| event.name == name).await?.json())
    }

    /// Every event up to and including the one with which `done` is content.
    pub async fn collect_until(&mut self, limit: Duration, mut done: impl FnMut(&[Event]) -> bool) -> Result<Vec<Event>, WaitError> {
        let deadline = Instant::now() + limit;
        let wanted = || "last event".to_owned();
        let mut events = Vec::new();
        loop {
            match timeout_at(deadline, self.next()).await {
                Ok(Ok(event)) => events.push(event),
                Ok(Err(close)) => return Err(WaitError::Closed { wanted: wanted(), close }),
                Err(_) => {
                    let seen = events.into_iter().map(|event: Event| event.name).collect();
                    return Err(WaitError::Timeout { wanted: wanted(), limit, seen });
                }
            }
            if done(&events) {
                return Ok(events);
            }
        }
    }

    /// Waits for the end, keeping what comes until then.
    pub async fn closed(&mut self, limit: Duration) -> Result<Close, WaitError> {
        match self.next_match("close", limit, |_| false).await {
            Err(WaitError::Closed { close, .. }) => Ok(close),
            Err(error) => Err(error),
            Ok(event) => Err(WaitError::Timeout { wanted: "close".to_owned(), limit, seen: vec![event.name] }),
        }
    }
}

/// Both halves. Dropping it closes the connection.
#[derive(Debug)]
pub struct Socket {
    emitter: Emitter,
    events: Events,
    user_id: String,
}

impl Socket {
    /// Opens a door with an access token and waits until the server has said `authenticated`.
    pub async fn connect(url: &str, token: &str, door: Door) -> Result<Self, ConnectError> {
        Options::new(url, door, Auth::Token(token.to_owned())).connect().await
    }

    /// Whose socket it is, as the server said; empty when it was only opened.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The halves, for one task that writes and another that reads.
    pub fn split(self) -> (Emitter, Events) {
        (self.emitter, self.events)
    }

    /// The writing half.
    pub fn emitter(&self) -> &Emitter {
        &self.emitter
    }

    /// The reading half.
    pub fn events(&mut self) -> &mut Events {
        &mut self.events
    }

    /// Waits until long-polling has become a websocket ([`Door::Upgrade`]).
    pub async fn upgraded(&self, limit: Duration) -> Result<(), WaitError> {
        let late = || WaitError::Timeout { wanted: "upgrade".to_owned(), limit, seen: Vec::new() };
        timeout(limit, self.emitter.shared.upgraded()).await.map_err(|_| late())
    }

    /// See [`Emitter::emit`].
    pub async fn emit<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<(), CallError> {
        self.emitter.emit(event, data).await
    }

    /// See [`Emitter::call`].
    pub async fn call<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<Value, CallError> {
        self.emitter.call(event, data).await
    }

    /// See [`Emitter::resume`].
    pub async fn resume(&self, known: &Value) -> Result<Value, CallError> {
        self.emitter.resume(known).await
    }

    /// See [`Events::next_event`].
    pub async fn next_event(&mut self, name: &str, limit: Duration) -> Result<Value, WaitError> {
        self.events.next_event(name, limit).await
    }

    /// See [`Events::next_match`].
    pub async fn next_match(&mut self, wanted: &str, limit: Duration, accept: impl FnMut(&Event) -> bool) -> Result<Event, WaitError> {
        self.events.next_match(wanted, limit, accept).await
    }

    /// See [`Events::collect_until`].
    pub async fn collect_until(&mut self, limit: Duration, done: impl FnMut(&[Event]) -> bool) -> Result<Vec<Event>, WaitError> {
        self.events.collect_until(limit, done).await
    }

    /// See [`Events::drain`].
    pub fn drain(&mut self) -> Vec<Event> {
        self.events.drain()
    }

    /// See [`Events::closed`].
    pub async fn closed(&mut self, limit: Duration) -> Result<Close, WaitError> {
        self.events.closed(limit).await
    }

    /// See [`Emitter::close`].
    pub async fn close(&self) -> Result<(), CallError> {
        self.emitter.close().await
    }

    /// See [`Emitter::abort`].
    pub async fn abort(&self) -> Result<(), CallError> {
        self.emitter.abort().await
    }
}

impl Options {
    /// Opens the door and waits until the server has said `authenticated`.
    pub async fn connect(self) -> Result<Socket, ConnectError> {
        let limit = self.timeout;
        let connect = async {
            let mut socket = self.open().await?;
            match socket.next_event("authenticated", limit).await {
                Ok(data) => data["userId"].as_str().unwrap_or_default().clone_into(&mut socket.user_id),
                Err(WaitError::Closed { close, .. }) => return Err(ConnectError::Closed(close)),
                Err(WaitError::Timeout { .. }) => return Err(ConnectError::Timeout(limit)),
            }
            Ok(socket)
        };
        timeout(limit, connect).await.map_err(|_| ConnectError::Timeout(limit))?
    }

    /// Opens the door: the handshake, and through Socket.IO the CONNECT with its answer. Who it is, the server may still be finding out.
    pub async fn open(self) -> Result<Socket, ConnectError> {
        let limit = self.timeout;
        timeout(limit, self.open_unlimited()).await.map_err(|_| ConnectError::Timeout(limit))?
    }

    async fn open_unlimited(self) -> Result<Socket, ConnectError> {
        let (commands, waiting) = mpsc::channel(COMMAND_QUEUE);
        let (events, queue) = mpsc::unbounded_channel();
        let shared = Arc::<Shared>::default();
        let socket = Socket {
            emitter: Emitter { commands, shared: Arc::clone(&shared), limit: self.timeout },
            events: Events { queue, passed: VecDeque::new(), shared: Arc::clone(&shared) },
            user_id: String::new(),
        };
        if self.door == Door::WebSocket {
            let stream = websocket::connect_plain(&self).await?;
            let mut session = Session::new(Dialect::Plain, events, None, shared);
            let first = match &self.auth {
                Auth::Frame(token) => vec![session.encode("authenticate", &json!({"token": token}).to_string(), None)],
                _ => Vec::new(),
            };
            tokio::spawn(websocket::run(stream, session, waiting, first));
            return Ok(socket);
        }
        let (opened, answer) = oneshot::channel();
        let session = Session::new(Dialect::SocketIo, events, Some(opened), shared);
        let connect = format!("40{}", self.connect_payload());
        if self.door == Door::SocketIo {
            let (stream, handshake) = websocket::connect_engine(&self).await?;
            tokio::spawn(begin_websocket(stream, session, handshake, waiting, connect));
        } else {
            let http = self.http.clone().unwrap_or_else(|| Http::new(self.source));
            tokio::spawn(polling::open(self, http).await?.run(session, waiting, connect));
        }
        answer.await.unwrap_or_else(|_| Err(ConnectError::Closed(socket.emitter.shared.close())))?;
        Ok(socket)
    }
}

async fn begin_websocket(
    stream: Stream,
    mut session: Session,
    handshake: engine::Handshake,
    commands: mpsc::Receiver<Command>,
    connect: String,
) {
    session.begin(&handshake);
    websocket::run(stream, session, commands, vec![connect]).await;
}
