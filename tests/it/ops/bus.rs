//! The real binary on a NATS that is run as `nats/server/` says: TLS, logins, rights. Whatever is wrong keeps no node from
//! starting; it says what, where and since when, once, and `/ready` and the metrics say it too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use serde_json::Value;

use crate::support::cluster::{Guarded, OwnServers, forward, servers};
use crate::support::{PATIENCE, Process, World, lasting_address};

/// How long a test waits for a node to be let in.
const RECOVERY: Duration = Duration::from_secs(30);

/// A NATS of this test's own.
async fn own(name: &'static str, options: &'static [&'static str]) -> Option<Arc<OwnServers>> {
    let started = tokio::task::spawn_blocking(move || OwnServers::start(name, &[&["--only", "nats"], options].concat()));
    started.await.unwrap().map(Arc::new)
}

/// A node that these servers are named to.
async fn node(servers: &[String], user: Option<(&str, &str)>, ca: Option<&Path>, further: &[(&str, &str)]) -> Process {
    let scheme = if ca.is_some() { "tls" } else { "nats" };
    let mut settings = vec![("URGE_BUS".to_owned(), format!("{scheme}://{}", servers.join(",")))];
    let mut set = |name: &str, value: &str| settings.push((name.to_owned(), value.to_owned()));
    if let Some((user, password)) = user {
        set("URGE_BUS_NATS_USER", user);
        set("URGE_BUS_NATS_PASSWORD", password);
    }
    if let Some(ca) = ca {
        set("URGE_BUS_NATS_CA", ca.to_str().unwrap());
    }
    for (name, value) in further {
        set(name, value);
    }
    let start = move || Process::with(&settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>());
    tokio::task::spawn_blocking(start).await.unwrap()
}

async fn get(node: &Process, path: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let answer = client.get(node.url() + path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().await.unwrap()
}

/// What `/ready` and the gauges say, which must be the same.
async fn bus_of(node: &Process) -> String {
    let said = async || {
        let ready: Value = serde_json::from_str(&get(node, "/ready").await).unwrap();
        let metrics = get(node, "/metrics").await;
        let up = |kind: &str| metrics.contains(&format!("urge_bus_connected{{kind=\"{kind}\"}} 1"));
        (ready["bus"].as_str().unwrap().to_owned(), if up("live") && up("presence") { "up" } else { "down" })
    };
    let begin = Instant::now();
    loop {
        // Asked one after the other: the bus may change in between.
        match said().await {
            (ready, gauges) if ready == gauges => return ready,
            other => assert!(begin.elapsed() < PATIENCE, "{other:?}"),
        }
    }
}

/// Waits until it is up.
async fn comes_up(node: &Process) {
    let begin = Instant::now();
    while bus_of(node).await != "up" {
        assert!(begin.elapsed() < RECOVERY, "{:?}", node.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The one line of this node with these words, in which all of these stand. It is tried again meanwhile, and nothing more is said of that.
async fn says_once(node: &Process, words: &str, all: &[&str]) {
    let said = |kind: &str| {
        let lines = node.log();
        lines.into_iter().filter(|line| line.contains(words) && line.to_ascii_lowercase().contains(kind)).collect::<Vec<_>>()
    };
    node.logged(words);
    // Several attempts: of those nobody is told.
    tokio::time::sleep(Duration::from_secs(4)).await;
    for kind in ["live", "presence"] {
        let lines = said(kind);
        assert_eq!(lines.len(), 1, "{kind}: {:#?}", node.log());
        assert!(all.iter().all(|word| lines[0].contains(word)), "{all:?}: {}", lines[0]);
    }
    let noise: Vec<_> = node.log().into_iter().filter(|line| line.contains("ERROR")).collect();
    assert!(noise.is_empty(), "{noise:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_servers_with_tls_let_a_node_in() {
    let Some(own) = own("nats-three", &["--nats", "3", "--tls"]).await else { return };
    let Guarded { ca, urge, .. } = own.servers.guarded.as_ref().unwrap();
    let mut node = node(&own.servers.nats, Some(("urge", urge)), Some(ca), &[("URGE_BUS_NATS_REPLICAS", "3")]).await;
    comes_up(&node).await;
    node.logged("a stream is made");
    World::at(&node.url()).person("Ada").await;
    assert!(!node.log().iter().any(|line| line.contains(urge.as_str())), "a password is in the log");
    assert!(node.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_let_in_says_why() {
    let Some(own) = own("nats-guarded", &["--tls"]).await else { return };
    let Guarded { ca, urge, watcher, system } = own.servers.guarded.as_ref().unwrap();
    let (servers, stranger): (_, PathBuf) = (&own.servers.nats, ca.with_file_name("stranger").join("ca.pem"));
    let (place, unreachable) = (format!("tls://{}", servers[0]), "the bus cannot be reached; it is tried again");
    let unfollowed = "the bus cannot be followed; it is tried again";
    let cases: [(&str, &str, &Path, &str, &[&str]); 4] = [
        ("urge", urge, &stranger, unreachable, &[&place, "invalid peer certificate", "away_s=0"]),
        ("urge", "guessed", ca, unreachable, &[&place, "authorization violation", "away_s=0"]),
        ("watcher", watcher, ca, unfollowed, &["cannot be made", &servers[0], "since_s=0"]),
        ("system", system, ca, unfollowed, &["JetStream not enabled for account", &servers[0], "since_s=0"]),
    ];
    for (user, password, ca, words, all) in cases {
        let mut node = node(servers, Some((user, password)), Some(ca), &[]).await;
        says_once(&node, words, all).await;
        assert_eq!(bus_of(&node).await, "down", "{user}");
        // It serves all the same.
        World::at(&node.url()).person("Ada").await;
        assert!(!node.log().iter().any(|line| line.contains(password)), "a password is in the log");
        assert!(node.terminate().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_expired_is_not_believed() {
    let Some(own) = own("nats-expired", &["--tls", "expired"]).await else { return };
    let Guarded { ca, urge, .. } = own.servers.guarded.as_ref().unwrap();
    let mut node = node(&own.servers.nats, Some(("urge", urge)), Some(ca), &[]).await;
    says_once(&node, "the bus cannot be reached; it is tried again", &["invalid peer certificate: Expired", "away_s=0"]).await;
    assert_eq!(bus_of(&node).await, "down");
    assert!(node.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_not_there_yet_is_waited_for() {
    let Some(servers) = servers() else { return };
    let address = lasting_address();
    let name = format!("late_{}", uuid::Uuid::new_v4().simple());
    let mut node = node(&[address.to_string()], None, None, &[("URGE_BUS_NATS_NAME", &name[..32])]).await;
    says_once(&node, "the bus cannot be reached; it is tried again", &["Connection refused", &address.to_string(), "away_s=0"]).await;
    assert_eq!(bus_of(&node).await, "down");
    forward(address, servers.nats[0].clone()).await;
    comes_up(&node).await;
    assert!(node.logged("the bus is connected").contains("away_s="), "{:?}", node.log());
    assert!(node.terminate().success());
    delete_streams(&servers.nats, &name[..32]).await;
}

async fn delete_streams(servers: &[String], name: &str) {
    let context = jetstream::new(async_nats::connect(servers).await.unwrap());
    for stream in ["LIVE", "PRESENCE"] {
        context.delete_stream(format!("{}_{stream}", name.to_uppercase())).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_other_settings_is_used_as_it_is() {
    let Some(own) = own("nats-odd", &["--tls"]).await else { return };
    let Guarded { ca, urge, .. } = own.servers.guarded.as_ref().unwrap();
    let options = ConnectOptions::new().add_root_certificates(ca.clone()).user_and_password("urge".into(), urge.clone());
    let context = jetstream::new(options.connect(format!("tls://{}", own.servers.nats[0])).await.unwrap());
    let odd = stream::Config {
        name: "URGE_LIVE".into(),
        subjects: vec!["urge.live.>".into()],
        max_age: Duration::from_secs(5),
        storage: stream::StorageType::File,
        ..stream::Config::default()
    };
    context.create_stream(&odd).await.unwrap();
    let mut node = node(&own.servers.nats, Some(("urge", urge)), Some(ca), &[]).await;
    comes_up(&node).await;
    let line = node.logged("a stream is not as it should be, and used as it is");
    assert!(line.contains("WARN") && line.contains("URGE_LIVE") && line.contains("max_age") && line.contains("storage"), "{line}");
    assert_eq!(node.log().iter().filter(|line| line.contains("not as it should be")).count(), 1);
    assert!(get(&node, "/metrics").await.contains("urge_bus_stream_differs{stream=\"URGE_LIVE\"} 2"));
    assert!(node.terminate().success());
    let stream = context.get_stream("URGE_LIVE").await.unwrap();
    let there = &stream.cached_info().config;
    assert_eq!((there.storage, there.max_age), (odd.storage, odd.max_age), "it was changed behind its operator's back");
}
