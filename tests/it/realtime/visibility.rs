//! Who is seen online while he is: hiding, blocking, and both taken back, on the screens of those who watch.

use std::sync::Arc;

use loadtest::Socket;
use loadtest::socket::Event;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use urge::app::Backends;
use urge::settings::{ChangePrivacy, Settings};

use super::{before_marker, of_a_node, through_every_door};
use crate::support::{PATIENCE, Person, TestServer};

/// What is told of this person's presence up to and including the next event of this name.
async fn told_of(socket: &mut Socket, person: &Person, upto: &str) -> Vec<(String, Value)> {
    let is_his = |event: &Event| event.name.starts_with("user:") && event.json()["userId"] == person.id();
    let is_last = |events: &[Event]| events.last().is_some_and(|event| is_his(event) && event.name == upto);
    let events = socket.collect_until(PATIENCE, is_last).await.unwrap();
    events.iter().filter(|event| is_his(event)).map(|event| (event.name.clone(), event.json())).collect()
}

fn online(person: &Person) -> (String, Value) {
    ("user:online".to_owned(), json!({"userId": person.id()}))
}

/// As of somebody of whom one may not know.
fn offline(person: &Person) -> (String, Value) {
    ("user:offline".to_owned(), json!({"userId": person.id(), "lastSeen": null}))
}

async fn show(person: &Person, is_shown: bool) {
    person.rest.put("/settings/privacy", &json!({"show_online_status": is_shown})).await.unwrap();
}

/// Closes and waits until it is closed.
async fn leave(mut socket: Socket) {
    socket.close().await.unwrap();
    socket.closed(PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hides_goes_offline_for_the_others_and_comes_back_when_he_shows_himself() {
    through_every_door(|scene| async move {
        let (ann, ben, _) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        scene.world.direct(&ann, &cy).await;
        let mut phone = ann.connect(scene.door).await;
        let (peer, beside) = (ben.connect(scene.door).await, cy.connect(scene.door).await);
        assert_eq!(told_of(&mut phone, &ben, "user:online").await, [online(&ben)]);
        // What changes nothing is told to nobody: neither what he says twice nor what is about something else.
        show(&ben, true).await;
        ben.rest.put("/settings/privacy", &json!({"show_profile_photo": false})).await.unwrap();
        show(&ben, false).await;
        assert_eq!(told_of(&mut phone, &ben, "user:offline").await, [offline(&ben)]);
        show(&ben, false).await;
        show(&ben, true).await;
        assert_eq!(told_of(&mut phone, &ben, "user:online").await, [online(&ben)]);

        // Gone in their eyes, he goes unseen. Cy goes a moment after him, and is seen to.
        show(&ben, false).await;
        assert_eq!(told_of(&mut phone, &ben, "user:offline").await, [offline(&ben)]);
        leave(peer).await;
        leave(beside).await;
        phone.next_match("Cy is gone", PATIENCE, |event| event.name == "user:offline" && event.json()["userId"] == cy.id()).await.unwrap();
        show(&ben, true).await;
        let _back = ben.connect(scene.door).await;
        assert_eq!(told_of(&mut phone, &ben, "user:online").await, [online(&ben)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_takes_the_two_out_of_each_others_sight_until_its_end() {
    through_every_door(|scene| async move {
        let (ann, ben, _) = scene.pair().await;
        let (cy, dan) = (scene.world.person("Cy").await, scene.world.person("Dan").await);
        let group = scene.world.group(&ann, "Club", &[&ben, &cy]).await;
        let beside = scene.world.direct(&cy, &dan).await;
        let (mut friend, mut stranger) = (cy.connect(scene.door).await, dan.connect(scene.door).await);
        let (mut phone, mut peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        assert_eq!(told_of(&mut phone, &ben, "user:online").await, [online(&ben)]);

        ben.rest.block(dan.id()).await.unwrap();
        ben.rest.block(ann.id()).await.unwrap();
        assert_eq!(told_of(&mut phone, &ben, "user:offline").await, [offline(&ben)]);
        assert_eq!(told_of(&mut peer, &ann, "user:offline").await.last(), Some(&offline(&ann)));
        // Both block, and one block is left: they stay out of sight.
        ann.rest.block(ben.id()).await.unwrap();
        ben.rest.unblock(ann.id()).await.unwrap();
        ann.rest.unblock(ben.id()).await.unwrap();
        for (socket, other) in [(&mut phone, &ben), (&mut peer, &ann)] {
            let mut told = told_of(socket, other, "user:online").await;
            assert_eq!(told.pop(), Some(online(other)));
            assert!(told.iter().all(|event| *event == offline(other)), "{told:?}");
        }

        // Nobody else is told: not who knows both, nor who has nothing in common with who blocks him.
        let at_friend = before_marker(&mut friend, &ann, &group).await;
        assert!(!at_friend.contains(&offline(&ann)) && !at_friend.contains(&offline(&ben)), "{at_friend:?}");
        let at_stranger = before_marker(&mut stranger, &cy, &beside).await;
        assert!(!at_stranger.iter().any(|(name, data)| name.starts_with("user:") && data["userId"] == ben.id()), "{at_stranger:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hides_shows_nothing_of_himself_by_a_block() {
    through_every_door(|scene| async move {
        let (ann, ben, _) = scene.pair().await;
        show(&ben, false).await;
        let mut phone = ann.connect(scene.door).await;
        let mut peer = ben.connect(scene.door).await;
        ben.rest.block(ann.id()).await.unwrap();
        assert_eq!(told_of(&mut peer, &ann, "user:offline").await.last(), Some(&offline(&ann)), "she hides nothing");
        ben.rest.unblock(ann.id()).await.unwrap();
        assert_eq!(told_of(&mut peer, &ann, "user:online").await, [online(&ann)]);
        show(&ben, true).await;
        assert_eq!(told_of(&mut phone, &ben, "user:online").await, [online(&ben)], "the first that she hears of him");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_is_told_shows_here_at_once() {
    let kept: Mutex<Option<Backends>> = Mutex::default();
    let keep = |backends: Backends| kept.lock().insert(backends).clone();
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, keep).await;
    let Backends { stores, bus, clock, .. } = kept.lock().take().unwrap();
    let elsewhere = Arc::new(Settings::new(stores.settings, bus, clock));
    of_a_node(server, move |scene| {
        let elsewhere = Arc::clone(&elsewhere);
        async move {
            let (ann, ben, _) = scene.pair().await;
            let (her, his) = (ann.id().parse().unwrap(), ben.id().parse().unwrap());
            let mut phone = ann.connect(scene.door).await;
            let _peer = ben.connect(scene.door).await;
            assert_eq!(told_of(&mut phone, &ben, "user:online").await, [online(&ben)]);
            for (is_shown, event) in [(false, offline(&ben)), (true, online(&ben))] {
                let change = ChangePrivacy { show_online_status: Some(is_shown), ..ChangePrivacy::default() };
                elsewhere.change_privacy(his, change).await.unwrap();
                assert_eq!(told_of(&mut phone, &ben, &event.0).await, [event]);
            }
            elsewhere.block(his, her).await.unwrap();
            assert_eq!(told_of(&mut phone, &ben, "user:offline").await, [offline(&ben)]);
            elsewhere.unblock(his, her).await.unwrap();
            assert_eq!(told_of(&mut phone, &ben, "user:online").await, [online(&ben)]);
        }
    })
    .await;
}
