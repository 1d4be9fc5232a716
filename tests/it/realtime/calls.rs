//! What REST calls tell live sockets: to whom, with what, and to whom not.

use loadtest::Socket;
use serde_json::{Value, json};

use super::{about, before_marker, message_of, next, through_every_door};
use crate::support::{Person, id};

/// The events before a message from `from`, presence and receipts left out.
async fn told(socket: &mut Socket, from: &Person, place: &str) -> Vec<(String, Value)> {
    let mut before = before_marker(socket, from, place).await;
    before.retain(|(name, _)| {
        name.starts_with("message:") && !name.ends_with("read") && !name.ends_with("delivered") || name.starts_with("conversation:")
    });
    before
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_ones_own_view_reaches_ones_other_logins_alone() {
    through_every_door(|scene| async move {
        let ann = scene.world.person_with_password("Ann").await;
        let ben = scene.world.person("Ben").await;
        let place = scene.world.direct(&ann, &ben).await;
        let tablet = ann.another_device().await;
        let (mut phone, mut other, mut peer) =
            (ann.connect(scene.door).await, tablet.connect(scene.door).await, ben.connect(scene.door).await);
        let sent = id(&ben.rest.send_text(&place, "hello", None).await.unwrap());
        about(&mut other, "message:received", &sent).await;
        about(&mut phone, "message:received", &sent).await;
        let call = async |method: reqwest::Method, path: &str| {
            ann.rest.call::<Value>(method, &format!("/conversations/{place}{path}"), None).await.unwrap();
        };
        let (put, delete) = (reqwest::Method::PUT, reqwest::Method::DELETE);
        for (method, path, field, value) in [
            (&put, "/mute", "isMuted", json!(true)),
            (&put, "/unmute", "isMuted", json!(false)),
            (&put, "/archive", "isArchived", json!(true)),
            (&put, "/unarchive", "isArchived", json!(false)),
            (&put, "/favorite", "isFavourite", json!(true)),
            (&put, "/favorite", "isFavourite", json!(false)),
            (&put, "/read", "unreadCount", json!(0)),
            (&delete, "/clear", "lastMessage", Value::Null),
            (&delete, "", "lastMessage", Value::Null),
        ] {
            call(method.clone(), path).await;
            let updated = next(&mut other, "conversation:updated").await;
            assert_eq!((&updated["id"], &updated[field]), (&json!(place), &value), "{method} {path}");
        }
        // A message that is removed from one's own view changes the conversation for oneself.
        let (first, second) =
            (ben.rest.send_text(&place, "one", None).await.unwrap(), ben.rest.send_text(&place, "two", None).await.unwrap());
        for socket in [&mut other, &mut phone] {
            about(socket, "message:received", &id(&first)).await;
            about(socket, "message:received", &id(&second)).await;
        }
        ann.rest.delete(&format!("/messages/{}?scope=me", id(&second))).await.unwrap();
        let updated = next(&mut other, "conversation:updated").await;
        assert_eq!((&updated["lastMessage"]["id"], &updated["unreadCount"]), (&first["id"], &json!(1)));

        assert_eq!(told(&mut phone, &ben, &place).await, [], "the login that asked has the answer");
        assert_eq!(told(&mut peer, &ann, &place).await, [], "and for the other nothing has changed");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_told_to_all_who_still_see_the_message() {
    through_every_door(|scene| async move {
        let ann = scene.world.person_with_password("Ann").await;
        let (ben, cy, dee) = (scene.world.person("Ben").await, scene.world.person("Cy").await, scene.world.person("Dee").await);
        let place = scene.world.group(&ann, "Four", &[&ben, &cy, &dee]).await;
        let tablet = ann.another_device().await;
        let sent = id(&ann.rest.send_text(&place, "frist", None).await.unwrap());
        cy.rest.delete(&format!("/conversations/{place}/clear")).await.unwrap();
        dee.rest.delete(&format!("/messages/{sent}?scope=me")).await.unwrap();
        let (mut phone, mut other) = (ann.connect(scene.door).await, tablet.connect(scene.door).await);
        let (mut sees, mut cleared, mut removed) =
            (ben.connect(scene.door).await, cy.connect(scene.door).await, dee.connect(scene.door).await);

        ann.rest.edit(&sent, "first").await.unwrap();
        ann.rest.edit(&sent, "first").await.unwrap();
        for socket in [&mut other, &mut sees] {
            let before = told(socket, if socket.user_id() == ann.id() { &ben } else { &ann }, &place).await;
            let edits: Vec<_> = before.iter().map(|(name, data)| (name.as_str(), message_of(data), data["content"].clone())).collect();
            assert_eq!(edits[0], ("message:updated", sent.clone(), json!("first")));
            assert!(edits[1..].iter().all(|(name, _, _)| *name == "message:received"), "the same words again are no edit: {edits:?}");
        }
        let about_it = |events: Vec<(String, Value)>| events.into_iter().filter(|(_, data)| message_of(data) == sent).collect::<Vec<_>>();
        assert_eq!(about_it(told(&mut phone, &ben, &place).await), [], "the login that edited has the answer");
        assert_eq!(about_it(told(&mut cleared, &ann, &place).await), [], "he cleared it");
        assert_eq!(about_it(told(&mut removed, &ann, &place).await), [], "he removed it from his view");

        ann.rest.delete_message(&sent).await.unwrap();
        for socket in [&mut other, &mut sees] {
            assert_eq!(about(socket, "message:deleted", &sent).await["isDeleted"], true);
        }
        for socket in [&mut cleared, &mut removed] {
            assert_eq!(about_it(told(socket, &ann, &place).await), []);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forwarded_arrives_like_anything_that_is_said() {
    through_every_door(|scene| async move {
        let ann = scene.world.person_with_password("Ann").await;
        let (ben, cy) = (scene.world.person("Ben").await, scene.world.person("Cy").await);
        let (from, to) = (scene.world.direct(&ann, &ben).await, scene.world.group(&ann, "Two", &[&cy]).await);
        let tablet = ann.another_device().await;
        let words = [ben.rest.send_text(&from, "one", None).await.unwrap(), ben.rest.send_text(&from, "two", None).await.unwrap()];
        let (mut phone, mut other) = (ann.connect(scene.door).await, tablet.connect(scene.door).await);
        let (mut reader, mut author) = (cy.connect(scene.door).await, ben.connect(scene.door).await);
        let command = json!({"message_ids": [words[0]["id"], words[1]["id"]], "conversation_id": to});
        let forwarded = ann.rest.post("/messages/forward", &command).await.unwrap();
        for socket in [&mut reader, &mut other] {
            for (copy, content) in forwarded["messages"].as_array().unwrap().iter().zip(["one", "two"]) {
                let told = next(socket, "message:received").await;
                assert_eq!((&told["id"], &told["content"], &told["isForwarded"]), (&copy["id"], &json!(content), &json!(true)));
                assert_eq!((&told["senderId"], &told["conversationId"]), (&json!(ann.id()), &json!(to)));
            }
        }
        assert_eq!(told(&mut phone, &cy, &to).await, [], "the login that forwarded has the answer");
        assert_eq!(told(&mut author, &ann, &from).await, [], "whose words they were is not told");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_conversation_comes_back_with_a_message_and_not_with_an_edit() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let old = ben.rest.send_text(&place, "odl", None).await.unwrap();
        ann.rest.delete(&format!("/conversations/{place}")).await.unwrap();
        let edited = ben.rest.edit(&id(&old), "old").await.unwrap();
        // Neither for a device that has nothing nor for one that has the log up to the edit.
        for known in [json!({}), json!({&place: edited["seq"]})] {
            let mut phone = ann.connect(scene.door).await;
            let ack = phone.resume(&known).await.unwrap();
            assert_eq!(ack, json!({"recovered": true, "sent": 0}), "{known}");
            let came: Vec<_> = phone.drain().into_iter().map(|event| (event.name.clone(), event.json())).collect();
            assert!(!came.iter().any(|(_, data)| data["id"] == json!(place) || data["conversationId"] == json!(place)), "{came:?}");
            phone.close().await.unwrap();
        }
        let new = ben.rest.send_text(&place, "new", None).await.unwrap();
        let mut phone = ann.connect(scene.door).await;
        phone.resume(&json!({})).await.unwrap();
        about(&mut phone, "conversation:created", &place).await;
        about(&mut phone, "message:received", &id(&new)).await;
    })
    .await;
}
