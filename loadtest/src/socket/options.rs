//! How a socket is opened: which door, as whom, from which address.

use std::{net::IpAddr, time::Duration};

use serde::Serialize;

use crate::http::Http;

/// The ways in. What comes out of them is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    /// Plain WebSocket, `/ws`.
    #[serde(rename = "ws")]
    WebSocket,
    /// Socket.IO over WebSocket from the first request on.
    SocketIo,
    /// Socket.IO over long-polling for good.
    Polling,
    /// Socket.IO over long-polling that moves to WebSocket, as the official clients do unless told otherwise.
    Upgrade,
}

impl Door {
    /// All of them, for tests that do the same through each.
    pub const ALL: [Self; 4] = [Self::WebSocket, Self::SocketIo, Self::Polling, Self::Upgrade];

    /// Whether Socket.IO is spoken behind it.
    pub fn is_socket_io(self) -> bool {
        self != Self::WebSocket
    }
}

/// What is shown at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// An access token: the `Authorization` header of `/ws`, `auth: {token}` of Socket.IO.
    Token(String),
    /// An access token in the first frame (`/ws`); as `Token` through Socket.IO.
    Frame(String),
    /// A ticket of POST /auth/socket-ticket: `?ticket=` (`/ws`), `auth: {ticket}` (Socket.IO).
    Ticket(String),
    /// Nothing.
    Missing,
}

/// How to open a socket. Start with [`Options::new`], change what differs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server, `http://host:port`.
    pub url: String,
    /// The way in.
    pub door: Door,
    /// What is shown there.
    pub auth: Auth,
    /// From which address of this machine to connect.
    pub source: Option<IpAddr>,
    /// Connections for long-polling; a pool of its own when absent.
    pub http: Option<Http>,
    /// How long connecting may take, and how long [`super::Socket`]'s calls wait.
    pub timeout: Duration,
    /// Further headers of the first request.
    pub headers: Vec<(String, String)>,
    /// Commands that may wait for the socket's task before its owner does, or is refused.
    pub queue: usize,
}

impl Options {
    /// The defaults: from any address, 10 s.
    pub fn new(url: &str, door: Door, auth: Auth) -> Self {
        Self {
            url: url.trim_end_matches('/').to_owned(),
            door,
            auth,
            source: None,
            http: None,
            timeout: Duration::from_secs(10),
            headers: Vec::new(),
            queue: 16,
        }
    }

    /// `host:port`.
    pub(super) fn authority(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest)
    }

    /// The payload of Socket.IO's CONNECT: JSON or nothing.
    pub(super) fn connect_payload(&self) -> String {
        match &self.auth {
            Auth::Token(token) | Auth::Frame(token) => serde_json::json!({"token": token}).to_string(),
            Auth::Ticket(ticket) => serde_json::json!({"ticket": ticket}).to_string(),
            Auth::Missing => String::new(),
        }
    }
}
