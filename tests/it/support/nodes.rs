//! Nodes of one cluster as processes of the real binary, on real servers: to be killed, paused and started again. Clients choose a
//! node by themselves; there is no balancer between.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use urge::app::{Backends, Stores};
use urge::bus::{Nats, NatsSettings};
use urge::clock::RealClock;
use urge::config::secrecy::Hidden;
use urge::store::{Scylla, ScyllaOptions, StoreError};

use super::cluster::{Servers, block_on, new_keyspace, servers};
use super::process::Process;
use super::{PATIENCE, TestServer};

/// See the module.
pub struct Nodes {
    /// The processes.
    pub processes: Vec<Process>,
    pub(super) settings: Vec<(String, String)>,
    keyspace: String,
}

/// Everything is kept by each server of the store, by three at most.
fn replicas(servers: &Servers) -> u8 {
    servers.scylla.len().min(3) as u8
}

impl Nodes {
    /// So many nodes on the servers of this run; none on a machine that cannot have them. Blocks until all are ready.
    pub fn start(count: usize) -> Option<Self> {
        Some(Self::on(servers()?, count))
    }

    /// The same in a keyspace of their own: for who fills one, or counts what is done there.
    pub fn start_apart(count: usize) -> Option<Self> {
        let servers = servers()?;
        let mut nodes = Self::none_in(new_keyspace(), servers);
        nodes.fill(servers, count);
        Some(nodes)
    }

    /// The keyspace that all clusters on the store of this run share: a hundred tables more a test would be too much for it, and
    /// people and their conversations are a test's own.
    fn shared_keyspace() -> &'static str {
        static SHARED: LazyLock<String> = LazyLock::new(new_keyspace);
        &SHARED
    }

    /// The same on these servers, which keep everything so many times.
    pub fn on(servers: &Servers, count: usize) -> Self {
        let mut nodes = Self::none_on(servers);
        nodes.fill(servers, count);
        nodes
    }

    fn fill(&mut self, servers: &Servers, count: usize) {
        self.migrate(servers);
        for _ in 0..count {
            self.add(&[]);
        }
    }

    /// A cluster without nodes yet.
    pub fn none_on(servers: &Servers) -> Self {
        let is_shared = super::cluster::servers().is_some_and(|all| all.scylla == servers.scylla && all.nats == servers.nats);
        // Who has a NATS of its own counts what is kept for it.
        let keyspace = if is_shared { Self::shared_keyspace().to_owned() } else { new_keyspace() };
        Self::none_in(keyspace, servers)
    }

    fn none_in(keyspace: String, servers: &Servers) -> Self {
        let nats: Vec<_> = servers.nats.iter().map(String::as_str).collect();
        let settings = [
            ("URGE_STORE", format!("scylla://{}/{keyspace}", servers.scylla.join(","))),
            ("URGE_STORE_SCYLLA_REPLICAS", replicas(servers).to_string()),
            ("URGE_BUS", format!("nats://{}", nats.join(","))),
            ("URGE_BUS_NATS_REPLICAS", nats.len().min(3).to_string()),
            // Streams of its own: tests beside each other are no cluster.
            ("URGE_BUS_NATS_NAME", format!("test_{}", &uuid::Uuid::new_v4().simple().to_string()[..12])),
            ("URGE_SECRET_KEY", "the same on all nodes of the cluster".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { processes: Vec::new(), settings, keyspace }
    }

    /// Makes their keyspace: several servers on one machine take longer for it than a node may to become ready.
    pub fn migrate(&self, servers: &Servers) {
        let (nodes, keyspace) = (servers.scylla.clone(), self.keyspace.clone());
        let options = ScyllaOptions { nodes, keyspace, login: None, migrate: Some(replicas(servers)) };
        let began = Instant::now();
        let connect = || {
            let options = options.clone();
            block_on(async move { Scylla::connect(&options).await.map(drop) })
        };
        while let Err(error) = connect() {
            let waits = matches!(error, StoreError::Unavailable(_)) && began.elapsed() < PATIENCE;
            assert!(waits, "{error}");
            // Servers that answer need not know of each other yet, and nobody tells when they do.
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// One more, with settings of its own; ready when this returns.
    pub fn add(&mut self, own: &[(&str, &str)]) -> &mut Process {
        let all: Vec<_> = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).chain(own.iter().copied()).collect();
        self.processes.push(Process::with(&all).ready());
        self.processes.last_mut().unwrap()
    }

    /// `http://host:port` of each.
    pub fn urls(&self) -> Vec<String> {
        self.processes.iter().map(Process::url).collect()
    }

    /// What they keep, to be read and written past them.
    pub async fn stores(&self) -> Stores {
        let (nodes, keyspace) = self.setting("URGE_STORE").trim_start_matches("scylla://").split_once('/').unwrap();
        let nodes = nodes.split(',').map(str::to_owned).collect();
        let options = ScyllaOptions { nodes, keyspace: keyspace.to_owned(), login: None, migrate: None };
        Stores::scylla(&Scylla::connect(&options).await.unwrap()).await.unwrap()
    }

    /// One more node of the cluster, in this process: for what no call does yet.
    pub async fn inside(&self) -> TestServer {
        let stores = self.stores().await;
        let servers = self.setting("URGE_BUS").trim_start_matches("nats://").split(',').map(|server| format!("nats://{server}")).collect();
        let name = self.setting("URGE_BUS_NATS_NAME").to_owned();
        let replicas = self.setting("URGE_BUS_NATS_REPLICAS").parse().unwrap();
        let settings = NatsSettings { servers, name, login: None, credentials: None, ca: None, replicas };
        let bus = Arc::new(Nats::connect(&settings, Arc::new(RealClock)).await.unwrap());
        let secret = Hidden::new(self.setting("URGE_SECRET_KEY").to_owned());
        let folder = Arc::new(TempDir::new().unwrap());
        TestServer::alone_on(folder, |config| config.secret_key = Some(secret), |backends| Backends { bus, stores, ..backends }).await
    }

    /// What all of them are told by this environment variable.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap()
    }
}
