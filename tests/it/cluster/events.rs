//! What workers are told: every acknowledged send has its event in the stream, or in the outbox while NATS is away, from where
//! it goes into the stream once. Nodes that serve tell those that work; what cannot be worked on lies with the dead letters.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use urge::bus::Growth;
use urge::config::Role;

use super::Cluster;
use super::outage::{command, on_own_nats};
use crate::support::{PATIENCE, Person, cluster, growths};

/// How long something may take that is tried again and again: the tries at a dead letter take 13 s and a few rounds.
const TRIES: Duration = Duration::from_mins(1);
/// A send ends by then, whatever NATS does, with threefold slack.
const SEND: Duration = Duration::from_secs(9);

/// Looks until it is so: what workers do nobody is told of.
pub(super) async fn eventually(what: &str, limit: Duration, is_so: impl AsyncFn() -> bool) {
    let begin = Instant::now();
    while !is_so().await {
        assert!(begin.elapsed() < limit, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(super) async fn context(cluster: &Cluster) -> jetstream::Context {
    jetstream::new(async_nats::connect(&cluster.settings.servers[0]).await.unwrap())
}

pub(super) fn stream_name(cluster: &Cluster, kind: &str) -> String {
    format!("{}_{kind}", cluster.settings.name.to_uppercase())
}

pub(super) async fn stream(cluster: &Cluster, kind: &str) -> Stream {
    context(cluster).await.get_stream(stream_name(cluster, kind)).await.unwrap()
}

/// The ids of the events in the stream, and how often each is there.
async fn events(cluster: &Cluster) -> BTreeMap<String, usize> {
    growths::in_stream(&cluster.settings.servers[0], &cluster.settings.name).await
}

/// What is in the outbox.
async fn outbox(cluster: &Cluster) -> Vec<Growth> {
    growths::in_outbox(cluster.nodes[0].stores.outbox.as_ref()).await
}

/// Whether so many messages are found by this word.
pub(super) async fn finds(person: &Person, word: &str, count: usize) -> bool {
    let page = person.rest.get(&format!("/messages/search?q={word}&limit=100")).await.unwrap();
    page["messages"].as_array().unwrap().len() == count
}

/// Sends so many messages, each within its time, and returns the ids of their events.
pub(super) async fn send(person: &Person, place: &str, text: &str, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let begin = Instant::now();
        let sent = person.rest.send_text(place, &format!("{text} {n}"), None).await.unwrap();
        assert!(begin.elapsed() < SEND, "{text} {n} took {:?}", begin.elapsed());
        ids.push(format!("{place}:{}", sent["seq"]));
    }
    ids
}

/// Waits until the bus takes events on all nodes.
pub(super) async fn takes_events(cluster: &Cluster) {
    for bus in &cluster.buses {
        let mut takes = bus.takes_growths().unwrap();
        tokio::time::timeout(PATIENCE, takes.wait_for(|takes| *takes)).await.expect("the bus takes no events").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledged_send_has_its_event_in_the_stream() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    takes_events(&cluster).await;
    for n in 0..10 {
        let (through, text) = (cluster.through(n % 2, &ann), n.to_string());
        let sent = through.rest.send_text(&place, &text, Some(&text)).await.unwrap();
        let id = format!("{place}:{}", sent["seq"]);
        assert_eq!(events(&cluster).await.get(&id), Some(&1), "{id}");
        // Tried again, through either node: it is told again, and is there once.
        for node in 0..2 {
            let again = cluster.through(node, &ann).rest.send_text(&place, &text, Some(&text)).await.unwrap();
            assert_eq!(again["id"], sent["id"]);
        }
        assert_eq!(events(&cluster).await.get(&id), Some(&1), "{id}, tried again");
        // An edit is a row of the log as well.
        cluster.through(1, &ann).rest.edit(sent["id"].as_str().unwrap(), "edited").await.unwrap();
        let id = format!("{place}:{}", sent["seq"].as_i64().unwrap() + 1);
        assert_eq!(events(&cluster).await.get(&id), Some(&1), "{id}, an edit");
    }
    assert!(outbox(&cluster).await.is_empty());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_while_nats_is_away_is_drained_once() {
    let Some((nats, cluster)) = on_own_nats().await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    takes_events(&cluster).await;
    let mut sent = send(&ann, &place, "before", 3).await;
    for (goes, comes) in [("kill", "restart"), ("pause", "resume")] {
        command(&nats, goes).await;
        let away = send(&ann, &place, goes, 12).await;
        let kept: Vec<_> = outbox(&cluster).await.iter().map(|growth| format!("{}:{}", growth.conversation_id, growth.seq)).collect();
        assert!(away.iter().all(|id| kept.contains(id)), "{goes}: {away:?} are not all in {kept:?}");
        assert!(!*cluster.buses[0].takes_growths().unwrap().borrow(), "{goes}: it counts as down");
        command(&nats, comes).await;
        eventually("the outbox is drained", PATIENCE * 3, async || outbox(&cluster).await.is_empty()).await;
        sent.extend(away);
        let there = events(&cluster).await;
        for id in &sent {
            assert_eq!(there.get(id), Some(&1), "{goes}: {id}");
        }
        sent.extend(send(&ann, &place, comes, 2).await);
    }
    eventually("everything is found", PATIENCE * 3, async || finds(&ben, "kill", 12).await && finds(&ben, "resume", 2).await).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_forgotten_its_events_costs_no_index() {
    let Some((nats, cluster)) = on_own_nats().await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    takes_events(&cluster).await;
    send(&ann, &place, "apple", 20).await;
    // Some of these events no worker has seen yet.
    command(&nats, "wipe").await;
    let last = send(&ann, &place, "banana", 5).await;
    let elsewhere = cluster.worlds[1].direct(&ben, &cluster.worlds[1].person("Cem").await).await;
    send(&ben, &elsewhere, "cherry", 1).await;
    let is_found = async || finds(&ben, "apple", 20).await && finds(&ben, "banana", 5).await && finds(&ben, "cherry", 1).await;
    eventually("everything is found", PATIENCE * 3, is_found).await;
    eventually("the outbox is drained", PATIENCE * 3, async || outbox(&cluster).await.is_empty()).await;
    assert_eq!(events(&cluster).await.get(&last[4]), Some(&1));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_serve_leave_the_work_to_those_that_work() {
    let Some(servers) = cluster::servers() else { return };
    let mut cluster = Cluster::on(&servers.nats, 0).await;
    cluster.add_as(Role::Gateway).await;
    cluster.add_as(Role::Gateway).await;
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    send(&ann, &place, "pear", 10).await;
    takes_events(&cluster).await;
    assert!(stream(&cluster, "EVENTS").await.consumer_info("index").await.is_err(), "nobody works");
    assert_eq!(cluster.nodes[0].stores.log.conversation(place.parse().unwrap()).await.unwrap().unwrap().indexed_seq, 0);

    cluster.add_as(Role::Worker).await;
    for node in 0..2 {
        let ben = cluster.through(node, &ben);
        eventually("it is found on both", PATIENCE, async || finds(&ben, "pear", 10).await).await;
    }
    send(&cluster.through(1, &ben), &place, "plum", 3).await;
    eventually("what comes later too", PATIENCE, async || finds(&ann, "plum", 3).await).await;

    // A worker that stops keeps nothing back: what it holds would come again after half a minute only.
    let (stopping, _) = (cluster.nodes.pop().unwrap(), cluster.worlds.pop().unwrap());
    tokio::join!(stopping.stop(), send(&ann, &place, "quince", 20));
    cluster.add_as(Role::Worker).await;
    eventually("another goes on", PATIENCE, async || finds(&ben, "quince", 20).await).await;
    let stream = stream(&cluster, "EVENTS").await;
    eventually("all is given back", PATIENCE, async || {
        let info = stream.consumer_info("index").await.unwrap();
        (info.num_pending, info.num_ack_pending) == (0, 0)
    })
    .await;

    let worker = &cluster.nodes[2];
    for path in ["/health", "/ready", "/metrics", "/api/health"] {
        assert_eq!(worker.get(path).await.status(), 200, "{path}");
    }
    for path in
        ["/", "/docs", "/redoc", "/openapi.json", "/users/me", "/messages/search?q=pear", "/ws", "/socket.io/?EIO=4&transport=polling"]
    {
        assert_eq!(worker.get(path).await.status(), 404, "{path}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_worked_on_lies_with_the_dead_letters() {
    let Some(servers) = cluster::servers() else { return };
    let mut cluster = Cluster::on(&servers.nats, 0).await;
    cluster.add_as(Role::Gateway).await;
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[0].person("Ben").await);
    let cem = cluster.worlds[0].person("Cem").await;
    let (broken, whole) = (cluster.worlds[0].direct(&ann, &ben).await, cluster.worlds[0].direct(&ann, &cem).await);
    takes_events(&cluster).await;
    let poison = send(&ann, &broken, "fig", 1).await.remove(0);
    {
        let file = rusqlite::Connection::open(cluster.nodes[0].folder.path().join("urge.db")).unwrap();
        file.busy_timeout(PATIENCE).unwrap();
        let id: uuid::Uuid = broken.parse().unwrap();
        assert_eq!(file.execute("UPDATE conversations SET profile = '{' WHERE id = ?1", [id]).unwrap(), 1);
    }
    // What no node of this version understands is nobody's fault.
    let client = context(&cluster).await;
    let subject = format!("{}.event.0", cluster.settings.name);
    client.publish(subject.clone(), "\u{9}from tomorrow".into()).await.unwrap().await.unwrap();

    cluster.add_as(Role::Worker).await;
    send(&ann, &whole, "grape", 3).await;
    eventually("the others are found", PATIENCE, async || finds(&cem, "grape", 3).await).await;
    let (stream, consumed) = (stream(&cluster, "DEAD").await, stream(&cluster, "EVENTS").await);
    eventually("it is given up", TRIES, async || stream.get_info().await.unwrap().state.messages > 0).await;
    let letter = stream.get_raw_message(1).await.unwrap();
    assert_eq!(letter.subject.as_str(), format!("{}.dead.index", cluster.settings.name));
    assert!(!letter.headers.get("Urge-Reason").unwrap().as_str().is_empty());
    assert!(letter.headers.get("Urge-Subject").unwrap().as_str().starts_with(&format!("{}.event.", cluster.settings.name)));
    let (name, place) = letter.headers.get("Urge-Place").unwrap().as_str().split_once(':').unwrap();
    assert_eq!(name, stream_name(&cluster, "EVENTS"));
    let original = consumed.get_raw_message(place.parse().unwrap()).await.unwrap();
    assert_eq!(original.payload, letter.payload, "as it was");
    assert!(original.headers.get("Nats-Msg-Id").unwrap().as_str().starts_with(poison.split(':').next().unwrap()));
    eventually("all is given back", TRIES, async || {
        let info = consumed.consumer_info("index").await.unwrap();
        (info.num_pending, info.num_ack_pending) == (0, 0)
    })
    .await;
    for place in 1..=stream.get_info().await.unwrap().state.last_sequence {
        let letter = stream.get_raw_message(place).await.unwrap();
        assert_ne!(&letter.payload[..], "\u{9}from tomorrow".as_bytes(), "it is skipped");
    }
    cluster.stop().await;
}
