//! Socket.IO (protocol v5 over Engine.IO v4), our own thin codec: websocket, polling, and the upgrade between them.
//! The official clients are its judges. No binary, no namespace but `/`, no JSONP.

pub mod client;
pub mod dialect;
pub mod engine;
pub mod packet;
mod polling;
mod session;
mod upgrade;
mod websocket;

use std::sync::Arc;

use poem::http::{Method, StatusCode};
use poem::{Request, Response};

use self::engine::{Handshake, Transport, TransportError};
pub(super) use self::session::Sessions;
use super::doors::{Doors, refused, visitor};

/// Whether this query is of a session that is open.
pub(super) fn names_session(sessions: &Sessions, query: &str) -> bool {
    let sid = Handshake::parse(query).ok().and_then(|handshake| handshake.sid);
    sid.is_some_and(|sid| sessions.find(&sid).is_some())
}

/// The route's endpoint.
pub struct Endpoint(Arc<Doors>);

impl Endpoint {
    /// The endpoint of these doors.
    pub fn new(doors: Arc<Doors>) -> Self {
        Self(doors)
    }

    async fn dispatch(&self, mut request: Request) -> Result<Response, TransportError> {
        let Handshake { transport, sid, name } = Handshake::parse(request.uri().query().unwrap_or_default())?;
        let session = match &sid {
            Some(sid) => Some(self.0.sessions.find(sid).ok_or(TransportError::UnknownSession)?),
            None => None,
        };
        match (session, transport, request.method()) {
            (None, _, method) if *method != Method::GET => Err(TransportError::BadHandshakeMethod),
            (None, transport, _) => {
                let visitor = visitor(&request);
                let stranger = match self.0.admit(&visitor) {
                    Ok(stranger) => stranger,
                    Err(error) => return Ok(refused(StatusCode::SERVICE_UNAVAILABLE, &error)),
                };
                Ok(match transport {
                    Transport::Polling => polling::open(&self.0, visitor, stranger),
                    Transport::WebSocket => websocket::open(&self.0, &request, visitor, stranger),
                })
            }
            (Some(session), Transport::WebSocket, _) => upgrade::begin(&self.0, &request, session),
            (Some(session), Transport::Polling, &Method::GET) => polling::poll(&self.0, &session, name.as_deref()).await,
            (Some(session), Transport::Polling, &Method::POST) => {
                let length = request.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
                polling::post(&self.0, &session, length, request.take_body()).await
            }
            (Some(_), Transport::Polling, _) => Err(TransportError::BadRequest),
        }
    }
}

impl poem::Endpoint for Endpoint {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        Ok(self.dispatch(request).await.unwrap_or_else(TransportError::response))
    }
}
