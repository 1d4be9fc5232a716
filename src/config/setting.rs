//! The table of settings: every name, default, example and explanation there is.
//! `Config`, `urge config`, the template of `urge.toml` and the refusals all come from it, so they cannot part.

use std::fmt::Write as _;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name in `urge.toml` and for `--set`; dots are tables.
    pub key: &'static str,
    /// What the older backend's `.env` called it.
    pub old_name: Option<&'static str>,
    /// What holds when nobody says anything; empty: unset.
    pub default: &'static str,
    /// A value that would be taken.
    pub example: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
}

impl Setting {
    /// The environment variable: `URGE_`, then the key in capitals with `_` for the dots.
    pub fn env(&self) -> String {
        format!("URGE_{}", self.key.to_ascii_uppercase().replace('.', "_"))
    }
}

const fn setting(key: &'static str, default: &'static str, example: &'static str, doc: &'static str) -> Setting {
    Setting { key, old_name: None, default, example, doc, secret: false }
}

impl Setting {
    const fn once(self, old_name: &'static str) -> Self {
        Self { old_name: Some(old_name), ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

/// Every setting, in the order in which they are shown. Plain keys stand before tables, as TOML wants it.
pub const SETTINGS: &[Setting] = &[
    setting("env", "development", "production", "development, or production, which refuses unsafe settings and logs JSON."),
    setting(
        "role",
        "all",
        "gateway",
        "What the node is there for: all, gateway (calls and sockets) or worker (the work behind them). The halves need a bus that nodes share.",
    ),
    setting("listen", "127.0.0.1:8080", "0.0.0.0:8080", "The address and port to listen on."),
    setting("data_dir", "./data", "/var/lib/urge", "The folder of the embedded store, of media and of the development secret."),
    setting(
        "store",
        "sqlite",
        "scylla://db1:9042,db2:9042/urge",
        "Where everything is kept: sqlite, in the data folder, or ScyllaDB or Cassandra: some of its nodes, and the keyspace.",
    ),
    setting(
        "bus",
        "local",
        "nats://nats1:4222,nats2:4222",
        "How nodes tell each other: local, for one node, or NATS: some of its servers; tls:// instead of nats:// for TLS.",
    ),
    setting("media", "file", "file", "Where files are kept: file, in the data folder."),
    setting(
        "secret_key",
        "",
        "the output of: openssl rand -base64 48",
        "Signs tokens; 16 characters or more, the same on all nodes. In development one is made and kept.",
    )
    .once("SECRET_KEY")
    .secret(),
    setting(
        "secret_key_previous",
        "",
        "the former secret_key",
        "The former secret_key while it is being replaced: its tokens are still good.",
    )
    .secret(),
    setting("rate_limit", "on", "off", "Limits per address, user and socket; off for load tests. Those of one-time codes always hold."),
    setting("trusted_proxies", "", "10.0.0.0/8, 192.168.1.7", "Proxies whose X-Forwarded-For is believed: addresses and networks."),
    setting("default_country", "", "US", "The country, two letters, in which phone numbers without a country code are read."),
    setting("public_url", "", "https://chat.example.com", "How the outside reaches this server, for links; the listen address when empty."),
    setting(
        "cors_origins",
        "",
        "https://app.example.com, https://admin.example.com",
        "Web origins that may call; * is any (the default in development, refused in production).",
    ),
    setting("log", "info", "info,urge=debug", "What is logged: a level, or levels by module."),
    setting("auth.access_token_ttl", "30d", "12h", "How long an access token lives."),
    setting("auth.refresh_token_ttl", "180d", "90d", "How long a login lives after its last use."),
    setting(
        "auth.require_verified_phone",
        "",
        "true",
        "Whether an unverified account can do nothing but verify; true in production when empty.",
    ),
    setting("auth.hashing_threads", "2", "4", "Password hashes computed at once (19 MiB each), 256 or less."),
    setting(
        "users.directory",
        "",
        "contacts",
        "Whom GET /users lists: open (every verified user; development's default) or contacts. Production must choose.",
    ),
    setting(
        "sms.provider",
        "",
        "twilio",
        "Who sends one-time codes: twilio, or log (development's default). In production twilio when its account is set.",
    ),
    setting("sms.twilio_account_sid", "", "AC0123456789abcdef0123456789abcdef", "The Twilio account.").once("TWILIO_ACCOUNT_SID"),
    setting("sms.twilio_auth_token", "", "the token from Twilio's console", "The Twilio account's token.")
        .once("TWILIO_AUTH_TOKEN")
        .secret(),
    setting("sms.twilio_from", "", "+12025550123", "The number that codes come from.").once("TWILIO_PHONE_NUMBER"),
    setting("sms.twilio_url", "https://api.twilio.com", "http://127.0.0.1:9000", "Twilio's API; another address for tests."),
    setting("sms.countries", "*", "US, CA, DE", "Countries whose numbers get codes: two letters each, * for all."),
    setting("sms.daily_budget", "10000", "500", "One-time codes sent a day, all numbers together; not when they go to the log."),
    setting("media_s3.bucket", "", "urge-media", "The bucket for media; not used by this version.").once("S3_BUCKET_NAME"),
    setting("media_s3.access_key_id", "", "AKIAIOSFODNN7EXAMPLE", "The key of the bucket's account; not used by this version.")
        .once("AWS_ACCESS_KEY_ID"),
    setting(
        "media_s3.secret_access_key",
        "",
        "the key from the AWS console",
        "The secret of the bucket's account; not used by this version.",
    )
    .once("AWS_SECRET_ACCESS_KEY")
    .secret(),
    setting("push.firebase_credentials", "", "/etc/urge/firebase.json", "The service account file for push; not used by this version.")
        .once("FIREBASE_CREDENTIALS_PATH"),
    setting(
        "server.max_connections",
        "16384",
        "50000",
        "Connections at once; the last few are kept for this machine, further ones are refused.",
    ),
    setting(
        "server.connections_per_network",
        "2000",
        "200",
        "Connections of one address (IPv6: /64) at once, trusted proxies apart; many people may share one address.",
    ),
    setting("server.header_timeout", "10s", "5s", "How long a client may take to send the head of a request."),
    setting("server.write_timeout", "30s", "10s", "How long a client may take nothing of an answer before it is cut off; sockets apart."),
    setting("server.request_timeout", "3s", "5s", "The deadline of a request; sockets, polling and files apart."),
    setting("server.drain_timeout", "5s", "20s", "How long a stopping node waits for what is under way."),
    setting("server.requests_per_minute", "1200", "300", "Requests an address may make a minute."),
    setting("server.request_burst", "200", "100", "Requests an address may make at once."),
    setting("server.user_requests_per_minute", "600", "300", "Requests a user may make a minute, from all of his devices."),
    setting("server.user_request_burst", "100", "50", "Requests a user may make at once; the app makes up to 50."),
    setting("sockets.per_user", "10", "5", "Sockets of one user; the oldest is closed for a further one."),
    setting("sockets.outbox", "1024", "256", "Events that may wait for a slow socket before it is closed, 16 or more."),
    setting("sockets.ping_interval", "25s", "20s", "How often a socket is asked whether it is there."),
    setting("sockets.ping_timeout", "20s", "10s", "How long its answer may take."),
    setting("store_sqlite.readers", "2", "4", "Reader threads of the embedded store, 64 or less."),
    setting("store_scylla.user", "", "urge", "Whom the store knows this as, if it asks."),
    setting("store_scylla.password", "", "the password of that user", "Its password.").secret(),
    setting(
        "store_scylla.replicas",
        "3",
        "3",
        "Replicas of everything in a keyspace that `urge migrate` makes, 9 or less; never more than servers, which are waited for if `store` names them.",
    ),
    setting("bus_nats.name", "urge", "urge_staging", "What streams and subjects begin with: clusters of different names share servers."),
    setting("bus_nats.user", "", "urge", "Whom NATS knows this as, if it asks."),
    setting("bus_nats.password", "", "the password of that user", "Its password.").secret(),
    setting("bus_nats.credentials", "", "/etc/urge/nats.creds", "A file with a JWT and its seed, instead of user and password."),
    setting(
        "bus_nats.ca",
        "",
        "/etc/urge/nats-ca.pem",
        "The certificate of the authority that signed those of the servers, if no public one did.",
    ),
    setting("bus_nats.replicas", "1", "3", "Copies of each stream that a node makes: as many as there are servers, 5 or less."),
    setting("log_repair.interval", "5m", "1m", "How often the heads of connected users' conversations are read again."),
];

/// Names of the older backend that mean nothing here, and what replaces them.
pub const REPLACED: &[(&str, &str)] =
    &[("DATABASE_URL", "URGE_STORE (sqlite, in URGE_DATA_DIR, by default)"), ("REDIS_URL", "URGE_BUS (local by default)")];

/// The setting of this key.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The known key that is most like this one, if any is like it at all.
pub fn nearest(key: &str) -> Option<&'static str> {
    let best = SETTINGS.iter().map(|setting| (distance(key, setting.key), setting.key)).min()?;
    (best.0 <= key.len().max(3) / 2).then_some(best.1)
}

/// Letters to change, add or drop to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// A complete `urge.toml`, every setting explained and commented out.
pub fn template() -> String {
    let mut text = String::from("# Every setting of urge with its default. Uncomment what you change.\n");
    let mut table = "";
    for setting in SETTINGS {
        let (section, name) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
        if section != table {
            table = section;
            let _ = write!(text, "\n[{section}]\n");
        }
        let Setting { doc, example, default, .. } = setting;
        let _ = write!(text, "\n# {doc}\n# {}; for example {example:?}\n#{name} = {default:?}\n", setting.env());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_in_every_form() {
        let keys: HashSet<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        let envs: HashSet<_> = SETTINGS.iter().map(Setting::env).collect();
        assert_eq!((keys.len(), envs.len()), (SETTINGS.len(), SETTINGS.len()));
    }

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        assert_eq!(nearest("lisen"), Some("listen"));
        assert_eq!(nearest("auth.acces_token_ttl"), Some("auth.access_token_ttl"));
        assert_eq!(nearest("zzzzzzzzzzzzzzzzzz"), None);
    }

    #[test]
    fn the_template_is_toml_and_has_every_setting() {
        let text: String = template()
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
            .collect();
        let table: toml::Table = text.parse().unwrap();
        for setting in SETTINGS {
            let mut value = toml::Value::Table(table.clone());
            for step in setting.key.split('.') {
                value = value.get(step).unwrap().clone();
            }
            assert_eq!(value.as_str(), Some(setting.default), "{}", setting.key);
        }
    }
}
