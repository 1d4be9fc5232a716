//! All nodes are stopped and started again, one after the other, as a deployment does, behind a balancer that hands connections to
//! those that listen: no send fails, and everybody is back by himself.

use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, QUIET, accept, form};
use crate::support::balance;

/// In which the app tries five times.
const BACK_WITHIN: Duration = Duration::from_secs(8);
/// Of which each has one device.
const PEOPLE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_noticed_by_nobody() {
    let form = form();
    for seed in form.seeds {
        let Some(cluster) = Cluster::start(3).await else { return };
        let addresses = cluster.0.lock().processes.iter().map(|node| node.address).collect();
        let (url, balancing) = balance(addresses).await;
        let verify = cluster
            .verify(|options| {
                options.seed = seed;
                options.nodes = vec![url];
                options.as_app = true;
                options.senders = PEOPLE;
            })
            .await;
        verify.acknowledge(50).await;
        let (began, mut restarts) = (Instant::now(), 0);
        // Again and again all of them.
        while restarts % 3 > 0 || began.elapsed() < form.length {
            cluster
                .with(move |nodes| {
                    let node = &mut nodes.processes[restarts % 3];
                    assert!(node.terminate().success(), "the node did not stop well");
                    node.start_again();
                    node.until_ready();
                })
                .await;
            restarts += 1;
            // The next one is one that people use. Who has not come back by then does not.
            assert!(verify.all_connected(QUIET).await, "somebody stays away after {restarts} restarts");
        }
        let verdict = verify.judge(QUIET).await.unwrap();
        accept(&format!("12 rolling restart of three, {restarts} restarts"), seed, &verdict);
        assert_eq!(verdict.failed_calls, 0, "a call failed: {verdict}");
        assert!(verdict.longest_away < BACK_WITHIN.as_secs_f64(), "somebody was away for long: {verdict}");
        let ended = verdict.connections - PEOPLE;
        assert!(ended > 0, "nobody had to come back");
        // What is under way when a node drains is answered. What a client asks while the end is on its way to it is not read any more:
        // it tries again elsewhere. That is seldom.
        assert!(verdict.cut_off * 4 <= ended, "more was cut off than crosses the end of a socket: {verdict}");
        assert_eq!(verdict.retries as usize, verdict.cut_off, "tried again without being cut off: {verdict}");
        balancing.abort();
    }
}
