//! The servers' own network breaks: one of three NATS servers, or of three nodes of the store, is cut off from the other two, in both
//! directions or in one, while URGE's nodes and their clients reach all of them; or one of three sites, with a node and a server of each
//! kind, is cut off from the other two. Three nodes, while people write through each.

use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::sleep;

use super::{Cluster, QUIET, accept, form, goes_on, is_long};
use crate::support::cluster::{self, OwnServers, Servers, servers};
use crate::support::island::{self, Cut, FORWARD};
use crate::support::{Nodes, Process};

/// Until the cut is known everywhere and what follows from it has been decided; in the short form until it is felt.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(8);

/// Servers on a network of their own, NATS and in the long form the store, and nodes on them; none where this machine does not allow
/// that, or has no servers.
fn parted() -> Option<(OwnServers, Nodes)> {
    let beside = servers()?;
    if !island::are_allowed() {
        return None;
    }
    let options: &[&str] = if is_long() { &["--count", "3", "--apart"] } else { &["--only", "nats", "--nats", "3", "--apart"] };
    let own = OwnServers::start("failures-parted", options)?;
    let scylla = if is_long() { &own.servers.scylla } else { &beside.scylla };
    let nodes = Nodes::on(&Servers { scylla: scylla.clone(), nats: own.servers.nats.clone(), guarded: None }, 3);
    Some((own, nodes))
}

/// What the first server of a kind and the others no longer hear of each other.
fn cut(own: &OwnServers, kind: &str, cut: Cut) {
    let one = format!("{kind}-1");
    for other in [2, 3].map(|number| format!("{kind}-{number}")) {
        if cut != Cut::In {
            own.ask(&["cut", &one, &other]);
        }
        if cut != Cut::Out {
            own.ask(&["cut", &other, &one]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_cut_off_from_each_other_lose_nothing() {
    let Some((own, nodes)) = spawn_blocking(parted).await.unwrap() else { return };
    let (own, cluster, seed) = (Arc::new(own), Cluster::of(nodes), form().seeds[0]);
    let every = [("nats", "a NATS server"), ("cassandra", "a store node")];
    let kinds = if is_long() { &every[..] } else { &every[..1] };
    let (cuts, length) = if is_long() { (&[Cut::Both, Cut::Out, Cut::In][..], LONG) } else { (&[Cut::Both][..], SHORT) };
    // Of one seed: chance has little to say here, and each cut takes its time.
    for (kind, what) in kinds {
        for direction in cuts {
            let verify = cluster.verify(|options| (options.rate, options.seed) = (30.0, seed)).await;
            goes_on(&verify, 50).await;
            block_in_place(|| cut(&own, kind, *direction));
            // For so long it is broken.
            sleep(length).await;
            block_in_place(|| own.ask(&["heal"]));
            let verdict = verify.judge(QUIET).await.unwrap();
            let case = match direction {
                Cut::Both => format!("13 cut between {what} and the others for {} s", length.as_secs()),
                Cut::Out => format!("13 cut what {what} sends to the others for {} s", length.as_secs()),
                Cut::In => format!("13 cut what the others send to {what} for {} s", length.as_secs()),
            };
            accept(&case, seed, &verdict);
        }
    }
    if is_long() {
        one_after_the_other_is_wiped(&own, &cluster, seed).await;
        drop(cluster);
        a_site_is_cut_off(&own, seed).await;
    }
}

/// Of three that keep everything three times one is killed and has forgotten everything when it comes back, and then the next.
async fn one_after_the_other_is_wiped(own: &Arc<OwnServers>, cluster: &Cluster, seed: u64) {
    let verify = cluster.verify(|options| (options.rate, options.seed) = (30.0, seed)).await;
    assert!(verify.all_connected(QUIET).await, "somebody has never connected");
    let connections = verify.connections();
    for server in ["nats-1", "nats-2", "nats-3"] {
        goes_on(&verify, 100).await;
        block_in_place(|| own.tell("wipe", server));
        goes_on(&verify, 100).await;
    }
    assert_eq!(verify.connections(), connections, "somebody had to connect again");
    let verdict = verify.judge(QUIET).await.unwrap();
    accept("5 each of three nats-servers killed and wiped, one after the other", seed, &verdict);
}

/// A node on the network of a server of the store, beside which a NATS server is: what is cut off from that server is cut off from it.
struct Site(Child);

impl Site {
    fn add_to(nodes: &mut Nodes, own: &OwnServers, number: usize) -> Self {
        let enter = own.ask(&["enter", &format!("cassandra-{number}")]);
        let node = nodes.launch(&format!("exec {} \"$0\"", enter.trim()));
        let (near, host) = (node.address, own.servers.scylla[number - 1].rsplit_once(':').unwrap().0);
        let far = format!("{host}:{}", near.port());
        let mut words = enter.split_whitespace();
        let mut forwarder = Command::new(words.next().unwrap());
        let site = Self(forwarder.args(words).args(["python3", FORWARD, &far, &near.to_string()]).spawn().unwrap());
        cluster::block_on(cluster::forward(near, far));
        site
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Clients reach all three sites, and these each other until one of them no longer does.
async fn a_site_is_cut_off(own: &Arc<OwnServers>, seed: u64) {
    let started = Arc::clone(own);
    let settled = spawn_blocking(move || {
        let mut nodes = Nodes::none_on(&started.servers);
        nodes.migrate(&started.servers);
        let sites: Vec<_> = (1..=3).map(|number| Site::add_to(&mut nodes, &started, number)).collect();
        nodes.processes.iter().for_each(Process::until_ready);
        (nodes, sites)
    });
    let (nodes, sites) = settled.await.unwrap();
    let cluster = Cluster::of(nodes);
    let verify = cluster.verify(|options| (options.rate, options.seed) = (30.0, seed)).await;
    goes_on(&verify, 50).await;
    block_in_place(|| own.ask(&["part", "nats-1", "cassandra-1"]));
    // For so long it is broken.
    sleep(LONG).await;
    block_in_place(|| own.ask(&["heal"]));
    let verdict = verify.judge(QUIET).await.unwrap();
    accept(
        &format!("13 cut between a site, with a node, a NATS server and a store node, and the others for {} s", LONG.as_secs()),
        seed,
        &verdict,
    );
    assert!(verdict.retries > 0, "nobody has noticed: {verdict}");
    drop(sites);
}
