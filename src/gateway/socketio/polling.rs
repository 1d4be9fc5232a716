//! Long-polling: GET fetches what waits, POST brings packets, and a task a session carries them out in order.
//! A payload that was answered with counts as written once the client comes again: only then has it certainly got it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use poem::{Body, Response};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::client::{Client, Next};
use super::engine::{self, Packet, SEPARATOR, Transport, TransportError};
use super::session::{Collected, Inbound, Session};
use super::websocket;
use crate::gateway::doors::{Doors, Stranger};
use crate::gateway::wire::{Beat, Heartbeat, Wire};
use crate::gateway::{CloseReason, Visitor};

/// How long a session that ends waits for a poll that fetches the rest.
const LINGER: Duration = Duration::from_secs(5);

/// A new session.
pub fn open(doors: &Arc<Doors>, visitor: Visitor, stranger: Stranger) -> Response {
    let (session, inbox) = Session::new();
    doors.sessions.add(session.clone());
    let answer = engine::payload(engine::open(&session.sid, Transport::Polling, &doors.settings));
    let client = Client::new(doors.clone(), visitor, stranger);
    doors.tasks.spawn(drive(doors.clone(), session, client, inbox));
    answer
}

/// GET: answers as soon as something waits.
pub async fn poll(doors: &Doors, session: &Arc<Session>) -> Result<Response, TransportError> {
    if !session.is_polling() {
        return Err(TransportError::BadRequest);
    }
    let Some(_request) = session.begin(true) else {
        session.abort();
        return Err(TransportError::BadRequest);
    };
    session.confirm(&*doors.gateway);
    loop {
        match session.collect() {
            Collected::Payload(payload) => return Ok(engine::payload(payload)),
            Collected::Over => return Err(TransportError::UnknownSession),
            Collected::Nothing => {}
        }
        let socket = session.socket();
        let filled = async {
            match &socket {
                Some(socket) => socket.filled().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = session.woken.notified() => {}
            () = filled => {}
        }
    }
}

/// POST: takes packets. Answers when the ones before them have been carried out.
pub async fn post(doors: &Doors, session: &Arc<Session>, length: Option<usize>, body: Body) -> Result<Response, TransportError> {
    if !session.is_polling() {
        return Err(TransportError::BadRequest);
    }
    if session.is_ending() {
        return Err(TransportError::UnknownSession);
    }
    let Some(_request) = session.begin(false) else {
        session.abort();
        return Err(TransportError::BadRequest);
    };
    let limit = if session.socket().is_some() { doors.settings.max_frame_bytes } else { doors.settings.max_stranger_bytes };
    if length.is_some_and(|length| length > limit) {
        session.abort();
        return Err(TransportError::TooLarge);
    }
    let bytes = match timeout(doors.settings.ping_timeout, body.into_bytes_limit(limit)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(poem::error::ReadBodyError::PayloadTooLarge)) => {
            session.abort();
            return Err(TransportError::TooLarge);
        }
        Ok(Err(_)) | Err(_) => {
            session.abort();
            return Err(TransportError::BadRequest);
        }
    };
    let payload = String::from_utf8(bytes.into()).map_err(|_| {
        session.abort();
        TransportError::BadRequest
    })?;
    session.confirm(&*doors.gateway);
    if session.hand(Inbound::Payload(payload)).await { Ok(engine::payload("ok".to_owned())) } else { Err(TransportError::UnknownSession) }
}

/// The packets of a payload that have not been carried out.
#[derive(Default)]
struct Payload {
    text: String,
    at: Option<usize>,
}

impl Payload {
    fn new(text: String) -> Self {
        Self { text, at: Some(0) }
    }

    fn next(&mut self) -> Option<&str> {
        let start = self.at?;
        let end = self.text[start..].find(engine::SEPARATOR).map(|length| start + length);
        self.at = end.map(|end| end + 1);
        Some(&self.text[start..end.unwrap_or(self.text.len())])
    }

    fn is_empty(&self) -> bool {
        self.at.is_none()
    }
}

/// Takes the session out of the table, however the task ends.
struct Listed<'a>(&'a Doors, &'a Session);

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.1.abort();
        self.0.sessions.remove(&self.1.sid);
    }
}

async fn drive(doors: Arc<Doors>, session: Arc<Session>, mut client: Client, mut inbox: mpsc::Receiver<Inbound>) {
    let mut heartbeat = Heartbeat::new(&doors.settings);
    let listed = Listed(&doors, &session);
    let upgraded = run(&session, &mut client, &mut inbox, &mut heartbeat).await;
    if let Some(mut wire) = upgraded {
        let waiting = session.rest();
        session.confirm(&*doors.gateway);
        let written = waiting.into_iter().all(|packet| wire.put(packet));
        drop((listed, inbox));
        if written {
            websocket::serve(&doors, *wire, client, heartbeat).await;
        }
        return;
    }
    // The hub forgets the socket now; a last poll, or the websocket that came too late, still fetches what it was told.
    drop(client);
    let _ = timeout(LINGER, async {
        while !session.is_over() {
            tokio::select! {
                () = session.ended.notified() => {}
                Some(inbound) = inbox.recv() => if let Inbound::Upgraded(wire) = inbound {
                    say_the_rest(&session, *wire).await;
                }
            }
        }
    })
    .await;
}

/// The client moved to a websocket while its session ended, and polls no more: a refusal would be lost on it.
async fn say_the_rest(session: &Session, mut wire: Wire) {
    session.moved_too_late();
    while let Collected::Payload(payload) = session.collect() {
        if !payload.split(SEPARATOR).all(|packet| wire.put(packet.to_owned())) {
            session.abort();
        }
    }
    session.abort();
    wire.bye().await;
}

/// Runs until the session ends, or a websocket takes over.
async fn run(session: &Session, client: &mut Client, inbox: &mut mpsc::Receiver<Inbound>, heartbeat: &mut Heartbeat) -> Option<Box<Wire>> {
    let mut payload = Payload::default();
    loop {
        if session.is_ending() {
            return None;
        }
        let is_busy = client.is_busy();
        let is_strange = client.socket().is_none();
        if !is_busy && let Some(text) = payload.next() {
            let next = hear(client, text);
            obey(session, next);
            continue;
        }
        let closed = {
            let socket = client.socket().cloned();
            async move {
                match socket {
                    Some(socket) => socket.closed().await,
                    None => pending().await,
                }
            }
        };
        tokio::select! {
            next = client.advance(), if is_busy || is_strange => {
                if is_strange && let Some(socket) = client.socket() {
                    session.connected(socket.clone());
                }
                obey(session, next);
            }
            inbound = inbox.recv(), if !is_busy && payload.is_empty() => {
                heartbeat.heard();
                match inbound {
                    Some(Inbound::Payload(text)) => payload = Payload::new(text),
                    Some(Inbound::Upgraded(wire)) => return Some(wire),
                    None => return None,
                }
            }
            // The poll that waits, or the next one, fetches the rest and ends the session.
            _ = closed => return None,
            () = session.ended.notified() => {}
            beat = heartbeat.beat() => match beat {
                Beat::Ping => session.put(engine::PING),
                Beat::Dead => {
                    session.abort();
                    return None;
                }
            }
        }
    }
}

fn hear(client: &mut Client, text: &str) -> Next {
    match Packet::parse(text) {
        Some(Packet::Message(message)) => client.hear(message),
        Some(Packet::Ping(data)) => Next::Say(engine::pong(data)),
        Some(Packet::Pong | Packet::Noop | Packet::Upgrade) => Next::Go,
        Some(Packet::Binary) => client.hear_binary(),
        Some(Packet::Close) | None => Next::Bye,
    }
}

fn obey(session: &Session, next: Next) {
    match next {
        Next::Go => {}
        Next::Say(text) => session.put(text),
        Next::Refuse(text, _) => {
            session.put(text);
            session.end(None);
        }
        Next::Close(CloseReason::AuthenticationTimeout) | Next::Bye => session.abort(),
        Next::Close(reason) => session.end(Some(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_taken_packet_by_packet() {
        let mut payload = Payload::new("a\u{1e}\u{1e}é".to_owned());
        for packet in [Some("a"), Some(""), Some("é"), None] {
            assert_eq!(payload.next(), packet);
        }
        assert!(payload.is_empty() && Payload::default().is_empty());
        assert_eq!(Payload::new(String::new()).next(), Some(""));
    }
}
