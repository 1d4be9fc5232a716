//! Who is told, or answered, in the less usual cases: what he removed from his view, conversations that he left or came
//! back to, people who show nothing of themselves.

use std::sync::Arc;
use std::time::Duration;

use loadtest::Door;
use loadtest::socket::Event;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use urge::app::Backends;
use urge::event::Origin;

use super::resume::resume;
use super::{about, before_marker, message_of, next, send, through_every_door};
use crate::support::sabotage::SabotagedBus;
use crate::support::{PATIENCE, Switch, TestServer, World, id};

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_a_message_that_one_removed_from_ones_view_are_not_told() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let (gone, kept) =
            (ann.rest.send_text(&place, "gone", None).await.unwrap(), ann.rest.send_text(&place, "kept", None).await.unwrap());
        let mut peer = ben.connect(scene.door).await;
        ben.rest.delete(&format!("/messages/{}?scope=me", id(&gone))).await.unwrap();
        for message in [&gone, &kept] {
            ann.rest.edit(&id(message), "edited").await.unwrap();
        }
        let before = before_marker(&mut peer, &ann, &place).await;
        let told: Vec<_> = before.iter().filter(|(name, _)| name == "message:updated").map(|(_, data)| message_of(data)).collect();
        assert_eq!(told, [id(&kept)]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_posted_message_ends_the_typing_of_its_sender() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let (phone, mut peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        phone.call("typing:start", &json!({"conversationId": place})).await.unwrap();
        let started = Instant::now();
        next(&mut peer, "typing:start").await;
        ann.rest.send_text(&place, "done", None).await.unwrap();
        next(&mut peer, "typing:stop").await;
        assert!(started.elapsed() < Duration::from_secs(6), "it ended by itself");
        ben.sees_typing(&place, 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_answered_also_after_its_sender_was_removed() {
    through_every_door(|scene| async move {
        let (ann, ben, _) = scene.pair().await;
        let group = scene.world.group(&ann, "Club", &[&ben]).await;
        let phone = ben.connect(scene.door).await;
        let command = json!({"conversationId": group, "content": "mine", "clientMessageId": "one"});
        let sent = phone.call("message:sent", &command).await.unwrap();
        let conversations = &scene.server.services.conversations;
        let (founder, member) = (ann.id().parse().unwrap(), ben.id().parse().unwrap());
        conversations.remove_member(founder, group.parse().unwrap(), member, Origin::default()).await.unwrap();
        assert_eq!(phone.call("message:sent", &command).await.unwrap()["id"], sent["id"]);
        assert_eq!(ben.rest.send_text(&group, "mine", Some("one")).await.unwrap()["id"], sent["id"]);
        let by_id = json!({"conversationId": group, "content": "mine", "id": sent["id"]});
        assert_eq!(phone.call("message:sent", &by_id).await.unwrap()["id"], sent["id"]);
        let fresh = json!({"conversationId": group, "content": "mine", "clientMessageId": "two"});
        assert_eq!(phone.call("message:sent", &fresh).await.unwrap_err().code(), "forbidden");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_while_somebody_was_away_does_not_turn_when_he_is_back() {
    through_every_door(|scene| async move {
        let (ann, ben, _) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        let group = scene.world.group(&ann, "Club", &[&ben, &cy]).await;
        let mut phone = ann.connect(scene.door).await;
        let conversations = &scene.server.services.conversations;
        let (founder, member, place) = (ann.id().parse().unwrap(), ben.id().parse().unwrap(), group.parse().unwrap());
        // His marks are known to the node.
        ben.rest.read_conversation(&group).await.unwrap();
        conversations.remove_member(founder, place, member, Origin::default()).await.unwrap();
        let between = send(&phone, &group, "without him").await;
        cy.rest.read_conversation(&group).await.unwrap();
        about(&mut phone, "message:read", &id(&between)).await;
        conversations.add_members(founder, place, &[member], Origin::default()).await.unwrap();
        let after = send(&phone, &group, "with him").await;
        ben.rest.put(&format!("/messages/{}/status", id(&after)), &json!({"status": "DELIVERED"})).await.unwrap();
        cy.rest.read_conversation(&group).await.unwrap();
        about(&mut phone, "message:delivered", &id(&after)).await;
        ben.rest.read_conversation(&group).await.unwrap();
        about(&mut phone, "message:read", &id(&after)).await;
        let is_receipt = |event: &Event| matches!(event.name.as_str(), "message:delivered" | "message:read");
        let again: Vec<_> = phone.drain().into_iter().filter(is_receipt).collect();
        assert!(again.is_empty(), "{again:?}");
        assert_eq!(ann.rest.message(&id(&between)).await.unwrap()["status"], "READ");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_nothing_is_offline_to_whoever_opens_the_conversation() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let (mut phone, _peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        let offline = json!({"userId": ben.id(), "lastSeen": null});
        ben.rest.put("/settings/privacy", &json!({"show_online_status": false})).await.unwrap();
        phone.call("join:conversation", &json!(place)).await.unwrap();
        assert_eq!(next(&mut phone, "user:offline").await, offline);
        ben.rest.put("/settings/privacy", &json!({"show_online_status": true})).await.unwrap();
        phone.drain();
        phone.call("join:conversation", &json!(place)).await.unwrap();
        assert_eq!(next(&mut phone, "user:online").await, json!({"userId": ben.id()}));
        ben.rest.block(ann.id()).await.unwrap();
        phone.call("join:conversation", &json!(place)).await.unwrap();
        assert_eq!(next(&mut phone, "user:offline").await, offline);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_message_takes_nothing_back_of_its_status() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        let group = scene.world.group(&ann, "Club", &[&ben, &cy]).await;
        let mut peer = ben.connect(scene.door).await;
        for place in [&place, &group] {
            let sent = id(&ann.rest.send_text(place, "hello", None).await.unwrap());
            ben.rest.read_conversation(place).await.unwrap();
            if *place == group {
                // Told by itself, so that it is written before the answer.
                cy.rest.put(&format!("/messages/{sent}/status"), &json!({"status": "DELIVERED"})).await.unwrap();
            }
            let status = if *place == group { "DELIVERED" } else { "READ" };
            ann.rest.edit(&sent, "hello again").await.unwrap();
            // The login that edits has the answer; of the other person's sockets all are told.
            assert_eq!(about(&mut peer, "message:updated", &sent).await["status"], status);
            ann.rest.delete(&format!("/messages/{sent}?scope=everyone")).await.unwrap();
            assert_eq!(about(&mut peer, "message:deleted", &sent).await["status"], status);
            assert_eq!(ann.rest.message(&sent).await.unwrap()["status"], status);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_sender_has_blocked_does_not_see_his_picture() {
    through_every_door(|scene| async move {
        let (ann, ben, _) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        let group = scene.world.group(&ann, "Club", &[&ben, &cy]).await;
        let two = scene.world.group(&ann, "Two", &[&ben]).await;
        let picture = "https://example.org/ann.png";
        ann.rest.put("/auth/profile", &json!({"avatar_url": picture})).await.unwrap();
        ann.rest.block(ben.id()).await.unwrap();
        let (mut blocked, mut friend) = (ben.connect(scene.door).await, cy.connect(scene.door).await);
        let sent = ann.rest.send_text(&group, "hello", None).await.unwrap();
        ann.rest.edit(&id(&sent), "hello again").await.unwrap();
        for event in ["message:received", "message:updated"] {
            assert_eq!(about(&mut blocked, event, &id(&sent)).await["senderAvatar"], json!(null), "{event}");
            assert_eq!(about(&mut friend, event, &id(&sent)).await["senderAvatar"], picture, "{event}");
        }
        let sent_to_two = ann.rest.send_text(&two, "hello", None).await.unwrap();
        assert_eq!(about(&mut blocked, "message:received", &id(&sent_to_two)).await["senderAvatar"], json!(null));
        // Neither does a replay show it.
        let mut again = ben.connect(scene.door).await;
        let (_, came) = resume(&mut again, &json!({})).await;
        let shown: Vec<_> = came.iter().filter(|(name, data)| name == "message:received" && data["id"] == sent["id"]).collect();
        assert!(shown.len() == 1 && shown[0].1["senderAvatar"].is_null(), "{shown:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn coming_is_being_seen() {
    through_every_door(|scene| async move {
        let (ann, _, _) = scene.pair().await;
        let (users, user) = (&scene.server.services.users, ann.id().parse().unwrap());
        let before = users.find(user).await.unwrap().unwrap().last_seen;
        let _phone = ann.connect(scene.door).await;
        let seen = async {
            while users.find(user).await.unwrap().unwrap().last_seen <= before {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, seen).await.expect("a node that dies now would know nothing of it");
    })
    .await;
}

/// What was acknowledged before he came, and reaches the hub only while he is being let in, is his past.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_somebody_came_is_not_told_to_him_live() {
    let (switch, mut late) = (Switch::default(), None);
    let wrap = |backends: Backends| {
        let bus = Arc::new(SabotagedBus::new(Arc::clone(&backends.bus), None));
        late = Some(Arc::clone(&bus));
        switch.wrap_log(Backends { bus, ..backends })
    };
    let server = TestServer::alone_on(Arc::new(TempDir::new().unwrap()), |_| {}, wrap).await;
    let (late, world) = (late.unwrap(), World::on(&server));
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.direct(&ann, &ben).await;
    // Who listens on the same node: the conversation's order is known here.
    let _peer = ben.connect(Door::WebSocket).await;
    late.hold_back();
    let before = ben.rest.send_text(&place, "before", None).await.unwrap();
    switch.stall();
    let coming = ann.connect(Door::WebSocket);
    let meanwhile = async {
        timeout(PATIENCE, switch.asked_by(1)).await.expect("nobody asks for his conversations");
        late.let_go().await;
        // The hub tells nobody what it has taken.
        sleep(Duration::from_millis(100)).await;
        switch.give_back();
    };
    let (mut phone, ()) = tokio::join!(coming, meanwhile);
    let told: Vec<_> =
        before_marker(&mut phone, &ben, &place).await.into_iter().filter(|(_, data)| message_of(data) == id(&before)).collect();
    assert_eq!(told, [], "it was written before he came");
    server.stop().await;
}
