//! Typing and presence: who is told that somebody types, comes or goes.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{before_marker, names, next, send, through_every_door};
use crate::support::{PATIENCE, Person};

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_told_and_ends_by_itself_or_with_the_message() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let (phone, mut peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        let typing = json!({"conversationId": place});
        phone.call("typing:start", &typing).await.unwrap();
        let told = next(&mut peer, "typing:start").await;
        assert_eq!(told, json!({"conversationId": place, "userId": ann.id(), "userName": "Ann"}));
        assert_eq!(ben.rest.conversation(&place).await.unwrap()["isTyping"], true);
        phone.call("typing:stop", &typing).await.unwrap();
        assert_eq!(next(&mut peer, "typing:stop").await, json!({"conversationId": place, "userId": ann.id()}));

        phone.call("typing:start", &typing).await.unwrap();
        next(&mut peer, "typing:start").await;
        send(&phone, &place, "hello").await;
        next(&mut peer, "typing:stop").await;

        phone.call("typing:start", &typing).await.unwrap();
        let started = Instant::now();
        next(&mut peer, "typing:start").await;
        next(&mut peer, "typing:stop").await;
        assert!(started.elapsed() >= Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(ben.rest.conversation(&place).await.unwrap()["isTyping"], false);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_silences_typing_presence_and_receipts() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let group = scene.world.group(&ann, "Club", &[&ben]).await;
        let mut phone = ann.connect(scene.door).await;
        let sent = send(&phone, &place, "before").await;
        ben.rest.block(ann.id()).await.unwrap();
        let mut peer = ben.connect(scene.door).await;
        phone.call("typing:start", &json!({"conversationId": place})).await.unwrap();
        peer.call("message:read", &json!({"messageId": sent["id"]})).await.unwrap();
        let error = phone.call("message:sent", &json!({"conversationId": place, "content": "x"})).await.unwrap_err();
        assert_eq!(error.code(), "forbidden");
        let at_ben = before_marker(&mut peer, &ann, &group).await;
        assert!(!names(&at_ben).contains(&"typing:start"), "{at_ben:?}");
        let at_ann = before_marker(&mut phone, &ben, &group).await;
        let silenced = ["user:online", "message:read", "message:delivered", "receipts"];
        let of_block = |name: &str, data: &serde_json::Value| silenced.contains(&name) && data["conversationId"] != json!(group);
        assert!(!at_ann.iter().any(|(name, data)| of_block(name, data)), "{at_ann:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_and_go_and_a_short_absence_is_nobodys_business() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let mut phone = ann.connect(scene.door).await;
        let peer = ben.connect(scene.door).await;
        assert_eq!(next(&mut phone, "user:online").await, json!({"userId": ben.id()}));
        assert_eq!(ann.rest.get(&format!("/users/{}/status", ben.id())).await.unwrap()["is_online"], true);

        // Two short absences, more than the grace together.
        let mut peer = peer;
        for _ in 0..2 {
            leave(peer).await;
            peer = ben.connect(scene.door).await;
        }
        let before = before_marker(&mut phone, &ben, &place).await;
        assert!(!names(&before).iter().any(|name| name.starts_with("user:")), "{before:?}");

        let left = Instant::now();
        leave(peer).await;
        let told = next(&mut phone, "user:offline").await;
        assert_eq!(told["userId"], json!(ben.id()));
        assert!(told["lastSeen"].is_string() && left.elapsed() >= Duration::from_millis(2_900), "{told} after {:?}", left.elapsed());

        ben.rest.put("/settings/privacy", &json!({"show_online_status": false})).await.unwrap();
        let _peer = ben.connect(scene.door).await;
        let before = before_marker(&mut phone, &ben, &place).await;
        assert!(!names(&before).contains(&"user:online"), "{before:?}");
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
        let (mut phone, _peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        phone.call("join:conversation", &json!(place)).await.unwrap();
        assert_eq!(next(&mut phone, "user:online").await["userId"], json!(ben.id()));
        let sent = send(&phone, &place, "hello").await;
        assert_eq!(next(&mut phone, "message:delivered").await, sent["id"]);
        // Somebody else's coming is not told: the app does not look whose it is.
        let cy: Person = scene.world.person("Cy").await;
        scene.world.direct(&ann, &cy).await;
        phone.drain();
        let _cys = cy.connect(scene.door).await;
        let before = before_marker(&mut phone, &cy, &scene.world.direct(&ann, &cy).await).await;
        assert!(!before.iter().any(|(_, data)| data["userId"] == json!(cy.id())), "{before:?}");
    })
    .await;
}

/// Closes and waits until it is closed.
async fn leave(mut socket: loadtest::Socket) {
    socket.close().await.unwrap();
    socket.closed(PATIENCE).await.unwrap();
}
