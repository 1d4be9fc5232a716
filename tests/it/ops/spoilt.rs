//! A row that cannot be read, on the real binary and either store: it is reported, everything around it is served, and the
//! conversation goes on.

use loadtest::Door;
use serde_json::json;

use super::cluster::{becomes, execute, fresh, session};
use crate::support::cluster::servers;
use crate::support::{PATIENCE, Person, Process, World, id};

/// Two people with three messages, and where the second one is.
async fn three_messages(node: &Process) -> (Person, Person, String, i64) {
    let world = World::at(&node.url());
    let (ada, ben) = (world.person("Ada").await, world.person("Ben").await);
    let place = world.direct(&ada, &ben).await;
    let mut seqs = Vec::new();
    for content in ["one", "two", "three"] {
        seqs.push(ada.rest.send_text(&place, content, None).await.unwrap()["seq"].as_i64().unwrap());
    }
    (ada, ben, place, seqs[1])
}

/// Everything but that row is there, and it is said which cannot be read.
async fn goes_on(node: &Process, (ada, ben, place, spoilt): (Person, Person, String, i64)) {
    let url = node.url();
    let here = |person: &Person| Person { rest: loadtest::Rest::new(&url).as_account(&person.account), ..person.clone() };
    let (ada, ben) = (here(&ada), here(&ben));
    let history = ben.rest.history(&place, "").await.unwrap();
    let contents: Vec<_> = history["messages"].as_array().unwrap().iter().map(|message| message["content"].clone()).collect();
    assert_eq!(contents, ["one", "three"]);
    assert_eq!(ben.rest.get("/conversations").await.unwrap()["conversations"][0]["lastMessage"]["content"], "three");
    let line = node.logged("cannot be read, and is passed over");
    assert!(line.contains("ERROR") && line.contains(&place) && line.contains(&format!("seq={spoilt}")), "{line}");

    let mut socket = ben.connect(Door::WebSocket).await;
    let ack = socket.resume(&json!({&place: spoilt - 1})).await.unwrap();
    assert_eq!(ack["recovered"], true);
    assert_eq!(socket.next_event("message:received", PATIENCE).await.unwrap()["content"], "three");
    let sent = ada.rest.send_text(&place, "four", None).await.unwrap();
    assert_eq!(socket.next_event("message:received", PATIENCE).await.unwrap()["id"], id(&sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_embedded_store_that_cannot_be_read_is_passed_over() {
    let mut node = Process::start();
    let scene = three_messages(&node).await;
    node.kill();
    let file = rusqlite::Connection::open(node.folder.path().join("data/urge.db")).unwrap();
    let changed = file.execute("UPDATE messages SET body = x'7b00' WHERE seq = ?", [scene.3]).unwrap();
    assert_eq!(changed, 1);
    drop(file);
    node.start_again();
    goes_on(&node, scene).await;
    assert!(node.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_clusters_store_that_cannot_be_read_is_passed_over() {
    let Some((keyspace, store)) = fresh() else { return };
    let mut node = Process::with(&[("URGE_STORE", &store)]);
    becomes(&node, "/ready", 200).await;
    let scene = three_messages(&node).await;
    node.kill();
    let session = session(&servers().unwrap().scylla, None).await;
    let (place, spoilt) = (&scene.2, scene.3);
    let spoil = format!("UPDATE {keyspace}.messages SET body = 0x7b00 WHERE conversation_id = {place} AND bucket = 0 AND seq = {spoilt}");
    execute(&session, &spoil).await;
    node.start_again();
    goes_on(&node, scene).await;
    assert!(node.terminate().success());
}
