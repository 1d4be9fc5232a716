//! One node cut off from NATS while the others are not: what it had to tell is told when it is back, and nobody is taken for
//! dead by who could not hear.

use std::time::Duration;

use loadtest::Door;
use serde_json::json;

use super::lost::SECOND_LOOK;
use super::{Cluster, arrive, before_marker, next, send, until};
use crate::support::PATIENCE;

/// How long until a node that says nothing is taken for dead, all nodes know, and it is told of.
const BURIAL: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_could_not_tell_is_told_when_it_is_back() {
    let Some((cluster, cables)) = Cluster::with_cables(2).await else { return };
    let ann = cluster.worlds[0].person("Ann").await;
    let ben = cluster.worlds[1].person_with_password("Ben").await;
    let cem = cluster.worlds[0].person("Cem").await;
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    cluster.worlds[0].direct(&ben, &cem).await;
    let tablet = ben.another_device().await;
    let phone = cluster.connect(0, &ann, Door::WebSocket).await;
    let (mut peer, mut lost) = (cluster.connect(1, &ben, Door::WebSocket).await, cluster.connect(1, &tablet, Door::SocketIo).await);
    send(&phone, &place, 0..1).await;
    arrive(&mut peer, 0..1).await;

    cables[0].cut();
    until("the node knows that it is cut off", || !cluster.buses[0].is_up()).await;
    send(&phone, &place, 1..21).await;
    cluster.through(0, &tablet).rest.logout().await.unwrap();
    let newcomer = cem.connect(Door::WebSocket).await;
    ann.rest.put("/settings/privacy", &json!({"show_online_status": false})).await.unwrap();
    let count = peer.drain().iter().filter(|event| event.name == "message:received").count();
    assert_eq!(count, 0, "it is not cut off");

    let back = tokio::time::Instant::now();
    cables[0].mend();
    let (mut rows, mut online, mut hidden) = (Vec::new(), false, false);
    while rows.len() < 20 || !online || !hidden {
        let event = peer.next_match("what was missed", PATIENCE, |_| true).await.unwrap();
        let data = event.json();
        match event.name.as_str() {
            "message:received" => rows.push(data["content"].as_str().unwrap().to_owned()),
            "user:online" => online |= data["userId"] == cem.id(),
            "user:offline" => hidden |= data["userId"] == ann.id(),
            _ => {}
        }
    }
    assert_eq!(rows, (1..21).map(|number| number.to_string()).collect::<Vec<_>>());
    // The contract's two seconds, with threefold slack.
    assert!(back.elapsed() < Duration::from_secs(6), "{:?}", back.elapsed());
    lost.closed(PATIENCE).await.unwrap();
    drop(newcomer);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_for_dead_is_seen_again_when_heard() {
    let Some((cluster, cables)) = Cluster::with_cables(2).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    let mut cut_off = cluster.connect(0, &ann, Door::WebSocket).await;
    let mut watching = cluster.connect(1, &ben, Door::WebSocket).await;
    next(&mut cut_off, "user:online").await;
    tokio::time::sleep(SECOND_LOOK).await;
    cables[0].cut();
    until("the node knows that it is cut off", || !cluster.buses[0].is_up()).await;
    send(&cut_off, &place, 0..1).await;
    let is_told = |name: &'static str| move |event: &loadtest::socket::Event| event.name == name;
    // What it had written and could not tell is looked for when it is taken for dead.
    let is_all =
        |events: &[loadtest::socket::Event]| ["user:offline", "message:received"].map(is_told).iter().all(|is| events.iter().any(is));
    let told = watching.collect_until(BURIAL, is_all).await.unwrap();
    for event in told.iter().filter(|event| event.name == "user:offline") {
        assert_eq!(event.json()["userId"], ann.id());
    }
    cables[0].mend();
    let back = watching.next_match("his peer is back", BURIAL, is_told("user:online")).await.unwrap();
    assert_eq!(back.json()["userId"], ann.id());
    // Who heard nothing for as long took nobody for dead.
    let before = before_marker(&mut cut_off, &ben, &place).await;
    assert!(!before.iter().any(|name| name == "user:offline"), "{before:?}");
    cluster.stop().await;
}
