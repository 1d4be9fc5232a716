//! What settings are taken, what is refused and in which words.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, HashSet};

use super::*;

fn sources(directory: &std::path::Path, environment: &[(&str, &str)]) -> Sources {
    let environment: BTreeMap<_, _> = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { directory: directory.to_owned(), environment, ..Sources::default() }
}

fn load(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    Config::load(&sources(folder.path(), environment))
}

fn refusal(environment: &[(&str, &str)]) -> String {
    load(environment).unwrap_err().to_string()
}

const PRODUCTION: [(&str, &str); 6] = [
    ("URGE_ENV", "production"),
    ("URGE_SECRET_KEY", "0123456789abcdef0123456789abcdef"),
    ("URGE_USERS_DIRECTORY", "contacts"),
    ("TWILIO_ACCOUNT_SID", "AC1"),
    ("TWILIO_AUTH_TOKEN", "token"),
    ("TWILIO_PHONE_NUMBER", "+12025550123"),
];

#[test]
fn development_needs_nothing() {
    let config = load(&[]).unwrap();
    assert_eq!(config.environment, Environment::Development);
    assert_eq!(config.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert_eq!((config.directory, config.auth.require_verified_phone), (Directory::Open, false));
    assert!(matches!(config.sms.provider, SmsProvider::Log));
    assert_eq!(config.cors_origins, ["*"]);
}

#[test]
fn production_with_the_old_names_starts() {
    let config = load(&PRODUCTION).unwrap();
    assert!(config.auth.require_verified_phone);
    assert!(config.cors_origins.is_empty());
    assert!(matches!(config.sms.provider, SmsProvider::Twilio { ref account_sid, .. } if account_sid == "AC1"));
}

#[test]
fn development_sends_real_messages_only_when_told_to() {
    let account = &PRODUCTION[3..];
    let config = load(account).unwrap();
    assert!(matches!(config.sms.provider, SmsProvider::Log), "the old names alone cost nothing");
    assert_eq!(config.sms.daily_budget, None);
    assert!(config.warnings.iter().any(|warning| warning.contains("URGE_SMS_PROVIDER=twilio")), "{:?}", config.warnings);
    let told: Vec<_> = account.iter().copied().chain([("URGE_SMS_PROVIDER", "twilio"), ("URGE_SMS_DAILY_BUDGET", "7")]).collect();
    let config = load(&told).unwrap();
    assert!(matches!(config.sms.provider, SmsProvider::Twilio { .. }));
    assert_eq!(config.sms.daily_budget, Some(7), "what costs money is limited");
    assert!(load(&[]).unwrap().warnings.is_empty());
}

#[test]
fn codes_to_every_country_are_warned_about() {
    let warned = |config: &Config| config.warnings.iter().any(|warning| warning.contains("sms.countries"));
    assert!(warned(&load(&PRODUCTION).unwrap()));
    let named: Vec<_> = PRODUCTION.iter().copied().chain([("URGE_SMS_COUNTRIES", "US, DE")]).collect();
    assert!(!warned(&load(&named).unwrap()));
}

#[test]
fn production_refuses_what_is_unsafe() {
    let without = |name: &str| refusal(&PRODUCTION.iter().filter(|pair| pair.0 != name).copied().collect::<Vec<_>>());
    let with = |name: &'static str, value: &'static str| refusal(&PRODUCTION.iter().copied().chain([(name, value)]).collect::<Vec<_>>());
    assert!(without("URGE_SECRET_KEY").contains("production needs a secret"));
    assert!(without("URGE_USERS_DIRECTORY").contains("users.directory is not set: production must choose"));
    assert!(without("TWILIO_AUTH_TOKEN").contains("sms.twilio_auth_token"));
    assert!(with("URGE_CORS_ORIGINS", "*").contains("cors_origins"));
    assert!(with("URGE_SMS_PROVIDER", "log").contains("does not write one-time codes to the log"));
}

#[test]
fn a_wrong_value_is_named_with_an_example() {
    for (name, value, key) in [
        ("URGE_ENV", "prod", "env"),
        ("URGE_LISTEN", "8080", "listen"),
        ("URGE_STORE", "scylla://a:9042,b:9042", "store"),
        ("URGE_STORE", "scylla://a:port/urge", "store"),
        ("URGE_STORE", "scylla://a/Urge", "store"),
        ("URGE_STORE", "postgres://a/urge", "store"),
        ("URGE_STORE_SCYLLA_REPLICAS", "10", "store_scylla.replicas"),
        ("URGE_ROLE", "boss", "role"),
        ("URGE_ROLE", "gateway", "role"),
        ("URGE_ROLE", "worker", "role"),
        ("URGE_BUS", "amqp://a", "bus"),
        ("URGE_BUS", "nats://a:port", "bus"),
        ("URGE_BUS", "nats://user:word@a:4222", "bus"),
        ("URGE_BUS_NATS_NAME", "Staging.1", "bus_nats.name"),
        ("URGE_MEDIA", "s3://bucket", "media"),
        ("URGE_RATE_LIMIT", "maybe", "rate_limit"),
        ("URGE_TRUSTED_PROXIES", "10.0.0.0/99", "trusted_proxies"),
        ("URGE_DEFAULT_COUNTRY", "Germany", "default_country"),
        ("URGE_PUBLIC_URL", "chat.example.com", "public_url"),
        ("URGE_CORS_ORIGINS", "https://a.example/x", "cors_origins"),
        ("URGE_LOG", "info,urge=loud", "log"),
        ("URGE_AUTH_ACCESS_TOKEN_TTL", "30", "auth.access_token_ttl"),
        ("URGE_USERS_DIRECTORY", "all", "users.directory"),
        ("URGE_SERVER_MAX_CONNECTIONS", "0", "server.max_connections"),
        ("URGE_SOCKETS_OUTBOX", "15", "sockets.outbox"),
        ("URGE_AUTH_HASHING_THREADS", "100000", "auth.hashing_threads"),
        ("URGE_STORE_SQLITE_READERS", "65", "store_sqlite.readers"),
        ("URGE_SERVER_REQUEST_BURST", "1000001", "server.request_burst"),
        ("URGE_AUTH_REFRESH_TOKEN_TTL", "99999999d", "auth.refresh_token_ttl"),
        ("URGE_SMS_COUNTRIES", "US,Germany", "sms.countries"),
    ] {
        let words = refusal(&[(name, value)]);
        assert!(words.contains(&format!("\n  {key} = {value:?} (environment: {name})")), "{words}");
        assert!(words.contains(&format!("for example: {name}=")), "{words}");
    }
}

#[test]
fn secrets_never_show() {
    let words = refusal(&[("SECRET_KEY", "hunter2")]);
    assert!(words.contains("shorter than 16") && !words.contains("hunter2"), "{words}");
    let folder = tempfile::tempdir().unwrap();
    let layers = Layers::read(&sources(folder.path(), &PRODUCTION)).unwrap();
    let shown = format!("{}{:?}", describe(&layers), Config::check(&layers).unwrap());
    assert!(!shown.contains("0123456789abcdef") && !shown.contains("\"token\""), "{shown}");
    assert!(shown.contains("# environment: TWILIO_ACCOUNT_SID"));
}

#[test]
fn the_later_layer_wins_and_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("urge.toml"), "listen = \"127.0.0.1:1\"\n[sockets]\nper_user = 3\noutbox = 40\n").unwrap();
    std::fs::write(folder.path().join(".env"), "URGE_SOCKETS_PER_USER=5\nURGE_SOCKETS_OUTBOX=60\nURGE_SECRET_KEY=\n").unwrap();
    let mut sources = sources(folder.path(), &[("URGE_SOCKETS_OUTBOX", "70"), ("URGE_BUS", "")]);
    sources.flags.push(("store_sqlite.readers".into(), "9".into()));
    let layers = Layers::read(&sources).unwrap();
    let config = Config::check(&layers).unwrap();
    assert_eq!((config.listen.port(), config.sockets.per_user, config.sockets.outbox, config.store_readers), (1, 5, 70, 9));
    let origin = |key| layers.values.iter().find(|resolved| resolved.setting.key == key).unwrap().origin.clone();
    assert_eq!(origin("listen"), Origin::File(folder.path().join("urge.toml")));
    assert_eq!(origin("sockets.per_user"), Origin::DotEnv("URGE_SOCKETS_PER_USER".into()));
    assert_eq!(origin("sockets.outbox"), Origin::Environment("URGE_SOCKETS_OUTBOX".into()));
    assert_eq!((origin("store_sqlite.readers"), origin("bus")), (Origin::Flag, Origin::Default));
}

#[test]
fn unknown_keys_of_the_file_are_refused_with_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("urge.toml"), "lisen = \"127.0.0.1:1\"\n").unwrap();
    let words = Config::load(&sources(folder.path(), &[])).unwrap_err().to_string();
    assert!(words.contains("lisen in ") && words.contains("is listen meant?"), "{words}");
    let missing = Sources { file: Some(folder.path().join("nowhere.toml")), ..sources(folder.path(), &[]) };
    assert!(Config::load(&missing).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn a_cluster_is_named_by_its_nodes_and_keyspace() {
    let store = |more: &[(&str, &str)]| load(&[&[("URGE_STORE", "scylla://a:9043,b/urge_1")], more].concat()).map(|config| config.store);
    let cluster = |login, replicas| {
        let nodes = vec!["a:9043".to_owned(), "b:9042".to_owned()];
        StoreSettings::Cluster { nodes, keyspace: "urge_1".to_owned(), login, replicas }
    };
    assert_eq!(store(&[]).unwrap(), cluster(None, 3));
    let (user, password) = (("URGE_STORE_SCYLLA_USER", "urge"), ("URGE_STORE_SCYLLA_PASSWORD", "let me in"));
    let login = Some(("urge".to_owned(), secrecy::Hidden::new("let me in".to_owned())));
    assert_eq!(store(&[user, password, ("URGE_STORE_SCYLLA_REPLICAS", "1")]).unwrap(), cluster(login, 1));
    for half in [user, password] {
        assert!(store(&[half]).unwrap_err().to_string().contains("the other half of the login is set"));
    }
    assert_eq!(load(&[]).unwrap().store, StoreSettings::Embedded);
}

#[test]
fn a_bus_is_named_by_its_servers() {
    let bus = load(&[("URGE_BUS", "tls://a:4223,b"), ("URGE_BUS_NATS_USER", "urge"), ("URGE_BUS_NATS_PASSWORD", "word")]).unwrap().bus;
    let BusSettings::Nats(settings) = bus else { panic!("{bus:?}") };
    assert_eq!((settings.servers, settings.name.as_str()), (vec!["tls://a:4223".to_owned(), "tls://b:4222".to_owned()], "urge"));
    assert_eq!(settings.login, Some(("urge".into(), "word".into())));
    assert_eq!(load(&[]).unwrap().bus, BusSettings::Local);
    let words = refusal(&[("URGE_BUS_NATS_USER", "urge")]);
    assert!(words.contains("bus_nats.password is not set: the other half of the login is set"), "{words}");
}

#[test]
fn half_a_node_needs_others() {
    let role = |more: &[(&str, &str)]| load(more).unwrap().role;
    let bus = ("URGE_BUS", "nats://a");
    assert_eq!((role(&[]), role(&[bus])), (Role::All, Role::All));
    assert_eq!(role(&[bus, ("URGE_ROLE", "gateway")]), Role::Gateway);
    assert_eq!(role(&[bus, ("URGE_ROLE", "worker")]), Role::Worker);
    assert!(refusal(&[("URGE_ROLE", "gateway")]).contains("nobody would do"));
    assert!((Role::All.serves() && Role::All.works()) && !Role::Gateway.works() && !Role::Worker.serves());
}

#[test]
fn replaced_names_are_warned_about() {
    let config = load(&[("DATABASE_URL", "postgres://x"), ("REDIS_URL", "redis://x"), ("URGE_LISTN", "x")]).unwrap();
    assert!(config.warnings[0].contains("DATABASE_URL is not used: URGE_STORE"));
    assert!(config.warnings[1].contains("URGE_BUS"));
    assert!(config.warnings[2].contains("URGE_LISTEN"));
}

#[test]
fn every_setting_of_the_table_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let layers = Layers::read(&sources(folder.path(), &[])).unwrap();
    let read: HashSet<_> = Config::check_and_list(&layers).1.into_iter().collect();
    let table: HashSet<_> = setting::SETTINGS.iter().map(|setting| setting.key).collect();
    assert_eq!(read, table);
}

#[test]
fn the_development_secret_is_made_once_and_kept_private() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::development(folder.path().to_owned()).unwrap();
    let first = secret::load(&config).unwrap();
    assert!(first.reveal().len() >= 32);
    assert_eq!(secret::load(&config).unwrap(), first);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join("secret")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    std::fs::write(folder.path().join("secret"), "").unwrap();
    assert!(secret::load(&config).unwrap_err().to_string().contains("holds no secret"));
}
