//! Nodes that are killed at any moment and started again, or stand still for a while, while eight people write in one conversation and
//! try again elsewhere.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, interval, sleep};

use super::{Cluster, QUIET, accept, form};

/// How often one is.
const KILLED_EVERY: Duration = Duration::from_secs(3);
/// For how long a node stands still.
const STANDS_STILL: Duration = Duration::from_millis(2_500);

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_killed_lose_nothing() {
    let form = form();
    for seed in form.seeds {
        let Some(cluster) = Cluster::start(4).await else { return };
        let verify = cluster.verify(|options| options.seed = seed).await;
        let (mut dice, began, mut ticks, mut kills) = (StdRng::seed_from_u64(seed), Instant::now(), interval(KILLED_EVERY), 0);
        // Not before something is under way.
        verify.acknowledge(10).await;
        while began.elapsed() < form.length {
            ticks.tick().await;
            let which = dice.random_range(0..4);
            cluster
                .with(move |nodes| {
                    nodes.processes[which].kill();
                    nodes.processes[which].start_again();
                })
                .await;
            kills += 1;
        }
        cluster.with(|nodes| nodes.processes.iter().for_each(crate::support::Process::until_ready)).await;
        let verdict = verify.judge(QUIET).await.unwrap();
        accept(&format!("1 four nodes, {kills} kills"), seed, &verdict);
        assert!(kills >= 3 && verdict.connections > 8, "{kills} kills for which nobody had to come back prove nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_stand_still_lose_nothing() {
    let form = form();
    for seed in form.seeds {
        let Some(cluster) = Cluster::start(3).await else { return };
        let verify = cluster.verify(|options| options.seed = seed).await;
        let (mut dice, began, mut ticks, mut pauses) = (StdRng::seed_from_u64(seed), Instant::now(), interval(KILLED_EVERY), 0);
        verify.acknowledge(10).await;
        while began.elapsed() < form.length {
            ticks.tick().await;
            let which = dice.random_range(0..3);
            cluster.with(move |nodes| nodes.processes[which].signal("STOP")).await;
            // For so long it stands still, in the middle of whatever it does: some claims are given up meanwhile, no connection is.
            sleep(STANDS_STILL).await;
            cluster.with(move |nodes| nodes.processes[which].signal("CONT")).await;
            pauses += 1;
        }
        let verdict = verify.judge(QUIET).await.unwrap();
        accept(&format!("2 three nodes, {pauses} times one stood still for {STANDS_STILL:?}"), seed, &verdict);
        assert!(pauses >= 3, "too few pauses to prove anything");
    }
}
