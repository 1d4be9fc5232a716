//! That the judge can find anything: nodes that really lose, repeat, or change the order of, what they tell are found by it, and one
//! that keeps its promises passes; and that `loadtest verify` says so to whoever runs it.

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use loadtest::Door;
use loadtest::verify::{Options, Verdict, Verify};
use tempfile::TempDir;
use urge::app::Backends;

use super::goes_on;
use crate::support::sabotage::{BusLie, SabotagedBus};
use crate::support::{TestServer, World};

/// After which everything would have been told.
const QUIET: Duration = Duration::from_secs(3);

/// A node that lies so.
async fn liar(lie: Option<BusLie>) -> TestServer {
    let wrap = |backends: Backends| Backends { bus: Arc::new(SabotagedBus::new(Arc::clone(&backends.bus), lie)), ..backends };
    TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, wrap).await
}

async fn judged(lie: Option<BusLie>) -> Verdict {
    let server = liar(lie).await;
    // Who stays connected: a resume would tell what the live event did not.
    let options = Options { doors: vec![Door::WebSocket, Door::SocketIo], ..Options::new(vec![server.rest().base()]) };
    let verify = Verify::start(&options).await.unwrap();
    goes_on(&verify, 200).await;
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

/// The command as somebody runs it against a deployment.
fn command(arguments: &[String]) -> Output {
    let test = std::env::current_exe().unwrap();
    let command = test.parent().and_then(|deps| deps.parent()).unwrap().join("loadtest");
    assert!(command.exists(), "{} is not built: `cargo test --workspace --no-run` does that", command.display());
    Command::new(command).args(arguments).output().unwrap()
}

/// What it answers after three seconds against this node, and the report that it writes.
async fn verify(server: &TestServer, more: &[&str]) -> (Output, serde_json::Value) {
    let folder = TempDir::new().unwrap();
    let report = folder.path().join("report.json");
    let (nodes, path) = (server.rest().base(), report.display().to_string());
    let arguments = [&["verify", "--nodes", &nodes, "--for", "3s", "--drain", "3", "--json", &path], more].concat();
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    let output = tokio::task::spawn_blocking(move || command(&arguments)).await.unwrap();
    let report = std::fs::read(&report).map(|text| serde_json::from_slice(&text).unwrap()).unwrap_or_default();
    (output, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_whether_a_promise_is_kept() {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let server = liar(None).await;
    let (kept, report) = verify(&server, &[]).await;
    assert!(kept.status.success(), "{}", text(&kept.stderr));
    assert!(text(&kept.stdout).starts_with("verify: acknowledged "), "{}", text(&kept.stdout));
    let result = &report["result"];
    assert!(result["acknowledged"].as_u64() > Some(20) && result["lost"] == 0, "{report}");

    // As people of one's own, who are not made by the command.
    let world = World::on(&server);
    let people = join_all((0..9).map(async |n| world.person(&format!("Person {n}")).await)).await;
    let folder = TempDir::new().unwrap();
    let (few, all) = (folder.path().join("few"), folder.path().join("all"));
    let tokens: Vec<_> = people.iter().map(|person| person.account.access_token.as_str()).collect();
    std::fs::write(&few, tokens[1..].join("\n")).unwrap();
    std::fs::write(&all, tokens.join("\n")).unwrap();
    let (refused, _) = verify(&server, &["--tokens", few.to_str().unwrap()]).await;
    assert!(!refused.status.success() && text(&refused.stderr).contains("9 tokens are needed, and there are 8"), "{refused:?}");
    let (kept, _) = verify(&server, &["--tokens", all.to_str().unwrap()]).await;
    assert!(kept.status.success(), "{}", text(&kept.stderr));
    server.stop().await;

    let server = liar(Some(BusLie::EventsDropped)).await;
    let (broken, report) = verify(&server, &[]).await;
    assert!(!broken.status.success() && text(&broken.stderr).contains("the promise was not kept"), "{broken:?}");
    assert!(report["result"]["lost"].as_u64() > Some(0), "{report}");
    server.stop().await;
}
