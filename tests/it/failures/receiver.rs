//! The node of who is to be told stands still, or dies: others hear once that he is gone, a peer writes down when he was seen last,
//! and when he comes back elsewhere he is told exactly what he lacks.

use std::time::Duration;

use loadtest::socket::Event;
use loadtest::{Door, Socket};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Cluster, report};
use crate::support::{PATIENCE, Person, World};

/// Until a node that says nothing is taken for dead, and its users for gone, with room for a busy machine.
const BURIAL: Duration = Duration::from_secs(45);
/// Longer than a node may be silent before it is taken for dead.
const STILL: Duration = Duration::from_secs(20);
/// Messages that are written while he is away.
const MISSED: usize = 20;

/// A person as a client of the node at this address.
fn through(url: &str, person: &Person) -> Person {
    Person { rest: World::at(url).rest.as_account(&person.account), ..person.clone() }
}

fn offline(events: &[Event], who: &Person) -> Vec<Value> {
    let of = |event: &&Event| event.name == "user:offline" && event.json()["userId"] == who.id();
    events.iter().filter(of).map(Event::json).collect()
}

/// What he was told of messages, in order.
fn contents(events: &[Event]) -> Vec<String> {
    let of = |event: &&Event| event.name == "message:received";
    events.iter().filter(of).map(|event| event.json()["content"].as_str().unwrap().to_owned()).collect()
}

async fn say(socket: &Socket, place: &str, text: &str) -> i64 {
    let sent = socket.call("message:sent", &json!({"conversationId": place, "content": text, "clientMessageId": text})).await;
    sent.unwrap()["seq"].as_i64().unwrap()
}

async fn goes_away(case: &str, door: Door, harm: fn(&mut crate::support::Process), mend: fn(&mut crate::support::Process)) {
    let Some(cluster) = Cluster::start(2).await else { return };
    let urls = cluster.urls();
    let (ann, ben) = (World::at(&urls[0]).person("Ann").await, World::at(&urls[0]).person("Ben").await);
    let place = World::at(&urls[0]).direct(&ann, &ben).await;
    let mut watching = ann.connect(Door::WebSocket).await;
    let mut his = through(&urls[1], &ben).connect(door).await;
    watching.next_match("Ben is there", PATIENCE, |event| event.name == "user:online").await.unwrap();
    let known = say(&watching, &place, "before").await;
    his.next_match("the first", PATIENCE, |event| event.name == "message:received").await.unwrap();

    let began = Instant::now();
    let seen_at = chrono::Utc::now();
    cluster.with(move |nodes| harm(&mut nodes.processes[1])).await;
    for number in 0..MISSED {
        say(&watching, &place, &number.to_string()).await;
    }
    let told = watching.collect_until(BURIAL, |events| !offline(events, &ben).is_empty()).await.unwrap();
    let after = began.elapsed();
    let last_seen = offline(&told, &ben)[0]["lastSeen"].as_str().map(|text| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap());
    let last_seen = last_seen.expect("nobody says when he was seen last");
    assert!(last_seen >= seen_at - chrono::TimeDelta::seconds(60) && last_seen <= chrono::Utc::now(), "{last_seen}, gone at {seen_at}");
    // What lists show is what was written down.
    let list = through(&urls[0], &ann).rest.get(&format!("/users/{}", ben.id())).await.unwrap();
    assert_eq!(list["is_online"], false, "{list}");
    assert!(list["last_seen"].is_string(), "{list}");

    // He comes back through the other node, and is told what he lacks.
    let mut back = through(&urls[0], &ben).connect(door).await;
    let resumed = back.resume(&json!({&place: known})).await.unwrap();
    assert_eq!(resumed["recovered"], true);
    assert_eq!(contents(&back.drain()), (0..MISSED).map(|number| number.to_string()).collect::<Vec<_>>());
    watching.next_match("Ben is there again", PATIENCE, |event| event.name == "user:online").await.unwrap();

    let left = STILL.saturating_sub(began.elapsed());
    // He stands still for all of that.
    sleep(left).await;
    cluster.with(move |nodes| mend(&mut nodes.processes[1])).await;
    // What the node that was away says now changes nothing for who is connected elsewhere, and what follows is told once.
    sleep(Duration::from_secs(4)).await;
    say(&watching, &place, "after").await;
    back.next_match("what follows", PATIENCE, |event| event.name == "message:received").await.unwrap();
    let others: Vec<Event> = watching.drain();
    assert!(offline(&others, &ben).is_empty(), "he was told of as gone again: {others:?}");
    assert!(contents(&back.drain()).is_empty(), "something was told twice");
    report(
        &format!("7 the receiver's node {case}"),
        format!("offline told once, after {:.1} s; {MISSED} messages resumed", after.as_secs_f64()),
    );
    drop((his, back, watching));
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_node_stands_still_is_gone_once_and_comes_back_exactly() {
    goes_away("paused", Door::WebSocket, |node| node.signal("STOP"), |node| node.signal("CONT")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_node_is_killed_is_gone_once_and_comes_back_exactly() {
    goes_away("killed", Door::SocketIo, crate::support::Process::kill, crate::support::Process::start_again).await;
}
