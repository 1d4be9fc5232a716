//! DELIVERED and READ: what sets them, who is told, and who is not.

use std::time::Duration;

use loadtest::socket::Event;
use serde_json::{Value, json};
use tokio::time::Instant;
use urge::event::Origin;

use super::{about, before_marker, message_of, names, next, send, through_every_door};
use crate::support::{PATIENCE, Person, id};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_when_it_was_written_to_a_socket_or_fetched() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let mut phone = ann.connect(scene.door).await;
        let mut peer = ben.connect(scene.door).await;
        let sent = send(&phone, &place, "live").await;
        about(&mut peer, "message:received", &id(&sent)).await;
        let told = about(&mut phone, "message:delivered", &id(&sent)).await;
        assert_eq!(told, json!({"messageId": sent["id"], "conversationId": place, "userId": ben.id()}));
        assert_eq!(ann.rest.message(&id(&sent)).await.unwrap()["status"], "DELIVERED");
        assert_eq!(peer.call("message:delivered", &json!({"messageId": sent["id"]})).await.unwrap(), json!({"success": true}));
        if scene.door.is_socket_io() {
            let before = before_marker(&mut phone, &ben, &place).await;
            assert!(!names(&before).contains(&"receipts"), "they are for /ws alone");
        } else {
            let told = next(&mut phone, "receipts").await;
            assert_eq!((&told["userId"], &told["deliveredSeq"], &told["readSeq"]), (&json!(ben.id()), &sent["seq"], &json!(0)));
        }
        peer.close().await.unwrap();
        peer.closed(PATIENCE).await.unwrap();
        let sent = send(&phone, &place, "fetched").await;
        ben.rest.history(&place, "limit=5").await.unwrap();
        about(&mut phone, "message:delivered", &id(&sent)).await;
        let sent = send(&phone, &place, "synced").await;
        ben.rest.sync(&json!({}), None).await.unwrap();
        about(&mut phone, "message:delivered", &id(&sent)).await;
        let sent = send(&phone, &place, "by name").await;
        ben.rest.put(&format!("/messages/{}/status", id(&sent)), &json!({"status": "DELIVERED"})).await.unwrap();
        about(&mut phone, "message:delivered", &id(&sent)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_is_told_up_to_the_message_and_never_taken_back() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let (mut phone, mut peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        let (one, two) = (send(&phone, &place, "one").await, send(&phone, &place, "two").await);
        about(&mut peer, "message:received", &id(&two)).await;
        let answer = peer.call("message:read", &json!({"messageId": two["id"], "conversationId": place})).await.unwrap();
        assert_eq!(answer["updated"], 2);
        for sent in [&one, &two] {
            let told = about(&mut phone, "message:read", &id(sent)).await;
            assert_eq!(told, json!({"messageId": sent["id"], "conversationId": place, "userId": ben.id()}));
        }
        phone.drain();
        peer.call("message:delivered", &json!(two["id"])).await.unwrap();
        assert_eq!(peer.call("message:read", &json!({"messageId": one["id"]})).await.unwrap()["updated"], 0);
        ben.rest.history(&place, "limit=5").await.unwrap();
        let before = before_marker(&mut phone, &ben, &place).await;
        assert!(!before.iter().any(|(_, data)| [&one, &two].iter().any(|sent| message_of(data) == id(sent))), "{before:?}");
        assert_eq!(ann.rest.message(&id(&one)).await.unwrap()["status"], "READ");

        let three = send(&phone, &place, "three").await;
        ben.rest.read_conversation(&place).await.unwrap();
        about(&mut phone, "message:read", &id(&three)).await;
        assert_eq!(ben.rest.conversation(&place).await.unwrap()["unreadCount"], 0);

        // The other ways to say it: by the bare id, and by the status of one message.
        let four = send(&phone, &place, "four").await;
        assert_eq!(peer.call("message:read", &four["id"]).await.unwrap(), json!({"success": true, "updated": 1}));
        let told = about(&mut phone, "message:read", &id(&four)).await;
        assert_eq!(told, json!({"messageId": four["id"], "conversationId": place, "userId": ben.id()}));
        let five = send(&phone, &place, "five").await;
        let status = json!({"status": "READ"});
        ben.rest.put(&format!("/messages/{}/status", id(&five)), &status).await.unwrap();
        let told = about(&mut phone, "message:read", &id(&five)).await;
        assert_eq!(told, json!({"messageId": five["id"], "conversationId": place, "userId": ben.id()}));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_turn_at_once_the_newest_fifty_are_told() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let mut phone = ann.connect(scene.door).await;
        let mut sent = Vec::new();
        for n in 0..60 {
            sent.push(id(&send(&phone, &place, &n.to_string()).await));
        }
        let answer = ben.rest.post("/messages/read", &json!({"message_ids": [sent[3], sent[59]], "conversation_id": place})).await;
        assert_eq!(answer.unwrap()["updated"], 60);
        let before = before_marker(&mut phone, &ben, &place).await;
        let read: Vec<_> = before.iter().filter(|(name, _)| name == "message:read").map(|(_, data)| message_of(data)).collect();
        assert_eq!(read, sent[10..]);
        assert!(!names(&before).contains(&"message:delivered"), "they were read at once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_of_a_posted_message_wait_for_its_answer() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let (mut phone, mut peer) = (ann.connect(scene.door).await, ben.connect(scene.door).await);
        let sent = ann.rest.send_text(&place, "posted", None).await.unwrap();
        let answered = Instant::now();
        about(&mut peer, "message:received", &id(&sent)).await;
        peer.call("message:read", &json!({"messageId": sent["id"]})).await.unwrap();
        let accept = |event: &Event| matches!(event.name.as_str(), "message:delivered" | "message:read");
        let first = phone.next_match("a receipt", PATIENCE, accept).await.unwrap();
        assert!(first.at.duration_since(answered) >= Duration::from_millis(500), "{:?}", first.at.duration_since(answered));
        if first.name == "message:delivered" {
            about(&mut phone, "message:read", &id(&sent)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hides_read_receipts_counts_as_delivered_only() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        ben.rest.put("/settings/privacy", &json!({"show_read_receipts": false})).await.unwrap();
        let mut phone = ann.connect(scene.door).await;
        let sent = send(&phone, &place, "hello").await;
        ben.rest.read_conversation(&place).await.unwrap();
        about(&mut phone, "message:delivered", &id(&sent)).await;
        let before = before_marker(&mut phone, &ben, &place).await;
        assert!(!names(&before).contains(&"message:read"), "{before:?}");
        assert_eq!(ann.rest.message(&id(&sent)).await.unwrap()["status"], "DELIVERED");
        assert_eq!(ben.rest.conversation(&place).await.unwrap()["unreadCount"], 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_group_a_message_turns_when_the_last_one_has_it() {
    through_every_door(|scene| async move {
        let (ann, ben, _) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        let group = scene.world.group(&ann, "Club", &[&ben, &cy]).await;
        let mut phone = ann.connect(scene.door).await;
        let sent = send(&phone, &group, "hello").await;
        ben.rest.read_conversation(&group).await.unwrap();
        let before = before_marker(&mut phone, &ben, &group).await;
        assert!(!before.iter().any(|(name, _)| name == "message:delivered" || name == "message:read"), "{before:?}");
        cy.rest.history(&group, "limit=5").await.unwrap();
        about(&mut phone, "message:delivered", &id(&sent)).await;
        cy.rest.read_conversation(&group).await.unwrap();
        about(&mut phone, "message:read", &id(&sent)).await;
        assert_eq!(ann.rest.message(&id(&sent)).await.unwrap()["status"], "READ");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_group_turns_when_the_last_who_lacked_it_leaves() {
    through_every_door(|scene| async move {
        let (ann, ben, _) = scene.pair().await;
        let (cy, dan) = (scene.world.person("Cy").await, scene.world.person("Dan").await);
        let group = scene.world.group(&ann, "Club", &[&ben, &cy, &dan]).await;
        let mut phone = ann.connect(scene.door).await;
        let [read, delivered, new] = [send(&phone, &group, "1").await, send(&phone, &group, "2").await, send(&phone, &group, "3").await];
        let by_dan = dan.rest.send_text(&group, "his own waits for the others", None).await.unwrap();
        let upto = |who: &Person, message: &Value| {
            let (rest, body) = (who.rest.clone(), json!({"message_ids": [message["id"]]}));
            async move { rest.post("/messages/read", &body).await.unwrap() }
        };
        upto(&ben, &read).await;
        ben.rest.put(&format!("/messages/{}/status", id(&delivered)), &json!({"status": "DELIVERED"})).await.unwrap();
        // Cy has read everything, Ben some, Dan nothing at all.
        upto(&cy, &by_dan).await;
        let before = before_marker(&mut phone, &ben, &group).await;
        assert!(!before.iter().any(|(name, _)| name == "message:delivered" || name == "message:read"), "{before:?}");

        scene.remove(&ann, &group, &dan).await;
        for (name, message) in [("message:read", &read), ("message:delivered", &delivered)] {
            let told = about(&mut phone, name, &id(message)).await;
            assert_eq!(told, json!({"messageId": message["id"], "conversationId": group, "userId": dan.id()}));
        }
        // What Ben lacks has not turned, and Dan, who is out, is told of nothing.
        let before = before_marker(&mut phone, &cy, &group).await;
        assert!(!before.iter().any(|(name, data)| name.starts_with("message:") && message_of(data) == id(&new)), "{before:?}");
        for (message, status) in [(&read, "READ"), (&delivered, "DELIVERED"), (&new, "SENT")] {
            assert_eq!(ann.rest.message(&id(message)).await.unwrap()["status"], status);
        }
        // He leaves by himself: Cy has read the rest.
        let (group, his) = (group.parse().unwrap(), ben.id().parse().unwrap());
        scene.server.services.conversations.leave(his, group, Origin::default()).await.unwrap();
        let told = about(&mut phone, "message:read", &id(&new)).await;
        assert_eq!(told["userId"], ben.id());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_large_group_messages_stay_sent() {
    through_every_door(|scene| async move {
        let ann = scene.world.person("Ann").await;
        let mut others = Vec::new();
        for _ in 0..65 {
            others.push(scene.world.person("Member").await);
        }
        let group = scene.world.group(&ann, "Crowd", &others.iter().collect::<Vec<&Person>>()).await;
        let (mut phone, mut peer) = (ann.connect(scene.door).await, others[0].connect(scene.door).await);
        let sent = send(&phone, &group, "hello").await;
        about(&mut peer, "message:received", &id(&sent)).await;
        peer.call("message:read", &json!({"messageId": sent["id"], "conversationId": group})).await.unwrap();
        let before = before_marker(&mut phone, &others[1], &group).await;
        assert!(!before.iter().any(|(name, _)| matches!(name.as_str(), "message:delivered" | "message:read" | "receipts")), "{before:?}");
        assert_eq!(ann.rest.message(&id(&sent)).await.unwrap()["status"], "SENT");
        assert_eq!(others[0].rest.conversation(&group).await.unwrap()["unreadCount"], 1, "the marker");
    })
    .await;
}
