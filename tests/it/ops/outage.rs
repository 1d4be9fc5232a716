//! A store that cannot be written to for a while: 503 with `Retry-After`, one clear log line, and nothing lost.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use loadtest::RestError;
use reqwest::Method;
use rusqlite::Connection;
use serde_json::json as value;

use crate::support::{PATIENCE, People, Process, TestServer, World, failure, id};

/// Sets the largest size to which the process can let a file grow: what a full disk is to it.
fn limit_files(node: &Process, bytes: &str) {
    let done = Command::new("prlimit").args(["--pid", &node.pid().to_string(), &format!("--fsize={bytes}:")]).status().unwrap();
    assert!(done.success());
}

/// The size of the store's largest file.
fn largest_file(node: &Process) -> u64 {
    let files = std::fs::read_dir(node.folder.path().join("data")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).max().unwrap()
}

#[tokio::test]
async fn a_full_disk_is_503_until_there_is_room_and_nothing_acknowledged_is_lost() {
    // Without the trap the kernel would end the process at its limit; a full disk does not.
    let mut node = Process::under("trap '' XFSZ", &[]);
    let world = World::at(&node.url());
    let (ada, ben) = (world.person("Ada").await, world.person("Ben").await);
    let conversation = world.direct(&ada, &ben).await;
    let mut acknowledged = HashSet::new();
    let send = async |n: usize| ada.rest.send_text(&conversation, &"a message ".repeat(100), Some(&format!("m{n}"))).await;

    limit_files(&node, &(largest_file(&node) + 64 * 1024).to_string());
    let mut n = 0;
    let refused = loop {
        match send(n).await {
            Ok(message) => acknowledged.insert(id(&message)),
            Err(RestError::Refused(refused)) => break refused,
            Err(error) => panic!("{error}"),
        };
        n += 1;
        assert!(n < 10_000, "the limit does not hold");
    };
    assert_eq!((refused.status.as_u16(), refused.code.as_str()), (503, "unavailable"));
    assert!(refused.retry_after_s.is_some(), "it says when to come back");
    assert!(node.has_logged("the store cannot be written to"));
    let ready = world.rest.with_prefix("").get("/ready").await.unwrap_err();
    assert_eq!(ready.status(), 503);
    world.rest.with_prefix("").get("/health").await.unwrap();
    let history = ada.rest.history(&conversation, "limit=1").await.unwrap();
    assert_eq!(history["messages"].as_array().unwrap().len(), 1, "what is there can be read");

    limit_files(&node, "unlimited");
    let again = Instant::now();
    let message = loop {
        // The same message again: perhaps it had been stored after all.
        match send(n).await {
            Ok(message) => break message,
            Err(error) => assert!(error.status() == 503 && again.elapsed() < PATIENCE, "{error}"),
        }
    };
    acknowledged.insert(id(&message));
    world.rest.with_prefix("").get("/ready").await.unwrap();
    assert!(node.has_logged("the store can be written to again"));

    node.kill();
    node.start_again();
    // The connections to the process that was killed are dead.
    let rest = World::at(&node.url()).rest.as_account(&ada.account);
    let mut stored = HashSet::new();
    let mut query = "limit=100".to_owned();
    loop {
        let page = rest.history(&conversation, &query).await.unwrap();
        stored.extend(page["messages"].as_array().unwrap().iter().map(id));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("limit=100&cursor={cursor}");
    }
    assert_eq!(stored, acknowledged, "each acknowledged message once, and no other");
}

#[tokio::test]
async fn a_store_that_another_process_holds_is_503_until_it_lets_go() {
    let people = People::of(TestServer::with(|config| config.server.request_timeout = Duration::from_millis(500)).await);
    let (ada, ben) = (people.person("Ada").await, people.person("Ben").await);
    let conversation = people.direct(&ada, &ben).await;
    let message = value!({"conversation_id": conversation, "content": "hello", "client_message_id": "one"});

    let holder = Connection::open(people.server.folder.path().join("urge.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = people.send("POST /messages", Some(&ada.token), &message).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    failure(refused, 503, "unavailable").await;
    failure(people.server.get("/ready").await, 503, "unavailable").await;
    // Who he is is asked at every start of the app, and needs no writing.
    people.get(&ada, "GET /auth/me").await;

    holder.execute_batch("ROLLBACK").unwrap();
    let again = Instant::now();
    let sent = loop {
        let answer = people.send("POST /messages", Some(&ada.token), &message).await;
        if answer.status() == 200 {
            break crate::support::json(answer).await;
        }
        assert!(answer.status() == 503 && again.elapsed() < PATIENCE, "{}", answer.status());
    };
    let history = people.get(&ben, &format!("GET /conversations/{conversation}/messages")).await;
    assert_eq!(
        (history["messages"][0]["id"].clone(), history["total"].clone()),
        (sent["id"].clone(), 1.into()),
        "once, however often tried"
    );
    assert_eq!(people.server.request(Method::GET, "/ready").send().await.unwrap().status(), 200);
    people.server.stop().await;
}
