//! The servers' own network breaks: one of three NATS servers, or of three nodes of the store, is cut off from the other two, in both
//! directions or in one, while URGE's nodes and their clients reach all of them. Three nodes, while people write through each.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::sleep;

use super::{Cluster, QUIET, accept, form, is_long};
use crate::support::Nodes;
use crate::support::cluster::{OwnServers, Servers, servers};
use crate::support::island::{self, Cut};

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
    let (own, cluster, form) = (Arc::new(own), Cluster::of(nodes), form());
    let every = [("nats", "a NATS server"), ("cassandra", "a store node")];
    let kinds = if is_long() { &every[..] } else { &every[..1] };
    let (cuts, length) = if is_long() { (&[Cut::Both, Cut::Out, Cut::In][..], LONG) } else { (&[Cut::Both][..], SHORT) };
    // Of one seed: chance has little to say here, and each cut takes its time.
    for seed in form.seeds.into_iter().take(1) {
        for (kind, what) in kinds {
            for direction in cuts {
                let verify = cluster.verify(|options| (options.rate, options.seed) = (30.0, seed)).await;
                verify.acknowledge(50).await;
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
    }
}
