//! Several nodes, on one store and a real NATS: what happens on one reaches the sockets of another. The store is the embedded one,
//! shared by nodes of one process: what the nodes tell each other is not the store's business.

mod across;
mod agreement;
mod cables;
mod events;
mod guarded;
mod lost;
mod outage;
mod presence;
mod tries;

use std::sync::Arc;
use std::time::Duration;

use loadtest::socket::Event;
use loadtest::{Door, Socket};
use serde_json::{Value, json};
use tempfile::TempDir;
use urge::app::Backends;
use urge::bus::{Bus, Nats, NatsSettings};
use urge::clock::RealClock;
use urge::config::secrecy::Hidden;
use urge::config::{Config, Role};
use urge::presence::Presence as _;

use crate::support::{Cable, PATIENCE, Person, TestServer, World, cluster};

/// Some nodes, and a client of each.
struct Cluster {
    nodes: Vec<TestServer>,
    worlds: Vec<World>,
    buses: Vec<Arc<dyn Bus>>,
    settings: NatsSettings,
}

impl Cluster {
    /// So many nodes that share everything; none on a machine that cannot have NATS.
    async fn of(count: usize) -> Option<Self> {
        Some(Self::on(&cluster::servers()?.nats, count).await)
    }

    /// The same on these servers.
    async fn on(servers: &[String], count: usize) -> Self {
        Self::at(servers.iter().map(|server| format!("nats://{server}")).collect(), count, |_| {}).await
    }

    /// The same at these addresses, with other settings.
    async fn at(servers: Vec<String>, count: usize, change: impl FnOnce(&mut NatsSettings)) -> Self {
        // Streams of its own: tests that run beside each other are no cluster.
        let name = format!("test_{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let mut settings = NatsSettings { servers, name, login: None, credentials: None, ca: None, replicas: 1 };
        change(&mut settings);
        let mut cluster = Self { nodes: Vec::new(), worlds: Vec::new(), buses: Vec::new(), settings };
        for _ in 0..count {
            cluster.add().await;
        }
        cluster
    }

    /// So many nodes that find NATS by cables of their own.
    async fn with_cables(count: usize) -> Option<(Self, Vec<Cable>)> {
        let mut cluster = Self::of(0).await?;
        let mut cables = Vec::new();
        for _ in 0..count {
            let cable = Cable::to(&cluster::servers()?.nats[0]).await;
            cluster.settings.servers = vec![format!("nats://{}", cable.address)];
            cluster.add().await;
            cables.push(cable);
        }
        Some((cluster, cables))
    }

    /// One more.
    async fn add(&mut self) {
        self.add_as(Role::All).await;
    }

    /// One more, of this role.
    async fn add_as(&mut self, role: Role) {
        self.add_with(role, |backends| backends).await;
    }

    /// The same on backends that `change` may have spoilt.
    async fn add_with(&mut self, role: Role, change: impl FnOnce(Backends) -> Backends) {
        let bus: Arc<dyn Bus> = Arc::new(Nats::connect(&self.settings, Arc::new(RealClock)).await.unwrap());
        self.buses.push(Arc::clone(&bus));
        let first = self.nodes.first().map(|node| node.stores.clone());
        let wrap = |backends: Backends| change(Backends { bus, stores: first.unwrap_or_else(|| backends.stores.clone()), ..backends });
        let folder = Arc::new(TempDir::new().unwrap());
        let settings = |config: &mut Config| {
            config.secret_key = Some(Hidden::new("the same on all nodes of the cluster".to_owned()));
            config.role = role;
        };
        let node = TestServer::on(folder, settings, wrap).await;
        self.worlds.push(World::on(&node));
        self.nodes.push(node);
    }

    /// The same person as a client of another node.
    fn through(&self, node: usize, person: &Person) -> Person {
        Person { rest: self.worlds[node].rest.as_account(&person.account), ..person.clone() }
    }

    /// A socket of this person on this node, of which all nodes know.
    async fn connect(&self, node: usize, person: &Person, door: Door) -> Socket {
        let socket = self.through(node, person).connect(door).await;
        self.all_know(person, true).await;
        socket
    }

    /// Waits until every node takes him for online, or for gone.
    async fn all_know(&self, person: &Person, online: bool) {
        let user = person.id().parse().unwrap();
        let what = format!("all nodes know that {} is {}", person.name, if online { "online" } else { "gone" });
        until(&what, || self.nodes.iter().all(|node| node.services.online.is_online(user) == online)).await;
    }

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

/// Sends these through the socket, one after the other.
async fn send(socket: &Socket, place: &str, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let command = json!({"conversationId": place, "content": number.to_string(), "clientMessageId": number.to_string()});
        socket.call("message:sent", &command).await.unwrap();
    }
}

/// These arrive, in their order, once.
async fn arrive(socket: &mut Socket, numbers: std::ops::Range<usize>) {
    for number in numbers {
        assert_eq!(next(socket, "message:received").await["content"], number.to_string());
    }
}

/// The names of what came before a message that `from` sends now.
async fn before_marker(socket: &mut Socket, from: &Person, place: &str) -> Vec<String> {
    let marker = from.rest.send_text(place, "marker", None).await.unwrap();
    let is_there = |events: &[Event]| events.last().is_some_and(|event| event.json()["id"] == marker["id"]);
    let mut events = socket.collect_until(PATIENCE, is_there).await.unwrap();
    events.pop();
    events.into_iter().map(|event| event.name).collect()
}

/// Waits until it is so. Of what nodes tell each other nobody else is told: there is no event to wait for.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "it never came to this: {what}");
}

/// The data of the next event of this name.
async fn next(socket: &mut Socket, name: &str) -> Value {
    socket.next_event(name, PATIENCE).await.unwrap()
}
