//! That the judge can find anything: nodes that really lose, repeat, or change the order of, what they tell are found by it, and one
//! that keeps its promises passes.

use std::sync::Arc;
use std::time::Duration;

use loadtest::Door;
use loadtest::verify::{Options, Verdict, Verify};
use tempfile::TempDir;
use urge::app::Backends;

use crate::support::TestServer;
use crate::support::sabotage::{BusLie, SabotagedBus};

/// After which everything would have been told.
const QUIET: Duration = Duration::from_secs(3);

async fn judged(lie: Option<BusLie>) -> Verdict {
    let wrap = |backends: Backends| Backends { bus: Arc::new(SabotagedBus::new(Arc::clone(&backends.bus), lie)), ..backends };
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, wrap).await;
    // Who stays connected: a resume would tell what the live event did not.
    let options = Options { doors: vec![Door::WebSocket, Door::SocketIo], ..Options::new(vec![server.rest().base()]) };
    let verify = Verify::start(&options).await.unwrap();
    verify.acknowledge(200).await;
    let verdict = verify.judge(QUIET).await.unwrap();
    server.stop().await;
    verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_keeps_its_promises_passes() {
    let verdict = judged(None).await;
    assert!(verdict.holds() && verdict.figures.acknowledged >= 200, "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_tell_is_found() {
    let verdict = judged(Some(BusLie::EventsDropped)).await;
    assert!(verdict.figures.lost > 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_falls_silent_is_found() {
    // What a sync would bring is not what sockets were told.
    let verdict = judged(Some(BusLie::Silence)).await;
    assert!(verdict.figures.lost > 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_tells_in_another_order_is_found() {
    let verdict = judged(Some(BusLie::RowsSwapped)).await;
    assert!(verdict.figures.out_of_order > 0, "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_tells_again_when_all_is_told_is_found() {
    // Everything has been told for two seconds then.
    let verdict = judged(Some(BusLie::ToldAgain(Duration::from_secs(2)))).await;
    assert!(verdict.figures.doubled > 0 && verdict.figures.lost == 0, "{verdict}");
}
