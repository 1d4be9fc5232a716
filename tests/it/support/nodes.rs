//! Nodes of one cluster as processes of the real binary, on real servers: to be killed, paused and started again. Clients choose a
//! node by themselves; there is no balancer between.

use urge::store::{Scylla, ScyllaOptions};

use super::cluster::{Servers, block_on, new_keyspace, servers};
use super::process::Process;

/// See the module.
pub struct Nodes {
    /// The processes.
    pub processes: Vec<Process>,
    pub(super) settings: Vec<(String, String)>,
    keyspace: String,
}

impl Nodes {
    /// So many nodes on the servers of this run; none on a machine that cannot have them. Blocks until all are ready.
    pub fn start(count: usize) -> Option<Self> {
        Some(Self::on(servers()?, count, 1))
    }

    /// The same on these servers, which keep everything so many times.
    pub fn on(servers: &Servers, count: usize, replicas: u8) -> Self {
        let mut nodes = Self::none_on(servers, replicas);
        nodes.migrate(servers, replicas);
        for _ in 0..count {
            nodes.add(&[]);
        }
        nodes
    }

    /// A cluster without nodes yet.
    pub fn none_on(servers: &Servers, replicas: u8) -> Self {
        let nats: Vec<_> = servers.nats.iter().map(String::as_str).collect();
        let keyspace = new_keyspace();
        let settings = [
            ("URGE_STORE", format!("scylla://{}/{keyspace}", servers.scylla.join(","))),
            ("URGE_STORE_SCYLLA_REPLICAS", replicas.to_string()),
            ("URGE_BUS", format!("nats://{}", nats.join(","))),
            // Streams of its own: tests beside each other are no cluster.
            ("URGE_BUS_NATS_NAME", format!("test_{}", &uuid::Uuid::new_v4().simple().to_string()[..12])),
            ("URGE_SECRET_KEY", "the same on all nodes of the cluster".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { processes: Vec::new(), settings, keyspace }
    }

    /// Makes their keyspace: several servers on one machine take longer for it than a node may to become ready.
    pub fn migrate(&self, servers: &Servers, replicas: u8) {
        let (nodes, keyspace) = (servers.scylla.clone(), self.keyspace.clone());
        block_on(async move { Scylla::connect(&ScyllaOptions { nodes, keyspace, login: None, migrate: Some(replicas) }).await.unwrap() });
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
}
