//! A socket for load: what comes goes to a [`Sink`] in the socket's own task, without queues, and acks go by ids of the caller's choice.
//! The transport is the same as that of [`super::Socket`]; what is left out is what costs time for each event.

use std::{fmt, sync::Arc, time::Instant};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Close, ConnectError, Options,
    session::{Command, Output, Reply, Shared},
};

/// Who is told what comes over a socket, as soon as it has been read. It must be quick: the socket waits for it.
pub trait Sink: fmt::Debug + Send + Sync {
    /// An event. `data` is its JSON; `at` is when its frame had been read.
    fn event(&self, name: &str, data: &str, at: Instant);
    /// The answer to the command that was sent with this id: its JSON, or the error's.
    fn ack(&self, id: u64, answer: Result<&str, &str>, at: Instant);
    /// It has ended, or was never open.
    fn closed(&self, close: &Close);
}

/// Why a command was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// Too many wait: the server does not read, or this side is behind.
    Full,
    /// The socket has ended.
    Ended,
}

/// The writing side of a socket with a sink. When it is dropped, the socket closes.
#[derive(Clone, Debug)]
pub struct SinkSocket {
    commands: mpsc::Sender<Command>,
}

impl SinkSocket {
    /// Hands a command over, from any thread and without waiting. With an id the server answers, and the sink is told.
    pub fn send(&self, event: &'static str, data: String, id: Option<u64>) -> Result<(), Unsent> {
        let reply = id.map_or(Reply::Unwanted, Reply::Told);
        self.commands.try_send(Command::Emit { event: event.into(), data, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Unsent::Full,
            mpsc::error::TrySendError::Closed(_) => Unsent::Ended,
        })
    }

    /// Drops the connection without a word. Waits until the socket's task has taken notice of it.
    pub async fn abort(&self) {
        // An error: it has ended already.
        let _ = self.commands.send(Command::Abort).await;
    }

    /// Closes with the farewell of the protocol.
    pub async fn close(&self) {
        let _ = self.commands.send(Command::Close).await;
    }
}

impl Options {
    /// Opens the door and waits until the server has said `authenticated`, which the sink is told like everything else.
    pub async fn connect_sink(self, sink: Arc<dyn Sink>) -> Result<SinkSocket, ConnectError> {
        let limit = self.timeout;
        let connect = async {
            let (commands, waiting) = mpsc::channel(self.queue);
            let (opened, answer) = oneshot::channel();
            let shared = Arc::<Shared>::default();
            self.start(waiting, Output::Sink(sink), Some(opened), Arc::clone(&shared)).await?;
            answer.await.unwrap_or_else(|_| Err(ConnectError::Closed(shared.close())))?;
            Ok(SinkSocket { commands })
        };
        timeout(limit, connect).await.map_err(|_| ConnectError::Timeout(limit))?
    }
}
