//! What a socket's task knows: the dialect of its door, the acks that wait, and where events and acks go.
//! It reads text and says what to do about it; it touches no network, so all transports share it.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant as At},
};

use serde::Deserialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};

use super::{
    Close, ConnectError, Ending, Event,
    engine::{Handshake, Packet as EnginePacket},
    packet::{Kind, Packet, event as socket_io_event},
    recent,
    sink::Sink,
};

/// The answer to a command: its value, or the error that the server gave.
pub type Ack = Result<Value, Value>;

/// Who wants the ack of a command.
#[derive(Debug)]
pub enum Reply {
    /// Nobody.
    Unwanted,
    /// Somebody who waits for it.
    Awaited(oneshot::Sender<Ack>),
    /// The socket's sink, under this id.
    Told(u64),
}

/// Where events and acks go.
#[derive(Debug)]
pub enum Output {
    /// Events into a queue; acks to those who wait for them.
    Queue(mpsc::UnboundedSender<Event>),
    /// All to a sink, as it comes.
    Sink(Arc<dyn Sink>),
}

/// What a socket's owner asks its task to do.
#[derive(Debug)]
pub enum Command {
    /// Send an event; `reply` wants its ack.
    Emit { event: Cow<'static, str>, data: String, reply: Reply },
    /// Send this as it is: a text frame, or a POST of long-polling.
    Text(String),
    /// Send this as a binary frame, or as an octet-stream POST.
    Binary(Vec<u8>),
    /// Write this to the TCP connection, past the websocket's framing.
    Bytes(Vec<u8>),
    /// Read on, or do not.
    Reading(bool),
    /// Say that nothing more will be sent, at TCP level.
    HalfClose,
    /// Close as a good client does.
    Close,
    /// Drop the connection without a word.
    Abort,
}

/// What the task and its owner both see.
#[derive(Debug, Default)]
pub struct Shared {
    /// Why the socket ended; set before its event queue ends.
    pub close: OnceLock<Close>,
    /// Whether long-polling has become a websocket.
    upgraded: AtomicBool,
    changed: Notify,
}

impl Shared {
    /// The end, or what to say when the task died without setting it.
    pub fn close(&self) -> Close {
        self.close.get().cloned().unwrap_or_else(|| Close::new(Ending::Local, None, "the socket's task is gone"))
    }

    /// Tells the owner about the upgrade.
    pub fn set_upgraded(&self) {
        self.upgraded.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Waits for the upgrade.
    pub async fn upgraded(&self) {
        loop {
            let changed = self.changed.notified();
            if self.upgraded.load(Ordering::Acquire) {
                return;
            }
            changed.await;
        }
    }
}

/// How one door writes its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `{"event", "data", "id"}`.
    Plain,
    /// Engine.IO and Socket.IO.
    SocketIo,
}

/// What to do after a text was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Continue,
    /// Send this frame.
    Reply(String),
    /// The socket is over.
    End(Close),
}

/// What tells a refusal in the one argument of a Socket.IO ack.
#[derive(Default, Deserialize)]
struct Verdict<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    success: Option<&'a RawValue>,
}

/// The name of a Socket.IO event.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct PlainFrame<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    id: Option<u64>,
}

/// The state of one socket's task.
#[derive(Debug)]
pub struct Session {
    dialect: Dialect,
    output: Output,
    /// Present until Socket.IO has answered the CONNECT; with a sink, until the server has said `authenticated`.
    opened: Option<oneshot::Sender<Result<(), ConnectError>>>,
    waiting: HashMap<u64, oneshot::Sender<Ack>>,
    last_id: u64,
    /// How long the server may be silent; `None`: no heartbeat is promised (`/ws`).
    patience: Option<Duration>,
    /// When it is dead.
    deadline: Option<Instant>,
    /// What the owner sees too.
    pub shared: Arc<Shared>,
}

impl Session {
    /// A session that hands what comes to `output` and reports to `opened` that it is open.
    pub fn new(dialect: Dialect, output: Output, opened: Option<oneshot::Sender<Result<(), ConnectError>>>, shared: Arc<Shared>) -> Self {
        Self { dialect, output, opened, waiting: HashMap::new(), last_id: 0, patience: None, deadline: None, shared }
    }

    /// How its door writes.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Takes the timings of the Engine.IO handshake.
    pub fn begin(&mut self, handshake: &Handshake) {
        self.patience = Some(Duration::from_millis(handshake.ping_interval + handshake.ping_timeout));
        self.revive();
    }

    /// How long the server may be silent.
    pub fn patience(&self) -> Option<Duration> {
        self.patience
    }

    /// When it is dead unless it pings before.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Starts the silence anew.
    pub fn revive(&mut self) {
        self.deadline = self.patience.map(|patience| Instant::now() + patience);
    }

    /// The frame of an event, with an id when its ack is wanted.
    pub fn encode(&mut self, event: &str, data: &str, reply: Reply) -> String {
        let id = match reply {
            Reply::Unwanted => None,
            Reply::Told(id) => Some(id),
            Reply::Awaited(reply) => {
                self.last_id += 1;
                // Acks that nobody awaits any more would pile up on a server that never answers.
                self.waiting.retain(|_, waiting| !waiting.is_closed());
                self.waiting.insert(self.last_id, reply);
                Some(self.last_id)
            }
        };
        match (self.dialect, id) {
            (Dialect::SocketIo, id) => socket_io_event(event, data, id),
            (Dialect::Plain, Some(id)) => format!(r#"{{"event":{},"data":{data},"id":{id}}}"#, Value::from(event)),
            (Dialect::Plain, None) => format!(r#"{{"event":{},"data":{data}}}"#, Value::from(event)),
        }
    }

    /// Reads one frame (for long-polling: one packet of a body) that was there at this time.
    pub fn read(&mut self, text: &str, at: At) -> Step {
        if let Output::Sink(sink) = &self.output
            && self.opened.is_none()
            && let Some((name, data)) = recent::find(self.dialect, text)
        {
            sink.event(&text[name], &text[data], at);
            return Step::Continue;
        }
        let step = match self.dialect {
            Dialect::Plain => self.read_plain(text, at),
            Dialect::SocketIo => self.read_engine(text, at),
        };
        step.unwrap_or_else(|error| Step::End(Close::new(Ending::Protocol, None, &error)))
    }

    fn read_plain(&mut self, text: &str, at: At) -> Result<Step, String> {
        let frame: PlainFrame = serde_json::from_str(text).map_err(|error| format!("{error}, in {text:.200}"))?;
        if let ("ack", Some(id)) = (frame.event.as_ref(), frame.id) {
            let data = frame.data.map_or("null", RawValue::get);
            self.acknowledge(id, frame.error.map_or(Ok(data), |error| Err(error.get())), at)?;
        } else {
            // An error that belongs to no command has its own field.
            self.deliver(text, &frame.event, frame.data.or(frame.error), at);
        }
        Ok(Step::Continue)
    }

    fn read_engine(&mut self, text: &str, at: At) -> Result<Step, String> {
        match EnginePacket::parse(text)? {
            EnginePacket::Ping(payload) => {
                self.revive();
                Ok(Step::Reply(format!("3{payload}")))
            }
            EnginePacket::Message(message) => self.read_packet(text, Packet::parse(message)?, at),
            EnginePacket::Close => Ok(Step::End(Close::new(Ending::EngineClose, None, "the server closed the engine session"))),
            EnginePacket::Open(_) | EnginePacket::Pong(_) | EnginePacket::Upgrade | EnginePacket::Noop => Ok(Step::Continue),
        }
    }

    fn read_packet(&mut self, text: &str, packet: Packet<'_>, at: At) -> Result<Step, String> {
        match packet.kind {
            Kind::Connect => {
                if matches!(self.output, Output::Queue(_)) {
                    self.open(Ok(()));
                }
            }
            Kind::ConnectError => {
                let refusal: Value = serde_json::from_str(packet.data).map_err(|error| format!("connect_error: {error}"))?;
                let message = refusal["message"].as_str().unwrap_or_default().to_owned();
                self.open(Err(ConnectError::Refused(refusal)));
                return Ok(Step::End(Close::new(Ending::ConnectError, None, &message)));
            }
            Kind::Disconnect => return Ok(Step::End(Close::new(Ending::Disconnect, None, "the server sent DISCONNECT"))),
            Kind::Event => {
                let arguments: Vec<&RawValue> = serde_json::from_str(packet.data).map_err(|error| format!("event: {error}"))?;
                let name = arguments.first().ok_or("an event without a name")?;
                let name: Name = serde_json::from_str(name.get()).map_err(|error| format!("event name: {error}"))?;
                self.deliver(text, &name.0, arguments.get(1).copied(), at);
            }
            Kind::Ack => {
                let id = packet.id.ok_or("an ack without an id")?;
                let arguments: Vec<&RawValue> = serde_json::from_str(packet.data).map_err(|error| format!("ack: {error}"))?;
                let argument = arguments.first().map_or("null", |argument| argument.get());
                // Socket.IO has no field of its own for errors: they are the envelope, or stand under `error`.
                let verdict: Verdict = serde_json::from_str(argument).unwrap_or_default();
                let ack = match verdict {
                    Verdict { error: Some(error), .. } => Err(error.get()),
                    Verdict { success: Some(success), .. } if success.get() == "false" => Err(argument),
                    Verdict { .. } => Ok(argument),
                };
                self.acknowledge(id, ack, at)?;
            }
        }
        Ok(Step::Continue)
    }

    fn open(&mut self, outcome: Result<(), ConnectError>) {
        if let Some(opened) = self.opened.take() {
            // The owner may have given up waiting.
            let _ = opened.send(outcome);
        }
    }

    fn acknowledge(&mut self, id: u64, ack: Result<&str, &str>, at: At) -> Result<(), String> {
        if let Output::Sink(sink) = &self.output {
            sink.ack(id, ack, at);
            return Ok(());
        }
        let value = |raw: &str| serde_json::from_str::<Value>(raw).map_err(|error| error.to_string());
        match self.waiting.remove(&id) {
            Some(reply) => {
                let ack = match ack {
                    Ok(data) => Ok(value(data)?),
                    Err(error) => Err(value(error)?),
                };
                let _ = reply.send(ack);
            }
            // A second ack, or one for nothing, is the server's mistake: a test that looks at its events sees it.
            None => self.queue("stray ack", to_raw_value(&id).unwrap_or_else(|_| RawValue::NULL.to_owned()), at),
        }
        Ok(())
    }

    /// An event, read from this text.
    fn deliver(&mut self, text: &str, name: &str, data: Option<&RawValue>, at: At) {
        let Output::Sink(sink) = &self.output else {
            return self.queue(name, data.map_or_else(|| RawValue::NULL.to_owned(), ToOwned::to_owned), at);
        };
        match data {
            Some(data) => {
                recent::keep(self.dialect, text, name, data.get());
                sink.event(name, data.get(), at);
            }
            None => sink.event(name, "null", at),
        }
        if name == "authenticated" {
            self.open(Ok(()));
        }
    }

    fn queue(&self, name: &str, data: Box<RawValue>, at: At) {
        if let Output::Queue(events) = &self.output {
            // The owner may read no events, or be gone; then the commands' channel says so.
            let _ = events.send(Event { name: name.to_owned(), data, at: at.into() });
        }
    }

    /// Ends the session: whoever waits learns why.
    pub fn finish(mut self, close: Close) {
        let _ = self.shared.close.set(close.clone());
        if let Output::Sink(sink) = &self.output {
            sink.closed(&close);
        }
        self.open(Err(ConnectError::Closed(close)));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn session(dialect: Dialect) -> (Session, mpsc::UnboundedReceiver<Event>) {
        let (events, received) = mpsc::unbounded_channel();
        (Session::new(dialect, Output::Queue(events), None, Arc::default()), received)
    }

    #[test]
    fn plain_frames_carry_events_and_acks() {
        let (mut session, mut events) = session(Dialect::Plain);
        let (reply, mut ack) = oneshot::channel();
        assert_eq!(session.encode("a", "{\"b\":1}", Reply::Awaited(reply)), r#"{"event":"a","data":{"b":1},"id":1}"#);
        assert_eq!(session.encode("a", "null", Reply::Unwanted), r#"{"event":"a","data":null}"#);
        assert_eq!(session.read(r#"{"event":"x","data":{"y":[1]}}"#, At::now()), Step::Continue);
        assert_eq!(session.read(r#"{"event":"ack","id":1,"error":{"code":"no"}}"#, At::now()), Step::Continue);
        let event = events.try_recv().unwrap();
        assert_eq!((event.name.as_str(), event.json()), ("x", json!({"y": [1]})));
        assert_eq!(ack.try_recv().unwrap(), Err(json!({"code": "no"})));
        assert!(matches!(session.read("{}", At::now()), Step::End(close) if close.ending == Ending::Protocol));
    }

    #[test]
    fn socket_io_frames_carry_events_and_acks() {
        let (mut session, mut events) = session(Dialect::SocketIo);
        let mut acks = Vec::new();
        for id in 1..=4 {
            let (reply, ack) = oneshot::channel();
            assert_eq!(session.encode("a", "7", Reply::Awaited(reply)), format!("42{id}[\"a\",7]"));
            acks.push(ack);
        }
        for text in ["431[]", r#"432[{"id":"m"}]"#, r#"433[{"success":false,"code":"no"}]"#, r#"434[{"error":{"code":"no"}}]"#] {
            assert_eq!(session.read(text, At::now()), Step::Continue);
        }
        let acks: Vec<Ack> = acks.iter_mut().map(|ack| ack.try_recv().unwrap()).collect();
        let no = json!({"code": "no"});
        assert_eq!(acks, [Ok(Value::Null), Ok(json!({"id": "m"})), Err(json!({"success": false, "code": "no"})), Err(no)]);
        assert_eq!(session.read("2", At::now()), Step::Reply("3".to_owned()));
        assert_eq!(session.read(r#"42["x"]"#, At::now()), Step::Continue);
        assert_eq!(session.read("432[]", At::now()), Step::Continue);
        assert_eq!(events.try_recv().unwrap().json(), Value::Null);
        assert_eq!(events.try_recv().unwrap().name, "stray ack");
        assert!(matches!(session.read("41", At::now()), Step::End(close) if close.ending == Ending::Disconnect));
        assert!(matches!(session.read("1", At::now()), Step::End(close) if close.ending == Ending::EngineClose));
        assert!(matches!(session.read("45", At::now()), Step::End(close) if close.ending == Ending::Protocol));
    }
}
