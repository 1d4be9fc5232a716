//! What both doors share: the gateway behind them, their settings, the bound on strangers, their tasks; and their routes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use poem::http::{StatusCode, header};
use poem::{Request, Response, Route};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::socket::MAX_WAITING;
use super::socketio::{self, Sessions};
use super::{Credentials, Gateway, Login, Visitor, command, websocket};
use crate::error::{Error, ErrorCode};
use crate::id::UserId;
use crate::rate::{Limiter, network};
use crate::rest::ClientAddress;

/// Sockets that one user may open each second, and at once: many times what reconnecting clients need.
const OPENED_A_SECOND: u32 = 10;
const OPENED_AT_ONCE: u32 = 50;

/// How the doors behave. The defaults are the contract's; tests make the times shorter.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Limits on commands of a socket, on the sockets that a user opens, and on the strangers of a network.
    pub rate_limit: bool,
    /// From one ping of ours to the next.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub ping_timeout: Duration,
    /// How long `/ws` waits for credentials.
    pub authentication_timeout: Duration,
    /// How long Socket.IO waits for a CONNECT packet: two round trips more over polling.
    pub connect_timeout: Duration,
    /// How long a probed websocket may take to become the transport.
    pub upgrade_timeout: Duration,
    /// Frames that may wait for one socket; one that does not keep up is closed.
    pub max_waiting: usize,
    /// The largest frame, in bytes.
    pub max_frame_bytes: usize,
    /// What may come before authentication, in bytes.
    pub max_stranger_bytes: usize,
    /// Connections that may be unauthenticated at one time.
    pub max_strangers: usize,
    /// The same of one network: an address, or the /64 of IPv6.
    pub max_strangers_per_network: usize,
    /// How long it may take to check a login, to let it in, or to carry out a command, `resume` apart.
    pub command_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate_limit: true,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            authentication_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            upgrade_timeout: Duration::from_secs(10),
            max_waiting: MAX_WAITING,
            max_frame_bytes: 1 << 20,
            max_stranger_bytes: 16 << 10,
            max_strangers: 10_000,
            max_strangers_per_network: 1_000,
            command_timeout: Duration::from_secs(3),
        }
    }
}

/// The doors of one node.
pub struct Doors {
    pub(super) gateway: Arc<dyn Gateway>,
    pub(super) settings: Settings,
    pub(super) sessions: Sessions,
    pub(super) tasks: TaskTracker,
    strangers: Mutex<Strangers>,
    opened: Limiter<UserId>,
}

/// Connections that have not authenticated yet.
#[derive(Default)]
struct Strangers {
    count: usize,
    by_network: HashMap<IpAddr, usize>,
}

impl Doors {
    /// Doors to this gateway.
    pub fn new(gateway: Arc<dyn Gateway>, settings: Settings) -> Arc<Self> {
        let (sessions, tasks, strangers) = (Sessions::default(), TaskTracker::new(), Mutex::default());
        let opened = Limiter::new(settings.rate_limit, OPENED_A_SECOND, Duration::from_secs(1), OPENED_AT_ONCE);
        Arc::new(Self { gateway, settings, sessions, tasks, strangers, opened })
    }

    /// Adds `/ws` and `/socket.io/`. Requests there take as long as they like: no deadline may be put around them.
    #[must_use]
    pub fn mount(self: &Arc<Self>, routes: Route) -> Route {
        let (websocket, socketio) = (|| websocket::Endpoint::new(self.clone()), || socketio::Endpoint::new(self.clone()));
        let routes = routes.at("/ws", websocket()).at("/ws/", websocket());
        routes.at("/socket.io", socketio()).at("/socket.io/", socketio())
    }

    /// How they behave.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the query of a request to `/socket.io/` names a session that is open.
    pub fn has_session(&self, query: &str) -> bool {
        socketio::names_session(&self.sessions, query)
    }

    /// Waits until the last socket's task has ended: for shutdown, after the hub has closed them all.
    pub async fn finished(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Who these credentials stand for; a store that does not answer is away, and who opens sockets without end is a flood.
    pub(super) async fn authenticate(&self, credentials: Credentials, visitor: &Visitor) -> Result<Login, Error> {
        let found = timeout(self.settings.command_timeout, self.gateway.authenticate(credentials, visitor)).await;
        let login = found.unwrap_or_else(|_| Err(unavailable("the login could not be checked in time: try again")))?;
        self.opened.check(login.user_id)?;
        Ok(login)
    }

    /// Takes a stranger's place, until it is dropped.
    ///
    /// # Errors
    /// `Unavailable` when there is none, or none for more of his network, or when the node drains.
    pub(super) fn admit(self: &Arc<Self>, visitor: &Visitor) -> Result<Stranger, Error> {
        if self.gateway.is_draining() {
            return Err(unavailable("the server is going away: connect again"));
        }
        let network = visitor.address.map(network).filter(|_| self.settings.rate_limit);
        let mut strangers = self.strangers.lock();
        let of_network = network.and_then(|network| strangers.by_network.get(&network)).copied().unwrap_or(0);
        let is_full = network.is_some() && of_network >= self.settings.max_strangers_per_network;
        if is_full || strangers.count >= self.settings.max_strangers {
            return Err(unavailable("too many connections are being opened: try again"));
        }
        strangers.count += 1;
        if let Some(network) = network {
            strangers.by_network.insert(network, of_network + 1);
        }
        Ok(Stranger { doors: self.clone(), network })
    }
}

/// The place of a connection that has not authenticated yet.
pub(super) struct Stranger {
    doors: Arc<Doors>,
    network: Option<IpAddr>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut strangers = self.doors.strangers.lock();
        strangers.count -= 1;
        if let Some(network) = self.network
            && let Entry::Occupied(mut of_network) = strangers.by_network.entry(network)
        {
            *of_network.get_mut() -= 1;
            if *of_network.get() == 0 {
                of_network.remove();
            }
        }
    }
}

fn unavailable(message: &'static str) -> Error {
    Error { retry_after: Some(Duration::from_secs(1)), ..Error::new(ErrorCode::Unavailable, message) }
}

/// An HTTP answer instead of a socket, in the envelope of the REST errors.
pub(super) fn refused(status: StatusCode, error: &Error) -> Response {
    let mut response = Response::builder().status(status).content_type("application/json").body(command::failure(error).to_string());
    if let Some(after) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().max(1).into());
    }
    response
}

/// Who makes this request.
pub(super) fn visitor(request: &Request) -> Visitor {
    let agent = request.header(header::USER_AGENT).map(|agent| agent.chars().take(256).collect());
    let peer = || request.remote_addr().as_socket_addr().map(SocketAddr::ip);
    let address = request.data::<ClientAddress>().map(|address| address.0).or_else(peer);
    Visitor { address, user_agent: agent }
}
