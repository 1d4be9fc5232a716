//! One node or two behind a test's server that tell each other through a real NATS, if `URGE_TEST_NODES` says so: on one keyspace,
//! where each server's nodes have streams of their own, so that tests beside each other are no cluster. No test needs to know.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use futures_util::TryStreamExt as _;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt, SeedableRng};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use urge::bus::{Bus, Nats, NatsSettings};
use urge::clock::RealClock;
use urge::id::UserId;
use urge::presence::Presence;

use super::cluster::{self, servers, within};
use super::node::PATIENCE;
use super::{faulty, keyspaces};

/// The streams that each node follows.
const FOLLOWED: [&str; 2] = ["LIVE", "PRESENCE"];

/// How many nodes a server has that tell each other through NATS; none: one without.
pub fn nodes() -> Option<usize> {
    let count = match std::env::var("URGE_TEST_NODES").as_deref() {
        Ok("1") => 1,
        Ok("2") => 2,
        Ok(other) => panic!("URGE_TEST_NODES={other} is none: leave it out, or say 1 or 2"),
        Err(_) => return None,
    };
    assert!(keyspaces::are_wanted(), "URGE_TEST_NODES needs URGE_TEST_STORE=cluster: nodes share a keyspace");
    Some(count)
}

/// Where the nodes listen; whoever calls or connects takes one by chance.
#[derive(Clone)]
pub struct Places {
    addresses: Vec<SocketAddr>,
    dice: Arc<Mutex<StdRng>>,
}

impl Places {
    /// These. Of several the seed is printed, which shows when the test fails.
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        let seed = faulty::seed();
        if addresses.len() > 1 {
            println!("URGE_TEST_SEED={seed} chooses among the nodes {addresses:?}");
        }
        Self { addresses, dice: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    /// `http://host:port` of one of them.
    pub fn any(&self) -> String {
        format!("http://{}", self.addresses[self.dice.lock().random_range(0..self.addresses.len())])
    }

    /// All of them, the one to try first in front.
    pub fn in_any_order(&self) -> Vec<SocketAddr> {
        let mut addresses = self.addresses.clone();
        addresses.shuffle(&mut *self.dice.lock());
        addresses
    }
}

/// What the nodes of a server know of who is there, and tell each other: each hears of it from the others, a moment later.
#[derive(Clone, Default)]
pub struct Agreement(pub Vec<(Arc<dyn Presence>, Arc<dyn Bus>)>);

impl Agreement {
    /// Waits until all take him for online, or for gone. One alone knows what it has said.
    pub async fn about(&self, user: UserId, online: bool) {
        let agreeing = async {
            while self.0.len() > 1 && self.0.iter().any(|(node, _)| node.is_online(user) != online) {
                // What nodes tell each other nobody else is told.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, agreeing).await.expect("the nodes do not agree about who is online");
    }
}

impl Agreement {
    /// Waits until each has taken in what the others have told all so far: blocks, what people hide, logins that have ended. Whoever
    /// asks for such a thing is answered when it is on its way.
    pub async fn settled(&self) {
        for (_, bus) in self.0.iter().filter(|_| self.0.len() > 1) {
            let marker = UserId::fresh();
            bus.came(marker);
            let others = || self.0.iter().filter(|(_, other)| !Arc::ptr_eq(other, bus));
            let arriving = async {
                while !others().all(|(_, other)| other.is_elsewhere(marker)) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, arriving).await.expect("the nodes do not hear each other");
            bus.left(marker);
        }
    }
}

impl fmt::Debug for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} nodes", self.0.len())
    }
}

/// How the nodes of one server tell each other. The streams are deleted when these have ended: a run makes hundreds, and
/// a NATS keeps room for each.
pub struct Streams {
    /// How many nodes there are.
    pub count: usize,
    settings: NatsSettings,
}

impl Streams {
    /// Some that nobody has; none where there is one node.
    pub fn new() -> Option<Self> {
        let (count, nats) = (nodes()?, &servers()?.nats);
        let servers = nats.iter().map(|server| format!("nats://{server}")).collect();
        let name = format!("test_{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        Some(Self { count, settings: NatsSettings { servers, name, login: None, credentials: None, ca: None, replicas: 1 } })
    }

    /// The name of the cluster that they make of nodes.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Where they are, as a setting.
    pub fn setting(&self) -> String {
        let hosts = self.settings.servers.iter().map(|server| server.trim_start_matches("nats://"));
        format!("nats://{}", hosts.collect::<Vec<_>>().join(","))
    }

    /// A bus a node. Each follows the streams already: what is sent from now on gets to the others.
    pub async fn buses(&self) -> Vec<Arc<dyn Bus>> {
        let mut buses: Vec<Arc<dyn Bus>> = Vec::new();
        for _ in 0..self.count {
            buses.push(Arc::new(Nats::connect(&self.settings, Arc::new(RealClock)).await.unwrap()));
        }
        let count = self.count;
        let names = FOLLOWED.map(|stream| self.prefix() + stream);
        within(async move {
            let context = context().await;
            let following = async {
                for name in &names {
                    while !context.get_stream(name).await.is_ok_and(|stream| stream.cached_info().state.consumer_count >= count) {
                        // The server tells nobody that a consumer was made.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, following).await.expect("the nodes do not follow their streams");
        })
        .await;
        buses
    }

    fn prefix(&self) -> String {
        format!("{}_", self.settings.name.to_uppercase())
    }

    /// Deletes them once these nodes have ended: those that live make them again.
    pub fn end_with(self, nodes: Vec<JoinHandle<()>>) -> JoinHandle<()> {
        cluster::spawn(async move {
            for node in nodes {
                // A node that was not stopped ends with its test's runtime.
                let _ = node.await;
            }
            let (context, prefix) = (context().await, self.prefix());
            let names: Vec<String> = context.stream_names().try_collect().await.unwrap();
            for name in names.iter().filter(|name| name.starts_with(&prefix)) {
                context.delete_stream(name).await.unwrap();
            }
        })
    }
}

/// Whoever looks after the streams.
async fn context() -> &'static Context {
    static CONTEXT: OnceCell<Context> = OnceCell::const_new();
    let connect = async || jetstream::new(async_nats::connect(&servers().unwrap().nats).await.unwrap());
    CONTEXT.get_or_init(connect).await
}
