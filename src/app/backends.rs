//! What a node stands on: stores, bus, clock and SMS, opened as the settings say or brought along by a test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{StartError, folder};
use crate::auth::sms::{LogSms, Sms, Twilio, TwilioAccount};
use crate::auth::{AuthStatements, AuthStore};
use crate::bus::{Bus, Local, Nats};
use crate::clock::{RealClock, SharedClock};
use crate::config::{BusSettings, Config, SmsProvider, StoreSettings};
use crate::log::{LogStatements, LogStore};
use crate::messages::{MessageStatements, MessageStore};
use crate::outbox::{OutboxStatements, OutboxStore};
use crate::server::Opening;
use crate::settings::{SettingsStatements, SettingsStore};
use crate::store::{Probe, Scylla, ScyllaOptions, Sqlite, SqliteOptions, StoreError, StoreResult};
use crate::users::{UserStatements, UserStore};

/// The embedded store's file in the data folder.
const STORE_FILE: &str = "urge.db";
/// Pause before a cluster that did not answer is tried again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// The stores of all features; tests wrap single ones.
#[derive(Clone)]
pub struct Stores {
    /// Conversations, their logs and memberships.
    pub log: Arc<dyn LogStore>,
    /// Privacy, blocks, notification settings.
    pub settings: Arc<dyn SettingsStore>,
    /// People.
    pub users: Arc<dyn UserStore>,
    /// Sessions and one-time codes.
    pub auth: Arc<dyn AuthStore>,
    /// Stars, hidden messages, search terms.
    pub messages: Arc<dyn MessageStore>,
    /// Events that the bus did not take.
    pub outbox: Arc<dyn OutboxStore>,
    /// Whether the store is there.
    pub probe: Arc<dyn Probe>,
}

impl Stores {
    /// All of them in one SQLite file.
    pub fn sqlite(sqlite: &Sqlite) -> Self {
        let sqlite = Arc::new(sqlite.clone());
        Self {
            log: sqlite.clone(),
            settings: sqlite.clone(),
            users: sqlite.clone(),
            auth: sqlite.clone(),
            messages: sqlite.clone(),
            outbox: sqlite.clone(),
            probe: sqlite,
        }
    }

    /// All of them in one keyspace of a cluster.
    pub async fn scylla(scylla: &Scylla) -> StoreResult<Self> {
        let (log, settings, users, auth, messages, outbox) = tokio::try_join!(
            scylla.prepared::<LogStatements>(),
            scylla.prepared::<SettingsStatements>(),
            scylla.prepared::<UserStatements>(),
            scylla.prepared::<AuthStatements>(),
            scylla.prepared::<MessageStatements>(),
            scylla.prepared::<OutboxStatements>(),
        )?;
        let probe = Arc::new(scylla.clone());
        Ok(Self {
            log: Arc::new(log),
            settings: Arc::new(settings),
            users: Arc::new(users),
            auth: Arc::new(auth),
            messages: Arc::new(messages),
            outbox: Arc::new(outbox),
            probe,
        })
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
    /// How one-time codes reach people.
    pub sms: Arc<dyn Sms>,
}

impl Backends {
    /// Opens what the settings name; in development missing migrations are applied.
    ///
    /// # Errors
    /// Nothing that waiting could mend: a cluster that does not answer is waited for.
    pub async fn open(config: &Config, opening: &Opening) -> Result<Self, StartError> {
        let stores = open_stores(config, opening).await?;
        let machine: SharedClock = Arc::new(RealClock);
        let (bus, clock): (Arc<dyn Bus>, SharedClock) = match &config.bus {
            BusSettings::Local => (Arc::new(Local::default()), machine),
            BusSettings::Nats(settings) => {
                let nats = Nats::connect(settings, machine).await.map_err(StartError::Bus)?;
                let clock = nats.clock();
                (Arc::new(nats), clock)
            }
        };
        Ok(Self { stores, bus, clock, sms: open_sms(config)? })
    }

    /// The same on the embedded store, whatever the settings name.
    pub fn embedded(config: &Config) -> Result<Self, StartError> {
        let stores = Stores::sqlite(&open_sqlite(config, !config.is_production())?);
        Ok(Self { stores, bus: Arc::new(Local::default()), clock: Arc::new(RealClock), sms: open_sms(config)? })
    }
}

/// Opens the stores as soon as they are there; in development missing migrations are applied.
async fn open_stores(config: &Config, opening: &Opening) -> Result<Stores, StartError> {
    let migrate = !config.is_production();
    if let Some(options) = cluster(config, migrate) {
        return open_cluster(&options, opening).await;
    }
    opening.begins("the store is being opened");
    let config = config.clone();
    // A large file takes its time, in which the probes are answered.
    let opened = tokio::task::spawn_blocking(move || open_sqlite(&config, migrate)).await;
    Ok(Stores::sqlite(&opened.map_err(|error| StoreError::Unavailable(Box::new(error)))??))
}

/// Brings the store's schema up to date, and makes what is missing on the bus; what was done, in a line. Servers that do not
/// answer are not waited for: whoever runs this runs it again.
pub async fn migrate(config: &Config) -> Result<String, StartError> {
    match cluster(config, true) {
        None => open_sqlite(config, true).map(drop)?,
        Some(options) => match Scylla::connect(&options).await {
            Err(StoreError::Unavailable(cause)) => return Err(StartError::NoStore { nodes: options.nodes.join(","), cause }),
            connected => connected.map(drop)?,
        },
    }
    let mut line = "the store's schema is up to date".to_owned();
    if let BusSettings::Nats(settings) = &config.bus {
        let migrated = Nats::migrate(settings).await.map_err(StartError::Bus)?;
        if migrated.made.is_empty() && migrated.different.is_empty() {
            line += ", and so are the streams";
        }
        for (words, names) in
            [("made on the bus: ", migrated.made), ("used as they are, though not as they should be: ", migrated.different)]
        {
            if !names.is_empty() {
                line = format!("{line}; {words}{}", names.join(", "));
            }
        }
    }
    Ok(line)
}

/// The cluster that the settings name, if they name one.
fn cluster(config: &Config, migrate: bool) -> Option<ScyllaOptions> {
    let StoreSettings::Cluster { nodes, keyspace, login, replicas } = &config.store else { return None };
    let replicas = u8::try_from(*replicas).unwrap_or(u8::MAX);
    let login = login.as_ref().map(|(user, password)| (user.clone(), password.reveal().to_owned()));
    Some(ScyllaOptions { nodes: nodes.clone(), keyspace: keyspace.clone(), login, migrate: migrate.then_some(replicas) })
}

/// Opens the stores on a cluster as soon as it answers: nodes and their store are often started together.
async fn open_cluster(options: &ScyllaOptions, opening: &Opening) -> Result<Stores, StartError> {
    let (since, mut pause) = (Instant::now(), FIRST_PAUSE);
    opening.begins(format!("the store at {} has not answered yet", options.nodes.join(",")));
    loop {
        let open = async { Stores::scylla(&Scylla::connect(options).await?).await };
        match Box::pin(open).await {
            Err(StoreError::Unavailable(cause)) => {
                let (nodes, waited_s) = (options.nodes.join(","), since.elapsed().as_secs());
                tracing::warn!(%cause, nodes, waited_s, "the store does not answer; it is tried again");
                opening.lasts_for(format!("the store at {nodes} does not answer"), Some(cause.to_string()));
            }
            opened => return Ok(opened?),
        }
        // Nobody says when it is there but it itself, when it is asked.
        tokio::time::sleep(pause).await;
        pause = LAST_PAUSE.min(pause * 2);
    }
}

/// Opens the embedded store; with `migrate`, missing migrations are applied.
fn open_sqlite(config: &Config, migrate: bool) -> Result<Sqlite, StartError> {
    folder::prepare(&config.data_dir)?;
    let path = config.data_dir.join(STORE_FILE);
    if !path.exists() {
        // The engine would make it for everybody to read; the files beside it follow this one.
        drop(folder::open(&config.data_dir, STORE_FILE)?);
    }
    Ok(Sqlite::open(&SqliteOptions { path, readers: config.store_readers, migrate })?)
}

fn open_sms(config: &Config) -> Result<Arc<dyn Sms>, StartError> {
    match &config.sms.provider {
        SmsProvider::Log => Ok(Arc::new(LogSms)),
        SmsProvider::Twilio { account_sid, auth_token, from, url } => Ok(Arc::new(Twilio::new(TwilioAccount {
            base_url: url.clone(),
            sid: account_sid.clone(),
            token: auth_token.reveal().to_owned(),
            from: from.clone(),
        })?)),
    }
}
