//! One Socket.IO client, whichever its transport is now: it connects with a token, then talks.
//! The transport moves under it at an upgrade; nothing in here knows.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::packet::{self, Malformed, Packet};
use crate::error::{Error, ErrorCode, Result};
use crate::gateway::dialogue::{self, Dialogue};
use crate::gateway::doors::{Doors, Stranger};
use crate::gateway::{CloseReason, Credentials, Door, Login, Socket, Visitor};

/// Packets in the wrong place that a stranger may send before he is shown out.
const MAX_STRANGE: u32 = 16;

/// What the transport has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: answers are in the socket's outbox.
    Go,
    /// Write this packet; there is no outbox yet.
    Say(String),
    /// Write this packet, then close the transport.
    Refuse(String, CloseReason),
    /// Close the transport.
    Close(CloseReason),
    /// The client said goodbye.
    Bye,
}

enum State {
    Strange { deadline: Instant, strange: u32 },
    Authenticating(Pin<Box<dyn Future<Output = Result<Login>> + Send>>),
    Connected(Dialogue),
}

/// See the module.
pub struct Client {
    doors: Arc<Doors>,
    /// Until it is let in.
    visitor: Option<(Visitor, Stranger)>,
    state: State,
}

impl Client {
    pub(in crate::gateway) fn new(doors: Arc<Doors>, visitor: Visitor, stranger: Stranger) -> Self {
        let deadline = Instant::now() + doors.settings.connect_timeout;
        Self { doors, visitor: Some((visitor, stranger)), state: State::Strange { deadline, strange: 0 } }
    }

    /// Its socket, once it is let in.
    pub fn socket(&self) -> Option<&Arc<Socket>> {
        match &self.state {
            State::Connected(dialogue) => Some(&dialogue.socket),
            _ => None,
        }
    }

    /// Whether its socket closes: what else it says is said in vain.
    pub fn is_closing(&self) -> bool {
        self.socket().is_some_and(|socket| socket.closing().is_some())
    }

    /// Whether something is being carried out: the next packet must wait.
    pub fn is_busy(&self) -> bool {
        match &self.state {
            State::Strange { .. } => false,
            State::Authenticating(_) => true,
            State::Connected(dialogue) => dialogue.is_busy(),
        }
    }

    /// Carries on with what is being carried out, or waits for the end of a stranger's patience. Safe to cancel.
    pub async fn advance(&mut self) -> Next {
        match &mut self.state {
            State::Strange { deadline, .. } => {
                sleep_until(*deadline).await;
                Next::Close(CloseReason::AuthenticationTimeout)
            }
            State::Connected(dialogue) => {
                dialogue.advance().await;
                Next::Go
            }
            State::Authenticating(running) => match running.await {
                Ok(login) => {
                    let greeting = |socket: &Socket| Some(packet::connected(&socket.id.to_string()));
                    self.state = State::Connected(Dialogue::start(self.doors.clone(), login, Door::SocketIo, None, greeting));
                    self.visitor = None;
                    Next::Go
                }
                Err(error) => {
                    dialogue::note(&error, "a socket was refused");
                    self.state = State::Strange { deadline: Instant::now() + Duration::from_secs(1), strange: 0 };
                    match dialogue::refusal_reason(&error) {
                        reason if reason.is_final() => Next::Refuse(packet::connect_error("/", &error.message, error.code.name()), reason),
                        reason => Next::Close(reason),
                    }
                }
            },
        }
    }

    /// Takes an Engine.IO message; only while not busy.
    pub fn hear(&mut self, text: &str) -> Next {
        match &mut self.state {
            State::Authenticating(_) => Next::Go,
            State::Strange { strange, .. } => match Packet::parse(text) {
                Ok(Packet::Connect { namespace: "/", auth }) => {
                    let credentials = token(auth.map(serde_json::value::RawValue::get));
                    let visitor = self.visitor.as_ref().map(|(visitor, _)| visitor.clone()).unwrap_or_default();
                    let doors = self.doors.clone();
                    self.state = State::Authenticating(Box::pin(async move { doors.authenticate(credentials?, &visitor).await }));
                    Next::Go
                }
                Ok(Packet::Disconnect) => Next::Bye,
                other => {
                    *strange += 1;
                    match other {
                        _ if *strange > MAX_STRANGE => Next::Close(CloseReason::Flood),
                        Ok(Packet::Connect { namespace, .. }) => Next::Say(no_namespace(namespace)),
                        _ => Next::Go,
                    }
                }
            },
            State::Connected(dialogue) => hear(dialogue, text),
        }
    }

    /// A binary packet came.
    pub fn hear_binary(&mut self) -> Next {
        if let State::Connected(dialogue) = &mut self.state {
            dialogue.count_refusal();
            Next::Go
        } else {
            Next::Close(CloseReason::AuthenticationTimeout)
        }
    }
}

fn hear(dialogue: &mut Dialogue, text: &str) -> Next {
    match Packet::parse(text) {
        Ok(Packet::Event { namespace: "/", ack, name, data }) => dialogue.ask(&name, data, ack),
        Ok(Packet::Disconnect) => return Next::Bye,
        Ok(Packet::Connect { namespace: "/", .. } | Packet::Ack) => {}
        Ok(Packet::Connect { namespace, .. }) => {
            dialogue.socket.reply(no_namespace(namespace));
            dialogue.count_refusal();
        }
        Ok(Packet::Binary { ack }) => {
            dialogue.refuse(&Error::new(ErrorCode::UnsupportedMediaType, "binary data is not understood: send JSON"), ack);
        }
        Ok(Packet::Event { ack, .. }) => dialogue.refuse(&Error::bad_request("there is no such namespace"), ack),
        Err(Malformed) => dialogue.refuse(&Error::bad_request("that is not a Socket.IO packet"), None),
    }
    Next::Go
}

fn no_namespace(namespace: &str) -> String {
    packet::connect_error(namespace, "Invalid namespace", "not_found")
}

/// The `auth` of the client: `{token}`, with or without `Bearer`.
fn token(auth: Option<&str>) -> Result<Credentials> {
    #[derive(Deserialize)]
    struct Auth {
        token: Option<String>,
        ticket: Option<String>,
    }
    let auth: Option<Auth> = auth.and_then(|auth| serde_json::from_str(auth).ok());
    let missing = || Error::unauthenticated("no token: connect with auth: {token}");
    let Auth { token, ticket } = auth.ok_or_else(missing)?;
    match (token, ticket) {
        (Some(token), _) => Ok(Credentials::Token(token.strip_prefix("Bearer ").unwrap_or(&token).to_owned())),
        (None, Some(ticket)) => Ok(Credentials::Ticket(ticket)),
        (None, None) => Err(missing()),
    }
}
