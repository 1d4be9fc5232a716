//! A network that breaks between nodes, NATS and the store, so that packets vanish and nobody is told, in both directions or in one,
//! and is whole again later. Two nodes, each on an island of its own, while people write through both.

use std::time::Duration;

use tokio::time::sleep;

use super::{Cluster, QUIET, accept, is_long};
use crate::support::Nodes;
use crate::support::cluster::servers;
use crate::support::island::{self, Cut, Island, Link};

/// What breaks, of the first node or of both.
const BREAKS: [(&str, &[Link], Cut, bool); 8] = [
    ("a node and NATS", &[Link::Nats], Cut::Both, false),
    ("a node and the store", &[Link::Store], Cut::Both, false),
    ("a node and both", &[Link::Nats, Link::Store], Cut::Both, false),
    ("a node and its clients", &[Link::Clients], Cut::Both, false),
    ("what a node sends to NATS", &[Link::Nats], Cut::Out, false),
    ("what NATS sends to a node", &[Link::Nats], Cut::In, false),
    ("what the store sends to a node", &[Link::Store], Cut::In, false),
    ("all nodes and NATS", &[Link::Nats], Cut::Both, true),
];

/// Two nodes on islands; none where this machine does not allow them, or has no servers.
fn islands() -> Option<(Nodes, Vec<Island>)> {
    let servers = servers()?;
    if !island::are_allowed() {
        return None;
    }
    let mut nodes = Nodes::none_on(servers);
    nodes.migrate(servers);
    let islands = (0..2).map(|_| Island::add_to(&mut nodes, servers)).collect();
    nodes.processes.iter().for_each(crate::support::Process::until_ready);
    Some((nodes, islands))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_breaks_loses_nothing() {
    let Some((nodes, islands)) = tokio::task::spawn_blocking(islands).await.unwrap() else { return };
    let cluster = Cluster::of(nodes);
    let (length, breaks) = if is_long() { (Duration::from_secs(30), &BREAKS[..]) } else { (Duration::from_secs(5), &BREAKS[..2]) };
    for (what, links, cut, all) in breaks {
        let verify = cluster.verify(|options| options.rate = 30.0).await;
        verify.acknowledge(50).await;
        let concerned = if *all { &islands[..] } else { &islands[..1] };
        let each = || concerned.iter().flat_map(|island| links.iter().map(move |link| (island, *link)));
        each().for_each(|(island, link)| island.cut(link, *cut));
        // For so long it is broken.
        sleep(length).await;
        each().for_each(|(island, link)| island.heal(link));
        let verdict = verify.judge(QUIET).await.unwrap();
        accept(&format!("13 between {what} for {} s", length.as_secs()), 1, &verdict);
    }
}
