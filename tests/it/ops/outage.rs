//! A store that cannot be written to for a while: 503 with `Retry-After`, one clear log line, and nothing lost.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use loadtest::{Door, RestError};
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
    node.logged("the store cannot be written to");
    // Not even the little that the probe writes.
    limit_files(&node, "1");
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
    node.logged("the store can be written to again");

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

/// The store's files made read-only under the node, which has them open; the end of this undoes it, also after a panic.
struct ReadOnly {
    files: Vec<PathBuf>,
    pid: u32,
}

impl ReadOnly {
    /// By the attribute that holds for root and for open files alike. Where a file system or a user cannot set it, the
    /// process may not write a single byte to any file: to the store it is the same.
    fn make(node: &Process) -> Self {
        let files: Vec<_> = ["urge.db", "urge.db-wal"].iter().map(|name| node.folder.path().join("data").join(name)).collect();
        assert!(files.iter().all(|file| file.exists()));
        let made = Self { files, pid: node.pid() };
        if !made.attribute("+i") {
            made.attribute("-i");
            limit_files(node, "0");
        }
        made
    }

    fn attribute(&self, change: &str) -> bool {
        let chattr = Command::new("chattr").arg(change).args(&self.files).output();
        chattr.is_ok_and(|output| output.status.success())
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        self.attribute("-i");
        let _ = Command::new("prlimit").args(["--pid", &self.pid.to_string(), "--fsize=unlimited:"]).status();
    }
}

#[tokio::test]
async fn a_store_made_read_only_under_a_node_is_503_until_it_is_writable() {
    let node = Process::under("trap '' XFSZ", &[]);
    let world = World::at(&node.url());
    let (ada, ben) = (world.person("Ada").await, world.person("Ben").await);
    let conversation = world.direct(&ada, &ben).await;
    let before = ada.rest.send_text(&conversation, "before", None).await.unwrap();
    let mut socket = ben.connect(Door::WebSocket).await;

    let read_only = ReadOnly::make(&node);
    for n in 0..5 {
        let refused = ada.rest.send_text(&conversation, "refused", Some(&format!("m{n}"))).await.unwrap_err();
        assert_eq!((refused.status(), refused.code()), (503, "unavailable"));
        assert!(refused.refusal().unwrap().retry_after_s.is_some(), "it says when to come back");
    }
    let refused = socket.call("message:sent", &value!({"conversationId": conversation, "content": "refused"})).await.unwrap_err();
    assert_eq!(refused.code(), "unavailable");
    assert_eq!(world.rest.with_prefix("").get("/ready").await.unwrap_err().status(), 503);
    world.rest.with_prefix("").get("/health").await.unwrap();
    ada.rest.me().await.unwrap();
    let history = ben.rest.history(&conversation, "limit=5").await.unwrap();
    assert_eq!(id(&history["messages"][0]), id(&before), "what is there can be read");
    node.logged("the store cannot be written to");
    let lines: Vec<_> = node.log().into_iter().filter(|line| line.contains("the store cannot be written to")).collect();
    assert_eq!(lines.len(), 1, "it is said once, not once a write: {lines:?}");
    assert!(lines[0].contains("ERROR") && lines[0].contains("read-only?"), "{}", lines[0]);

    drop(read_only);
    let again = Instant::now();
    let sent = loop {
        match ada.rest.send_text(&conversation, "refused", Some("m0")).await {
            Ok(message) => break message,
            Err(error) => assert!(error.status() == 503 && again.elapsed() < PATIENCE, "{error}"),
        }
    };
    let told = socket.next_event("message:received", PATIENCE).await.unwrap();
    assert_eq!(told["id"], sent["id"], "the socket has stayed");
    world.rest.with_prefix("").get("/ready").await.unwrap();
    node.logged("the store can be written to again");
    let history = ada.rest.history(&conversation, "limit=10").await.unwrap();
    let ids: Vec<_> = history["messages"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids, [id(&before), id(&sent)], "what was refused was not done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_to_sockets_which_stay() {
    let node = Process::under("trap '' XFSZ", &[]);
    let world = World::at(&node.url());
    let (ada, ben) = (world.person("Ada").await, world.person("Ben").await);
    let place = world.direct(&ada, &ben).await;
    for door in Door::ALL {
        let (phone, mut peer) = (ada.connect(door).await, ben.connect(door).await);
        let say = async |n: usize, content: &str| {
            let message = value!({"conversationId": place, "content": content, "clientMessageId": format!("{door:?} {n}")});
            phone.call("message:sent", &message).await
        };
        limit_files(&node, &(largest_file(&node) + 16 * 1024).to_string());
        let mut acknowledged = Vec::new();
        let refused = loop {
            match say(acknowledged.len(), &"a message ".repeat(100)).await {
                Ok(message) => acknowledged.push(id(&message)),
                Err(error) => break error,
            }
            assert!(acknowledged.len() < 10_000, "the limit does not hold");
        };
        assert_eq!(refused.code(), "unavailable", "{door:?}");
        // What needs no writing goes on, and both are still there when there is room again.
        phone.call("typing:start", &value!({"conversationId": place})).await.unwrap();
        peer.next_event("typing:start", PATIENCE).await.unwrap();
        limit_files(&node, "unlimited");
        let again = Instant::now();
        let sent = loop {
            match say(acknowledged.len(), "there is room").await {
                Ok(message) => break message,
                Err(error) => assert!(error.code() == "unavailable" && again.elapsed() < PATIENCE, "{error:?}"),
            }
        };
        acknowledged.push(id(&sent));
        let mut told = Vec::new();
        while told.last() != acknowledged.last() {
            told.push(id(&peer.next_event("message:received", PATIENCE).await.unwrap()));
        }
        assert_eq!(told, acknowledged, "{door:?}: each once, and no other");
    }
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
