//! The websocket transport, from the start or after an upgrade: one task reads, writes, pings and carries out commands by turns.

use std::future::pending;
use std::sync::Arc;

use poem::{Request, Response};

use super::client::{Client, Next};
use super::engine::{self, Packet, Transport};
use super::packet::DISCONNECT;
use super::polling::Unheard;
use crate::gateway::doors::{Doors, Stranger};
use crate::gateway::wire::{self, Beat, Heartbeat, Turn, Wire};
use crate::gateway::{CloseReason, Socket, Visitor};

/// A new session on a websocket.
pub fn open(doors: &Arc<Doors>, request: &Request, visitor: Visitor, stranger: Stranger) -> Response {
    let (response, upgrade) = match wire::accept(request) {
        Ok(accepted) => accepted,
        Err(response) => return *response,
    };
    let doors = doors.clone();
    doors.clone().tasks.spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let mut wire = Wire::new(upgraded, &doors.settings).await;
            wire.put(engine::open(&engine::fresh_sid(), Transport::WebSocket, &doors.settings));
            let heartbeat = Heartbeat::new(&doors.settings);
            let client = Client::new(doors.clone(), visitor, stranger);
            serve(&doors, wire, client, Unheard::default(), heartbeat).await;
        }
    });
    response
}

/// Why serving ends.
enum End {
    /// The transport is gone, or the client said goodbye.
    Bye,
    /// Say this, then close.
    Say(String, CloseReason),
    /// Close.
    Close(CloseReason),
}

/// Serves a client until one side ends it. What is `unheard` came by another transport, and before all that comes now.
pub async fn serve(doors: &Doors, mut wire: Wire, mut client: Client, mut unheard: Unheard, mut heartbeat: Heartbeat) {
    if client.socket().is_some() {
        wire.trust();
    }
    let end = talk(doors, &mut wire, &mut client, &mut unheard, &mut heartbeat).await;
    drop((client, unheard));
    Box::pin(async move {
        match end {
            End::Bye => wire.bye().await,
            End::Close(reason) if reason.is_final() => {
                wire.put(DISCONNECT);
                wire.close(reason, reason.text()).await;
            }
            // The client may come back: it does when its transport breaks.
            End::Close(_) => wire.cut().await,
            End::Say(text, reason) => {
                wire.put(text);
                wire.close(reason, reason.text()).await;
            }
        }
    })
    .await;
}

async fn filled(socket: Option<&Arc<Socket>>) {
    match socket {
        Some(socket) => socket.filled().await,
        None => pending().await,
    }
}

async fn closed_at_once(socket: Option<&Arc<Socket>>) -> CloseReason {
    match socket {
        Some(socket) => socket.closed_at_once().await,
        None => pending().await,
    }
}

async fn talk(doors: &Doors, wire: &mut Wire, client: &mut Client, unheard: &mut Unheard, heartbeat: &mut Heartbeat) -> End {
    let mut socket = client.socket().cloned();
    loop {
        let (is_idle, is_busy, has_heard_all) = (wire.is_idle(), client.is_busy(), unheard.is_empty());
        let next = tokio::select! {
            text = unheard.next(), if !is_busy && !has_heard_all && !client.is_closing() => {
                match text.map_or(Some(Next::Go), |text| hear(client, &text)) {
                    Some(next) => next,
                    None => return End::Bye,
                }
            }
            next = client.advance(), if is_busy || socket.is_none() => {
                if is_busy {
                    heartbeat.heard();
                }
                if socket.is_none() {
                    socket = client.socket().cloned();
                    if socket.is_some() {
                        wire.trust();
                    }
                }
                next
            }
            () = filled(socket.as_ref()), if is_idle => match &socket {
                Some(socket) => wire.flow(&*doors.gateway, socket).await.map_or(Next::Go, Next::Close),
                None => Next::Go,
            },
            reason = closed_at_once(socket.as_ref()), if !is_idle => return End::Close(reason),
            turn = wire.turn(!is_busy && has_heard_all) => {
                if !matches!(turn, Turn::Written(_)) {
                    heartbeat.heard();
                }
                match turn {
                    Turn::Text(text) if socket.is_none() && text.len() > doors.settings.max_stranger_bytes => Next::Close(CloseReason::TooLarge),
                    Turn::Text(text) => match hear(client, &text) {
                        Some(next) => next,
                        None => return End::Bye,
                    },
                    Turn::Binary => client.hear_binary(),
                    Turn::Alive => Next::Go,
                    Turn::Written(marks) => {
                        if let Some(socket) = socket.as_ref().filter(|_| !marks.is_empty()) {
                            doors.gateway.wrote(socket, &marks);
                        }
                        Next::Go
                    }
                    Turn::TooLarge => Next::Close(CloseReason::TooLarge),
                    Turn::Gone => return End::Bye,
                }
            }
            beat = heartbeat.beat() => {
                match beat {
                    Beat::Dead if is_busy && wire.is_moving() => heartbeat.heard(),
                    Beat::Dead => return End::Bye,
                    Beat::Ping if !wire.put(engine::PING) => return End::Bye,
                    Beat::Ping => {}
                }
                Next::Go
            }
        };
        match next {
            Next::Go => {}
            Next::Say(text) => {
                wire.put(text);
            }
            Next::Refuse(text, reason) => return End::Say(text, reason),
            Next::Close(reason) => return End::Close(reason),
            Next::Bye => return End::Bye,
        }
    }
}

/// Takes one text frame; `None` when it ends the transport.
fn hear(client: &mut Client, text: &str) -> Option<Next> {
    Some(match Packet::parse(text)? {
        Packet::Message(message) => client.hear(message),
        Packet::Ping(data) => Next::Say(engine::pong(data)),
        Packet::Pong | Packet::Noop | Packet::Upgrade => Next::Go,
        Packet::Binary => client.hear_binary(),
        Packet::Close => return None,
    })
}
