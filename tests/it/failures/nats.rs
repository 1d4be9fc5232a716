//! NATS that is killed with all that it knew, and that is away for long: sends go on, and who is connected has everything soon after
//! it answers again, without connecting again.

use std::sync::Arc;
use std::time::Duration;

use loadtest::Rest;
use tokio::time::{Instant, sleep};

use super::{Cluster, QUIET, accept, form, is_long, metric, report};
use crate::support::cluster::OwnServers;
use crate::support::{Nodes, PATIENCE};

/// What the contract gives after it answers again, with threefold slack.
const SOON: Duration = Duration::from_secs(6);

/// A NATS of its own, and two nodes on it.
async fn on_own_nats(name: &'static str) -> Option<(Arc<OwnServers>, Cluster)> {
    tokio::task::spawn_blocking(move || {
        let (own, both) = OwnServers::nats_beside(name)?;
        Some((Arc::new(own), Cluster::of(Nodes::on(&both, 2, 1))))
    })
    .await
    .unwrap()
}

/// Does this to it.
async fn tell(nats: &Arc<OwnServers>, verb: &'static str) {
    let nats = Arc::clone(nats);
    tokio::task::spawn_blocking(move || nats.tell(verb, "nats-1")).await.unwrap();
}

/// The sum of this metric over the nodes.
async fn sum(cluster: &Cluster, name: &str) -> u64 {
    let mut sum = 0;
    for url in cluster.urls() {
        sum += metric(&Rest::new(&url), name).await.values().sum::<u64>();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_killed_and_wiped_costs_nothing() {
    let form = form();
    let Some((nats, cluster)) = on_own_nats("failures-wiped").await else { return };
    for seed in form.seeds {
        let verify = cluster.verify(|options| options.seed = seed).await;
        verify.acknowledge(100).await;
        let connections = verify.connections();
        let (began, mut worst, mut wipes) = (Instant::now(), Duration::ZERO, 0);
        while began.elapsed() < form.length {
            tell(&nats, "wipe").await;
            wipes += 1;
            verify.acknowledge(1).await;
            let took = verify.all_told(PATIENCE).await.expect("not everybody was told");
            assert!(took < SOON, "told only {took:?} after it answered again");
            worst = worst.max(took);
            // It is there for a while: what is killed next is one that people use.
            sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(verify.connections(), connections, "somebody had to connect again");
        let verdict = verify.judge(QUIET).await.unwrap();
        accept(&format!("5 nats-server killed and wiped {wipes} times, all told at most {} ms after", worst.as_millis()), seed, &verdict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_go_on_while_nats_is_away() {
    let Some((nats, cluster)) = on_own_nats("failures-away").await else { return };
    let verify = cluster.verify(|_| {}).await;
    verify.acknowledge(100).await;
    let connections = verify.connections();
    tell(&nats, "kill").await;
    let (before, away) = (verify.acknowledged(), Duration::from_secs(if is_long() { 30 } else { 8 }));
    // For so long there is none.
    sleep(away).await;
    let meanwhile = verify.acknowledged() - before;
    tell(&nats, "restart").await;
    let back = Instant::now();
    verify.acknowledge(1).await;
    verify.all_told(PATIENCE).await.expect("not everybody was told");
    let took = back.elapsed();
    assert!(took < SOON, "told only {took:?} after it answered again");
    assert_eq!(verify.connections(), connections, "somebody had to connect again");
    // What the bus did not take is handed to the workers once it takes it, and only then forgotten.
    let written = sum(&cluster, "urge_outbox_written_total").await;
    assert!(written > 0, "nothing was kept for the bus");
    // Both nodes may put the same event into the stream, which takes it once.
    let draining = async {
        while sum(&cluster, "urge_outbox_drained_total").await < written || sum(&cluster, "urge_outbox_depth").await > 0 {
            // A node tells nobody what it has drained.
            sleep(Duration::from_millis(200)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, draining).await.is_ok(), "the outbox is not drained");
    let verdict = verify.judge(QUIET).await.unwrap();
    report("5 no nats-server", format!("{meanwhile} sends acknowledged in {} s without, {written} events kept", away.as_secs()));
    accept(&format!("5 no nats-server for {} s, all told {} ms after", away.as_secs(), took.as_millis()), 1, &verdict);
    assert!(meanwhile as f64 > away.as_secs_f64() * 10.0, "sends hardly went on: {meanwhile}");
}
