//! What a resume brings beside new messages: conversations that are new, members who came and went, marks and flags.
//! And what it does not bring: too much, what the client cleared or hid, what is not his.

use futures_util::future::join_all;
use loadtest::Socket;
use serde_json::{Value, json};
use urge::messages::{SendMessage, Sent};

use super::resume::{messages, resume, row};
use super::{Scene, about, names, next, send, through_every_door};
use crate::support::{Person, id};

/// Rows that one resume replays at most.
const MAX_REPLAY: i64 = 1_000;
/// Conversations that one resume may name.
const MAX_KNOWN: usize = 10_000;

/// Says so many things, many at once: they share commits.
async fn say(scene: &Scene, who: &Person, place: &str, count: i64) {
    let messages = &scene.server.services.messages;
    let (user, place) = (who.id().parse().unwrap(), place.parse().unwrap());
    let draft = |n: &i64| SendMessage { conversation_id: Some(place), content: Some(format!("number {n}")), ..SendMessage::default() };
    for some in (0..count).collect::<Vec<_>>().chunks(250) {
        let sent = join_all(some.iter().map(draft).map(|draft| messages.send(user, draft, Sent::default()))).await;
        for sent in sent {
            sent.unwrap();
        }
    }
}

/// The events about this conversation.
fn of(place: &str, events: &[(String, Value)]) -> Vec<(String, Value)> {
    events.iter().filter(|(_, data)| data["conversationId"] == place || data["id"] == place).cloned().collect()
}

/// The contents of these messages.
fn contents(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().filter(|(name, _)| name == "message:received").map(|(_, data)| data["content"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rows_are_replayed_and_one_more_is_too_much() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let first = row(&ann.rest.send_text(&place, "first", None).await.unwrap());
        say(&scene, &ann, &place, MAX_REPLAY).await;
        let mut socket = ben.connect(scene.door).await;
        let (ack, came) = resume(&mut socket, &json!({&place: first})).await;
        assert_eq!((&ack["recovered"], &ack["sent"]), (&json!(true), &json!(came.len())));
        let rows: Vec<_> = messages(&came).into_iter().map(|(_, _, row)| row).collect();
        assert_eq!(rows, (first + 1..=first + MAX_REPLAY).collect::<Vec<_>>());

        // The node has told of all that is before it.
        let more = ann.rest.send_text(&place, "one more", None).await.unwrap();
        assert_eq!(next(&mut socket, "message:received").await["id"], more["id"]);
        let mut beside = ben.connect(scene.door).await;
        let (ack, came) = resume(&mut beside, &json!({&place: first})).await;
        assert_eq!((ack, messages(&came).len()), (json!({"recovered": false}), 0));
        // From here on it is told all the same.
        let sent = ann.rest.send_text(&place, "live", None).await.unwrap();
        assert_eq!(next(&mut beside, "message:received").await["id"], sent["id"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_nothing_is_told_of_each_conversation_before_its_messages() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let sent = ann.rest.send_text(&place, "hello", None).await.unwrap();
        let empty = scene.world.group(&ann, "Club", &[&ben]).await;
        let gone = scene.world.group(&ann, "Gone", &[&ben]).await;
        ben.rest.delete(&format!("/conversations/{gone}")).await.unwrap();
        let mut socket = ben.connect(scene.door).await;
        let (ack, came) = resume(&mut socket, &json!({})).await;
        assert_eq!((&ack["recovered"], &ack["sent"]), (&json!(true), &json!(came.len())), "{came:?}");
        let of_place = of(&place, &came);
        assert_eq!(names(&of_place), ["conversation:created", "message:received"]);
        assert_eq!((&of_place[0].1["name"], &of_place[0].1["unreadCount"]), (&json!("Ann"), &json!(1)));
        assert_eq!(of_place[1].1["id"], sent["id"]);
        let of_empty = of(&empty, &came);
        assert_eq!(names(&of_empty), ["conversation:created"]);
        assert_eq!((&of_empty[0].1["name"], &of_empty[0].1["lastMessage"]), (&json!("Club"), &Value::Null));
        assert!(of(&gone, &came).is_empty(), "he took it out of his list");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_let_in_or_put_out_meanwhile_learns_of_it_and_of_nothing_beyond() {
    through_every_door(|scene| async move {
        let (ann, ben, _) = scene.pair().await;
        let cy = scene.world.person("Cy").await;
        let (left, entered) = (scene.world.group(&ann, "Left", &[&ben]).await, scene.world.group(&ann, "Entered", &[&cy]).await);
        let known = row(&ann.rest.send_text(&left, "known", None).await.unwrap());
        for place in [&left, &entered] {
            ann.rest.send_text(place, "before", None).await.unwrap();
        }
        scene.remove(&ann, &left, &ben).await;
        scene.add(&ann, &entered, &ben).await;
        for place in [&left, &entered] {
            ann.rest.send_text(place, "after", None).await.unwrap();
        }
        let mut socket = ben.connect(scene.door).await;
        let (ack, came) = resume(&mut socket, &json!({&left: known})).await;
        assert_eq!((&ack["recovered"], &ack["sent"]), (&json!(true), &json!(came.len())), "{came:?}");
        let of_left = of(&left, &came);
        assert_eq!(names(&of_left), ["message:received", "message:received"]);
        assert_eq!(contents(&of_left), ["before", "Ann removed Ben"]);
        let of_entered = of(&entered, &came);
        assert_eq!(names(&of_entered), ["conversation:created", "message:received", "message:received"]);
        assert_eq!(of_entered[0].1["participantCount"], 3);
        assert_eq!(contents(&of_entered), ["Ann added Ben", "after"]);
        let live = ann.rest.send_text(&entered, "live", None).await.unwrap();
        assert_eq!(next(&mut socket, "message:received").await["id"], live["id"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_and_flags_are_told_as_they_are_now() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let sent = ann.rest.send_text(&place, "read me", None).await.unwrap();
        ben.rest.read_conversation(&place).await.unwrap();
        let answered = ben.rest.send_text(&place, "I have", None).await.unwrap();
        ann.rest.put_empty(&format!("/conversations/{place}/mute")).await.unwrap();
        let mut socket = ann.connect(scene.door).await;
        let (ack, came) = resume(&mut socket, &json!({&place: row(&sent)})).await;
        assert_eq!((&ack["recovered"], &ack["sent"]), (&json!(true), &json!(came.len())), "{came:?}");
        assert_eq!(messages(&came), [("message:received", id(&answered), row(&answered))]);
        let updated = came.iter().find(|(name, _)| name == "conversation:updated").unwrap();
        assert_eq!((&updated.1["id"], &updated.1["isMuted"], &updated.1["unreadCount"]), (&json!(place), &json!(true), &json!(1)));
        let receipts: Vec<_> = came.iter().filter(|(name, _)| matches!(name.as_str(), "receipts" | "message:read")).collect();
        let marks = json!({"conversationId": place, "userId": ben.id(), "deliveredSeq": sent["seq"], "readSeq": sent["seq"]});
        let read = json!({"messageId": sent["id"], "conversationId": place, "userId": ben.id()});
        let expected = if scene.door.is_socket_io() { ("message:read".to_owned(), read) } else { ("receipts".to_owned(), marks) };
        assert_eq!(receipts, [&expected]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cleared_or_hidden_does_not_come_back() {
    through_every_door(|scene| async move {
        let (ann, ben, cleared) = scene.pair().await;
        let hidden = scene.world.group(&ann, "Club", &[&ben]).await;
        let mut sent = Vec::new();
        for place in [&cleared, &hidden] {
            for content in ["known", "one", "two"] {
                sent.push(ann.rest.send_text(place, content, None).await.unwrap());
            }
        }
        ben.rest.delete(&format!("/conversations/{cleared}/clear")).await.unwrap();
        ben.rest.delete(&format!("/messages/{}?scope=me", id(&sent[4]))).await.unwrap();
        // Changes of what he does not see are not his business either.
        for gone in [&sent[1], &sent[4]] {
            ann.rest.edit(&id(gone), "edited").await.unwrap();
        }
        for place in [&cleared, &hidden] {
            ann.rest.send_text(place, "three", None).await.unwrap();
        }
        let mut socket = ben.connect(scene.door).await;
        let (ack, came) = resume(&mut socket, &json!({&cleared: row(&sent[0]), &hidden: row(&sent[3])})).await;
        assert_eq!((&ack["recovered"], &ack["sent"]), (&json!(true), &json!(came.len())), "{came:?}");
        assert_eq!(contents(&of(&cleared, &came)), ["three"]);
        assert_eq!(contents(&of(&hidden, &came)), ["two", "three"]);
        assert!(!names(&came).contains(&"message:updated"), "{came:?}");
    })
    .await;
}

/// Resumes with this in vain.
async fn refused(socket: &Socket, data: &Value) {
    let error = socket.call("resume", data).await.unwrap_err();
    assert_eq!(error.code(), "validation_error", "{error} of {:.100}", data.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_known_is_refused_or_means_nothing() {
    through_every_door(|scene| async move {
        let (ann, ben, place) = scene.pair().await;
        let mut socket = ben.connect(scene.door).await;
        let many: serde_json::Map<_, _> = (0..=MAX_KNOWN).map(|_| (urge::id::ConversationId::fresh().to_string(), json!(1))).collect();
        for known in [json!([]), json!("all"), json!(many)] {
            refused(&socket, &json!({"known": known})).await;
        }
        for data in [json!([]), json!("known"), json!(7)] {
            refused(&socket, &data).await;
        }
        // Places that no log has, and a conversation of others: nothing is to be had for them.
        let sent = ann.rest.send_text(&place, "hello", None).await.unwrap();
        about(&mut socket, "message:received", &id(&sent)).await;
        let others = scene.world.direct(&ann, &scene.world.person("Cy").await).await;
        ann.rest.send_text(&others, "not for Ben", None).await.unwrap();
        for known in [json!({&place: row(&sent) + 1_000, &others: 1}), json!({&place: i64::MAX})] {
            let mut beside = ben.connect(scene.door).await;
            let (ack, came) = resume(&mut beside, &known).await;
            assert_eq!((&ack["recovered"], messages(&came)), (&json!(true), Vec::new()));
        }
        let mut beside = ben.connect(scene.door).await;
        let (_, came) = resume(&mut beside, &json!({&place: -7})).await;
        assert_eq!(messages(&came), [("message:received", id(&sent), row(&sent))], "before the beginning");
        // A place that cannot be read is one that the client does not have, as in /sync.
        for known in [json!({"x": 1}), json!({&place: "one"}), json!({&place: 1.5}), json!({&place: null})] {
            let mut beside = ben.connect(scene.door).await;
            let (ack, came) = resume(&mut beside, &known).await;
            assert_eq!(ack["recovered"], true, "{known}");
            assert!(messages(&came).contains(&("message:received", id(&sent), row(&sent))), "{known}");
        }
        // None of it has hurt.
        send(&socket, &place, "none the worse").await;
    })
    .await;
}
