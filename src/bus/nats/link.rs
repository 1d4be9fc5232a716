//! One connection to NATS, of a kind of traffic of its own, and whether it is up. It connects by itself, for ever; here
//! it is told when it went and came, and nothing waits long for one that is away.

use std::future::{Future, IntoFuture as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::{ConnectOptions, Event, ServerAddr, jetstream};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::NatsSettings;
use super::complaint::Complaint;
use crate::bus::BusError;
use crate::id::NodeId;
use crate::task::Tasks;

/// How long a publish may wait for a place in the connection's queue, or for the server's word where it is asked for.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(250);
/// How long nothing is sent after a publish found no place in time: a server that stands still costs one sender that wait, and not each.
const STALLED: Duration = Duration::from_secs(1);
/// Publishes that may wait in the connection; then they wait for a place.
const CAPACITY: usize = 16_384;
/// How often a server is asked whether it is there: one that stands still is noticed by the third.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long a server may take to let a connection in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest pause before a server that was away is tried again.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How a connection is.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub is_up: bool,
    /// How often it has come up.
    pub times: u64,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Link {
    pub client: async_nats::Client,
    pub kind: &'static str,
    pub state: watch::Receiver<State>,
    context: jetstream::Context,
    stalled: Arc<Mutex<Option<Instant>>>,
    health: Arc<Health>,
}

/// Whether a connection is of use, as the gauge says it.
struct Health {
    kind: &'static str,
    /// It is up; its stream is followed.
    parts: Mutex<(bool, bool)>,
}

impl Health {
    fn change(&self, change: impl FnOnce(&mut (bool, bool))) {
        let mut parts = self.parts.lock();
        change(&mut parts);
        // Before another change: the last one is what shows.
        metrics::gauge!("urge_bus_connected", "kind" => self.kind).set(f64::from(u8::from(*parts == (true, true))));
    }
}

impl Link {
    /// Connects in the background.
    ///
    /// # Errors
    /// Addresses, credentials or certificates that cannot be read.
    pub async fn open(settings: &NatsSettings, kind: &'static str, node: NodeId) -> Result<Self, BusError> {
        let servers = addresses(settings)?;
        let (sender, state) = watch::channel(State { is_up: false, times: 0 });
        let health = Arc::new(Health { kind, parts: Mutex::default() });
        // Down until it has come up: whoever looks before is told so.
        health.change(|_| {});
        let watcher = Arc::new(Watcher {
            settings: settings.clone(),
            kind,
            sender,
            health: Arc::clone(&health),
            away: Complaint::default(),
            refused: Complaint::default(),
            is_asking: AtomicBool::default(),
            tasks: Tasks::default(),
        });
        let options = login(settings).await?;
        let options = options
            .name(format!("urge {kind} {node}"))
            .retry_on_initial_connect()
            .client_capacity(CAPACITY)
            .ping_interval(PING_EVERY)
            .reconnect_delay_callback(|tries| LAST_PAUSE.min(Duration::from_millis(10 << tries.min(10))))
            .event_callback(move |event| {
                let watcher = Arc::clone(&watcher);
                async move { watcher.note(&event) }
            });
        let client = options.connect(servers).await.map_err(failed)?;
        let context = jetstream::new(client.clone());
        Ok(Self { client, kind, state, context, stalled: Arc::default(), health })
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.state.borrow().is_up
    }

    /// Waits until it is up.
    pub async fn up(&self) {
        // The sender lives as long as the client, which this holds.
        let _ = self.state.clone().wait_for(|state| state.is_up).await;
    }

    /// Whether it is up and its stream is followed: a server may let a node in and nothing more.
    pub fn works(&self) -> bool {
        *self.health.parts.lock() == (true, true)
    }

    /// The server that it was connected to last, `host:port`.
    pub fn server(&self) -> String {
        let info = self.client.server_info();
        format!("{}:{}", info.host, info.port)
    }

    /// Notes whether its stream is followed.
    pub fn set_follows(&self, follows: bool) {
        self.health.change(|(_, is_followed)| *is_followed = follows);
    }

    /// Puts a message on its way, if the connection is up: what would wait for a server that is away is old when it comes.
    pub async fn publish(&self, subject: String, bytes: Bytes) -> Result<(), BusError> {
        self.in_time(self.put(subject, bytes)).await
    }

    /// Puts a message on its way, as soon as there is a place in the queue; to be done [`Link::in_time`].
    pub async fn put(&self, subject: String, bytes: Bytes) -> Result<(), BusError> {
        self.client.publish(subject, bytes).await.map_err(failed)
    }

    /// Does this, which puts messages on their way, if the connection is up and takes them.
    pub async fn in_time(&self, putting: impl Future<Output = Result<(), BusError>>) -> Result<(), BusError> {
        let put = async {
            self.must_be_up()?;
            timeout(PUBLISH_TIMEOUT, putting).await.unwrap_or_else(|_| {
                *self.stalled.lock() = Some(Instant::now() + STALLED);
                Err(BusError("the queue to the server is full".into()))
            })
        };
        put.await.inspect_err(|_| self.lost())
    }

    /// Puts a message into its stream.
    pub async fn publish_and_wait(&self, subject: String, bytes: Bytes) -> Result<(), BusError> {
        let put = async { self.publish_asking(subject, bytes, PUBLISH_TIMEOUT).await?.await };
        put.await.inspect_err(|_| self.lost())
    }

    /// Puts a message on its way, and then waits so long for the server's word that it is in its stream.
    pub async fn publish_asking(
        &self,
        subject: String,
        bytes: Bytes,
        patience: Duration,
    ) -> Result<impl Future<Output = Result<(), BusError>> + Send + use<>, BusError> {
        self.must_be_up()?;
        let published = timeout(PUBLISH_TIMEOUT, self.context.publish(subject, bytes)).await;
        let published = published.unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut)));
        let word = published.map_err(failed)?;
        Ok(async move {
            let word = timeout(patience, word.into_future()).await;
            let word = word.unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut)));
            word.map(drop).map_err(failed)
        })
    }

    fn must_be_up(&self) -> Result<(), BusError> {
        if !self.is_up() {
            return Err(BusError("no server is connected".into()));
        }
        if self.stalled.lock().is_some_and(|until| Instant::now() < until) {
            return Err(BusError("the server does not take what is sent".into()));
        }
        Ok(())
    }

    fn lost(&self) {
        metrics::counter!("urge_bus_lost_total", "kind" => self.kind).increment(1);
    }
}

fn addresses(settings: &NatsSettings) -> Result<Vec<ServerAddr>, BusError> {
    let servers = settings.servers.iter().map(|server| server.parse::<ServerAddr>()).collect::<Result<_, _>>();
    servers.map_err(|error| BusError(format!("an address cannot be read: {error}")))
}

/// Who this node is to the servers, and whom it believes.
async fn login(settings: &NatsSettings) -> Result<ConnectOptions, BusError> {
    let mut options = ConnectOptions::new().connection_timeout(CONNECT_TIMEOUT);
    if let Some((user, password)) = &settings.login {
        options = options.user_and_password(user.clone(), password.clone());
    }
    if let Some(file) = &settings.credentials {
        let read = options.credentials_file(file).await;
        options = read.map_err(|error| BusError(format!("the credentials {} cannot be read: {error}", file.display())))?;
    }
    if let Some(file) = &settings.ca {
        options = options.add_root_certificates(file.clone());
    }
    Ok(options)
}

/// Told when the connection goes and comes.
struct Watcher {
    settings: NatsSettings,
    kind: &'static str,
    sender: watch::Sender<State>,
    health: Arc<Health>,
    /// That it is away.
    away: Complaint,
    /// That something is refused.
    refused: Complaint,
    /// Whether it is being found out why it does not come up.
    is_asking: AtomicBool,
    /// Nobody waits for their end, which comes soon.
    tasks: Tasks,
}

impl Watcher {
    fn note(self: &Arc<Self>, event: &Event) {
        let kind = self.kind;
        match event {
            Event::Connected => {
                let away_s = self.away.ends(Instant::now()).map(|away| away.as_secs());
                tracing::info!(kind, away_s, "the bus is connected");
                self.sender.send_modify(|state| *state = State { is_up: true, times: state.times + 1 });
            }
            Event::Disconnected | Event::Closed => {
                if self.sender.borrow().is_up {
                    tracing::warn!(kind, "the bus is away: messages are delivered when it is back");
                }
                self.away.begins(Instant::now());
                self.sender.send_modify(|state| state.is_up = false);
            }
            Event::SlowConsumer(_) => {
                metrics::counter!("urge_bus_slow_total", "kind" => kind).increment(1);
            }
            Event::ServerError(error) => {
                // Said for each attempt, of which there is one every few seconds.
                if self.refused.lasts(&error.to_string(), Instant::now()).is_some() {
                    tracing::warn!(kind, %error, "the bus refuses something");
                }
            }
            Event::ClientError(error) => self.ask_why(error),
            Event::LameDuckMode | Event::Draining => {}
        }
        self.health.change(|(is_up, _)| *is_up = self.sender.borrow().is_up);
    }

    /// Says why it does not come up. The library keeps that to itself ("TLS error"): a connection of our own hears it.
    fn ask_why(self: &Arc<Self>, error: &async_nats::ClientError) {
        let Some(away) = self.away.lasts(&error.to_string(), Instant::now()) else { return };
        if self.is_asking.swap(true, Ordering::SeqCst) {
            return;
        }
        let (watcher, away_s) = (Arc::clone(self), away.as_secs());
        self.tasks.spawn(async move {
            let asked = watcher.try_once().await;
            watcher.is_asking.store(false, Ordering::SeqCst);
            if let Err(BusError(cause)) = asked {
                let (kind, servers) = (watcher.kind, watcher.settings.servers.join(","));
                tracing::warn!(kind, servers, away_s, cause, "the bus cannot be reached; it is tried again");
            }
        });
    }

    async fn try_once(&self) -> Result<(), BusError> {
        let connected = login(&self.settings).await?.connect(addresses(&self.settings)?).await;
        connected.map(drop).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> BusError {
    BusError(error.to_string())
}
