//! One realtime client for every door: events in, commands with acks out, the end with its reason.
//! A socket is one task and a TCP connection, so that a process can hold tens of thousands.
//! It never reconnects and never resumes by itself: what happens then is what the tests are about.

mod engine;
mod frame;
mod halves;
mod options;
mod packet;
mod polling;
mod recent;
mod session;
mod sink;
mod websocket;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

pub use self::{
    halves::{Emitter, Events},
    options::{Auth, Door, Options},
    session::Ack,
    sink::{Sink, SinkSocket, Unsent},
};
use self::{
    session::{Command, Dialect, Output, Reply, Session, Shared},
    websocket::Stream,
};
use crate::http::Http;

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
        let (commands, waiting) = mpsc::channel(self.queue);
        let (events, queue) = mpsc::unbounded_channel();
        let shared = Arc::<Shared>::default();
        let socket = Socket {
            emitter: Emitter { commands, shared: Arc::clone(&shared), limit: self.timeout },
            events: Events { queue, passed: VecDeque::new(), shared: Arc::clone(&shared) },
            user_id: String::new(),
        };
        let is_socket_io = self.door.is_socket_io();
        let (opened, answer) = oneshot::channel();
        self.start(waiting, Output::Queue(events), is_socket_io.then_some(opened), Arc::clone(&shared)).await?;
        if is_socket_io {
            answer.await.unwrap_or_else(|_| Err(ConnectError::Closed(shared.close())))?;
        }
        Ok(socket)
    }

    /// Connects and starts the socket's task; `opened` is told when it is open, or why it is not.
    async fn start(
        self,
        commands: mpsc::Receiver<Command>,
        output: Output,
        opened: Option<oneshot::Sender<Result<(), ConnectError>>>,
        shared: Arc<Shared>,
    ) -> Result<(), ConnectError> {
        if self.door == Door::WebSocket {
            let stream = websocket::connect_plain(&self).await?;
            let mut session = Session::new(Dialect::Plain, output, opened, shared);
            let first = match &self.auth {
                Auth::Frame(token) => vec![session.encode("authenticate", &json!({"token": token}).to_string(), Reply::Unwanted)],
                _ => Vec::new(),
            };
            tokio::spawn(websocket::run(stream, session, commands, first));
            return Ok(());
        }
        let session = Session::new(Dialect::SocketIo, output, opened, shared);
        let connect = format!("40{}", self.connect_payload());
        if self.door == Door::SocketIo {
            let (stream, handshake) = websocket::connect_engine(&self).await?;
            tokio::spawn(begin_websocket(stream, session, handshake, commands, connect));
        } else {
            let http = self.http.clone().unwrap_or_else(|| Http::new(self.source));
            tokio::spawn(polling::open(self, http).await?.run(session, commands, connect));
        }
        Ok(())
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
