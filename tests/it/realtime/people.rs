//! Typing and presence: who is told that somebody types, comes or goes.

use std::time::Duration;

use loadtest::Socket;
use loadtest::socket::Event;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{before_marker, next, send, through_every_door};
use crate::support::{PATIENCE, Person};

/// Typing ends by itself after this.
const TYPING: Duration = Duration::from_secs(6);
/// Who is gone for less than this has not been away.
const GRACE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_told_and_ends_by_itself_or_with_the_message() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let (phone, mut peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        let typing = json!({"conversationId": place});
        phone.call("typing:start", &typing).await.unwrap();
        let told = next(&mut peer, "typing:start").await;
        assert_eq!(told, json!({"conversationId": place, "userId": ann.id(), "userName": "Ann"}));
        ben.sees_typing(&place, 1).await;
        phone.call("typing:stop", &typing).await.unwrap();
        assert_eq!(next(&mut peer, "typing:stop").await, json!({"conversationId": place, "userId": ann.id()}));

        phone.call("typing:start", &typing).await.unwrap();
        next(&mut peer, "typing:start").await;
        send(&phone, &place, "hello").await;
        next(&mut peer, "typing:stop").await;

        let began = Instant::now();
        phone.call("typing:start", &typing).await.unwrap();
        next(&mut peer, "typing:start").await;
        let stopped = peer.next_match("typing:stop", PATIENCE, |event| event.name == "typing:stop").await.unwrap();
        assert!(stopped.at - began >= TYPING, "{:?}", stopped.at - began);
        ben.sees_typing(&place, 0).await;
    })
    .await;
}

/// Waits until somebody is told of this person's presence.
async fn told_of(socket: &mut Socket, name: &str, person: &Person) -> Event {
    socket.next_match(name, PATIENCE, |event| event.name == name && event.json()["userId"] == person.id()).await.unwrap()
}

/// The presence of this person among the events.
fn presence_of(person: &Person, events: &[(String, Value)]) -> Vec<String> {
    let of_his = events.iter().filter(|(name, data)| name.starts_with("user:") && data["userId"] == person.id());
    of_his.map(|(name, _)| name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_silences_typing_presence_and_receipts_both_ways() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        let group = scene.world.group(&ann, "Club", &[&ben, &cy]).await;
        let by_ann = ann.rest.send_text(&place, "before", None).await.unwrap();
        let by_ben = ben.rest.send_text(&place, "before too", None).await.unwrap();
        ben.rest.block(ann.id()).await.unwrap();
        // Who comes and goes is told to all at once: when Cy has been told, so would the other have been.
        let mut friend = cy.connect(scene.door).await;
        let mut phone = ann.connect(scene.door).await;
        told_of(&mut friend, "user:online", &ann).await;
        let mut peer = ben.connect(scene.door).await;
        told_of(&mut friend, "user:online", &ben).await;

        for (socket, message) in [(&phone, &by_ben), (&peer, &by_ann)] {
            for event in ["typing:start", "typing:stop"] {
                socket.call(event, &json!({"conversationId": place})).await.unwrap();
            }
            socket.call("message:delivered", &message["id"]).await.unwrap();
            socket.call("message:read", &json!({"messageId": message["id"]})).await.unwrap();
            let error = socket.call("message:sent", &json!({"conversationId": place, "content": "x"})).await.unwrap_err();
            assert_eq!(error.code(), "forbidden");
        }
        for (socket, other) in [(&mut phone, &ben), (&mut peer, &ann)] {
            let told = before_marker(socket, other, &group).await;
            assert_eq!(presence_of(other, &told), [] as [&str; 0], "{told:?}");
            let of_place = told.iter().filter(|(name, data)| !name.starts_with("conversation:") && data["conversationId"] == place);
            assert_eq!(of_place.count(), 0, "{told:?}");
        }
        leave(phone).await;
        told_of(&mut friend, "user:offline", &ann).await;
        let at_ben = before_marker(&mut peer, &cy, &group).await;
        assert_eq!(presence_of(&ann, &at_ben), [] as [&str; 0], "{at_ben:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_and_go_and_a_short_absence_is_nobodys_business() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let mut phone = ann.connect(scene.door).await;
        let mut peer = ben.connect(scene.door).await;
        assert_eq!(next(&mut phone, "user:online").await, json!({"userId": ben.id()}));
        assert_eq!(ann.rest.get(&format!("/users/{}/status", ben.id())).await.unwrap()["is_online"], true);

        // Two short absences, more than the grace together: the first one's end must not be taken for the second one's.
        for _ in 0..2 {
            leave(peer).await;
            tokio::time::sleep(GRACE * 11 / 20).await;
            peer = ben.connect(scene.door).await;
        }
        let before = before_marker(&mut phone, &ben, &place).await;
        assert_eq!(presence_of(&ben, &before), [] as [&str; 0]);

        let left = Instant::now();
        leave(peer).await;
        let told = told_of(&mut phone, "user:offline", &ben).await;
        assert!(told.json()["lastSeen"].is_string() && told.at - left >= GRACE, "{told:?} after {:?}", told.at - left);
        let before = before_marker(&mut phone, &ben, &place).await;
        assert_eq!(presence_of(&ben, &before), [] as [&str; 0], "once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_hides_of_himself_is_not_told() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        scene.world.direct(&ann, &cy).await;
        let mut phone = ann.connect(scene.door).await;
        ben.rest.put("/settings/privacy", &json!({"show_last_seen": false})).await.unwrap();
        let peer = ben.connect(scene.door).await;
        told_of(&mut phone, "user:online", &ben).await;
        leave(peer).await;
        let told = told_of(&mut phone, "user:offline", &ben).await;
        assert_eq!(told.json(), json!({"userId": ben.id(), "lastSeen": null}));

        ben.rest.put("/settings/privacy", &json!({"show_online_status": false})).await.unwrap();
        // Cy comes and goes a moment after him, and both of that is told.
        let hidden = ben.connect(scene.door).await;
        let shown = cy.connect(scene.door).await;
        leave(hidden).await;
        leave(shown).await;
        for name in ["user:online", "user:offline"] {
            told_of(&mut phone, name, &cy).await;
        }
        let before = before_marker(&mut phone, &ben, &place).await;
        assert_eq!(presence_of(&ben, &before), [] as [&str; 0]);
        assert_eq!(ann.rest.get(&format!("/users/{}/status", ben.id())).await.unwrap()["is_online"], false);

        ben.rest.put("/settings/privacy", &json!({"show_online_status": true})).await.unwrap();
        let _peer = ben.connect(scene.door).await;
        told_of(&mut phone, "user:online", &ben).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_app_joins_by_bare_id_and_is_told_as_it_expects() {
    through_every_door(|scene| async move {
        if !scene.door.is_socket_io() {
            return;
        }
        let (ann, ben, place) = scene.pair().await;
        let (cy, dan) = (scene.world.person("Cy").await, scene.world.person("Dan").await);
        let beside = scene.world.direct(&ann, &cy).await;
        scene.world.group(&dan, "Friends of Dan", &[&ben, &cy]).await;
        let mut watcher = dan.connect(scene.door).await;
        let (mut phone, peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        told_of(&mut phone, "user:online", &ben).await;
        phone.call("join:conversation", &json!(place)).await.unwrap();
        told_of(&mut phone, "user:online", &ben).await;
        let sent = send(&phone, &place, "hello").await;
        assert_eq!(next(&mut phone, "message:delivered").await, sent["id"]);

        // Somebody else's coming is not told: the app does not look whose it is. Dan is told when Ann would have been.
        let other = cy.connect(scene.door).await;
        told_of(&mut watcher, "user:online", &cy).await;
        assert_eq!(presence_of(&cy, &before_marker(&mut phone, &ben, &place).await), [] as [&str; 0]);

        // The conversation joined last counts, as long as it is one of two; a group changes nothing.
        phone.call("join:conversation", &json!(beside)).await.unwrap();
        told_of(&mut phone, "user:online", &cy).await;
        phone.call("join:conversation", &json!(scene.world.group(&ann, "Club", &[]).await)).await.unwrap();
        leave(peer).await;
        told_of(&mut watcher, "user:offline", &ben).await;
        assert_eq!(presence_of(&ben, &before_marker(&mut phone, &cy, &beside).await), [] as [&str; 0]);
        leave(other).await;
        told_of(&mut phone, "user:offline", &cy).await;

        // Leaving closes it on this device, and takes nothing away from what its user is told.
        phone.call("leave:conversation", &json!(beside)).await.unwrap();
        let sent = send(&phone, &beside, "are you there?").await;
        let back = cy.connect(scene.door).await;
        told_of(&mut phone, "user:online", &cy).await;
        cy.rest.history(&beside, "limit=1").await.unwrap();
        assert_eq!(next(&mut phone, "message:delivered").await, sent["id"]);
        back.call("typing:start", &json!({"conversationId": beside})).await.unwrap();
        assert_eq!(next(&mut phone, "typing:start").await["userId"], cy.id());
    })
    .await;
}

/// Closes and waits until it is closed.
async fn leave(mut socket: Socket) {
    socket.close().await.unwrap();
    socket.closed(PATIENCE).await.unwrap();
}
