//! The node of who is to be told stands still, or dies: others hear once that he is gone, a peer writes down when he was seen last,
//! and when he comes back elsewhere he is told exactly what he lacks.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use loadtest::socket::Event;
use loadtest::verify::read_log;
use loadtest::{Door, Socket};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Cluster;
use super::scene::contents;
use super::tally::Tally;
use crate::support::{PATIENCE, Person, World};

/// Until a node that says nothing is taken for dead, and its users for gone, with room for a busy machine.
const BURIAL: Duration = Duration::from_secs(45);
/// Longer than a node may be silent before it is taken for dead.
const STILL: Duration = Duration::from_secs(20);
/// A node says at least so often that it lives, with room for a busy machine: until then at least its users were there.
const LAST_WORD: Duration = Duration::from_secs(8);
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

fn is_message(events: &[Event]) -> bool {
    events.last().is_some_and(|event| event.name == "message:received")
}

async fn say(socket: &Socket, place: &str, text: &str) -> i64 {
    let sent = socket.call("message:sent", &json!({"conversationId": place, "content": text, "clientMessageId": text})).await;
    sent.unwrap()["seq"].as_i64().unwrap()
}

/// When he was seen last, as the others were told. It is what is written down, too, as this node shows, and he was there until
/// about when his node was harmed.
async fn seen_last(told: &Value, shown_by: &str, viewer: &Person, who: &Person, harmed: &RangeInclusive<DateTime<Utc>>) {
    let text = told["lastSeen"].as_str().expect("nobody says when he was seen last");
    let last_seen: DateTime<Utc> = text.parse().unwrap();
    // The bus's clock is this machine's.
    let (earliest, latest) = (*harmed.start() - LAST_WORD, *harmed.end() + TimeDelta::seconds(1));
    assert!((earliest..=latest).contains(&last_seen), "{last_seen}, harmed within {harmed:?}");
    let (rest, began) = (through(shown_by, viewer).rest, Instant::now());
    loop {
        let shown = rest.get(&format!("/users/{}", who.id())).await.unwrap();
        assert_eq!(shown["last_seen"], told["lastSeen"], "{shown}");
        if shown["is_online"] == false {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{shown}");
        // Nodes find out seconds apart that one is dead, and nobody tells when this one has.
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until what was written down when somebody came cannot be taken for when he went.
async fn stays(since: Instant) {
    // He sits there.
    sleep_until(since + LAST_WORD * 2).await;
}

async fn goes_away(case: &str, door: Door, harm: fn(&mut crate::support::Process), mend: fn(&mut crate::support::Process)) {
    let Some(cluster) = Cluster::start(3).await else { return };
    let urls = cluster.urls();
    let (ann, ben) = (World::at(&urls[0]).person("Ann").await, World::at(&urls[0]).person("Ben").await);
    let place = World::at(&urls[0]).direct(&ann, &ben).await;
    let mut watching = ann.connect(Door::WebSocket).await;
    let arrived = Instant::now();
    let mut his = through(&urls[1], &ben).connect(door).await;
    watching.next_match("Ben is there", PATIENCE, |event| event.name == "user:online").await.unwrap();
    let said: Vec<String> =
        ["before".to_owned()].into_iter().chain((0..MISSED).map(|number| number.to_string())).chain(["after".to_owned()]).collect();
    let (first, missed, last) = (&said[..1], &said[1..=MISSED], &said[MISSED + 1..]);
    let mut tally = Tally::default();
    let known = say(&watching, &place, &first[0]).await;
    tally.told("Ben", first, &contents(&his.collect_until(PATIENCE, is_message).await.unwrap()));

    stays(arrived).await;
    let (began, before) = (Instant::now(), Utc::now());
    cluster.with(move |nodes| harm(&mut nodes.processes[1])).await;
    let harmed = before..=Utc::now();
    for words in missed {
        say(&watching, &place, words).await;
    }
    let told = watching.collect_until(BURIAL, |events| !offline(events, &ben).is_empty()).await.unwrap();
    let after = began.elapsed();
    seen_last(&offline(&told, &ben)[0], &urls[2], &ann, &ben, &harmed).await;

    // He comes back through the other node, and is told what he lacks.
    let mut back = through(&urls[0], &ben).connect(door).await;
    let resumed = back.resume(&json!({&place: known})).await.unwrap();
    assert_eq!(resumed["recovered"], true);
    tally.resumed("Ben", missed, &contents(&back.drain()));
    watching.next_match("Ben is there again", PATIENCE, |event| event.name == "user:online").await.unwrap();

    let left = STILL.saturating_sub(began.elapsed());
    // He stands still for all of that.
    sleep(left).await;
    cluster.with(move |nodes| mend(&mut nodes.processes[1])).await;
    // What the node that was away says now changes nothing for who is connected elsewhere, and what follows is told once.
    sleep(Duration::from_secs(4)).await;
    say(&watching, &place, &last[0]).await;
    let mut follows = back.collect_until(PATIENCE, is_message).await.unwrap();
    let others: Vec<Event> = watching.drain();
    assert!(offline(&others, &ben).is_empty(), "he was told of as gone again: {others:?}");
    follows.extend(back.drain());
    tally.told("Ben, who is back", last, &contents(&follows));
    // The socket that was open all the time: it tells all that it lacks, or is no more.
    let lacked = &said[1..];
    let (mut heard, mut from_old) = (Vec::new(), Vec::new());
    let fate = loop {
        let next = timeout(PATIENCE, his.events().next()).await;
        match next.unwrap_or_else(|late| panic!("the old socket is open, and does not tell what it lacks ({late}): {heard:?}")) {
            Ok(event) => heard.push(event),
            Err(_) => break "closed",
        }
        if contents(&heard).len() == lacked.len() {
            // What it tells twice comes before its answer.
            from_old.push("from the old socket".to_owned());
            say(&his, &place, &from_old[0]).await;
            heard.extend(his.drain());
            break "told all";
        }
    };
    let heard = contents(&heard);
    let due = if fate == "closed" { &lacked[..heard.len().min(lacked.len())] } else { lacked };
    tally.told("Ben's old socket", due, &heard);
    let stored = read_log(&through(&urls[2], &ann).rest, &place).await.unwrap();
    tally.log(&[&said, &from_old], &stored.into_iter().map(|row| row.content).collect::<Vec<_>>());
    tally.accept(
        &format!("7 the receiver's node {case}"),
        format!("offline told once, after {:.1} s; the old socket {fate}", after.as_secs_f64()),
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

/// Between the death of a node and that of the one that is to tell of its users: longer than the grace for them and how far apart
/// nodes find out that one is dead, so that what was left to the second shows only by its own burial; shorter than it takes until it
/// tells itself.
const APART: Duration = Duration::from_secs(10);
/// Until whatever is told twice has been told.
const TWICE: Duration = Duration::from_secs(8);

/// The node of the receivers dies, and then the one whose business it is to tell of that; they come back at the one that is left.
#[tokio::test(flavor = "multi_thread")]
async fn whose_node_dies_with_the_one_that_is_to_tell_is_gone_once() {
    let Some(cluster) = Cluster::start(3).await else { return };
    let urls = cluster.urls();
    let world = World::at(&urls[2]);
    let [ann, ben, cem] = [world.person("Ann").await, world.person("Ben").await, world.person("Cem").await];
    let place = world.group(&ann, "place", &[&ben, &cem]).await;
    let mut watching = ann.connect(Door::WebSocket).await;
    let mut tally = Tally::default();
    let said: Vec<String> = (0..4).map(|number| number.to_string()).collect();
    let (first, missed, last) = (&said[..1], &said[1..3], &said[3..]);
    let of = |who: &Person, name: &'static str| {
        let id = who.id().to_owned();
        move |event: &Event| event.name == name && event.json()["userId"] == *id
    };

    // Each node that dies has said something just before.
    let arrived = Instant::now();
    let his = through(&urls[1], &ben).connect(Door::WebSocket).await;
    watching.next_match("Ben is there", PATIENCE, of(&ben, "user:online")).await.unwrap();
    stays(arrived).await;
    let more = through(&urls[1], &cem).connect(Door::WebSocket).await;
    watching.next_match("Cem is there", PATIENCE, of(&cem, "user:online")).await.unwrap();
    let (mut sockets, known) = ([his, more], say(&watching, &place, &first[0]).await);
    for (who, socket) in ["Ben", "Cem"].iter().zip(&mut sockets) {
        tally.told(who, first, &contents(&socket.collect_until(PATIENCE, is_message).await.unwrap()));
    }
    let before = Utc::now();
    cluster.with(|nodes| nodes.processes[1].kill()).await;
    let harmed = before..=Utc::now();
    say(&watching, &place, &missed[0]).await;
    sleep(APART).await;
    // The oldest is the first of those that live.
    cluster.with(|nodes| nodes.processes[0].kill()).await;
    say(&watching, &place, &missed[1]).await;

    let all_gone = |events: &[Event]| !offline(events, &ben).is_empty() && !offline(events, &cem).is_empty();
    let began = Instant::now();
    let mut told =
        watching.collect_until(BURIAL, all_gone).await.unwrap_or_else(|error| panic!("nobody tells that they are gone: {error}"));
    let after = began.elapsed();
    for who in [&ben, &cem] {
        seen_last(&offline(&told, who)[0], &urls[2], &ann, who, &harmed).await;
    }
    sleep(TWICE).await;
    told.extend(watching.drain());
    assert_eq!([offline(&told, &ben).len(), offline(&told, &cem).len()], [1, 1], "{told:?}");
    drop(sockets);

    let mut back = Vec::new();
    for who in [&ben, &cem] {
        let mut socket = who.connect(Door::WebSocket).await;
        assert_eq!(socket.resume(&json!({&place: known})).await.unwrap()["recovered"], true);
        tally.resumed(&who.name, missed, &contents(&socket.drain()));
        back.push(socket);
    }
    say(&watching, &place, &last[0]).await;
    let mut heard = Vec::new();
    for socket in &mut back {
        heard.push(socket.collect_until(PATIENCE, is_message).await.unwrap());
    }
    let stored = read_log(&ann.rest, &place).await.unwrap();
    for ((who, socket), heard) in ["Ben, who is back", "Cem, who is back"].iter().zip(&mut back).zip(&mut heard) {
        heard.extend(socket.drain());
        tally.told(who, last, &contents(heard));
    }
    tally.log(&[&said], &stored.into_iter().map(|row| row.content).collect::<Vec<_>>());
    tally.accept(
        "7 the receivers' node killed, and the one that is to tell of it",
        format!("offline told once, {:.1} s after the second", after.as_secs_f64()),
    );
}
