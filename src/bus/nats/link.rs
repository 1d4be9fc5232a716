//! One connection to NATS, of a kind of traffic of its own, and whether it is up. It connects by itself, for ever; here
//! it is told when it went and came, and nothing waits long for one that is away.

use std::future::{Future, IntoFuture as _};
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::{ConnectOptions, Event, ServerAddr, jetstream};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::NatsSettings;
use crate::bus::BusError;
use crate::id::NodeId;

/// How long a publish may wait for a place in the connection's queue, or for the server's word where it is asked for.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(250);
/// How long nothing is sent after a publish found no place in time: a server that stands still costs one sender that wait, and not each.
const STALLED: Duration = Duration::from_secs(1);
/// Publishes that may wait in the connection; then they wait for a place.
const CAPACITY: usize = 16_384;
/// How often a server is asked whether it is there: one that stands still is noticed by the third.
const PING_EVERY: Duration = Duration::from_secs(2);
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
}

impl Link {
    /// Connects in the background.
    ///
    /// # Errors
    /// Addresses, credentials or certificates that cannot be read.
    pub async fn open(settings: &NatsSettings, kind: &'static str, node: NodeId) -> Result<Self, BusError> {
        let servers = settings.servers.iter().map(|server| server.parse::<ServerAddr>()).collect::<Result<Vec<_>, _>>();
        let servers = servers.map_err(|error| BusError(format!("an address cannot be read: {error}")))?;
        let (sender, state) = watch::channel(State { is_up: false, times: 0 });
        let sender = Arc::new(sender);
        let mut options = ConnectOptions::new()
            .name(format!("urge {kind} {node}"))
            .retry_on_initial_connect()
            .client_capacity(CAPACITY)
            .ping_interval(PING_EVERY)
            .connection_timeout(Duration::from_secs(2))
            .reconnect_delay_callback(|tries| LAST_PAUSE.min(Duration::from_millis(10 << tries.min(10))))
            .event_callback(move |event| {
                let sender = Arc::clone(&sender);
                async move { note(kind, &event, &sender) }
            });
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
        let client = options.connect(servers).await.map_err(|error| BusError(error.to_string()))?;
        let context = jetstream::new(client.clone());
        Ok(Self { client, kind, state, context, stalled: Arc::default() })
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

    /// Puts a message on its way, if the connection is up: what would wait for a server that is away is old when it comes.
    pub async fn publish(&self, subject: String, bytes: Bytes) -> Result<(), BusError> {
        self.must_be_up()?;
        let published = timeout(PUBLISH_TIMEOUT, self.client.publish(subject, bytes)).await;
        let published = published.map_err(|_| {
            *self.stalled.lock() = Some(Instant::now() + STALLED);
            BusError("the queue to the server is full".into())
        });
        let published = published.and_then(|published| published.map_err(failed));
        published.inspect_err(|_| self.lost())
    }

    /// Puts a message into its stream.
    pub async fn publish_and_wait(&self, subject: String, bytes: Bytes) -> Result<(), BusError> {
        self.publish_asking(subject, bytes, PUBLISH_TIMEOUT).await?.await
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
        let word = published.map_err(failed).inspect_err(|_| self.lost())?;
        let link = self.clone();
        Ok(async move {
            let word = timeout(patience, word.into_future()).await;
            let word = word.unwrap_or_else(|_| Err(PublishError::new(PublishErrorKind::TimedOut)));
            word.map(drop).map_err(failed).inspect_err(|_| link.lost())
        })
    }

    fn must_be_up(&self) -> Result<(), BusError> {
        if !self.is_up() {
            self.lost();
            return Err(BusError("no server is connected".into()));
        }
        if self.stalled.lock().is_some_and(|until| Instant::now() < until) {
            self.lost();
            return Err(BusError("the server does not take what is sent".into()));
        }
        Ok(())
    }

    fn lost(&self) {
        metrics::counter!("urge_bus_lost_total", "kind" => self.kind).increment(1);
    }
}

fn note(kind: &'static str, event: &Event, sender: &watch::Sender<State>) {
    match event {
        Event::Connected => {
            tracing::info!(kind, "the bus is connected");
            sender.send_modify(|state| *state = State { is_up: true, times: state.times + 1 });
        }
        Event::Disconnected | Event::Closed => {
            if sender.borrow().is_up {
                tracing::warn!(kind, "the bus is away: messages are delivered when it is back");
            }
            sender.send_modify(|state| state.is_up = false);
        }
        Event::SlowConsumer(_) => {
            metrics::counter!("urge_bus_slow_total", "kind" => kind).increment(1);
        }
        Event::ServerError(error) => tracing::warn!(kind, %error, "the bus refuses something"),
        Event::ClientError(error) => tracing::warn!(kind, %error, "the bus cannot be reached; it is tried again"),
        Event::LameDuckMode | Event::Draining => {}
    }
    metrics::gauge!("urge_bus_connected", "kind" => kind).set(f64::from(u8::from(sender.borrow().is_up)));
}

fn failed(error: impl std::fmt::Display) -> BusError {
    BusError(error.to_string())
}
