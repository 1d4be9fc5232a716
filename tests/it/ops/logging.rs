//! Logs that nobody reads: the node drops lines, not people.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, Process, Reader, World};

/// More requests, and so lines, than the pipe and the queue before it hold.
const FLOOD: usize = 6_000;

/// Sends them all at once on one connection, and waits for every answer.
async fn flood(node: &Process) {
    let (mut answers, mut requests) = TcpStream::connect(node.address).await.unwrap().into_split();
    let sending = async {
        requests.write_all("GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n".repeat(FLOOD - 1).as_bytes()).await.unwrap();
        requests.write_all(b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    };
    let mut answered = Vec::new();
    let ((), read) = tokio::join!(sending, timeout(4 * PATIENCE, answers.read_to_end(&mut answered)));
    read.expect("the node hangs").unwrap();
    assert_eq!(String::from_utf8(answered).unwrap().matches("HTTP/1.1 404").count(), FLOOD);
}

/// The lines that it has dropped, by its metrics.
async fn dropped(node: &Process) -> usize {
    let metrics = reqwest::get(format!("{}/metrics", node.url())).await.unwrap().text().await.unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("urge_log_lines_dropped_total "));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_log_that_is_not_read_holds_nobody_up() {
    let mut node = Process::read_by(Reader::Stalls, ":", &[("URGE_LOG", "debug")]);
    let world = World::at(&node.url());
    flood(&node).await;
    assert!(dropped(&node).await > 0);
    let ada = world.person("Ada").await;
    ada.rest.me().await.unwrap();
    // Codes go to the log, and there is no room.
    let refused = world.rest.post("/auth/send-code", &serde_json::json!({"phone_number": World::new_phone()})).await.unwrap_err();
    assert_eq!((refused.status(), refused.code()), (503, "sms_unavailable"));
    assert!(node.terminate().success());
}

#[tokio::test]
async fn a_reader_who_goes_away_takes_nobody_along() {
    let mut node = Process::read_by(Reader::Leaves, "exec 2>&1", &[("URGE_LOG", "debug")]);
    let world = World::at(&node.url());
    flood(&node).await;
    assert!(dropped(&node).await > 0);
    world.person("Ada").await.rest.me().await.unwrap();
    assert!(node.terminate().success());
}
