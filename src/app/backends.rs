//! What a node stands on: stores, bus, clock and SMS, opened as the settings say or brought along by a test.

use std::sync::Arc;

use super::{StartError, folder};
use crate::auth::AuthStore;
use crate::auth::sms::{LogSms, Sms, Twilio, TwilioAccount};
use crate::bus::{Bus, Local};
use crate::clock::{RealClock, SharedClock};
use crate::config::{Config, SmsProvider};
use crate::log::LogStore;
use crate::messages::MessageStore;
use crate::settings::SettingsStore;
use crate::store::{Probe, Sqlite, SqliteOptions};
use crate::users::UserStore;

/// The embedded store's file in the data folder.
const STORE_FILE: &str = "urge.db";

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
            probe: sqlite,
        }
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
    pub fn open(config: &Config) -> Result<Self, StartError> {
        let sqlite = open_store(config, !config.is_production())?;
        Ok(Self { stores: Stores::sqlite(&sqlite), bus: Arc::new(Local::default()), clock: Arc::new(RealClock), sms: open_sms(config)? })
    }
}

/// Opens the embedded store; with `migrate`, missing migrations are applied.
pub fn open_store(config: &Config, migrate: bool) -> Result<Sqlite, StartError> {
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
