//! Clients that are hardly ever connected: each drops its connection every 200 ms and comes back to any node, through all doors,
//! while 50 messages a second are written.

use std::time::Duration;

use tokio::time::sleep;

use super::{Cluster, QUIET, accept, form};

const BLINK: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_come_back_elsewhere_all_the_time_miss_nothing() {
    let form = form();
    let Some(cluster) = Cluster::start(3).await else { return };
    for seed in form.seeds {
        let verify = cluster
            .verify(|options| {
                options.seed = seed;
                options.blink = Some(BLINK);
            })
            .await;
        // For so long they come and go.
        sleep(form.length).await;
        let verdict = verify.judge(QUIET).await.unwrap();
        accept("8 reconnecting every 200 ms to any of three nodes", seed, &verdict);
        assert!(verdict.figures.resumed > verdict.figures.delivered / 10, "hardly anything was resumed: {verdict}");
        // What came over one that resumed late is neither a repeat nor out of order: it is the others that prove something. On a machine
        // that has much else to do connecting and resuming take longer than the pause between.
        // A read may have come too late on a machine that has much else to do.
        assert!(verdict.fetches * 100 <= verdict.connections, "nodes did not bring them up to date, though none failed: {verdict}");
        let in_time = verdict.connections - verdict.late_resumes;
        assert!(in_time > 8 * 10, "they were connected for too long, or resumed too late: {verdict}");
    }
}
