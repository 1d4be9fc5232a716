//! Clients that are hardly ever connected: each drops its connection every 200 ms and comes back to any node, through all doors,
//! while 50 messages a second are written.

use std::time::Duration;

use loadtest::Door;
use tokio::time::sleep;

use super::{Cluster, QUIET, accept, form};

const BLINK: Duration = Duration::from_millis(200);
/// Each door proves this much, whatever else the machine has to do: for so long, resumes in time.
const A_RESUME_EVERY: Duration = Duration::from_secs(3);
/// All of them together this many a second.
const IN_TIME: f64 = 2.0;
/// And so much at least is written for them, messages a second.
const WRITTEN: f64 = 5.0;

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
        let in_time = &verdict.resumes_in_time;
        accept(&format!("8 reconnecting every 200 ms to any of three nodes, resumes in time {in_time:?}"), seed, &verdict);
        assert!(verdict.figures.resumed > verdict.figures.delivered / 10, "hardly anything was resumed: {verdict}");
        // A read may have come too late on a machine that has much else to do: one, and one of a hundred.
        assert!(
            verdict.fetches.saturating_sub(1) * 100 <= verdict.connections,
            "nodes did not bring them up to date, though none failed: {verdict}"
        );
        // What came over one that resumed late is neither a repeat nor out of order: it is the others that prove something. On a machine
        // that has much else to do connecting and resuming take longer than the pause between.
        let all = in_time.values().sum::<usize>() as f64;
        assert!(all > form.length.as_secs_f64() * IN_TIME, "they were connected for too long, or resumed too late: {verdict}");
        for door in Door::ALL {
            let count = in_time.get(&door).copied().unwrap_or(0);
            let least = (form.length.as_secs_f64() / A_RESUME_EVERY.as_secs_f64()) as usize;
            assert!(count >= least, "{count} times through {door:?}: connected for too long, or resumed too late: {verdict}");
        }
        let written = verdict.figures.acknowledged as f64 / form.length.as_secs_f64();
        assert!(written >= WRITTEN, "hardly anything was written: {verdict}");
    }
}
