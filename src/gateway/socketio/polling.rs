//! Long-polling: GET fetches what waits, POST brings packets, and a task a session carries them out in order.
//! A payload that was answered with counts as written once the client polls again: only then has it certainly got it.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use poem::{Body, Response};
use tokio::time::timeout;

use super::client::{Client, Next};
use super::engine::{self, Packet, SEPARATOR, Transport, TransportError};
use super::session::{Collected, Inbox, Session};
use super::websocket;
use crate::gateway::doors::{Doors, Stranger};
use crate::gateway::wire::{Beat, Heartbeat, Wire};
use crate::gateway::{CloseReason, Visitor};

/// Packets of payloads that are heard before others have their turn.
const PACKETS_A_TURN: usize = 64;
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

/// GET: answers as soon as something waits. A request of the same `name` as the last one is that one, made again because
/// its answer was lost.
pub async fn poll(doors: &Doors, session: &Arc<Session>, name: Option<&str>) -> Result<Response, TransportError> {
    if !session.is_polling() {
        return Err(TransportError::BadRequest);
    }
    let Some(_request) = session.begin(true) else {
        session.abort();
        return Err(TransportError::BadRequest);
    };
    session.polled.notify_one();
    if let Some(payload) = session.answered(name) {
        return Ok(engine::payload(payload));
    }
    session.confirm(&*doors.gateway);
    loop {
        match session.collect() {
            Collected::Payload(payload) => {
                if let Some(name) = name {
                    session.keep(name, &payload);
                }
                return Ok(engine::payload(payload));
            }
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
    if session.post(payload).await { Ok(engine::payload("ok".to_owned())) } else { Err(TransportError::UnknownSession) }
}

/// The packets of payloads that have not been carried out.
#[derive(Default)]
pub struct Unheard {
    payloads: VecDeque<String>,
    /// Where the next packet of the first payload begins.
    at: usize,
    /// Packets taken.
    taken: usize,
}

impl Unheard {
    fn push(&mut self, payload: String) {
        self.payloads.push_back(payload);
    }

    /// The next packet. Now and then it lets others have their turn first: a payload may hold half a million.
    pub async fn next(&mut self) -> Option<String> {
        if self.taken % PACKETS_A_TURN == PACKETS_A_TURN - 1 {
            tokio::task::yield_now().await;
        }
        let payload = self.payloads.front()?;
        let end = payload[self.at..].find(SEPARATOR).map(|length| self.at + length);
        let packet = payload[self.at..end.unwrap_or(payload.len())].to_owned();
        self.taken += 1;
        if let Some(end) = end {
            self.at = end + 1;
        } else {
            self.payloads.pop_front();
            self.at = 0;
        }
        Some(packet)
    }

    /// Whether all of them have been.
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
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

async fn drive(doors: Arc<Doors>, session: Arc<Session>, mut client: Client, mut inbox: Inbox) {
    let mut heartbeat = Heartbeat::new(&doors.settings);
    let listed = Listed(&doors, &session);
    let mut unheard = Unheard::default();
    let upgraded = run(&session, &mut client, &mut inbox, &mut unheard, &mut heartbeat).await;
    if let Some(mut wire) = upgraded {
        // What was posted before the client moved comes before all that it says there.
        inbox.payloads.close();
        while let Some(payload) = inbox.payloads.recv().await {
            unheard.push(payload);
        }
        let waiting = session.rest();
        session.confirm(&*doors.gateway);
        let written = waiting.into_iter().all(|packet| wire.put(packet));
        drop((listed, inbox));
        if written {
            websocket::serve(&doors, *wire, client, unheard, heartbeat).await;
        }
        return;
    }
    // The hub forgets the socket now; a last poll, or the websocket that came too late, still fetches what it was told.
    drop(client);
    let _ = timeout(LINGER, async {
        while !session.is_over() {
            tokio::select! {
                () = session.ended.notified() => {}
                Some(wire) = inbox.upgraded.recv() => say_the_rest(&session, *wire).await,
                // Too late to be heard.
                Some(_) = inbox.payloads.recv() => {}
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
async fn run(
    session: &Session,
    client: &mut Client,
    inbox: &mut Inbox,
    unheard: &mut Unheard,
    heartbeat: &mut Heartbeat,
) -> Option<Box<Wire>> {
    loop {
        if session.is_ending() {
            return None;
        }
        let is_busy = client.is_busy();
        let is_strange = client.socket().is_none();
        if !is_busy
            && !client.is_closing()
            && let Some(text) = unheard.next().await
        {
            let next = hear(client, &text);
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
            // Also while a command is carried out: it may wait for room that only the websocket makes.
            wire = inbox.upgraded.recv() => return wire,
            payload = inbox.payloads.recv(), if !is_busy && unheard.is_empty() => {
                heartbeat.heard();
                unheard.push(payload?);
            }
            () = session.polled.notified() => heartbeat.heard(),
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
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn payloads_are_taken_packet_by_packet() {
        let mut unheard = Unheard::default();
        unheard.push("a\u{1e}\u{1e}é".to_owned());
        unheard.push(String::new());
        unheard.push("b".to_owned());
        for packet in [Some("a"), Some(""), Some("é"), Some(""), Some("b"), None] {
            assert_eq!(unheard.next().await.as_deref(), packet);
        }
        assert!(unheard.is_empty() && Unheard::default().is_empty());
    }

    #[tokio::test]
    async fn a_payload_of_many_packets_lets_others_have_their_turn() {
        let mut unheard = Unheard::default();
        unheard.push("2\u{1e}".repeat(1_000));
        let mut turns = 0;
        while !unheard.is_empty() {
            let mut next = Box::pin(unheard.next());
            if poll!(&mut next).is_pending() {
                turns += 1;
                next.await;
            }
        }
        assert_eq!(turns, 1_000 / PACKETS_A_TURN);
    }
}
