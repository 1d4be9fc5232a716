//! Every setting of the node: read in layers (`layer`), described in one table ([`setting`]), checked here once.
//! A wrong setting is refused at start with its name, what is wrong and an example; nothing is corrected silently.
//! Services get what they need as plain values, never a `Config`.

mod bus;
mod layer;
mod reader;
mod role;
pub mod secrecy;
pub mod secret;
pub mod setting;
mod sms;
mod store;
mod value;

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use bus::BusSettings;
use ipnet::IpNet;
pub use layer::{Layers, Origin, Resolved, Sources};
use reader::Reader;
pub use role::Role;
pub use store::StoreSettings;
use value::Parsed;

use crate::phone::Country;

/// What kind of place the node runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// A developer's machine: everything works without being set.
    Development,
    /// Unsafe settings are refused, logs are JSON, `migrate` is a step of its own.
    Production,
}

/// Whom `GET /users` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Every verified user, without phone numbers.
    Open,
    /// People who share a conversation with the caller.
    Contacts,
}

/// Who sends one-time codes.
#[derive(Clone, Debug)]
pub enum SmsProvider {
    /// A log line on standard output.
    Log,
    /// Twilio's HTTP API.
    Twilio {
        /// The account.
        account_sid: String,
        /// Its token.
        auth_token: secrecy::Hidden,
        /// The number that codes come from.
        from: String,
        /// Where the API is.
        url: String,
    },
}

/// Settings of logins.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// How long an access token lives.
    pub access_token_ttl: Duration,
    /// How long a session lives after its last use.
    pub refresh_token_ttl: Duration,
    /// Whether an unverified account can do nothing but verify.
    pub require_verified_phone: bool,
    /// Password hashes computed at once.
    pub hashing_threads: usize,
}

/// Settings of one-time codes by SMS.
#[derive(Clone, Debug)]
pub struct SmsSettings {
    /// Who sends them.
    pub provider: SmsProvider,
    /// Countries whose numbers get codes; empty: all.
    pub countries: Vec<Country>,
    /// Codes sent a day, all numbers together; `None`: unlimited, as in development.
    pub daily_budget: Option<u32>,
}

/// Settings of the listener.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Connections at once.
    pub max_connections: usize,
    /// Connections of one network; not asked when rate limits are off.
    pub connections_per_network: usize,
    /// How long a client may leave an answer unread.
    pub write_timeout: Duration,
    /// How long the head of a request may take.
    pub header_timeout: Duration,
    /// The deadline of a request.
    pub request_timeout: Duration,
    /// How long stopping waits for what is under way.
    pub drain_timeout: Duration,
    /// Requests an address may make a minute.
    pub requests_per_minute: usize,
    /// Requests an address may make at once.
    pub request_burst: usize,
    /// Requests a user may make a minute.
    pub user_requests_per_minute: usize,
    /// Requests a user may make at once.
    pub user_request_burst: usize,
}

/// Settings of sockets.
#[derive(Clone, Debug)]
pub struct SocketSettings {
    /// Sockets of one user.
    pub per_user: usize,
    /// Events that may wait for a slow socket.
    pub outbox: usize,
    /// How often a socket is asked whether it is there.
    pub ping_interval: Duration,
    /// How long its answer may take.
    pub ping_timeout: Duration,
}

/// Every setting, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// What kind of place this is.
    pub environment: Environment,
    /// What the node is there for.
    pub role: Role,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The folder of the store, of media and of the development secret.
    pub data_dir: PathBuf,
    /// What signs tokens; `None` in development: [`secret::load`] makes one.
    pub secret_key: Option<secrecy::Hidden>,
    /// What signed tokens until lately.
    pub secret_key_previous: Option<secrecy::Hidden>,
    /// Whether limits per address, user and socket hold.
    pub rate_limit: bool,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where phone numbers without a country code are read.
    pub default_country: Option<Country>,
    /// How the outside reaches this node; no slash at the end.
    pub public_url: String,
    /// Web origins that may call; `*` alone is any.
    pub cors_origins: Vec<String>,
    /// What is logged.
    pub log: String,
    /// Logins.
    pub auth: AuthSettings,
    /// Whom `GET /users` lists.
    pub directory: Directory,
    /// One-time codes.
    pub sms: SmsSettings,
    /// The listener.
    pub server: ServerSettings,
    /// Sockets.
    pub sockets: SocketSettings,
    /// Where everything is kept.
    pub store: StoreSettings,
    /// How nodes tell each other.
    pub bus: BusSettings,
    /// Reader threads of the embedded store.
    pub store_readers: usize,
    /// How often heads are read again.
    pub repair_interval: Duration,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// One wrong setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl Problem {
    /// A fault of a file or of a name in it.
    pub(crate) fn of_source(source: &str, words: impl fmt::Display) -> Self {
        Self(format!("{source} {words}"))
    }

    fn of_value(resolved: &Resolved, words: &str) -> Self {
        let Resolved { setting, value, origin } = resolved;
        let shown = match value.as_str() {
            "" => "is not set:".to_owned(),
            _ if setting.secret => "(its value is not shown)".to_owned(),
            value => format!("= {value:?} ({origin})"),
        };
        Self(format!("{} {shown} {words}; for example: {}={}", setting.key, setting.env(), setting.example))
    }
}

/// Why the node does not start: every wrong setting at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wrong settings:")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {}", problem.0))
    }
}

impl std::error::Error for ConfigError {}

/// The smallest outbox that is taken: what a socket is told when it is let in, and the first answers, must fit.
const MIN_OUTBOX: usize = 16;
/// Threads that hash, each with 19 MiB; more than a machine has processors only wait for each other.
const MAX_HASHING_THREADS: usize = 256;
/// Requests that a limit lets through a minute or at once: how long a bucket takes to fill stays within what clocks count.
const MAX_REQUESTS: usize = 1_000_000;
/// The shortest secret that is taken.
const SECRET_LENGTH: usize = 16;

impl Config {
    /// Reads and checks all settings.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Self::check(&Layers::read(sources)?)
    }

    /// What holds on a developer's machine with this data folder and nothing else set; it listens on any free port.
    pub fn development(data_dir: PathBuf) -> Result<Self, ConfigError> {
        let mut config = Self::load(&Sources { directory: data_dir.clone(), ..Sources::default() })?;
        config.data_dir = data_dir;
        config.listen.set_port(0);
        Ok(config)
    }

    /// Whether this is production.
    pub fn is_production(&self) -> bool {
        self.environment == Environment::Production
    }

    /// Checks what was read.
    pub fn check(layers: &Layers) -> Result<Self, ConfigError> {
        Self::check_and_list(layers).0
    }

    /// Also says which settings it looked at, so that a test can hold the table to the code.
    #[allow(clippy::too_many_lines, reason = "one setting after the other; splitting it would hide one of them")]
    fn check_and_list(layers: &Layers) -> (Result<Self, ConfigError>, Vec<&'static str>) {
        let read = Reader { layers, problems: RefCell::default(), read: RefCell::default() };
        let environment = read.need("env", environment, Environment::Development);
        let production = environment == Environment::Production;
        let mut warnings = layers.warnings.clone();

        let listen = read.need("listen", value::address, SocketAddr::from(([127, 0, 0, 1], 8080)));
        let data_dir = PathBuf::from(read.need("data_dir", |text| Ok(text.to_owned()), "./data".to_owned()));
        let store = store::store(&read);
        let bus = bus::bus(&read);
        let role = role::role(&read, &bus);
        read.need("media", |text| backend(text, "file", &["s3", "gs", "az"]), ());

        let secret_key = read.hidden("secret_key");
        let secret_key_previous = read.hidden("secret_key_previous");
        for (key, hidden) in [("secret_key", &secret_key), ("secret_key_previous", &secret_key_previous)] {
            match hidden.as_ref().map(|hidden| hidden.reveal().len()) {
                Some(length) if length < SECRET_LENGTH => read.refuse(key, "is shorter than 16 characters"),
                Some(length) if length < 2 * SECRET_LENGTH => {
                    warnings.push(format!("{key} is shorter than 32 characters: a longer one is safer"));
                }
                _ => {}
            }
        }
        if production && secret_key.is_none() {
            read.refuse("secret_key", "production needs a secret");
        }

        let origins = |text: &str| if text == "*" { Ok(vec!["*".to_owned()]) } else { value::list(text).map(value::origin).collect() };
        let any = if production { Vec::new() } else { vec!["*".to_owned()] };
        let cors_origins = read.get("cors_origins", origins).unwrap_or(any);
        if production && cors_origins == ["*"] {
            read.refuse("cors_origins", "production does not allow every origin");
        }

        let directory = read.get("users.directory", directory);
        if production && directory.is_none() && !read.problems.borrow().iter().any(|problem| problem.0.starts_with("users.directory")) {
            read.refuse("users.directory", "production must choose open or contacts");
        }

        let provider = sms::sms_provider(&read, production, &mut warnings);
        // Messages that cost money are limited, wherever they come from.
        let pays = production || matches!(provider, SmsProvider::Twilio { .. });
        let sms = SmsSettings {
            provider,
            countries: read.need("sms.countries", countries, Vec::new()),
            daily_budget: Some(read.need("sms.daily_budget", value::count, 1) as u32).filter(|_| pays),
        };
        if pays && sms.countries.is_empty() {
            warnings.push(
                "sms.countries is *: codes go to numbers of every country, at every country's price; name those of your users".to_owned(),
            );
        }
        let auth = AuthSettings {
            access_token_ttl: read.need("auth.access_token_ttl", value::duration, Duration::ZERO),
            refresh_token_ttl: read.need("auth.refresh_token_ttl", value::duration, Duration::ZERO),
            require_verified_phone: read.get("auth.require_verified_phone", value::switch).unwrap_or(production),
            hashing_threads: read.need("auth.hashing_threads", value::count_to(MAX_HASHING_THREADS), 1),
        };
        let server = ServerSettings {
            max_connections: read.need("server.max_connections", value::count, 1),
            connections_per_network: read.need("server.connections_per_network", value::count, 1),
            write_timeout: read.need("server.write_timeout", value::duration, Duration::ZERO),
            header_timeout: read.need("server.header_timeout", value::duration, Duration::ZERO),
            request_timeout: read.need("server.request_timeout", value::duration, Duration::ZERO),
            drain_timeout: read.need("server.drain_timeout", value::duration, Duration::ZERO),
            requests_per_minute: read.need("server.requests_per_minute", value::count_to(MAX_REQUESTS), 1),
            request_burst: read.need("server.request_burst", value::count_to(MAX_REQUESTS), 1),
            user_requests_per_minute: read.need("server.user_requests_per_minute", value::count_to(MAX_REQUESTS), 1),
            user_request_burst: read.need("server.user_request_burst", value::count_to(MAX_REQUESTS), 1),
        };
        let sockets = SocketSettings {
            per_user: read.need("sockets.per_user", value::count, 1),
            outbox: read.need("sockets.outbox", value::count_from(MIN_OUTBOX), MIN_OUTBOX),
            ping_interval: read.need("sockets.ping_interval", value::duration, Duration::ZERO),
            ping_timeout: read.need("sockets.ping_timeout", value::duration, Duration::ZERO),
        };
        for key in ["media_s3.bucket", "media_s3.access_key_id", "media_s3.secret_access_key", "push.firebase_credentials"] {
            if read.text(key).is_some() {
                warnings.push(format!("{key} is set, but not used by this version"));
            }
        }
        let config = Self {
            environment,
            role,
            listen,
            data_dir,
            secret_key,
            secret_key_previous,
            rate_limit: read.need("rate_limit", value::switch, true),
            trusted_proxies: read.get("trusted_proxies", value::networks).unwrap_or_default(),
            default_country: read.get("default_country", value::country),
            public_url: read.get("public_url", value::url).unwrap_or_else(|| format!("http://{listen}")),
            cors_origins,
            log: read.need("log", filter, "info".to_owned()),
            auth,
            directory: directory.unwrap_or(Directory::Open),
            sms,
            server,
            sockets,
            store,
            bus,
            store_readers: store::readers(&read),
            repair_interval: read.need("log_repair.interval", value::duration, Duration::ZERO),
            warnings,
        };
        let problems = read.problems.into_inner();
        let checked = if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) };
        (checked, read.read.into_inner())
    }
}

fn environment(text: &str) -> Parsed<Environment> {
    match text {
        "development" => Ok(Environment::Development),
        "production" => Ok(Environment::Production),
        _ => Err("is neither development nor production".to_owned()),
    }
}

fn directory(text: &str) -> Parsed<Directory> {
    match text {
        "open" => Ok(Directory::Open),
        "contacts" => Ok(Directory::Contacts),
        _ => Err("is neither open nor contacts".to_owned()),
    }
}

/// The one backend that this build has; those of a cluster are recognised, so that the words fit.
fn backend(text: &str, only: &str, planned: &[&str]) -> Parsed<()> {
    match text.split_once("://") {
        None if text == only => Ok(()),
        Some((scheme, rest)) if planned.contains(&scheme) && !rest.is_empty() => {
            Err(format!("names {scheme}, but this build has only {only}"))
        }
        _ => Err(format!("is not known: this build has only {only}")),
    }
}

fn countries(text: &str) -> Parsed<Vec<Country>> {
    if text == "*" { Ok(Vec::new()) } else { value::list(text).map(value::country).collect() }
}

fn filter(text: &str) -> Parsed<String> {
    let parsed = tracing_subscriber::EnvFilter::try_new(text);
    parsed
        .map(|_| text.to_owned())
        .map_err(|_| "is neither a level (error, warn, info, debug, trace) nor a list of module=level".to_owned())
}

/// Every setting with its value and where it came from, secrets masked: what `urge config` shows.
pub fn describe(layers: &Layers) -> String {
    let shown = |resolved: &Resolved| match resolved.value.as_str() {
        "" => "(unset)".to_owned(),
        _ if resolved.setting.secret => "***".to_owned(),
        value => value.to_owned(),
    };
    let width = layers.values.iter().map(|resolved| resolved.setting.key.len()).max().unwrap_or(0);
    let line = |resolved: &Resolved| format!("{:width$} = {:32} # {}\n", resolved.setting.key, shown(resolved), resolved.origin);
    layers.values.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
