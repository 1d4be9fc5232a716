//! A node put together: settings become backends, backends services, services routes. The only place that names
//! Sqlite and Local. A new feature adds its store to [`Stores`], its service to [`Services`] and its API to [`Apis`].

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use poem::{Endpoint, EndpointExt, Response, Route};
use poem_openapi::OpenApiService;
use tokio::net::TcpListener;

use crate::bus::{Bus, Local};
use crate::clock::{RealClock, SharedClock};
use crate::config::{Config, secret};
use crate::log::LogStore;
use crate::rate::Limiter;
use crate::server::{self, Cors, Front, Methods, NodeApi, Pages, Proxies};
use crate::settings::{Settings, SettingsStore};
use crate::store::{Probe, Sqlite, SqliteOptions, StoreError};
use crate::task::Tasks;
use crate::telemetry;
use crate::users::UserStore;

/// The embedded store's file in the data folder.
const STORE_FILE: &str = "urge.db";

/// Every REST API, in the order of the document. At most 16 a tuple; tuples nest.
pub type Apis = NodeApi;

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
    /// The store.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] StoreError),
}

/// The stores of all features; tests wrap single ones.
#[derive(Clone)]
pub struct Stores {
    /// Conversations, their logs and memberships.
    pub log: Arc<dyn LogStore>,
    /// Privacy, blocks, notification settings.
    pub settings: Arc<dyn SettingsStore>,
    /// People.
    pub users: Arc<dyn UserStore>,
    /// Whether the store is there.
    pub probe: Arc<dyn Probe>,
}

impl Stores {
    /// All of them in one SQLite file.
    pub fn sqlite(sqlite: &Sqlite) -> Self {
        let sqlite = Arc::new(sqlite.clone());
        Self { log: sqlite.clone(), settings: sqlite.clone(), users: sqlite.clone(), probe: sqlite }
    }
}

/// What a node stands on.
#[derive(Clone)]
pub struct Backends {
    /// Where everything is kept.
    pub stores: Stores,
    /// How nodes tell each other.
    pub bus: Arc<dyn Bus>,
    /// What time it is.
    pub clock: SharedClock,
}

impl Backends {
    /// Opens what the settings name.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        let sqlite = open_store(config, !config.is_production())?;
        Ok(Self { stores: Stores::sqlite(&sqlite), bus: Arc::new(Local::default()), clock: Arc::new(RealClock) })
    }
}

/// Opens the embedded store; with `migrate`, missing migrations are applied.
pub fn open_store(config: &Config, migrate: bool) -> Result<Sqlite, StartError> {
    let folder = |source| StartError::Folder { folder: config.data_dir.clone(), source };
    std::fs::create_dir_all(&config.data_dir).map_err(folder)?;
    Ok(Sqlite::open(&SqliteOptions { path: config.data_dir.join(STORE_FILE), readers: config.store_readers, migrate })?)
}

/// The services of a node.
pub struct Services {
    /// Privacy, blocks, notification settings.
    pub settings: Arc<Settings>,
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
}

impl App {
    /// Builds the services; nothing runs yet.
    pub fn new(config: Config, backends: Backends) -> Result<Self, StartError> {
        let tasks = Tasks::default();
        let _secret = secret::load(&config).map_err(|source| StartError::Folder { folder: config.data_dir.clone(), source })?;
        let Backends { stores, clock, .. } = &backends;
        let settings = Arc::new(Settings::new(Arc::clone(&stores.settings), Arc::clone(clock)));
        Ok(Self { services: Services { settings }, config, backends, tasks })
    }

    /// The REST APIs with their services.
    fn apis(&self) -> Apis {
        let Backends { stores, bus, .. } = &self.backends;
        NodeApi { store: Arc::clone(&stores.probe), bus: Arc::clone(bus), stopping: self.tasks.stopping() }
    }

    /// Everything that answers requests.
    pub fn endpoint(&self) -> impl Endpoint<Output = Response> + use<> {
        let Config { rate_limit, server, .. } = &self.config;
        let service: OpenApiService<Apis, ()> = server::service(self.apis());
        let routes: Route = Pages::of(&service).routes().nest("/", service);
        let limiter: Limiter<IpAddr> =
            Limiter::new(*rate_limit, server.requests_per_minute as u32, Duration::from_mins(1), server.request_burst as u32);
        Front {
            inner: routes.map_to_response().boxed(),
            methods: Methods::of::<Apis>(),
            cors: Cors::new(self.config.cors_origins.clone()),
            proxies: Proxies::new(self.config.trusted_proxies.clone()),
            limiter,
            deadline: server.request_timeout,
        }
    }

    /// Serves until `shutdown`, then drains: no new connections, what is under way is finished, within limits.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        self.tasks.repeat(telemetry::UPKEEP, || async { telemetry::recorder().upkeep() });
        let endpoint = Arc::new(self.endpoint().boxed());
        let tasks = self.tasks.clone();
        let stop = tasks.stopping();
        let serving = server::serve(listener, endpoint, &self.config.server, stop);
        let stopping = async {
            shutdown.await;
            tracing::info!("stopping");
            tasks.stop();
        };
        tokio::join!(serving, stopping);
        if !self.tasks.finish(self.config.server.drain_timeout).await {
            tracing::warn!("background work was left behind: it took longer than the drain timeout");
        }
    }
}

/// Runs a node on its configured backends until `shutdown`.
pub async fn run(config: Config, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> Result<(), StartError> {
    let backends = Backends::open(&config)?;
    run_on(config, backends, listener, shutdown).await
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
