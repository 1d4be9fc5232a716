//! Messages on their way: who gets them, who does not, changes to them, and that nothing is sent twice.

use serde_json::{Value, json};

use super::{about, before_marker, message_of, names, next, send, through_every_door};
use crate::support::{PATIENCE, id};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_every_device_but_the_socket_that_sent_it() {
    through_every_door(|scene| async move {
        let ann = scene.world.person_with_password("Ann").await;
        let ben = scene.world.person("Ben").await;
        let place = scene.world.direct(&ann, &ben).await;
        let tablet = ann.another_device().await;
        let (mut phone, mut beside) = (ann.connect(scene.door).await, ann.connect(scene.door).await);
        let (mut other, mut peer) = (tablet.connect(scene.door).await, ben.connect(scene.door).await);

        let command = json!({"conversationId": place, "content": "hello", "clientMessageId": "one", "id": 1_700_000_000_123_u64});
        let ack = phone.call("message:sent", &command).await.unwrap();
        assert_eq!((&ack["content"], &ack["senderName"], &ack["status"]), (&json!("hello"), &json!("Ann"), &json!("SENT")));
        for socket in [&mut beside, &mut other, &mut peer] {
            let told = next(socket, "message:received").await;
            for field in ["id", "seq", "changeSeq", "conversationId", "senderId", "content", "messageType", "type", "clientMessageId"] {
                assert_eq!(told[field], ack[field], "{field}");
            }
            assert_eq!(told.get("isStarred"), None, "live events differ by nobody");
            assert_eq!(told["sender_id"].is_string(), scene.door.is_socket_io(), "the app's dialect");
        }

        // The same again, by its client's name and by its id, and with ids that name nothing.
        assert_eq!(phone.call("message:sent", &command).await.unwrap()["id"], ack["id"]);
        let by_id = json!({"conversation_id": place, "content": "hello", "id": ack["id"]});
        assert_eq!(phone.call("message:sent", &by_id).await.unwrap()["id"], ack["id"]);
        assert_eq!(phone.call("message:sent", &json!({"id": ack["id"]})).await.unwrap()["content"], "hello");
        let theirs = ben.connect(scene.door).await;
        assert_eq!(theirs.call("message:sent", &json!({"id": ack["id"]})).await.unwrap_err().code(), "validation_error");
        for strange in [json!("temp_1"), json!(7), json!(true), Value::Null] {
            let command = json!({"conversationId": place, "content": "hello", "clientMessageId": "one", "id": strange});
            assert_eq!(phone.call("message:sent", &command).await.unwrap()["id"], ack["id"]);
        }

        // By POST: the sockets of the login that posted have the answer, the others the event.
        let posted = ann.rest.send_text(&place, "by post", None).await.unwrap();
        for socket in [&mut other, &mut peer] {
            about(socket, "message:received", &message_of(&posted)).await;
        }
        for socket in [&mut phone, &mut beside, &mut other, &mut peer] {
            let sender = if socket.user_id() == ben.id() { &ann } else { &ben };
            let before = before_marker(socket, sender, &place).await;
            let again: Vec<_> = before.iter().filter(|(name, data)| name == "message:received" && data["content"] != "marker").collect();
            assert!(again.is_empty(), "{again:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_and_deletions_are_told_as_the_message_stands_now() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let (phone, mut peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        let sent = send(&phone, &place, "frist").await;
        // Whose star it is nobody else is told, himself included.
        ben.rest.post_empty(&format!("/messages/{}/star", id(&sent))).await.unwrap();
        ann.rest.edit(&id(&sent), "first").await.unwrap();
        let updated = about(&mut peer, "message:updated", &id(&sent)).await;
        assert_eq!(updated.get("isStarred"), None);
        assert_eq!((&updated["content"], &updated["isEdited"], &updated["seq"]), (&json!("first"), &json!(true), &sent["seq"]));
        assert_eq!(updated["changeSeq"].as_i64().unwrap(), sent["seq"].as_i64().unwrap() + 1);
        ann.rest.delete_message(&id(&sent)).await.unwrap();
        let deleted = about(&mut peer, "message:deleted", &id(&sent)).await;
        assert_eq!(deleted.get("isStarred"), None);
        assert_eq!((&deleted["content"], &deleted["isDeleted"]), (&json!("This message was deleted"), &json!(true)));
        assert_eq!(deleted["changeSeq"].as_i64().unwrap(), sent["seq"].as_i64().unwrap() + 2);
        let error = phone.call("message:sent", &json!({"conversationId": place})).await.unwrap_err();
        assert_eq!(error.code(), "validation_error");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_messages_come_as_new_ones_where_they_were_sent_to() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        let (beside, group) = (scene.world.direct(&ann, &cy).await, scene.world.group(&ann, "Club", &[&ben, &cy]).await);
        let mut sent = Vec::new();
        for content in ["one", "two"] {
            sent.push(ann.rest.send_text(&place, content, None).await.unwrap());
        }
        let mut friend = cy.connect(scene.door).await;
        let ids: Vec<_> = sent.iter().map(|message| &message["id"]).collect();
        let command = json!({"message_ids": ids, "conversation_ids": [beside, group]});
        let forwarded = ann.rest.post("/messages/forward", &command).await.unwrap();
        assert_eq!(forwarded["forwarded_count"], 4);
        for place in [&beside, &group] {
            for content in ["one", "two"] {
                let is_here =
                    |event: &loadtest::socket::Event| event.name == "message:received" && event.json()["conversationId"] == *place;
                let told = friend.next_match("a forwarded message", PATIENCE, is_here).await.unwrap().json();
                assert_eq!((&told["content"], &told["isForwarded"], &told["senderName"]), (&json!(content), &json!(true), &json!("Ann")));
                let answer = forwarded["messages"].as_array().unwrap().iter().find(|message| message["id"] == told["id"]).unwrap();
                assert_eq!(answer["seq"], told["seq"]);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_conversation_reaches_the_other_devices_of_who_made_it() {
    through_every_door(|scene| async move {
        let (ann, ben) = (scene.world.person_with_password("Ann").await, scene.world.person("Ben").await);
        let tablet = ann.another_device().await;
        let mut other = tablet.connect(scene.door).await;
        let place = scene.world.direct(&ann, &ben).await;
        let group = scene.world.group(&ann, "Club", &[&ben]).await;
        for (place, name) in [(&place, "Ben"), (&group, "Club")] {
            let created = about(&mut other, "conversation:created", place).await;
            assert_eq!((&created["name"], &created["lastMessage"]), (&json!(name), &Value::Null));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_told_of_before_its_first_message() {
    through_every_door(|scene| async move {
        let (ann, ben) = (scene.world.person("Ann").await, scene.world.person("Ben").await);
        let (mut phone, mut peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        let place = scene.world.direct(&ann, &ben).await;
        let first = send(&phone, &place, "first").await;
        let created = peer.collect_until(PATIENCE, |events| events.last().is_some_and(|e| e.name == "message:received"));
        let created: Vec<_> = created.await.unwrap().into_iter().map(|event| (event.name.clone(), event.json())).collect();
        let of_place: Vec<_> = created.iter().filter(|(_, data)| data["id"] == place || data["id"] == first["id"]).cloned().collect();
        assert_eq!(names(&of_place), ["conversation:created", "message:received"]);
        assert_eq!((&of_place[0].1["name"], &of_place[0].1["type"]), (&json!("Ann"), &json!("DIRECT")));

        let group = scene.world.group(&ben, "Club", &[&ann]).await;
        let created = about(&mut phone, "conversation:created", &group).await;
        assert_eq!((&created["id"], &created["name"], &created["participantCount"]), (&json!(group), &json!("Club"), &json!(2)));
        let joined = send(&peer, &group, "welcome").await;
        about(&mut phone, "message:received", &id(&joined)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_no_participant_is_refused_and_told_nothing() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        let group = scene.world.group(&ann, "Club", &[&ben, &cy]).await;
        let (phone, mut stranger) = (ann.connect(scene.door).await, cy.connect(scene.door).await);
        let sent = send(&phone, &place, "between us").await;
        for (event, data) in [
            ("join:conversation", json!(place)),
            ("join:conversation", json!({"conversationId": place})),
            ("message:sent", json!({"conversationId": place, "content": "me too"})),
            ("message:read", json!({"conversationId": place, "messageId": sent["id"]})),
            ("message:delivered", json!(sent["id"])),
            ("typing:start", json!({"conversationId": place})),
            ("typing:stop", json!({"conversationId": place})),
        ] {
            assert_eq!(stranger.call(event, &data).await.unwrap_err().code(), "forbidden", "{event}");
        }
        for (event, data) in [("join:conversation", json!({"conversationId": group})), ("leave:conversation", json!(group))] {
            assert_eq!(stranger.call(event, &data).await.unwrap(), json!({"success": true}));
        }
        assert_eq!(stranger.call("join:conversation", &json!("x")).await.unwrap_err().code(), "validation_error");
        assert_eq!(stranger.call("no:such", &json!({})).await.unwrap_err().code(), "not_found");

        // Who was in it until a moment ago hears that he is out, and nothing more.
        let services = &scene.server.services;
        let (founder, member) = (ann.id().parse().unwrap(), cy.id().parse().unwrap());
        services.conversations.remove_member(founder, group.parse().unwrap(), member, urge::event::Origin::default()).await.unwrap();
        assert_eq!(next(&mut stranger, "message:received").await["messageType"], "SYSTEM");
        send(&phone, &group, "he is gone").await;
        let direct = scene.world.direct(&ann, &cy).await;
        let before = before_marker(&mut stranger, &ann, &direct).await;
        assert!(!before.iter().any(|(_, data)| data["conversationId"] == json!(group) || data["id"] == json!(group)), "{before:?}");
        assert_eq!(stranger.call("typing:start", &json!({"conversationId": group})).await.unwrap_err().code(), "forbidden");
    })
    .await;
}
