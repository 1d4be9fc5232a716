//! All nodes are stopped and started again, one after the other, as a deployment does, behind a balancer that hands connections to
//! those that listen: no send fails, and everybody is back by himself.

use std::time::Duration;

use tokio::time::sleep;

use super::{Cluster, QUIET, accept, form};
use crate::support::balance;

/// In which the app tries five times.
const BACK_WITHIN: Duration = Duration::from_secs(8);
/// Between two nodes.
const PAUSE: Duration = Duration::from_secs(2);

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
            })
            .await;
        verify.acknowledge(50).await;
        for which in 0..3 {
            cluster
                .with(move |nodes| {
                    let node = &mut nodes.processes[which];
                    assert!(node.terminate().success(), "the node did not stop well");
                    node.start_again();
                    node.until_ready();
                })
                .await;
            sleep(PAUSE).await;
        }
        // Who has not come back by then does not.
        sleep(BACK_WITHIN).await;
        let verdict = verify.judge(QUIET).await.unwrap();
        accept("12 rolling restart of three", seed, &verdict);
        assert_eq!(verdict.failed_calls, 0, "a call failed: {verdict}");
        assert!(verdict.longest_away < BACK_WITHIN.as_secs_f64(), "somebody was away for long: {verdict}");
        assert!(verdict.connections > 8, "nobody had to come back");
        balancing.abort();
    }
}
