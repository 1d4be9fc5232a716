//! A group of four on a cluster of processes: Ann, who writes through nodes that fail, Ben, who listens on one that does not,
//! Cem, who is away, and Dan, who writes beside Ann. It knows what must be seen of what they wrote.

use std::time::Duration;

use loadtest::socket::Event;
use loadtest::verify::{Told, read_log, told};
use loadtest::{Door, Rest, RestError, Socket};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{Instant, sleep, sleep_until};

use super::tally::Tally;
use crate::support::cluster::{self, Servers};
use crate::support::{Nodes, PATIENCE, Person, Process, World};

/// A node reads the heads of who has come once more after 5 s: what would mend what the test looks for.
const HEADS_ARE_READ: Duration = Duration::from_secs(6);

/// See the module.
pub struct Scene {
    pub nodes: Nodes,
    pub ann: Person,
    pub ben: Person,
    pub cem: Person,
    pub dan: Person,
    pub place: String,
    /// Ben's, on the node that is sound.
    pub hears: Socket,
    hears_since: Instant,
    /// Who sent what, in the order of the log.
    pub said: Vec<(String, String)>,
    /// What Ben was told of it.
    told: Vec<String>,
}

/// The same person as a client of this node.
pub fn through(node: &Process, person: &Person) -> Rest {
    Rest::new(&node.url()).as_account(&person.account)
}

/// What somebody was told of messages, in order.
pub fn contents(events: &[Event]) -> Vec<String> {
    let messages = events.iter().filter(|event| event.name == "message:received");
    messages.map(|event| told(&event.json()).content).collect()
}

/// Waits until this node stands still, as its fail point says.
async fn stands_still(node: &Process) {
    let began = Instant::now();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", node.pid())).unwrap();
    // "pid (name) state ...": T is stopped.
    while !state().rsplit(')').next().unwrap().starts_with(" T") {
        assert!(began.elapsed() < PATIENCE, "it goes on: {}", state());
        // Nobody is told when another process stops.
        sleep(Duration::from_millis(5)).await;
    }
}

impl Scene {
    /// With one node, which is sound; none on a machine that cannot have the servers.
    pub async fn set() -> Option<Self> {
        Some(Self::on(cluster::servers()?).await)
    }

    /// The same on these servers.
    pub async fn on(servers: &Servers) -> Self {
        let nodes = block_in_place(|| Nodes::on(servers, 1));
        let world = World::at(&nodes.processes[0].url());
        let [ann, ben, cem, dan] =
            [world.person("Ann").await, world.person("Ben").await, world.person("Cem").await, world.person("Dan").await];
        let place = world.group(&ann, "place", &[&ben, &cem, &dan]).await;
        let hears = ben.connect(Door::WebSocket).await;
        Self { nodes, ann, ben, cem, dan, place, hears, hears_since: Instant::now(), said: Vec::new(), told: Vec::new() }
    }

    /// One more node, with settings of its own; its number.
    pub fn add(&mut self, settings: &[(&str, &str)]) -> usize {
        block_in_place(|| self.nodes.add(settings));
        self.nodes.processes.len() - 1
    }

    /// One more node at which this happens.
    pub fn failing(&mut self, point: &str) -> usize {
        self.add(&[("URGE_TEST_FAIL_POINT", point)])
    }

    /// Until nothing but what is tested brings Ben what he lacks.
    pub async fn settles(&self) {
        sleep_until(self.hears_since + HEADS_ARE_READ).await;
    }

    /// Ann writes through this node, in the background.
    pub fn ann_sends(&self, node: usize, words: &str) -> JoinHandle<Result<Value, RestError>> {
        let (rest, place, words) = (through(&self.nodes.processes[node], &self.ann), self.place.clone(), words.to_owned());
        tokio::spawn(async move { rest.send_text(&place, &words, Some(&words)).await })
    }

    /// The same through one that stands still over it, which it does now. A busy store may have her refused before it comes to that.
    pub async fn ann_is_held(&self, node: usize, words: &str) -> JoinHandle<Result<Value, RestError>> {
        let began = Instant::now();
        loop {
            let mut sent = self.ann_sends(node, words);
            tokio::select! {
                () = stands_still(&self.nodes.processes[node]) => return sent,
                answer = &mut sent => {
                    let is_busy = matches!(answer.as_ref().unwrap(), Err(error) if error.status() == 503);
                    assert!(is_busy && began.elapsed() < PATIENCE, "{words:?} is not held: {answer:?}");
                }
            }
        }
    }

    /// Somebody writes through the sound node.
    pub async fn sends(&mut self, person: &Person, words: &str) -> Value {
        let sent = person.rest.send_text(&self.place, words, Some(words)).await.unwrap();
        self.has_said(person, words);
        sent
    }

    /// This stands next in the log.
    pub fn has_said(&mut self, person: &Person, words: &str) {
        self.said.push((person.name.clone(), words.to_owned()));
    }

    /// Ben hears this, and what came until then, without anything else being done.
    pub async fn heard(&mut self, words: &str) {
        let is_it = |event: &Event| event.name == "message:received" && event.json()["content"] == words;
        let events = self.hears.collect_until(PATIENCE, |events| events.last().is_some_and(is_it)).await;
        let events = events.unwrap_or_else(|error| panic!("{words} is not heard: {error}"));
        self.told.extend(contents(&events));
    }

    /// The same up to this row of a conversation beside it.
    pub async fn heard_in(&mut self, place: &str, seq: i64) -> Vec<Told> {
        let is_there = |event: &Event| event.name == "message:received" && event.json()["conversationId"] == *place;
        let is_it = |event: &Event| is_there(event) && event.json()["seq"] == seq;
        let events = self.hears.collect_until(PATIENCE, |events| events.last().is_some_and(is_it)).await;
        let events = events.unwrap_or_else(|error| panic!("row {seq} of {place} is not heard: {error}"));
        events.iter().filter(|event| is_there(event)).map(|event| told(&event.json())).collect()
    }

    /// What Ben was told until now.
    pub fn tells(&mut self, tally: &mut Tally) {
        self.told.extend(contents(&self.hears.drain()));
        tally.told("Ben", &self.words(), &self.told);
    }

    /// What was said, as it stands in Ann's history and comes by /sync for Cem, through this node, and as Ben was told.
    pub async fn tally(&mut self, node: usize) -> Tally {
        let said = self.words();
        let stored = read_log(&through(&self.nodes.processes[node], &self.ann), &self.place).await.unwrap();
        let brought: Vec<_> = self.synced(node, 1).await.0.iter().map(|message| told(message).content).collect();
        let mut tally = Tally::default();
        tally.log(&[&said], &stored.into_iter().map(|row| row.content).collect::<Vec<_>>());
        tally.resumed("Cem", &said, &brought);
        self.tells(&mut tally);
        tally
    }

    fn words(&self) -> Vec<String> {
        self.said.iter().map(|(_, words)| words.clone()).collect()
    }

    /// What Cem, who has the log up to `after`, finds by /sync through this node: new and changed messages, and where it ends.
    pub async fn synced(&self, node: usize, after: i64) -> (Vec<Value>, Value) {
        let rest = through(&self.nodes.processes[node], &self.cem);
        let (mut known, mut found) = (after, Vec::new());
        loop {
            let synced = rest.sync(&json!({&self.place: known}), None).await.unwrap();
            let Some(entry) = synced["conversations"].as_array().unwrap().first() else { panic!("nothing is new after {known}: {synced}") };
            found.extend(entry["messages"].as_array().unwrap().iter().cloned());
            known = entry["upTo"].as_i64().unwrap();
            if entry["more"] == false {
                return (found, entry.clone());
            }
        }
    }

    /// What was said is there for everybody, through this node: once, in order, without a gap, and counted.
    pub async fn is_whole(&self, node: usize) {
        let words = self.words();
        let (synced, entry) = self.synced(node, 1).await;
        let contents: Vec<_> = synced.iter().map(|message| told(message).content).collect();
        assert_eq!(contents, words, "by /sync");
        // Row 1 is the group's making.
        let seqs: Vec<_> = synced.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
        assert!(seqs.iter().copied().eq(2..2 + words.len() as u64), "{seqs:?}");
        assert_eq!(entry["lastSeq"], seqs.last().copied().unwrap());
        let ids: std::collections::BTreeSet<_> = synced.iter().map(|message| message["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), words.len(), "each has an id of its own");
        for person in [&self.ann, &self.ben, &self.cem, &self.dan] {
            let rest = through(&self.nodes.processes[node], person);
            let history = rest.history(&self.place, "limit=100").await.unwrap();
            let mut page = history["messages"].as_array().unwrap().clone();
            page.sort_by_key(|message| message["seq"].as_u64());
            let contents: Vec<_> = page.iter().map(|message| told(message).content).collect();
            assert_eq!((contents, &history["total"]), (words.clone(), &json!(words.len())), "{}'s history", person.name);
            let list = rest.conversations().await.unwrap();
            let listed = list["conversations"].as_array().unwrap().iter().find(|listed| listed["id"] == *self.place).unwrap();
            assert_eq!(listed["lastMessage"]["content"], *words.last().unwrap(), "{}'s list", person.name);
            let unread = self.said.iter().rev().take_while(|(sender, _)| *sender != person.name).count();
            assert_eq!(listed["unreadCount"], unread, "{} has not read so many: {listed}", person.name);
        }
    }
}
