//! The two halves of a socket: commands in, events out.
//! What comes is kept, in its order, for whoever asks for it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{
    CallError, Close, Event, WaitError,
    session::{Ack, Command, Reply, Shared},
};

/// The writing half: commands. Clones write to the same socket; when all are gone, it closes.
#[derive(Clone, Debug)]
pub struct Emitter {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) shared: Arc<Shared>,
    pub(super) limit: Duration,
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
        self.command(Command::Emit { event: event.to_owned().into(), data, reply: Reply::Unwanted }).await
    }

    /// Sends an event; what comes back later is its ack. For callers that send on without waiting.
    pub async fn begin<T: Serialize + ?Sized>(&self, event: &str, data: &T) -> Result<oneshot::Receiver<Ack>, CallError> {
        let data = serde_json::to_string(data).map_err(|error| CallError::Data(error.to_string()))?;
        let (reply, ack) = oneshot::channel();
        self.command(Command::Emit { event: event.to_owned().into(), data, reply: Reply::Awaited(reply) }).await?;
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
    pub(super) queue: mpsc::UnboundedReceiver<Event>,
    /// What was passed over while something else was waited for.
    pub(super) passed: VecDeque<Event>,
    pub(super) shared: Arc<Shared>,
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
