//! A network that breaks between nodes, NATS and the store, so that packets vanish and nobody is told, in both directions or in one,
//! and is whole again later. Two nodes, each on an island of its own, while people write through both.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::sleep;

use super::{Cluster, QUIET, accept, form, goes_on, is_long};
use crate::support::Nodes;
use crate::support::cluster::servers;
use crate::support::island::{self, Cut, Island, Link};

/// What breaks, which cables that are, in which direction, of all nodes or of the first one.
type Break = (&'static str, &'static [Link], Cut, bool);

const BREAKS: [Break; 11] = [
    ("between a node and NATS", &[Link::Nats], Cut::Both, false),
    ("between a node and the store", &[Link::Store], Cut::Both, false),
    ("between a node and both", &[Link::Nats, Link::Store], Cut::Both, false),
    ("between a node and its clients", &[Link::Clients], Cut::Both, false),
    ("what a node sends to NATS", &[Link::Nats], Cut::Out, false),
    ("what NATS sends to a node", &[Link::Nats], Cut::In, false),
    ("what a node sends to the store", &[Link::Store], Cut::Out, false),
    ("what the store sends to a node", &[Link::Store], Cut::In, false),
    ("what a node sends to its clients", &[Link::Clients], Cut::Out, false),
    ("what clients send to their node", &[Link::Clients], Cut::In, false),
    ("between all nodes and NATS", &[Link::Nats], Cut::Both, true),
];

/// Long enough that a node is taken for dead; so short that it is not.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(8);

/// What is broken for how long in which form, with which seed.
fn plan() -> Vec<(&'static Break, Duration, u64)> {
    let form = form();
    if !is_long() {
        return BREAKS[..2].iter().map(|one| (one, SHORT, form.seeds[0])).collect();
    }
    let lengths = |seed: u64| if seed == form.seeds[0] { LONG } else { SHORT };
    form.seeds.iter().flat_map(|seed| BREAKS.iter().map(move |one| (one, lengths(*seed), *seed))).collect()
}

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
    for ((what, links, cut, all), length, seed) in plan() {
        let verify = cluster.verify(|options| (options.rate, options.seed) = (30.0, seed)).await;
        goes_on(&verify, 50).await;
        let concerned = if *all { &islands[..] } else { &islands[..1] };
        let each = || concerned.iter().flat_map(|island| links.iter().map(move |link| (island, *link)));
        block_in_place(|| each().for_each(|(island, link)| island.cut(link, *cut)));
        // For so long it is broken.
        sleep(length).await;
        block_in_place(|| each().for_each(|(island, link)| island.heal(link)));
        let verdict = verify.judge(QUIET).await.unwrap();
        accept(&format!("13 cut {what} for {} s", length.as_secs()), seed, &verdict);
        // Without NATS sends go on; without the others half of them have to be tried elsewhere.
        let is_felt = links.iter().any(|link| *link != Link::Nats);
        assert!(!is_felt || verdict.retries > 0, "nobody has noticed: {verdict}");
    }
}
