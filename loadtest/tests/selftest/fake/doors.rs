//! The doors of the fake server: `/ws`, Socket.IO over a websocket, Socket.IO over long-polling. Each is a way of writing
//! what is said, and nothing more.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use super::{Fake, person_of};

/// What separates the packets of one body of long-polling.
const SEPARATOR: char = '\u{1e}';

/// How a door writes.
#[derive(Clone, Copy, Debug)]
enum Dialect {
    Plain,
    SocketIo,
}

/// Where somebody's frames wait to be written.
#[derive(Clone, Debug)]
pub struct Outbox {
    dialect: Dialect,
    frames: mpsc::UnboundedSender<String>,
}

impl Outbox {
    fn new(dialect: Dialect) -> (Self, mpsc::UnboundedReceiver<String>) {
        let (frames, waiting) = mpsc::unbounded_channel();
        (Self { dialect, frames }, waiting)
    }

    pub fn is(&self, other: &Self) -> bool {
        self.frames.same_channel(&other.frames)
    }

    /// Somebody who has gone hears nothing.
    fn frame(&self, text: String) {
        let _ = self.frames.send(text);
    }

    pub fn event(&self, name: &str, data: &Value) {
        self.frame(match self.dialect {
            Dialect::Plain => json!({"event": name, "data": data}).to_string(),
            Dialect::SocketIo => format!("42{}", json!([name, data])),
        });
    }

    pub fn received(&self, message: &Value) {
        self.event("message:received", message);
    }

    pub fn ack(&self, id: &Value, answer: &Result<Value, Value>) {
        self.frame(match (self.dialect, answer) {
            (Dialect::Plain, Ok(data)) => json!({"event": "ack", "id": id, "data": data}).to_string(),
            (Dialect::Plain, Err(error)) => json!({"event": "ack", "id": id, "error": error}).to_string(),
            (Dialect::SocketIo, Ok(answer) | Err(answer)) => format!("43{id}{}", json!([answer])),
        });
    }
}

/// A session of long-polling.
pub struct Poll {
    outbox: Outbox,
    waiting: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
    caller: Mutex<Option<usize>>,
}

fn handshake(sid: &str) -> String {
    // No run takes so long that a ping would be due.
    format!("0{}", json!({"sid": sid, "upgrades": [], "pingInterval": 300_000, "pingTimeout": 60_000, "maxPayload": 100_000}))
}

impl Fake {
    /// `/ws`, where the request says who it is; or Socket.IO, where the first packet does.
    pub(super) async fn websocket(&self, stream: TcpStream, path: &str, token: Option<String>) {
        let dialect = if path.starts_with("/ws") { Dialect::Plain } else { Dialect::SocketIo };
        let Ok(socket) = accept_async(stream).await else { return };
        let (mut write, mut read) = socket.split();
        let (outbox, mut waiting) = Outbox::new(dialect);
        let writer = tokio::spawn(async move {
            while let Some(text) = waiting.recv().await {
                if write.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
        });
        let mut caller = None;
        match dialect {
            Dialect::Plain => self.enter(*caller.insert(person_of(&token.unwrap())), &outbox),
            Dialect::SocketIo => outbox.frame(handshake("websocket")),
        }
        while let Some(Ok(Message::Text(text))) = read.next().await {
            match dialect {
                Dialect::Plain => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    let (name, id, data) = (frame["event"].as_str().unwrap(), frame["id"].clone(), frame["data"].clone());
                    self.command(caller.unwrap(), &outbox, name, id, data);
                }
                Dialect::SocketIo => self.packet(&text, &mut caller, &outbox),
            }
        }
        if let Some(person) = caller {
            self.leave(person, &outbox);
        }
        writer.abort();
    }

    /// One packet of Engine.IO: who is there, or what he asks for. Farewells need no answer.
    fn packet(&self, text: &str, caller: &mut Option<usize>, outbox: &Outbox) {
        if let Some(login) = text.strip_prefix("40") {
            let login: Value = serde_json::from_str(login).unwrap();
            outbox.frame(r#"40{"sid":"socket"}"#.to_owned());
            self.enter(*caller.insert(person_of(login["token"].as_str().unwrap())), outbox);
        } else if let Some(event) = text.strip_prefix("42") {
            let (id, event) = event.split_at(event.find('[').unwrap());
            let (name, data): (String, Value) = serde_json::from_str(event).unwrap();
            self.command(caller.unwrap(), outbox, &name, serde_json::from_str(id).unwrap(), data);
        }
    }

    /// One request of long-polling: the first, one that waits for something to hear, or one that says something.
    pub(super) async fn poll(&self, method: &str, path: &str, body: &str) -> String {
        let Some((_, sid)) = path.split_once("sid=") else {
            let (outbox, waiting) = Outbox::new(Dialect::SocketIo);
            let mut world = self.world.lock();
            let sid = format!("s{}", world.polls.len());
            world.polls.insert(sid.clone(), Arc::new(Poll { outbox, waiting: waiting.into(), caller: Mutex::default() }));
            return handshake(&sid);
        };
        let poll = Arc::clone(&self.world.lock().polls[sid]);
        if method == "POST" {
            let mut caller = poll.caller.lock();
            body.split(SEPARATOR).for_each(|packet| self.packet(packet, &mut caller, &poll.outbox));
            return "ok".to_owned();
        }
        let mut waiting = poll.waiting.lock().await;
        let mut packets: Vec<String> = waiting.recv().await.into_iter().collect();
        packets.extend(std::iter::from_fn(|| waiting.try_recv().ok()));
        packets.join(&SEPARATOR.to_string())
    }
}
