//! The plain WebSocket at `/ws`: JSON frames `{"event", "data", "id"?}` in both directions, close codes that say why.
//! One task a socket: it reads, writes, pings and carries out commands by turns.

use std::borrow::Cow;
use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::{Request, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::dialogue::{self, Dialogue};
use super::doors::{Doors, Stranger, refused, visitor};
use super::reply::{self, AckId, MAX_ACK_ID};
use super::wire::{self, Beat, Heartbeat, Turn, Wire};
use super::{CloseReason, Credentials, Door, Login, Visitor, command};
use crate::error::{Error, ErrorCode, Result};

/// The route's endpoint.
pub struct Endpoint(Arc<Doors>);

impl Endpoint {
    /// The endpoint of these doors.
    pub fn new(doors: Arc<Doors>) -> Self {
        Self(doors)
    }
}

impl poem::Endpoint for Endpoint {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let (response, upgrade) = match wire::accept(&request) {
            Ok(accepted) => accepted,
            Err(response) => return Ok(*response),
        };
        let (doors, credentials, visitor) = (self.0.clone(), credentials(&request), visitor(&request));
        let stranger = match doors.admit(&visitor) {
            Ok(stranger) => stranger,
            Err(error) => return Ok(refused(StatusCode::SERVICE_UNAVAILABLE, &error)),
        };
        self.0.tasks.spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                let wire = Wire::new(upgraded, &doors.settings).await;
                serve(doors, wire, credentials, visitor, stranger).await;
            }
        });
        Ok(response)
    }
}

/// What the request itself carries: the header first, then the ticket.
fn credentials(request: &Request) -> Option<Credentials> {
    if let Some(value) = request.header(header::AUTHORIZATION) {
        let token = value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, token)| token.trim());
        return Some(Credentials::Token(token.to_owned()));
    }
    let query = request.uri().query()?;
    let ticket = query.split('&').find_map(|pair| pair.strip_prefix("ticket="))?;
    Some(Credentials::Ticket(ticket.to_owned()))
}

/// A client's frame.
#[derive(Deserialize)]
pub struct Frame<'a> {
    /// The event's name.
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    /// Its data, as it came.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

impl<'a> Frame<'a> {
    /// Reads a text frame.
    ///
    /// # Errors
    /// `BadRequest`: no such object, or an `id` that is neither a number nor a short string.
    pub fn parse(text: &'a str) -> Result<Self> {
        let frame: Self = serde_json::from_str(text).map_err(|_| {
            Error::bad_request(r#"a frame is a JSON object {"event": "name", "data": {}, "id": 1}; data and id are optional"#)
        })?;
        match frame.id() {
            Some(id) if id.len() > MAX_ACK_ID || !id.starts_with(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) => {
                Err(Error::bad_request("id is a number, or a short string"))
            }
            _ => Ok(frame),
        }
    }

    fn id(&self) -> Option<&'a str> {
        self.id.map(RawValue::get).filter(|id| *id != "null")
    }
}

fn no_binary() -> Error {
    Error::new(ErrorCode::UnsupportedMediaType, "binary frames are not understood: send text")
}

/// Somebody who was let in, and the id under which he asked to be.
struct Guest {
    login: Login,
    ack: Option<AckId>,
}

/// Why somebody was not.
enum Refused {
    Close(CloseReason, Cow<'static, str>),
    Gone,
}

impl From<CloseReason> for Refused {
    fn from(reason: CloseReason) -> Self {
        Self::Close(reason, reason.text().into())
    }
}

async fn serve(doors: Arc<Doors>, mut wire: Wire, credentials: Option<Credentials>, visitor: Visitor, stranger: Stranger) {
    let guest = match Box::pin(greet(&doors, &mut wire, credentials, &visitor)).await {
        Ok(guest) => guest,
        Err(Refused::Close(reason, text)) => return Box::pin(wire.close(reason, &text)).await,
        Err(Refused::Gone) => return Box::pin(wire.bye()).await,
    };
    drop((stranger, visitor));
    wire.trust();
    let mut dialogue = Dialogue::start(doors.clone(), guest.login, Door::WebSocket, guest.ack, |_| None);
    let closing = talk(&doors, &mut wire, &mut dialogue).await;
    drop(dialogue);
    let end = async {
        match closing {
            Some(reason) => wire.close(reason, reason.text()).await,
            None => wire.bye().await,
        }
    };
    Box::pin(end).await;
}

/// Finds out who it is.
async fn greet(doors: &Doors, wire: &mut Wire, credentials: Option<Credentials>, visitor: &Visitor) -> Result<Guest, Refused> {
    let (credentials, ack) = match credentials {
        Some(credentials) => (credentials, None),
        None => match timeout(doors.settings.authentication_timeout, first_frame(doors, wire)).await {
            Ok(shown) => shown?,
            Err(_) => return Err(CloseReason::AuthenticationTimeout.into()),
        },
    };
    match doors.authenticate(credentials, visitor).await {
        Ok(login) => Ok(Guest { login, ack }),
        Err(error) => {
            dialogue::note(&error, "a socket was refused");
            if let Some(id) = ack {
                wire.put(reply::refusal(Door::WebSocket, &id, &command::failure(&error)));
            }
            Err(Refused::Close(dialogue::refusal_reason(&error), error.message))
        }
    }
}

/// Reads up to the `authenticate` frame; anything else is answered, and waits for it.
async fn first_frame(doors: &Doors, wire: &mut Wire) -> Result<(Credentials, Option<AckId>), Refused> {
    #[derive(Deserialize)]
    struct Shown {
        token: Option<String>,
        ticket: Option<String>,
    }
    loop {
        let (error, ack) = match wire.turn(true).await {
            Turn::Text(text) if text.len() > doors.settings.max_stranger_bytes => return Err(CloseReason::TooLarge.into()),
            Turn::Text(text) => match Frame::parse(&text) {
                Ok(frame) if frame.event == "authenticate" => {
                    let shown = frame.data.and_then(|data| serde_json::from_str::<Shown>(data.get()).ok());
                    let shown = shown.and_then(|shown| shown.token.map(Credentials::Token).or(shown.ticket.map(Credentials::Ticket)));
                    match shown {
                        Some(credentials) => return Ok((credentials, frame.id().map(Into::into))),
                        None => return Err(Refused::Close(CloseReason::Unauthenticated, "authenticate takes {\"token\": \"…\"}".into())),
                    }
                }
                Ok(frame) => (Error::unauthenticated("authenticate first"), frame.id().map(Into::into)),
                Err(error) => (error, None),
            },
            Turn::Binary => (no_binary(), None),
            Turn::Alive | Turn::Written(_) => continue,
            Turn::TooLarge => return Err(CloseReason::TooLarge.into()),
            Turn::Gone => return Err(Refused::Gone),
        };
        let failure = command::failure(&error);
        let text = match &ack {
            Some(id) => reply::refusal(Door::WebSocket, id as &AckId, &failure),
            None => reply::event(Door::WebSocket, "error", &failure),
        };
        if !wire.put(text) {
            return Err(Refused::Gone);
        }
    }
}

/// Serves the socket until one side ends it: the server for the reason given back, or the client.
async fn talk(doors: &Doors, wire: &mut Wire, dialogue: &mut Dialogue) -> Option<CloseReason> {
    let socket = dialogue.socket.clone();
    let mut heartbeat = Heartbeat::new(&doors.settings);
    loop {
        let (is_idle, is_busy) = (wire.is_idle(), dialogue.is_busy());
        tokio::select! {
            () = dialogue.advance(), if is_busy => heartbeat.heard(),
            () = socket.filled(), if is_idle => if let Some(reason) = wire.flow(&*doors.gateway, &socket).await {
                return Some(reason);
            },
            reason = socket.closed_at_once(), if !is_idle => return Some(reason),
            turn = wire.turn(!is_busy) => {
                match turn {
                    Turn::Text(text) => hear(dialogue, &text),
                    Turn::Binary => dialogue.refuse(&no_binary(), None),
                    Turn::Alive => {}
                    Turn::Written(marks) => {
                        if !marks.is_empty() {
                            doors.gateway.wrote(&socket, &marks);
                        }
                        continue;
                    }
                    Turn::TooLarge => return Some(CloseReason::TooLarge),
                    Turn::Gone => return None,
                }
                heartbeat.heard();
            }
            beat = heartbeat.beat() => match beat {
                Beat::Dead if is_busy && wire.is_moving() => heartbeat.heard(),
                Beat::Dead => return None,
                Beat::Ping if !wire.ping() => return None,
                Beat::Ping => {}
            }
        }
    }
}

fn hear(dialogue: &mut Dialogue, text: &str) {
    match Frame::parse(text) {
        Ok(frame) if frame.event == "authenticate" => {
            dialogue.refuse(&Error::bad_request("this socket is authenticated already"), frame.id());
        }
        Ok(frame) => dialogue.ask(&frame.event, frame.data, frame.id()),
        Err(error) => dialogue.refuse(&error, None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_have_an_event_and_perhaps_data_and_an_id() {
        let frame = Frame::parse(r#"{"id": 7, "data": {"a": 1}, "event": "typing:start", "more": []}"#).unwrap();
        assert_eq!((frame.event.as_ref(), frame.id(), frame.data.unwrap().get()), ("typing:start", Some("7"), r#"{"a": 1}"#));
        assert_eq!(Frame::parse(r#"{"event":"a\u0062","id":null}"#).unwrap().event, "ab");
        assert_eq!(Frame::parse(r#"{"event":"a","id":"x"}"#).unwrap().id(), Some("\"x\""));
        for bad in ["", "7", "[]", "{}", r#"{"event":1}"#, r#"{"event":"a","id":{}}"#, r#"{"event":"a","id":true}"#, "{\"event\":\"a\"}x"] {
            assert!(Frame::parse(bad).is_err(), "{bad}");
        }
        assert!(Frame::parse(&format!(r#"{{"event":"a","id":"{}"}}"#, "x".repeat(MAX_ACK_ID))).is_err());
        assert!(Frame::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn credentials_come_from_the_header_or_the_ticket() {
        let token = |value: &str| credentials(&Request::builder().header("authorization", value).finish());
        assert!(token("bearer  abc") == Some(Credentials::Token("abc".into())));
        assert!(token("Basic abc") == Some(Credentials::Token(String::new())));
        let ticket = Request::builder().uri_str("http://x/ws?a=b&ticket=t").finish();
        assert!(credentials(&ticket) == Some(Credentials::Ticket("t".into())));
        assert!(credentials(&Request::builder().uri_str("http://x/ws").finish()).is_none());
    }
}
