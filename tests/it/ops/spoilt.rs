//! Rows that cannot be read, on the real binary and either store: they are reported, everything around them is served, and the
//! conversations go on.

use std::collections::BTreeSet;

use loadtest::Door;
use serde_json::{Value, json};

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

/// The same person at a node that has been started again.
fn on(node: &Process, person: &Person) -> Person {
    Person { rest: loadtest::Rest::new(&node.url()).as_account(&person.account), ..person.clone() }
}

/// Everything but that row is there, and it is said which cannot be read.
async fn goes_on(node: &Process, (ada, ben, place, spoilt): (Person, Person, String, i64)) {
    let (ada, ben) = (on(node, &ada), on(node, &ben));
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

/// Conversations of Ben with Ada, with Cy and in two groups.
struct Scene {
    ada: Person,
    ben: Person,
    cy: Person,
    /// Ada and Ben, with three messages, of which he has starred the first and the last.
    fine: String,
    seqs: Vec<i64>,
    /// All three; Cy's place in it cannot be read.
    club: String,
    /// Ben and Cy; his place in it cannot be read.
    gone: String,
    /// A group of Ada and Ben that itself cannot be read.
    broken: String,
}

impl Scene {
    async fn at(node: &Process) -> Self {
        let world = World::at(&node.url());
        let (ada, ben, cy) = (world.person("Ada").await, world.person("Ben").await, world.person("Cy").await);
        let fine = world.direct(&ada, &ben).await;
        let mut seqs = Vec::new();
        for content in ["one", "two", "three"] {
            let sent = ada.rest.send_text(&fine, content, None).await.unwrap();
            seqs.push(sent["seq"].as_i64().unwrap());
            if content != "two" {
                ben.rest.post_empty(&format!("/messages/{}/star", id(&sent))).await.unwrap();
            }
        }
        let (club, broken) = (world.group(&ada, "Club", &[&ben, &cy]).await, world.group(&ada, "Broken", &[&ben]).await);
        let gone = world.direct(&ben, &cy).await;
        Self { ada, ben, cy, fine, seqs, club, gone, broken }
    }

    /// What spoils these rows, where an id is written like this.
    fn spoil(&self, of: impl Fn(&str) -> String, table: impl Fn(&str) -> String) -> [String; 3] {
        let (ben, cy) = (of(self.ben.id()), of(self.cy.id()));
        let (club, gone, broken) = (of(&self.club), of(&self.gone), of(&self.broken));
        [
            format!("UPDATE {} SET role = 99 WHERE conversation_id = {club} AND user_id = {cy}", table("members")),
            format!("UPDATE {} SET kind = 99 WHERE user_id = {ben} AND conversation_id = {gone}", table("memberships")),
            format!("UPDATE {} SET kind = 99 WHERE id = {broken}", table("conversations")),
        ]
    }

    /// Everything else is there, in lists, at sockets and alone, and it is said what cannot be read.
    async fn goes_on(&self, node: &Process) {
        let (ada, ben) = (on(node, &self.ada), on(node, &self.ben));
        let readable = BTreeSet::from([self.fine.clone(), self.club.clone()]);
        let ids = |page: &Value| page["conversations"].as_array().unwrap().iter().map(id).collect::<Vec<_>>();
        assert_eq!(BTreeSet::from_iter(ids(&ben.rest.get("/conversations").await.unwrap())), readable);
        let (mut synced, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let page = ben.rest.post("/sync", &json!({"limit": 1, "cursor": cursor})).await.unwrap();
            synced.extend(ids(&page));
            cursor = page["next_cursor"].clone();
            if cursor.is_null() {
                break;
            }
        }
        assert_eq!((synced.len(), BTreeSet::from_iter(synced)), (2, readable));
        for spoilt in [&self.gone, &self.broken] {
            let refused = ben.rest.get(&format!("/conversations/{spoilt}")).await.unwrap_err();
            assert_eq!(refused.code(), "internal_error", "{refused}");
        }
        assert_eq!(ada.rest.send_text(&self.broken, "hello", None).await.unwrap_err().code(), "internal_error");
        let participants = ben.rest.get(&format!("/conversations/{}", self.club)).await.unwrap()["participants"].clone();
        let participants: BTreeSet<_> = participants.as_array().unwrap().iter().map(id).collect();
        assert_eq!(participants, BTreeSet::from([ada.id().to_owned(), ben.id().to_owned()]));

        let mut socket = ben.connect(Door::WebSocket).await;
        let ack = socket.resume(&json!({&self.fine: self.seqs[1], &self.broken: 0})).await.unwrap();
        assert_eq!(ack["recovered"], true);
        assert_eq!(socket.next_event("message:received", PATIENCE).await.unwrap()["content"], "three");
        for place in [&self.fine, &self.club] {
            let sent = ada.rest.send_text(place, "four", None).await.unwrap();
            assert_eq!(socket.next_event("message:received", PATIENCE).await.unwrap()["id"], id(&sent));
        }
        for (words, place) in [("members", &self.club), ("memberships", &self.gone), ("a conversation cannot be read", &self.broken)] {
            let said = |line: &String| line.contains("ERROR") && line.contains(words) && line.contains(place.as_str());
            assert!(node.log().iter().any(said), "{words} of {place}");
        }
    }

    /// What Ben sees of the conversation that is fine, and of his stars.
    async fn seen(&self, node: &Process) -> [Vec<String>; 2] {
        let ben = on(node, &self.ben);
        let contents = |page: Value| {
            let content = |message: &Value| message["content"].as_str().unwrap().to_owned();
            page["messages"].as_array().unwrap().iter().map(content).collect()
        };
        [ben.rest.history(&self.fine, "").await.unwrap(), ben.rest.get("/messages/starred").await.unwrap()].map(contents)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_of_the_embedded_store_that_cannot_be_read_take_no_others_along() {
    let mut node = Process::start();
    let scene = Scene::at(&node).await;
    node.kill();
    let file = rusqlite::Connection::open(node.folder.path().join("data/urge.db")).unwrap();
    for spoil in scene.spoil(|id| format!("x'{}'", id.replace('-', "")), str::to_owned) {
        assert_eq!(file.execute(&spoil, []).unwrap(), 1, "{spoil}");
    }
    drop(file);
    node.start_again();
    scene.goes_on(&node).await;
    assert!(node.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn conversations_of_the_clusters_store_that_cannot_be_read_take_no_others_along() {
    let Some((keyspace, store)) = fresh() else { return };
    let mut node = Process::with(&[("URGE_STORE", &store)]);
    let scene = Scene::at(&node).await;
    node.kill();
    let session = session(&servers().unwrap().scylla, None).await;
    for spoil in scene.spoil(str::to_owned, |table| format!("{keyspace}.{table}")) {
        execute(&session, &spoil).await;
    }
    // Cells that are empty and must not be.
    let (fine, ben, seqs) = (&scene.fine, scene.ben.id(), &scene.seqs);
    for (cell, table, of, seq) in
        [("sender_id", "messages", "bucket = 0".to_owned(), seqs[1]), ("starred_at", "stars", format!("user_id = {ben}"), seqs[0])]
    {
        execute(&session, &format!("DELETE {cell} FROM {keyspace}.{table} WHERE conversation_id = {fine} AND {of} AND seq = {seq}")).await;
    }
    node.start_again();
    assert_eq!(scene.seen(&node).await, [vec!["one", "three"], vec!["three"]]);
    scene.goes_on(&node).await;
    assert!(node.terminate().success());
}
