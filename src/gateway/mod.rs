//! The two doors to the events: a plain WebSocket at `/ws` and Socket.IO at `/socket.io/`.
//! The doors speak protocols and know no conversations; what a login may do is asked of [`Gateway`].
//! A message is serialised once per protocol and its bytes are shared by all sockets ([`Outgoing`]).

pub mod command;
mod close;
mod outbox;
mod outgoing;
pub mod socket;
mod reply;
mod dialogue;
mod doors;
mod wire;
pub mod websocket;
pub mod socketio;
mod heard;
mod hold;
mod hub;
mod lane;
mod online;
mod order;
mod orphans;
mod registry;
mod resume;
mod rounds;
mod seat;
mod session;
mod tell;
mod typing;
mod watch;

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use close::CloseReason;
pub use command::{Command, Throttle};
pub use doors::{Doors, Settings};
pub use hub::{ConversationViews, Hub};
pub use online::Online;
pub use outgoing::{Mark, Outgoing};
pub use session::{Parts, Sessions};
pub use socket::{Batch, Door, Socket};
pub use typing::TypingNow;

use crate::error::Result;
use crate::id::{SessionId, UserId};

/// What somebody shows at the door.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// An access token.
    Token(String),
    /// A ticket from `POST /auth/socket-ticket`: one use.
    Ticket(String),
}

/// Who knocks, for the limits and the log.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Visitor {
    /// The client's address as the server's middleware resolved it, proxies taken into account.
    pub address: Option<IpAddr>,
    /// Its `User-Agent`, cut to 256 bytes.
    pub user_agent: Option<String>,
}

/// The login that credentials stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// Whose.
    pub user_id: UserId,
    /// Which.
    pub session_id: SessionId,
}

/// What is behind the doors.
///
/// One socket's calls come in this order: `authenticate`, `open`, then `command`s one after the other, `closed` last and
/// exactly once for every socket that was handed to `open`. `wrote` may come at any time between `open` and `closed`.
#[async_trait]
pub trait Gateway: Send + Sync + 'static {
    /// Checks credentials.
    ///
    /// # Errors
    /// `Unauthenticated`, `PhoneUnverified` and `Forbidden` are final: the client is told not to come back with these.
    /// Everything else closes the transport, and the client tries again.
    async fn authenticate(&self, credentials: Credentials, visitor: &Visitor) -> Result<Login>;

    /// Lets a socket in: from here on it receives the events of its user. It has been told `authenticated` already.
    ///
    /// # Errors
    /// Any: the transport is closed, and the client tries again.
    async fn open(&self, socket: &Arc<Socket>) -> Result<()>;

    /// Carries out a command; the JSON of the answer is the `data` of the ack.
    /// The caller may vanish meanwhile: work that must be finished belongs into a task of its own.
    async fn command(&self, socket: &Arc<Socket>, command: Command) -> Result<Bytes>;

    /// These messages have been written to the wire, in this order. Must not block.
    fn wrote(&self, socket: &Arc<Socket>, marks: &[Mark]);

    /// The socket is gone. Must not block.
    fn closed(&self, socket: &Arc<Socket>);

    /// No new sockets: they are refused with 503 and go to another node.
    fn is_draining(&self) -> bool;
}
