//! Three nodes of the store that keep everything three times. One of them may die or stand still; of two nobody is told more than
//! that it did not work, and afterwards nothing is there twice.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Cluster, QUIET, accept, is_long, report};
use crate::support::Nodes;
use crate::support::cluster::OwnServers;

/// What three of them and two nodes bear on two processors.
const RATE: f64 = 15.0;
/// A node's own deadline, with threefold slack.
const REFUSED_BY: Duration = Duration::from_secs(9);

async fn tell(own: &Arc<OwnServers>, verb: &'static str, server: &'static str) {
    let own = Arc::clone(own);
    tokio::task::spawn_blocking(move || own.tell(verb, server)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_may_die_and_of_two_nothing_is_made_up() {
    let started = tokio::task::spawn_blocking(|| {
        let own = OwnServers::start("failures-store", &["--count", "3", "--nats", "1"])?;
        let cluster = Cluster::of(Nodes::on(&own.servers, 2, 3));
        Some((Arc::new(own), cluster))
    });
    let Some((own, cluster)) = started.await.unwrap() else { return };
    let length = Duration::from_secs(if is_long() { 60 } else { 10 });
    let verify = cluster.verify(|options| options.rate = RATE).await;
    verify.acknowledge(30).await;

    let mut counts = Vec::new();
    for (verb, back) in [("kill", "restart"), ("pause", "resume")] {
        tell(&own, verb, "cassandra-2").await;
        let before = verify.acknowledged();
        // For so long there are two.
        sleep(length).await;
        counts.push(verify.acknowledged() - before);
        tell(&own, back, "cassandra-2").await;
        verify.acknowledge(10).await;
    }
    report(
        "6 one store node of three",
        format!("killed: {} sends acknowledged in {} s; paused: {}", counts[0], length.as_secs(), counts[1]),
    );
    for count in counts {
        // At first those that are left wait for the one that stands still, until they take it for dead.
        let least = if is_long() { length.as_secs_f64() / 2.0 } else { 1.0 };
        assert!(count as f64 >= least, "sends hardly went on: {count}");
    }

    for server in ["cassandra-2", "cassandra-3"] {
        tell(&own, "pause", server).await;
    }
    // What was under way when the second one stopped may have been stored.
    sleep(REFUSED_BY).await;
    let before = verify.acknowledged();
    let began = Instant::now();
    let answer = verify.try_once("written to one of three").await;
    let took = began.elapsed();
    assert_eq!(answer.unwrap_err().status(), 503);
    assert!(took < REFUSED_BY, "refused only after {took:?}");
    assert_eq!(verify.acknowledged(), before, "acknowledged by one of three");
    for server in ["cassandra-2", "cassandra-3"] {
        tell(&own, "resume", server).await;
    }
    verify.acknowledge(30).await;
    let verdict = verify.judge(QUIET * 2).await.unwrap();
    accept(&format!("6 of three store nodes one killed, one paused, two paused; refused after {} ms", took.as_millis()), 1, &verdict);
}
