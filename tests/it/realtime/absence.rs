//! What a client finds when it comes back: receipts as its door tells them, and nothing that others merely did again.

use std::sync::Arc;
use std::time::Duration;

use loadtest::{Door, Socket};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Barrier;
use tokio::time::timeout;

use super::{Scene, before_marker, message_of, names, through_every_door};
use crate::support::{PATIENCE, Person, TestServer, World, id};

/// Longer than a receipt may be on its way.
const LONG_AGO: Duration = Duration::from_mins(2);

/// What a resume is answered, and what came before the answer, presence left out.
async fn resume(person: &Person, door: Door, known: &Value) -> (Value, Vec<(String, Value)>) {
    let mut socket = person.connect(door).await;
    let ack = socket.resume(known).await.unwrap();
    let came = socket.drain().into_iter().map(|event| (event.name.clone(), event.json()));
    (ack, came.filter(|(name, _)| !name.starts_with("user:")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_were_missed_come_as_the_door_tells_them() {
    // The doors share the node's clock: one moves it on, when none has begun with what is to be new.
    let before = Arc::new(Barrier::new(Door::ALL.len()));
    through_every_door(move |scene| {
        let before = Arc::clone(&before);
        receipts_that_were_missed(scene, before)
    })
    .await;
}

async fn receipts_that_were_missed(scene: Scene, before: Arc<Barrier>) {
    let (ann, ben, place) = scene.pair().await;
    let cy = scene.world.person("Cy").await;
    let group = scene.world.group(&ann, "Club", &[&ben, &cy]).await;
    let quiet = scene.world.group(&ann, "Read long ago", &[&ben, &cy]).await;
    let (mut direct, mut known) = (Vec::new(), json!({}));
    known[&quiet] = ann.rest.send_text(&quiet, "old", None).await.unwrap()["seq"].clone();
    ben.rest.read_conversation(&quiet).await.unwrap();
    let all_are_there = async || timeout(PATIENCE, before.wait()).await.unwrap().is_leader();
    if all_are_there().await {
        scene.server.clock.advance(LONG_AGO);
    }
    all_are_there().await;
    let mut phone = ann.connect(scene.door).await;
    phone.close().await.unwrap();
    phone.closed(PATIENCE).await.unwrap();
    for content in ["one", "two", "three"] {
        let sent = ann.rest.send_text(&place, content, None).await.unwrap();
        known[&place] = sent["seq"].clone();
        direct.push(id(&sent));
    }
    let in_group = ann.rest.send_text(&group, "to all", None).await.unwrap();
    known[&group] = in_group["seq"].clone();
    let to_read = ben.rest.message(&direct[1]).await.unwrap();
    ben.rest.post("/messages/read", &json!({"message_ids": [to_read["id"]]})).await.unwrap();
    ben.rest.put(&format!("/messages/{}/status", direct[2]), &json!({"status": "DELIVERED"})).await.unwrap();
    cy.rest.put("/settings/privacy", &json!({"show_read_receipts": false})).await.unwrap();
    for reader in [&ben, &cy] {
        reader.rest.read_conversation(&group).await.unwrap();
    }

    let (ack, all) = resume(&ann, scene.door, &known).await;
    // The last receipt is told behind its answer, perhaps to her who is there by then and is sent it too: it is the same twice.
    let mut came: Vec<(String, Value)> = Vec::new();
    for told in all {
        if !came.contains(&told) {
            came.push(told);
        }
    }
    assert_eq!((&ack["recovered"], &ack["sent"]), (&json!(true), &json!(came.len())), "{came:?}");
    let of = |name: &str, place: &str| {
        let of_place = came.iter().filter(|(event, data)| event == name && data["conversationId"] == json!(place));
        of_place.map(|(_, data)| data.clone()).collect::<Vec<_>>()
    };
    if !scene.door.is_socket_io() {
        let marks = |place: &str, who: &Person, read: &Value| json!({"conversationId": place, "userId": who.id(), "deliveredSeq": known[place], "readSeq": read});
        assert_eq!(of("receipts", &place), [marks(&place, &ben, &to_read["seq"])]);
        let mut in_group = of("receipts", &group);
        in_group.sort_by_key(|data| data["userId"] != ben.id());
        assert_eq!(in_group, [marks(&group, &ben, &known[&group]), marks(&group, &cy, &json!(0))], "Cy hides what he reads");
        assert_eq!(came.len(), 3, "{came:?}");
        return;
    }
    let told = |name: &str, place: &str| of(name, place).iter().map(message_of).collect::<Vec<_>>();
    assert_eq!(told("message:read", &place), direct[..2]);
    assert_eq!(told("message:delivered", &place), direct[2..]);
    assert_eq!(told("message:delivered", &group), [id(&in_group)], "Cy hides what he reads");
    assert_eq!(came.len(), 4, "{came:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_several_pages_comes_whole_and_in_order() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let mut last = json!(null);
        for n in 0..150 {
            last = ann.rest.send_text(&place, &n.to_string(), None).await.unwrap();
        }
        let (ack, came) = resume(&ben, scene.door, &json!({&place: 1})).await;
        assert_eq!(ack["recovered"], true);
        let rows: Vec<_> =
            came.iter().filter(|(name, _)| name == "message:received").map(|(_, data)| data["seq"].as_i64().unwrap()).collect();
        assert!(rows.into_iter().eq(2..=last["seq"].as_i64().unwrap()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_tells_nobody_of_what_came_after_its_first_attempt() {
    let folder = Arc::new(TempDir::new().unwrap());
    let before = TestServer::on(Arc::clone(&folder), |_| {}, |backends| backends).await;
    let world = World::on(&before);
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.direct(&ann, &ben).await;
    let sent = ann.rest.send_text(&place, "first", Some("one")).await.unwrap();
    for n in 0..20 {
        ann.rest.send_text(&place, &n.to_string(), None).await.unwrap();
    }
    before.stop().await;
    let server = TestServer::on(folder, |_| {}, |backends| backends).await;
    let nodes = server.agreement();
    let here = |person: &Person| Person { rest: server.rest().as_account(&person.account), nodes: nodes.clone(), ..person.clone() };
    let (ann, ben) = (here(&ann), here(&ben));
    assert_eq!(ann.rest.send_text(&place, "first", Some("one")).await.unwrap()["id"], sent["id"]);
    let mut socket: Socket = ben.connect(Door::WebSocket).await;
    let before = before_marker(&mut socket, &ann, &place).await;
    assert!(!names(&before).contains(&"message:received"), "{before:?}");
    server.stop().await;
}
