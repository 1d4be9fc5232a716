//! Messages that get lost on the way from a node to the others, without any connection ending: what follows shows it, or that the
//! other node does not give its word on the last ones, or that a node does not hear itself, and what they told is read from the store.
//! So is what a node had not told when it ended, and what it did not send because it had not heard who is where.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loadtest::{Door, Socket};
use serde_json::json;

use super::{Cluster, arrive, next, send, until};
use crate::support::Cable;
use crate::support::cable::{Fate, Passing};

/// Heads are read a second time five seconds after somebody has come, which finds all that was lost until then. Nobody says when
/// that is done; should it take longer yet, a test shows less than it could.
pub(super) const SECOND_LOOK: Duration = Duration::from_secs(7);
/// What gets lost.
const WORDS: &str = "the lost one";

/// Ann on the one node, Ben on another, each with a cable of its own.
struct Scene {
    cluster: Cluster,
    cables: Vec<Cable>,
    place: String,
    phone: Socket,
    peer: Socket,
}

impl Scene {
    /// Ann writes on this node, Ben reads on that.
    async fn of(ann_on: usize, ben_on: usize) -> Option<Self> {
        let (cluster, cables) = Box::pin(Cluster::with_cables(2)).await?;
        let (ann, ben) = (cluster.worlds[ann_on].person("Ann").await, cluster.worlds[ben_on].person("Ben").await);
        let place = cluster.worlds[ann_on].direct(&ann, &ben).await;
        let phone = cluster.connect(ann_on, &ann, Door::WebSocket).await;
        let mut peer = cluster.connect(ben_on, &ben, Door::SocketIo).await;
        send(&phone, &place, 0..1).await;
        arrive(&mut peer, 0..1).await;
        tokio::time::sleep(SECOND_LOOK).await;
        Some(Self { cluster, cables, place, phone, peer })
    }

    async fn type_something(&mut self) {
        self.phone.call("typing:start", &json!({"conversationId": self.place})).await.unwrap();
    }

    async fn say_what_gets_lost(&mut self) {
        self.phone.call("message:sent", &json!({"conversationId": self.place, "content": WORDS})).await.unwrap();
    }

    /// It arrives all the same, and so does everything after it, once.
    async fn ends_well(mut self) {
        assert_eq!(next(&mut self.peer, "message:received").await["content"], WORDS);
        for cable in &self.cables {
            cable.judge(|_| Fate::Arrives);
            cable.judge_coming(|_| Fate::Arrives);
        }
        send(&self.phone, &self.place, 1..4).await;
        arrive(&mut self.peer, 1..4).await;
        self.cluster.stop().await;
    }
}

/// Whether it is for a node's sockets.
fn is_live(passing: &Passing<'_>) -> bool {
    passing.line.contains(".live.") && !is_tail(passing)
}

/// Whether it only says how far the numbers have come.
fn is_tail(passing: &Passing<'_>) -> bool {
    passing.line.contains(".live.") && passing.payload.starts_with(&[2, 2])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_that_is_lost_is_missed_when_the_next_comes() {
    let Some(mut scene) = Scene::of(0, 1).await else { return };
    scene.type_something().await;
    next(&mut scene.peer, "typing:start").await;
    // Nothing but what follows is to tell of it.
    scene.cables[0].judge(|passing| if passing.holds(WORDS.as_bytes()) || is_tail(passing) { Fate::Lost } else { Fate::Arrives });
    scene.say_what_gets_lost().await;
    scene.cables[0].has_lost(1).await;
    // Of another kind: a later row of the same conversation would be missed by it in any case.
    scene.type_something().await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_that_is_lost_is_missed_though_nothing_comes() {
    let Some(mut scene) = Scene::of(0, 1).await else { return };
    scene.type_something().await;
    next(&mut scene.peer, "typing:start").await;
    scene.cables[0].judge(|passing| if is_live(passing) { Fate::Lost } else { Fate::Arrives });
    scene.say_what_gets_lost().await;
    scene.cables[0].has_lost(1).await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_that_the_server_has_and_does_not_bring_is_missed_though_nothing_comes() {
    let Some(mut scene) = Scene::of(0, 1).await else { return };
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    scene.cables[1].judge_coming(move |passing| {
        // The message, and twice how far the numbers have come: the server has them, and so its word says nothing. Nor is what the node
        // says to itself to show that something is missing.
        if !passing.line.contains(".live.") || count.load(Ordering::SeqCst) == 3 {
            return Fate::Arrives;
        }
        let is_own = is_tail(passing) && passing.payload.get(18..26) == Some(&[0; 8]);
        count.fetch_add(usize::from(!is_own), Ordering::SeqCst);
        Fate::Lost
    });
    scene.say_what_gets_lost().await;
    assert_eq!(next(&mut scene.peer, "message:received").await["content"], WORDS);
    // Had it been followed anew because nothing came, no more than one tail would have been sent if the server's word were enough.
    assert_eq!(lost.load(Ordering::SeqCst), 3);
    scene.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_brings_nothing_more_is_asked_anew() {
    let Some(mut scene) = Scene::of(0, 1).await else { return };
    let mut fallen_behind = None;
    scene.cables[1].judge_coming(move |passing| {
        // `MSG subject 7 …`: what was subscribed to as 7 still says that it is there, and brings nothing.
        let subscription = passing.line.split(' ').nth(2).filter(|_| passing.line.contains(".live."));
        let Some(subscription) = subscription else { return Fate::Arrives };
        if subscription == fallen_behind.get_or_insert_with(|| subscription.to_owned()) { Fate::Lost } else { Fate::Arrives }
    });
    scene.say_what_gets_lost().await;
    scene.cables[1].has_lost(4).await;
    scene.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_came_while_a_node_heard_nothing_gets_what_it_did_not_send_him() {
    let Some((cluster, cables)) = Box::pin(Cluster::with_cables(2)).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    let phone = cluster.connect(0, &ann, Door::WebSocket).await;
    // The server says that it is there, and brings nothing of who is where.
    cables[0].judge_coming(|passing| if passing.line.contains(".presence.") { Fate::Lost } else { Fate::Arrives });
    // Nor can it tell all to look when it notices.
    cables[0].judge(|passing| if passing.line.contains(".control.") { Fate::Lost } else { Fate::Arrives });
    cables[0].has_lost(1).await;
    let mut peer = ben.connect(Door::WebSocket).await;
    tokio::time::sleep(SECOND_LOOK).await;
    send(&phone, &place, 0..1).await;
    cables[0].judge_coming(|_| Fate::Arrives);
    arrive(&mut peer, 0..1).await;
    cables[0].judge(|_| Fate::Arrives);
    send(&phone, &place, 1..4).await;
    arrive(&mut peer, 1..4).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_keeps_for_others_when_it_stops_they_look_for() {
    let Some(mut scene) = Scene::of(1, 0).await else { return };
    let (bus, lives) = (scene.cluster.buses[1].clone(), "\"name\":\"urge live ");
    scene.cables[1].judge(move |passing| if passing.connection.contains(lives) { Fate::Ends } else { Fate::Arrives });
    until("its messages to nodes are not taken", || !bus.is_up()).await;
    scene.say_what_gets_lost().await;
    scene.cluster.nodes.remove(1).stop().await;
    assert_eq!(next(&mut scene.peer, "message:received").await["content"], WORDS);
    scene.cluster.stop().await;
}
