//! The services of a node, each made of stores, of services above it and of its own few settings.

use std::num::NonZeroUsize;
use std::sync::{Arc, OnceLock, Weak};

use super::{Backends, StartError};
use crate::auth::{self, Auth, SendLimits};
use crate::config::{Config, secret};
use crate::conversations::{Conversations, Parts, TypingSet};
use crate::gateway::{self, Doors, Hub, Online, Sessions};
use crate::log::Appender;
use crate::messages::{Announcer, Appended, IndexQueue, Messages, Receipts};
use crate::outbox::Growths;
use crate::presence::Presence;
use crate::settings::{Blocks, Settings};
use crate::task::Tasks;
use crate::users::{Users, UsersPolicy};

/// The use cases.
#[derive(Clone)]
pub struct Services {
    /// Who is online.
    pub online: Arc<Online>,
    /// Privacy, blocks, notification settings.
    pub settings: Arc<Settings>,
    /// People.
    pub users: Arc<Users>,
    /// Blocks between people who exist.
    pub blocks: Arc<Blocks>,
    /// Logins.
    pub auth: Arc<Auth>,
    /// Conversations whose new rows the search index lacks.
    pub index_queue: Arc<IndexQueue>,
    /// How rows become events.
    pub announcer: Announcer,
    /// The way into logs.
    pub appender: Appender,
    /// Messages.
    pub messages: Messages,
    /// Who is typing.
    pub typing: Arc<TypingSet>,
    /// Conversations.
    pub conversations: Arc<Conversations>,
    /// This node's sockets.
    pub hub: Hub,
    /// What is behind the doors.
    pub sessions: Sessions,
    /// The two doors.
    pub doors: Arc<Doors>,
}

impl Services {
    /// All of them on these backends.
    pub fn new(config: &Config, backends: &Backends, tasks: &Tasks) -> Result<Self, StartError> {
        let Backends { stores, bus, clock, sms } = backends;
        let online = Arc::new(Online::new(Arc::clone(bus)));
        let presence: Arc<dyn Presence> = online.clone();
        let settings = Arc::new(Settings::new(Arc::clone(&stores.settings), Arc::clone(bus), Arc::clone(clock)));
        let users = Arc::new(Users::new(
            Arc::clone(&stores.users),
            Arc::clone(&stores.log),
            Arc::clone(&settings),
            presence,
            Arc::clone(clock),
            users_policy(config),
        ));
        let blocks = Arc::new(Blocks::new(Arc::clone(&settings), users.clone()));
        let auth = Auth::new(
            auth_settings(config)?,
            Arc::clone(&users),
            Arc::clone(&stores.auth),
            Arc::clone(bus),
            Arc::clone(sms),
            Arc::clone(clock),
            tasks.clone(),
        );
        let auth = Arc::new(auth.map_err(StartError::Threads)?);
        let index_queue = Arc::new(IndexQueue::default());
        let later: Arc<OnceLock<Weak<Receipts>>> = Arc::default();
        // Where the bus takes growths, whoever works on the index is told by them.
        let index = bus.takes_growths().is_none().then(|| Arc::clone(&index_queue));
        let seen = on_append(index, Arc::clone(&later));
        let growths = Arc::new(Growths::new(Arc::clone(bus), Arc::clone(&stores.outbox), Arc::clone(clock)));
        let announcer = Announcer::new(Arc::clone(&users), Arc::clone(&stores.log), Arc::clone(bus), growths, seen);
        let appender = Appender::new(Arc::clone(&stores.log), Arc::clone(clock), Arc::new(announcer.clone()), tasks.clone());
        let receipts = Arc::new(Receipts::new(
            Arc::clone(&stores.log),
            appender.clone(),
            Arc::clone(&settings),
            Arc::clone(bus),
            Arc::clone(clock),
            tasks.clone(),
        ));
        let _ = later.set(Arc::downgrade(&receipts));
        let messages = Messages::new(
            appender.clone(),
            Arc::clone(&stores.log),
            Arc::clone(&stores.messages),
            Arc::clone(&users),
            Arc::clone(&settings),
            receipts,
            Arc::clone(bus),
        );
        let typing = Arc::new(TypingSet::default());
        let conversations = Arc::new(Conversations::new(Parts {
            appender: appender.clone(),
            log: Arc::clone(&stores.log),
            hidden: Arc::clone(&stores.messages),
            messages: messages.clone(),
            users: Arc::clone(&users),
            settings: Arc::clone(&settings),
            typing: typing.clone(),
            bus: Arc::clone(bus),
            clock: Arc::clone(clock),
        }));
        let hub = Hub::new(
            appender.clone(),
            announcer.clone(),
            Arc::clone(&stores.log),
            conversations.clone(),
            config.sockets.per_user,
            tasks.clone(),
        );
        let sessions = Sessions::new(gateway::Parts {
            hub: hub.clone(),
            auth: Arc::clone(&auth),
            users: Arc::clone(&users),
            settings: Arc::clone(&settings),
            messages: messages.clone(),
            appender: appender.clone(),
            bus: Arc::clone(bus),
            online: Arc::clone(&online),
            shown_typing: Arc::clone(&typing),
            clock: Arc::clone(clock),
            tasks: tasks.clone(),
        });
        let doors = Doors::new(Arc::new(sessions.clone()), door_settings(config));
        Ok(Self {
            online,
            settings,
            users,
            blocks,
            auth,
            index_queue,
            announcer,
            appender,
            messages,
            typing,
            conversations,
            hub,
            sessions,
            doors,
        })
    }
}

/// Who sees each new row. Receipts read logs through the appender, which announces: so they become known afterwards, and
/// weakly, or the two would keep each other for ever.
fn on_append(index: Option<Arc<IndexQueue>>, receipts: Arc<OnceLock<Weak<Receipts>>>) -> Appended {
    Arc::new(move |row| {
        if let Some(index) = &index {
            index.touched(row.conversation_id);
        }
        if let Some(receipts) = receipts.get().and_then(Weak::upgrade) {
            receipts.note(row);
        }
    })
}

fn door_settings(config: &Config) -> gateway::Settings {
    gateway::Settings {
        rate_limit: config.rate_limit,
        ping_interval: config.sockets.ping_interval,
        ping_timeout: config.sockets.ping_timeout,
        max_waiting: config.sockets.outbox,
        ..gateway::Settings::default()
    }
}

fn users_policy(config: &Config) -> UsersPolicy {
    UsersPolicy {
        directory: config.directory,
        require_verified_phone: config.auth.require_verified_phone,
        default_country: config.default_country,
        rate_limit: config.rate_limit,
    }
}

fn auth_settings(config: &Config) -> Result<auth::Settings, StartError> {
    let secret = secret::load(config).map_err(|source| StartError::Folder { folder: config.data_dir.clone(), source })?;
    let countries = config.sms.countries.clone();
    Ok(auth::Settings {
        secret: secret.reveal().as_bytes().to_vec(),
        previous_secret: config.secret_key_previous.as_ref().map(|secret| secret.reveal().as_bytes().to_vec()),
        access_token_ttl: config.auth.access_token_ttl,
        session_ttl: config.auth.refresh_token_ttl,
        require_verified_phone: config.auth.require_verified_phone,
        default_country: config.default_country,
        send_limits: match config.sms.daily_budget {
            Some(budget) => SendLimits::production(budget, countries),
            None => SendLimits { countries, ..SendLimits::development() },
        },
        rate_limit: config.rate_limit,
        hashing_threads: NonZeroUsize::new(config.auth.hashing_threads).unwrap_or(NonZeroUsize::MIN),
    })
}
