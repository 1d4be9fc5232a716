//! A node in a network namespace of its own, joined to the rest of this machine by three cables: to clients, to NATS and to the store.
//! A cable can be cut so that packets vanish, in both directions or in one: nobody is told, as when a network breaks. It needs root
//! and `ip`; everything is undone when it is dropped.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::cluster;
use super::nodes::Nodes;
use super::process::{Process, lasting_address};

/// Carries bytes within the namespace: what a node finds at the servers' own addresses leads to the cable.
pub const FORWARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/forward.py");
/// What leads nowhere: packets to it are dropped at the other end of a cable.
const NOBODY: &str = "02:00:00:00:00:99";

/// How long an answer over a cable is waited for.
const TRIED_FOR: Duration = Duration::from_secs(1);

/// A cable of an island.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// To whoever uses the node.
    Clients,
    /// To NATS.
    Nats,
    /// To the store.
    Store,
}

/// What no longer arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Nothing does.
    Both,
    /// What the node sends.
    Out,
    /// What is sent to the node.
    In,
}

/// See the module.
pub struct Island {
    name: String,
    number: u32,
    forwarders: Vec<Child>,
    /// Where each cable leads: of that to clients, on the island.
    ends: Vec<(Link, SocketAddr)>,
}

/// Whether this machine lets us make namespaces, which is tried; where it does not, that is said loudly. Anything else that is in the
/// way, no `ip` or a cable that cannot be laid, is a fault of the machine's setting up: without `ip` the test is skipped like those
/// that lack a server's tools, and fails under `CI`.
pub fn are_allowed() -> bool {
    let name = format!("urge{}probe", std::process::id());
    let why = match run(&format!("ip netns add {name}")) {
        Ok(()) => {
            must(&format!("ip netns del {name}"));
            return true;
        }
        // What it says on EPERM and EACCES.
        Err(why) if why.contains("Operation not permitted") || why.contains("Permission denied") => why,
        Err(why) if Command::new("ip").arg("-V").output().is_err() => {
            assert!(std::env::var_os("CI").is_none(), "`ip` (iproute2) must be installed: a network that breaks needs it");
            why
        }
        Err(why) => panic!("{why}"),
    };
    let words = format!("NOT RUN, A NETWORK THAT BREAKS WAS NOT TESTED: this machine makes no network namespaces: {why}\n");
    // Past the harness, which keeps what a passing test prints to itself.
    std::io::stderr().write_all(words.as_bytes()).unwrap();
    false
}

impl Island {
    /// A namespace with its cables.
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let island = Self { name: format!("urge{}n{number}", std::process::id()), number, forwarders: Vec::new(), ends: Vec::new() };
        must(&format!("ip netns add {}", island.name));
        must(&format!("ip -n {} link set lo up", island.name));
        for link in [Link::Clients, Link::Nats, Link::Store] {
            let (near, far, name) = (island.near(link), far(link), &island.name);
            must(&format!("ip link add {near} type veth peer name {far} netns {name}"));
            must(&format!("ip addr add {}/30 dev {near}", island.address(link, 1)));
            must(&format!("ip link set {near} up"));
            must(&format!("ip -n {name} addr add {}/30 dev {far}", island.address(link, 2)));
            must(&format!("ip -n {name} link set {far} up"));
        }
        island
    }

    /// Adds a node of this cluster that lives on an island and finds these servers over its cables.
    pub fn add_to(nodes: &mut Nodes, servers: &cluster::Servers) -> Self {
        let mut island = Self::new();
        for (link, servers) in [(Link::Nats, &servers.nats), (Link::Store, &servers.scylla)] {
            for server in servers {
                let server: SocketAddr = server.parse().unwrap();
                let near = lasting_address().port();
                let at = format!("{}:{near}", island.address(link, 1));
                cluster::block_on(cluster::forward(at.parse().unwrap(), server.to_string()));
                island.forward(&server.to_string(), &at);
                island.ends.push((link, at.parse().unwrap()));
            }
        }
        let prelude = format!("exec ip netns exec {} \"$0\"", island.name);
        let node = nodes.launch(&prelude);
        let address = node.address;
        let far = format!("{}:{}", island.address(Link::Clients, 2), address.port());
        island.forward(&far, &address.to_string());
        island.ends.push((Link::Clients, far.parse().unwrap()));
        cluster::block_on(cluster::forward(address, far));
        island
    }

    /// From now on this does not arrive, which is tried: who asks gets no answer, whichever of the two is lost.
    pub fn cut(&self, link: Link, cut: Cut) {
        let (near, far, name) = (self.near(link), far(link), &self.name);
        let out = format!("ip -n {name} neigh replace {} lladdr {NOBODY} dev {far} nud permanent", self.address(link, 1));
        let into = format!("ip neigh replace {} lladdr {NOBODY} dev {near} nud permanent", self.address(link, 2));
        for (command, wanted) in [(out, cut != Cut::In), (into, cut != Cut::Out)] {
            if wanted {
                must(&command);
            }
        }
        assert!(!self.leads(link), "{link:?} of {} is cut ({cut:?}), and answers", self.name);
    }

    /// Everything arrives again.
    pub fn heal(&self, link: Link) {
        let (near, far, name) = (self.near(link), far(link), &self.name);
        // What is not there is no trouble: it was cut in one direction, or not at all.
        let _ = run(&format!("ip -n {name} neigh del {} dev {far}", self.address(link, 1)));
        let _ = run(&format!("ip neigh del {} dev {near}", self.address(link, 2)));
        assert!(self.leads(link), "{link:?} of {} is healed, and does not answer", self.name);
    }

    /// Whether somebody answers at the other end of this cable.
    fn leads(&self, link: Link) -> bool {
        let (_, end) = self.ends.iter().find(|(which, _)| *which == link).unwrap();
        if link == Link::Clients {
            return TcpStream::connect_timeout(end, TRIED_FOR).is_ok();
        }
        let (host, port, limit) = (end.ip(), end.port(), TRIED_FOR.as_secs());
        let connect = format!("import socket; socket.create_connection(('{host}', {port}), {limit})");
        let tried = Command::new("ip").args(["netns", "exec", &self.name, "python3", "-c", &connect]).stderr(Stdio::null()).status();
        tried.unwrap().success()
    }

    fn forward(&mut self, from: &str, to: &str) {
        let forwarder = Command::new("ip").args(["netns", "exec", &self.name, "python3", FORWARD, from, to]).spawn().unwrap();
        self.forwarders.push(forwarder);
    }

    fn near(&self, link: Link) -> String {
        format!("u{}n{}l{}", std::process::id() % 100_000, self.number, link as u8)
    }

    /// One of the ends of a cable: 1 on this side, 2 on the island.
    fn address(&self, link: Link, end: u8) -> String {
        format!("10.213.{}.{}", self.number, link as u8 * 4 + end)
    }
}

/// The end of a cable on the island.
fn far(link: Link) -> String {
    format!("l{}", link as u8)
}

impl Drop for Island {
    fn drop(&mut self) {
        for forwarder in &mut self.forwarders {
            let _ = forwarder.kill();
            let _ = forwarder.wait();
        }
        for link in [Link::Clients, Link::Nats, Link::Store] {
            let _ = run(&format!("ip link del {}", self.near(link)));
        }
        let _ = run(&format!("ip netns del {}", self.name));
    }
}

/// Runs it; what it said when it fails.
fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).output().map_err(|error| format!("{command}: {error}"))?;
    if done.status.success() { Ok(()) } else { Err(format!("{command}: {}", String::from_utf8_lossy(&done.stderr).trim())) }
}

/// Runs it; it has to work.
fn must(command: &str) {
    run(command).unwrap();
}

impl Nodes {
    /// One more node, started by a shell with this prelude; it need not be ready.
    pub fn launch(&mut self, prelude: &str) -> &Process {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let node = Process::under(prelude, &settings);
        self.processes.push(node);
        self.processes.last().unwrap()
    }
}
