//! A node put together: settings become [`Backends`], backends [`Services`], services routes. The only folder that
//! names Sqlite, Scylla, Local and Nats. A new feature adds its store to `Stores`, its service to `Services` and its API to [`Apis`].

mod backends;
mod folder;
mod services;

use std::future::Future;
use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

pub use backends::{Backends, Stores, migrate};
use folder::Held;
use poem::endpoint::BoxEndpoint;
use poem::{Endpoint, EndpointExt, Response};
use poem_openapi::OpenApiService;
pub use services::Services;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::auth::sms::SmsError;
use crate::auth::{AuthApi, UserLimit};
use crate::bus::{BusError, Worker};
use crate::config::Config;
use crate::conversations::{ConversationsApi, SyncApi};
use crate::event::Envelope;
use crate::messages::MessagesApi;
use crate::rate::Limiter;
use crate::server::{self, Cors, Front, NodeApi, Opening, Pages, Places, Proxies, Routes, Serving};
use crate::settings::SettingsApi;
use crate::store::StoreError;
use crate::task::Tasks;
use crate::telemetry;
use crate::users::UsersApi;
use crate::worker::{Drainer, Indexer};

/// Every REST API, in the order of the document. At most 16 a tuple; tuples nest.
pub type Apis = (NodeApi, AuthApi, UsersApi, SettingsApi, ConversationsApi, SyncApi, MessagesApi);

/// Sockets of a node that stops are sent away in this many groups …
const DRAIN_BATCHES: usize = 10;
/// … with this pause between them: the nodes that they come back to are not stormed.
const DRAIN_PAUSE: Duration = Duration::from_millis(100);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder or the secret in it.
    #[error("the data folder {folder} cannot be used: {source}")]
    Folder {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another node has the data folder.
    #[error(
        "the data folder {folder} is in use by another node, and two would spoil each other's work: \
         stop that one, or point URGE_DATA_DIR elsewhere"
    )]
    Taken {
        /// Which.
        folder: PathBuf,
    },
    /// The store.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] StoreError),
    /// The bus.
    #[error("the bus cannot be used: {0}")]
    Bus(BusError),
    /// A cluster that is not waited for.
    #[error("the store at {nodes} does not answer: {cause}")]
    NoStore {
        /// Where.
        nodes: String,
        /// Why.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Threads that hash passwords.
    #[error("the threads of auth.hashing_threads cannot be started, set fewer: {0}")]
    Threads(io::Error),
    /// The way to send one-time codes.
    #[error("one-time codes cannot be sent: {0}")]
    Sms(#[from] SmsError),
}

/// A node: its services and what they share.
pub struct App {
    /// The checked settings.
    pub config: Config,
    /// What it stands on.
    pub backends: Backends,
    /// Its background work.
    pub tasks: Tasks,
    /// Its use cases.
    pub services: Services,
    /// Cancelled when the node begins to send its sockets away: it is not ready any more.
    draining: CancellationToken,
}

impl App {
    /// Builds the services; nothing runs yet.
    pub fn new(config: Config, backends: Backends) -> Result<Self, StartError> {
        let tasks = Tasks::default();
        let services = Services::new(&config, &backends, &tasks)?;
        Ok(Self { config, backends, tasks, services, draining: CancellationToken::new() })
    }

    /// The REST APIs with their services.
    fn apis(&self) -> Apis {
        let Backends { stores, bus, .. } = &self.backends;
        let Services { auth, users, settings, blocks, conversations, messages, .. } = &self.services;
        (
            NodeApi { store: Arc::clone(&stores.probe), bus: Arc::clone(bus), stopping: self.draining.clone() },
            AuthApi { auth: Arc::clone(auth) },
            UsersApi { users: Arc::clone(users) },
            SettingsApi { settings: Arc::clone(settings), blocks: Arc::clone(blocks) },
            ConversationsApi { conversations: Arc::clone(conversations), messages: messages.clone() },
            SyncApi { conversations: Arc::clone(conversations) },
            MessagesApi::new(messages.clone(), self.config.rate_limit),
        )
    }

    /// Everything that answers requests.
    pub fn endpoint(&self) -> impl Endpoint<Output = Response> + use<> {
        let Config { rate_limit, server, .. } = &self.config;
        let service: OpenApiService<Apis, ()> = server::service(self.apis());
        let by_user = UserLimit(per_minute(*rate_limit, server.user_requests_per_minute, server.user_request_burst));
        let pages = Pages::of(&service).routes();
        let routes = self.services.doors.mount(pages).nest("/", service.data(Arc::clone(&self.services.auth)).data(by_user));
        self.front(routes.map_to_response().boxed())
    }

    /// What answers those who look after a node that serves nobody else.
    fn worker_endpoint(&self) -> impl Endpoint<Output = Response> + use<> {
        let service = Arc::new(server::service(self.apis().0).map_to_response().boxed());
        let routes = Pages::metrics().at("/health", Arc::clone(&service)).at("/ready", service);
        self.front(routes.map_to_response().boxed())
    }

    fn front(&self, inner: BoxEndpoint<'static>) -> Front {
        let doors = Arc::clone(&self.services.doors);
        Front {
            tasks: self.tasks.clone(),
            routes: Routes::of::<Apis>(),
            polls: Arc::new(move |query| doors.has_session(query)),
            ..front(&self.config, inner)
        }
    }

    /// Begins the work that nobody waits for.
    fn work(&self) {
        let Backends { stores, bus, clock, .. } = &self.backends;
        let indexer = Indexer::new(Arc::clone(&stores.log), Arc::clone(&stores.messages), Arc::clone(&self.services.index_queue));
        self.tasks.spawn(indexer.run(bus.consume(Worker::Index), self.tasks.stopping()));
        let drainer = Drainer::new(Arc::clone(&stores.outbox), Arc::clone(bus), Arc::clone(clock));
        self.tasks.spawn(drainer.run(self.tasks.stopping()));
    }

    /// Serves until `shutdown`, then drains: no new connections, what is under way is finished, within limits.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        self.tasks.repeat(telemetry::UPKEEP, || async { telemetry::recorder().upkeep() });
        if self.config.role.works() {
            self.work();
        }
        self.tasks.spawn(Arc::clone(self.services.messages.receipts()).write_large());
        let hub = self.services.hub.clone();
        let envelopes = self.backends.bus.subscribe();
        let Services { auth, users, settings, sessions, .. } = self.services.clone();
        let appender = self.services.appender.clone();
        let note = move |envelope: &Envelope| {
            appender.note(envelope);
            auth.note(envelope);
            settings.note(envelope);
            users.note(envelope);
            sessions.note(envelope);
        };
        self.tasks.spawn(async move { hub.run(envelopes, note).await });
        let has_others = self.backends.bus.has_others();
        if has_others {
            self.tasks.spawn(self.services.sessions.clone().watch_for_pauses());
        }
        let (hub, sessions) = (self.services.hub.clone(), self.services.sessions.clone());
        self.tasks.repeat(self.config.repair_interval, move || {
            let (hub, sessions) = (hub.clone(), sessions.clone());
            async move {
                if has_others {
                    sessions.check_all_logins();
                }
                hub.repair().await;
            }
        });
        let endpoint = Arc::new(if self.config.role.serves() { self.endpoint().boxed() } else { self.worker_endpoint().boxed() });
        let (sessions, doors) = (self.services.sessions.clone(), Arc::clone(&self.services.doors));
        let (tasks, draining) = (self.tasks.clone(), self.draining.clone());
        let (stop, bus) = (tasks.stopping(), Arc::clone(&self.backends.bus));
        let serving = server::serve(listener, endpoint, &self.config.server, places(&self.config), stop);
        let stopping = async {
            shutdown.await;
            tracing::info!("stopping");
            draining.cancel();
            sessions.drain(DRAIN_BATCHES, DRAIN_PAUSE).await;
            // The others are not kept from hearing of it by sockets that take longer.
            let _ = tokio::time::timeout(DRAIN_PAUSE * 10, doors.finished()).await;
            bus.leave().await;
            tasks.stop();
        };
        tokio::join!(serving, stopping);
        // What a socket has asked is not only done, but answered; no command but `resume` takes longer, which is broken off.
        let (limit, doors) = (self.config.server.drain_timeout, &self.services.doors);
        let answered = tokio::time::timeout(limit.min(doors.settings().command_timeout), doors.finished());
        let (finished, answered) = tokio::join!(self.tasks.finish(limit), answered);
        if !finished {
            tracing::warn!("background work was left behind: it took longer than the drain timeout");
        }
        if answered.is_err() {
            tracing::info!("some sockets were left behind that did not take their leave");
        }
        self.backends.bus.close().await;
    }
}

/// What stands in front of everything that answers; of a node without routes of its own, background work and sockets.
fn front(config: &Config, inner: BoxEndpoint<'static>) -> Front {
    let Config { rate_limit, server, .. } = config;
    let by_address: Limiter<IpAddr> = per_minute(*rate_limit, server.requests_per_minute, server.request_burst);
    Front {
        inner: Arc::new(inner),
        tasks: Tasks::default(),
        routes: Routes::default(),
        cors: Cors::new(config.cors_origins.clone()),
        proxies: Proxies::new(config.trusted_proxies.clone()),
        limiter: by_address,
        polls: Arc::new(|_| false),
        deadline: server.request_timeout,
    }
}

/// Who may have a connection.
fn places(config: &Config) -> Places {
    let Config { rate_limit, trusted_proxies, server, .. } = config;
    let per_network = rate_limit.then_some(server.connections_per_network);
    Places::new(server.max_connections, per_network, Proxies::new(trusted_proxies.clone()))
}

fn per_minute<K: Hash + Eq + Send + Sync + 'static>(enabled: bool, count: usize, burst: usize) -> Limiter<K> {
    let most = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Limiter::new(enabled, most(count), Duration::from_mins(1), most(burst))
}

/// Runs a node on its configured backends until `shutdown`. The data folder is its own meanwhile. What it has to wait for
/// at its start it says on the listener; nobody who connects is refused while the node itself takes that over.
pub async fn run(config: Config, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> Result<(), StartError> {
    let mut shutdown = pin!(shutdown);
    // Before the first connection: what is counted up and not down again would be wrong for ever.
    telemetry::recorder();
    let opening = Opening::default();
    let meanwhile = opening.endpoint(|routes| front(&config, routes));
    // Its connections end by themselves, after one answer each.
    let settings = config.server.clone();
    let serving = Serving::new(meanwhile, &settings, places(&config), CancellationToken::new());
    let opened = async {
        let held = Held::take(&config.data_dir, &opening).await?;
        Ok::<_, StartError>((held, Backends::open(&config, &opening).await?))
    };
    let answers = async {
        opening.lasts().await;
        serving.accept(&listener).await
    };
    let (held, backends) = tokio::select! {
        opened = opened => opened?,
        never = answers => match never {},
        () = &mut shutdown => return Ok(()),
    };
    let (ended, ()) = tokio::join!(run_on(config, backends, listener, shutdown), serving.finish());
    drop(held);
    ended
}

/// Runs a node on these backends until `shutdown`.
pub async fn run_on(
    config: Config,
    backends: Backends,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), StartError> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    telemetry::recorder();
    App::new(config, backends)?.serve(listener, shutdown).await;
    Ok(())
}
