//! What people are told of each other when their sockets are on several nodes: no more than they may know, nothing that falls
//! back, and who types wherever one looks.

use std::time::Duration;

use loadtest::Door;
use serde_json::{Value, json};
use urge::event::Envelope;

use super::{Cluster, before_marker, next, until};
use crate::support::PATIENCE;

/// Less than the five seconds after which heads are read a second time.
const BEFORE_THE_SECOND_LOOK: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_nodes_learn_of_a_socket_reaches_it_at_once() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    for _ in 0..3 {
        let mut socket = ben.connect(Door::WebSocket).await;
        let begin = tokio::time::Instant::now();
        // The other node has not heard of it yet.
        let sent = ann.rest.send_text(&place, "hello", None).await.unwrap();
        assert_eq!(next(&mut socket, "message:received").await["id"], sent["id"]);
        assert!(begin.elapsed() < BEFORE_THE_SECOND_LOOK, "it came by a look at the store: {:?}", begin.elapsed());
        drop(socket);
        // Only who is new to all is not known yet.
        cluster.all_know(&ben, false).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_who_hides_nothing_shows_when_he_leaves_two_nodes() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    ben.rest.put("/settings/privacy", &json!({"show_online_status": false})).await.unwrap();
    let mut watching = cluster.connect(0, &ann, Door::WebSocket).await;
    let phone = cluster.connect(0, &ben, Door::WebSocket).await;
    let tablet = cluster.connect(1, &ben, Door::SocketIo).await;
    drop(tablet);
    let user = ben.id().parse().unwrap();
    until("the second node says that he has left it", || !cluster.nodes[1].services.online.is_here(user)).await;
    drop(phone);
    cluster.all_know(&ben, false).await;
    let before = before_marker(&mut watching, &ben, &place).await;
    assert!(!before.iter().any(|name| name.starts_with("user:")), "{before:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_end_of_all_logins_spares_a_new_one() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    let mut socket = cluster.connect(1, &ben, Door::WebSocket).await;
    // As it comes from a stream that is read from its beginning: what it tells of ended before this login began.
    let late = Envelope::Revoked { user_id: ben.id().parse().unwrap(), session_id: None, except: None, late: true };
    cluster.buses[0].publish(late).await.unwrap();
    // Behind it, on the same way: how Ann is has changed.
    ann.rest.put("/settings/privacy", &json!({"show_online_status": false})).await.unwrap();
    before_marker(&mut socket, &ann, &place).await;
    assert!(ben.rest.get("/users/me").await.is_ok());
    before_marker(&mut socket, &ann, &place).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_do_not_fall_back_when_nodes_take_turns() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    let mut sender = cluster.connect(0, &ann, Door::WebSocket).await;
    let mut reader = cluster.connect(1, &ben, Door::WebSocket).await;
    let until_marks = async |sender: &mut loadtest::Socket, is_so: &dyn Fn(&Value) -> bool| {
        let accept = |event: &loadtest::socket::Event| event.name == "receipts" && is_so(&event.json());
        sender.next_match("such marks", PATIENCE, accept).await.unwrap();
    };
    for _ in 0..3 {
        let sent = ann.rest.send_text(&place, "read me", None).await.unwrap();
        let seq = sent["seq"].as_i64().unwrap();
        // Delivered by his socket on the one node, read through the other.
        until_marks(&mut sender, &|marks| marks["deliveredSeq"] == seq).await;
        cluster.through(0, &ben).rest.post("/messages/read", &json!({"message_ids": [sent["id"]]})).await.unwrap();
        until_marks(&mut sender, &|marks| marks["readSeq"] == seq).await;
        let later = ann.rest.send_text(&place, "and me", None).await.unwrap();
        let later = later["seq"].as_i64().unwrap();
        let accept = |event: &loadtest::socket::Event| event.name == "receipts";
        let marks = sender.next_match("marks", PATIENCE, accept).await.unwrap().json();
        assert_eq!((&marks["deliveredSeq"], &marks["readSeq"]), (&json!(later), &json!(seq)));
    }
    next(&mut reader, "message:received").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_types_on_one_node_is_seen_typing_in_the_lists_of_another() {
    let Some(cluster) = Cluster::of(3).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    let mut watching = cluster.connect(0, &ann, Door::WebSocket).await;
    let typist = cluster.connect(1, &ben, Door::WebSocket).await;
    // One of whom nobody has a socket shows it too.
    let seen = async |types: bool| {
        for node in 0..cluster.worlds.len() {
            cluster.through(node, &ann).sees_typing(&place, usize::from(types)).await;
        }
    };
    seen(false).await;
    for types in [true, false] {
        let event = if types { "typing:start" } else { "typing:stop" };
        typist.call(event, &json!({"conversationId": place})).await.unwrap();
        next(&mut watching, event).await;
        seen(types).await;
    }
    cluster.stop().await;
}
