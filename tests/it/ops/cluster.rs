//! The real binary on a cluster's store: what it makes and finds again, what it refuses and with which words, and what it does
//! while the store is away, at the start and later.

use std::process::Command;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use urge::store::{Scylla, ScyllaOptions, StoreError};

use super::production::PRODUCTION;
use crate::support::cluster::{OwnServers, forward, new_keyspace, servers};
use crate::support::{PATIENCE, Process, World, command, id, lasting_address};

/// How long a test waits for a node whose store has to come back first.
const RECOVERY: Duration = Duration::from_secs(30);

/// A keyspace that is not there, on the servers of the run: its name, and the setting.
pub fn fresh() -> Option<(String, String)> {
    let keyspace = new_keyspace();
    let setting = format!("scylla://{}/{keyspace}", servers()?.scylla.join(","));
    Some((keyspace, setting))
}

/// Runs the binary to its end, in production.
fn urge(arguments: &[&str], settings: &[(&str, &str)]) -> Result<String, String> {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_urge"));
    command.args(arguments).current_dir(folder.path()).env_clear().envs(PRODUCTION).env("URGE_LISTEN", "127.0.0.1:0");
    let output = command::output(command.envs(settings.iter().copied()));
    let words = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(words(output.stdout)) } else { Err(words(output.stderr)) }
}

pub async fn session(nodes: &[String], login: Option<(&str, &str)>) -> Session {
    let begin = Instant::now();
    loop {
        let mut builder = SessionBuilder::new().known_nodes(nodes);
        if let Some((user, password)) = login {
            builder = builder.user(user, password);
        }
        match builder.build().await {
            Ok(session) => return session,
            // Its first user is made a moment after the server has begun to answer.
            Err(error) => assert!(begin.elapsed() < RECOVERY, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub async fn execute(session: &Session, cql: &str) {
    session.query_unpaged(cql, ()).await.unwrap_or_else(|error| panic!("{cql}: {error}"));
}

/// The status of this path, once it is this one.
pub async fn becomes(node: &Process, path: &str, status: u16) {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let begin = Instant::now();
    loop {
        let answer = client.get(node.url() + path).send().await;
        if answer.as_ref().is_ok_and(|answer| answer.status() == status) {
            return;
        }
        assert!(begin.elapsed() < RECOVERY, "{path} is {answer:?}, not {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_makes_its_keyspace_and_finds_everything_there_again() {
    let Some((_, store)) = fresh() else { return };
    let mut node = Process::with(&[("URGE_STORE", &store)]);
    becomes(&node, "/ready", 200).await;
    let world = World::at(&node.url());
    let (ada, ben) = (world.person("Ada").await, world.person("Ben").await);
    let place = world.direct(&ada, &ben).await;
    let sent = ada.rest.send_text(&place, "kept elsewhere", Some("one")).await.unwrap();
    node.kill();
    node.start_again();
    becomes(&node, "/ready", 200).await;
    let again = ada.rest.send_text(&place, "kept elsewhere", Some("one")).await.unwrap();
    assert_eq!((&again["id"], &again["seq"]), (&sent["id"], &sent["seq"]));
    let history = ben.rest.history(&place, "").await.unwrap();
    assert_eq!((&history["messages"][0]["content"], &history["total"]), (&"kept elsewhere".into(), &1.into()));
    assert!(!node.folder.path().join("data/urge.db").exists(), "nothing is kept here");
    assert!(node.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn production_runs_after_a_migration_and_not_before() {
    let Some((keyspace, store)) = fresh() else { return };
    let settings = [("URGE_STORE", store.as_str())];
    let words = urge(&[], &settings).unwrap_err();
    assert!(words.contains(&format!("the keyspace {keyspace} is not there: run `urge migrate` first")), "{words}");
    for _ in 0..2 {
        assert_eq!(urge(&["migrate"], &settings).unwrap(), "the store's schema is up to date\n");
    }
    let url = [("URGE_SMS_TWILIO_URL", "http://127.0.0.1:9")];
    let mut node = Process::with(&[&PRODUCTION[..], &settings, &url].concat());
    becomes(&node, "/ready", 200).await;
    World::at(&node.url()).rest.register(&World::new_phone(), "Ada").await.unwrap();
    assert!(node.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_is_not_made_before_the_servers_that_are_named_have_joined() {
    let Some((keyspace, _)) = fresh() else { return };
    let found = servers().unwrap().scylla.clone();
    let connect = async |nodes: Vec<String>, replicas| {
        Scylla::connect(&ScyllaOptions { nodes, keyspace: keyspace.clone(), login: None, migrate: Some(replicas) }).await.map(drop)
    };
    // There is one of them; nobody is at the other address.
    let named = || vec![found[0].clone(), "127.0.0.1:9".to_owned()];
    let error = connect(named(), 3).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("1 of 2 servers that URGE_STORE names have joined the cluster"), "{error}");
    // One replica is what one server can have.
    connect(named(), 1).await.unwrap();
    // What is there is used, whoever else is named.
    connect(named(), 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_that_this_version_cannot_work_with_is_refused() {
    let Some((keyspace, store)) = fresh() else { return };
    let settings = [("URGE_STORE", store.as_str())];
    let session = session(&servers().unwrap().scylla, None).await;
    execute(
        &session,
        &format!("CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}}"),
    )
    .await;
    let words = urge(&[], &settings).unwrap_err();
    assert!(words.contains(&format!("the keyspace {keyspace} lacks 001_init.cql, 002_outbox.cql: run `urge migrate` first")), "{words}");
    urge(&["migrate"], &settings).unwrap();
    execute(&session, &format!("INSERT INTO {keyspace}.migrations (number, name, checksum) VALUES (999, '999_future.cql', 'feed')")).await;
    for arguments in [&[][..], &["migrate"]] {
        let words = urge(arguments, &settings).unwrap_err();
        assert!(words.contains(&format!("{keyspace} was written by a newer version of urge (it has migration 999_future.cql)")), "{words}");
        assert!(words.contains("point URGE_STORE elsewhere"), "{words}");
    }
    execute(&session, &format!("DELETE FROM {keyspace}.migrations WHERE number = 999")).await;
    execute(&session, &format!("UPDATE {keyspace}.migrations SET checksum = 'feed' WHERE number = 1")).await;
    let words = urge(&[], &settings).unwrap_err();
    assert!(words.contains("migration 001_init.cql is not the one that this version carries"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_migrates_waits_for_who_does_already() {
    let Some((keyspace, store)) = fresh() else { return };
    let settings = [("URGE_STORE", store.clone())];
    // Several at once, of a keyspace that is not there.
    let several: Vec<_> = (0..3)
        .map(|_| {
            let [(name, store)] = settings.clone();
            std::thread::spawn(move || urge(&["migrate"], &[(name, &store)]))
        })
        .collect();
    for one in several {
        assert_eq!(one.join().unwrap().unwrap(), "the store's schema is up to date\n");
    }
    // One that died holds the lock until it ends by itself.
    let session = session(&servers().unwrap().scylla, None).await;
    execute(&session, &format!("DROP TABLE {keyspace}.migrations")).await;
    let lock = format!("INSERT INTO {keyspace}.migration_lock (id, owner) VALUES (0, {}) USING TTL 3", uuid::Uuid::new_v4());
    let begin = Instant::now();
    execute(&session, &lock).await;
    urge(&["migrate"], &[("URGE_STORE", &store)]).unwrap();
    assert!(begin.elapsed() > Duration::from_secs(2), "it did not wait: {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_yet_is_waited_for() {
    let Some((keyspace, _)) = fresh() else { return };
    let address = lasting_address();
    let store = format!("scylla://{address}/{keyspace}");
    let words = urge(&["migrate"], &[("URGE_STORE", &store)]).unwrap_err();
    assert!(words.contains(&format!("the store at {address} does not answer")), "{words}");

    // A request that is begun while it waits may take its time.
    let mut node = Process::with(&[("URGE_STORE", &store), ("URGE_SERVER_HEADER_TIMEOUT", "60s")]);
    let says = |line: &String| line.contains("the store does not answer; it is tried again");
    let begin = Instant::now();
    while node.log().iter().filter(|line| says(line)).count() < 3 {
        assert!(begin.elapsed() < PATIENCE, "{:?}", node.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let warning = node.logged("it is tried again");
    let says_all =
        ["WARN", &format!("nodes=\"{address}\""), "waited_s=0", "Connection refused"].iter().all(|words| warning.contains(words));
    assert!(says_all, "{warning}");

    let waiting = World::at(&node.url()).rest.with_prefix("");
    assert_eq!(waiting.get("/health").await.unwrap(), serde_json::json!({"status": "ok"}));
    let unready = waiting.get("/ready").await.unwrap_err();
    assert_eq!((unready.status(), unready.code()), (503, "unavailable"));
    let words = &unready.refusal().unwrap().message;
    let reasons = [&format!("the node is starting: the store at {address} does not answer, since 20"), "; last: ", "Connection refused"];
    assert!(reasons.iter().all(|reason| words.contains(reason)), "{words}");
    let refused = waiting.with_prefix("/api").get("/users/me").await.unwrap_err();
    assert_eq!((refused.status(), refused.code()), (503, "unavailable"));
    assert!(refused.refusal().unwrap().retry_after_s.is_some());
    // One that begins its request before the node serves, and ends it after.
    let mut slow = TcpStream::connect(node.address).await.unwrap();
    slow.write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();

    forward(address, servers().unwrap().scylla[0].clone()).await;
    // Nobody is refused while the one hands over to the other.
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).pool_max_idle_per_host(0).build().unwrap();
    let begin = Instant::now();
    while client.get(node.url() + "/ready").send().await.unwrap().status() != 200 {
        assert_eq!(client.get(node.url() + "/health").send().await.unwrap().status(), 200);
        assert!(begin.elapsed() < RECOVERY, "{:?}", node.log());
    }
    slow.write_all(b"Host: urge\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
    World::at(&node.url()).person("Ada").await;
    assert!(node.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_waits_for_its_store_can_be_stopped() {
    if servers().is_none() {
        return;
    }
    let mut node = Process::with(&[("URGE_STORE", &format!("scylla://{}/urge", lasting_address()))]);
    node.logged("it is tried again");
    assert!(node.terminate().success());
}

/// What the servers' first user is called, and its password.
const ROOT: &str = "cassandra";

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_asked_for_and_a_store_that_goes_away_comes_back() {
    let Some(own) = OwnServers::start("servers-own", &["--durable", "--passwords"]) else { return };
    let nodes = &own.servers.scylla;
    let root = session(nodes, Some((ROOT, ROOT))).await;
    rights_are_needed(nodes, &root).await;
    drop(root);

    let store = format!("scylla://{}/urge", nodes.join(","));
    let settings = [("URGE_STORE", store.as_str()), ("URGE_STORE_SCYLLA_USER", ROOT), ("URGE_STORE_SCYLLA_PASSWORD", ROOT)];
    let mut node = Process::with(&settings);
    assert!(!node.log().iter().any(|line| line.contains("password=") || line.contains(&format!("\"{ROOT}\""))), "{:?}", node.log());
    becomes(&node, "/ready", 200).await;
    let world = World::at(&node.url());
    let (ada, ben) = (world.person("Ada").await, world.person("Ben").await);
    let place = world.direct(&ada, &ben).await;
    ada.rest.send_text(&place, "before", None).await.unwrap();

    for (goes, comes) in [("pause", "resume"), ("kill", "restart")] {
        becomes(&node, "/ready", 200).await;
        own.tell(goes, "cassandra-1");
        becomes(&node, "/ready", 503).await;
        becomes(&node, "/health", 200).await;
        let begin = Instant::now();
        let refused = ada.rest.send_text(&place, goes, Some(goes)).await.unwrap_err();
        assert_eq!((refused.status(), refused.code()), (503, "unavailable"), "{goes}");
        assert!(begin.elapsed() < PATIENCE, "{goes}: it was answered after {:?}", begin.elapsed());
        // Who he is is asked at every start of the app.
        assert_eq!(ada.rest.me().await.unwrap()["id"], ada.id());
        own.tell(comes, "cassandra-1");
        becomes(&node, "/ready", 200).await;
        // Perhaps it was stored: the same again, until it is, and it is there once.
        let again = Instant::now();
        let sent = loop {
            match ada.rest.send_text(&place, goes, Some(goes)).await {
                Ok(sent) => break id(&sent),
                Err(error) => assert!(error.status() == 503 && again.elapsed() < RECOVERY, "{goes}: {error}"),
            }
        };
        let history = ben.rest.history(&place, "").await.unwrap();
        let times = history["messages"].as_array().unwrap().iter().filter(|message| message["content"] == goes).count();
        assert_eq!((times, history["messages"].as_array().unwrap().last().map(id)), (1, Some(sent)));
    }
    assert!(node.terminate().success());
}

/// Of a user that may not do what is needed, and of nobody.
async fn rights_are_needed(nodes: &[String], root: &Session) {
    execute(root, "CREATE ROLE reader WITH PASSWORD = 'reading' AND LOGIN = true").await;
    execute(root, "GRANT SELECT ON ALL KEYSPACES TO reader").await;
    let store = format!("scylla://{}/guarded", nodes.join(","));
    let run = |arguments: &[&str], login: Option<(&str, &str)>| {
        let mut settings = vec![("URGE_STORE", store.as_str())];
        if let Some((user, password)) = login {
            settings.extend([("URGE_STORE_SCYLLA_USER", user), ("URGE_STORE_SCYLLA_PASSWORD", password)]);
        }
        urge(arguments, &settings)
    };
    let refused = |arguments: &[&str], login: Option<(&str, &str)>, expected: &str| {
        let words = run(arguments, login).unwrap_err();
        assert!(words.contains(expected), "{words}");
        assert!(!words.contains("reading") && !words.contains("guessed"), "{words}");
    };
    refused(&[], None, "set URGE_STORE_SCYLLA_USER and URGE_STORE_SCYLLA_PASSWORD");
    refused(&[], Some(("reader", "guessed")), "the store does not let this user in");
    let reader = Some(("reader", "reading"));
    let lacks = "the user of the store lacks rights on the keyspace guarded";
    refused(&["migrate"], reader, lacks);
    run(&["migrate"], Some((ROOT, ROOT))).unwrap();
    refused(&[], reader, lacks);
}

/// On a bus of the name that nobody has, with the embedded store.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_makes_what_is_missing_on_the_bus() {
    let Some(servers) = servers() else { return };
    let name = format!("ops_{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let (bus, upper) = (format!("nats://{}", servers.nats.join(",")), name.to_uppercase());
    let migrate = || urge(&["migrate"], &[("URGE_BUS", &bus), ("URGE_BUS_NATS_NAME", &name)]);
    let made = format!("{upper}_LIVE, {upper}_PRESENCE, {upper}_DEAD, {upper}_EVENTS, {upper}_EVENTS/index");
    assert_eq!(migrate().unwrap(), format!("the store's schema is up to date; made on the bus: {made}\n"));
    assert_eq!(migrate().unwrap(), "the store's schema is up to date, and so are the streams\n");

    let client = jetstream::new(async_nats::connect(&servers.nats[0]).await.unwrap());
    client.delete_stream(format!("{upper}_LIVE")).await.unwrap();
    let mut events = client.get_stream(format!("{upper}_EVENTS")).await.unwrap().cached_info().config.clone();
    assert_eq!(events.subjects, [format!("{name}.event.>")]);
    events.max_age /= 2;
    client.update_stream(&events).await.unwrap();
    let words = format!("; made on the bus: {upper}_LIVE; used as they are, though not as they should be: {upper}_EVENTS (max_age)\n");
    assert_eq!(migrate().unwrap(), format!("the store's schema is up to date{words}"));
    let left = client.get_stream(format!("{upper}_EVENTS")).await.unwrap();
    assert_eq!(left.cached_info().config.max_age, events.max_age, "it is not changed");

    let nobody = lasting_address();
    let words = urge(&["migrate"], &[("URGE_BUS", &format!("nats://{nobody}"))]).unwrap_err();
    assert!(words.contains(&format!("no NATS server of nats://{nobody} lets this in within 5 s")), "{words}");
}
