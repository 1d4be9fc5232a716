//! Nodes that are killed at any moment and started again, or stand still for a while, while eight people write in one conversation and
//! try again elsewhere.

use std::time::Duration;

use loadtest::verify::Verdict;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{Cluster, QUIET, accept, form, goes_on, is_long};
use crate::support::{Nodes, Process};

/// Of which each has one device.
const PEOPLE: usize = 8;
/// How often one is.
const HARMED_EVERY: Duration = Duration::from_secs(3);
/// For how long a node stands still.
const STANDS_STILL: Duration = Duration::from_millis(2_500);

/// While people write, one of so many nodes by chance is harmed every few seconds; `case` says what was done to them so many times.
async fn one_by_chance(count: usize, case: impl Fn(usize) -> String, harm: impl AsyncFn(&Cluster, usize)) -> Vec<Verdict> {
    let (form, mut verdicts) = (form(), Vec::new());
    for seed in form.seeds {
        let Some(cluster) = Cluster::start(count).await else { return verdicts };
        let verify = cluster.verify(|options| (options.seed, options.senders) = (seed, PEOPLE)).await;
        // Not before something is under way.
        goes_on(&verify, 10).await;
        let (mut dice, began, mut ticks, mut times) = (StdRng::seed_from_u64(seed), Instant::now(), interval(HARMED_EVERY), 0);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while began.elapsed() < form.length {
            ticks.tick().await;
            harm(&cluster, dice.random_range(0..count)).await;
            times += 1;
        }
        cluster.with(|nodes| nodes.processes.iter().for_each(Process::until_ready)).await;
        let verdict = verify.judge(QUIET).await.unwrap();
        let case = case(times);
        accept(&case, seed, &verdict);
        assert!(times >= 3, "{case}: too few to prove anything");
        verdicts.push(verdict);
    }
    verdicts
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_killed_lose_nothing() {
    let killed = async |cluster: &Cluster, which: usize| {
        let harm = move |nodes: &mut Nodes| {
            nodes.processes[which].kill();
            nodes.processes[which].start_again();
        };
        cluster.with(harm).await;
    };
    for verdict in one_by_chance(4, |kills| format!("1 four nodes, {kills} kills"), killed).await {
        assert!(verdict.connections > PEOPLE, "kills for which nobody had to come back prove nothing: {verdict}");
        // Of a few kills each may come between two sends.
        assert!(!is_long() || verdict.retries > 0, "kills that no send noticed prove nothing: {verdict}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_stand_still_lose_nothing() {
    let paused = async |cluster: &Cluster, which: usize| {
        cluster.with(move |nodes| nodes.processes[which].signal("STOP")).await;
        // For so long it stands still, in the middle of whatever it does.
        sleep(STANDS_STILL).await;
        cluster.with(move |nodes| nodes.processes[which].signal("CONT")).await;
    };
    for verdict in one_by_chance(3, |pauses| format!("2 three nodes, {pauses} times one stood still for {STANDS_STILL:?}"), paused).await {
        assert!(verdict.latency.max_ms > 1_000.0, "pauses for which nobody had to wait prove nothing: {verdict}");
        assert_eq!(verdict.connections, PEOPLE, "a connection ended: {verdict}");
    }
}
