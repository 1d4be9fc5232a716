//! POST /messages/forward: in order, or not at all.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use urge::event::Origin;

use super::{Chat, UNKNOWN, call, contents, failed, text};
use crate::support::TestServer;
use crate::support::wire::{Held, Wire};

#[tokio::test]
async fn messages_are_copied_in_their_order() {
    let chat = Chat::start().await;
    let (one, two) = (chat.group(&[&chat.bob]).await, chat.group(&[&chat.eve]).await);
    let mut ids = Vec::new();
    for n in 0..100 {
        ids.push(text(&chat.send(&chat.bob, &format!("m{n}")).await["id"]));
    }
    let command = json!({"message_ids": ids, "conversation_ids": [one, two, one]});
    let answer = chat.tell(&chat.ada, "POST /messages/forward", &command).await;
    assert_eq!((&answer["success"], &answer["forwarded_count"]), (&json!(true), &json!(200)));
    assert_eq!(answer["message"], "200 messages forwarded");
    let wanted: Vec<String> = (0..100).map(|n| format!("m{n}")).collect();
    assert_eq!(contents(&answer)[..100], wanted);
    for conversation in [&one, &two] {
        let history = chat.ask(&chat.ada, &format!("GET /conversations/{conversation}/messages?limit=100")).await;
        assert_eq!((contents(&history), &history["total"]), (wanted.iter().map(String::as_str).collect(), &json!(100)));
        let first = &history["messages"][0];
        assert_eq!((&first["isForwarded"], &first["senderId"]), (&json!(true), &json!(chat.ada.id())));
    }
    chat.server.stop().await;
}

#[tokio::test]
async fn a_copy_keeps_the_media_and_drops_the_answer() {
    let chat = Chat::start().await;
    let group = chat.group(&[&chat.eve]).await;
    let asked = chat.send(&chat.ada, "which one?").await;
    let command = json!({"conversation_id": chat.id, "media_url": "https://example.org/x.jpg", "type": "IMAGE",
        "reply_to_id": asked["id"], "client_message_id": "m1"});
    let sent = chat.tell(&chat.ada, "POST /messages", &command).await;
    let command = json!({"messageIds": [sent["id"]], "conversationId": group});
    let copy = chat.tell(&chat.ada, "POST /messages/forward", &command).await["messages"][0].clone();
    assert_eq!((&copy["mediaUrl"], &copy["messageType"]), (&sent["mediaUrl"], &json!("IMAGE")));
    assert_eq!((&copy["replyTo"], &copy["clientMessageId"]), (&Value::Null, &Value::Null));
    assert_ne!(copy["id"], sent["id"]);
    chat.server.stop().await;
}

#[tokio::test]
async fn a_refusal_leaves_nothing_behind() {
    let chat = Chat::start().await;
    let (mine, theirs) = (chat.group(&[&chat.bob]).await, chat.group(&[&chat.eve]).await);
    let fine = text(&chat.send(&chat.ada, "fine").await["id"]);
    let foreign = text(&chat.send_to(&chat.ada, &theirs, "not for Bob").await["id"]);
    let deleted = text(&chat.send(&chat.ada, "gone").await["id"]);
    chat.ask(&chat.ada, &format!("DELETE /messages/{deleted}")).await;
    let hidden = text(&chat.send(&chat.ada, "hidden").await["id"]);
    chat.ask(&chat.bob, &format!("DELETE /messages/{hidden}")).await;
    let cases = [
        (json!({"message_ids": [fine, foreign], "conversation_id": mine}), 403, "forbidden"),
        (json!({"message_ids": [fine, hidden], "conversation_id": mine}), 403, "forbidden"),
        (json!({"message_ids": [fine, UNKNOWN], "conversation_id": mine}), 403, "forbidden"),
        (json!({"message_ids": [fine, deleted], "conversation_id": mine}), 400, "bad_request"),
        (json!({"message_ids": [fine], "conversation_ids": [mine, theirs]}), 403, "forbidden"),
        (json!({"message_ids": [fine], "conversation_ids": [mine, UNKNOWN]}), 404, "not_found"),
        (json!({"message_ids": [], "conversation_id": mine}), 422, "validation_error"),
        (json!({"message_ids": [fine]}), 422, "validation_error"),
        (json!({"conversation_id": mine}), 422, "validation_error"),
        (json!({"message_ids": "x", "conversation_id": mine}), 422, "validation_error"),
        (json!({"message_ids": ["x"], "conversation_id": mine}), 422, "validation_error"),
        (json!({"message_ids": many(101), "conversation_id": mine}), 422, "validation_error"),
        (json!({"message_ids": [fine], "conversation_ids": many(21)}), 422, "validation_error"),
    ];
    for (command, status, code) in cases {
        chat.refuse(&chat.bob, "POST /messages/forward", &command, status, code).await;
    }
    assert_eq!(chat.ask(&chat.bob, &format!("GET /conversations/{mine}/messages")).await["total"], 0);
    chat.server.stop().await;
}

fn many(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("0197a5a3-0000-7000-8000-{n:012}")).collect()
}

/// A chat whose stores of conversations and messages the test can stop.
async fn wired() -> (Chat, Arc<Wire>) {
    let wire = Arc::new(Wire::default());
    let server = TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| wire.conversations(backends)).await;
    (Chat::on(server).await, wire)
}

#[tokio::test]
async fn the_same_forward_again_makes_the_same_copies() {
    let (chat, wire) = wired().await;
    let (one, two) = (chat.group(&[&chat.bob]).await, chat.group(&[&chat.eve]).await);
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(text(&chat.send(&chat.bob, &format!("m{n}")).await["id"]));
    }
    let command = json!({"message_ids": ids, "conversation_ids": [one, two], "client_message_id": "f1"});
    // One conversation has its copies, the other finds no room.
    wire.pass("append_whole");
    wire.full("append_whole");
    chat.refuse(&chat.ada, "POST /messages/forward", &command, 503, "unavailable").await;
    assert!(wire.is_done());
    let again = chat.tell(&chat.ada, "POST /messages/forward", &command).await;
    assert_eq!((&again["forwarded_count"], &again["message"]), (&json!(6), &json!("6 messages forwarded")));
    assert_eq!(chat.tell(&chat.ada, "POST /messages/forward", &command).await["messages"], again["messages"]);
    for conversation in [&one, &two] {
        let history = chat.ask(&chat.ada, &format!("GET /conversations/{conversation}/messages")).await;
        assert_eq!((contents(&history), &history["total"]), (vec!["m0", "m1", "m2"], &json!(3)));
    }
    let other = json!({"message_ids": ids, "conversation_id": one, "client_message_id": "f2"});
    assert_eq!(chat.tell(&chat.ada, "POST /messages/forward", &other).await["forwarded_count"], 3);
    assert_eq!(chat.ask(&chat.ada, &format!("GET /conversations/{one}/messages")).await["total"], 6);
    let long = json!({"message_ids": ids, "conversation_id": one, "client_message_id": "x".repeat(129)});
    chat.refuse(&chat.ada, "POST /messages/forward", &long, 422, "validation_error").await;
    chat.server.stop().await;
}

#[tokio::test]
async fn copies_that_could_not_be_stored_are_not_said_to_be() {
    let (chat, wire) = wired().await;
    let (one, two) = (chat.group(&[&chat.bob]).await, chat.group(&[&chat.eve]).await);
    let id = text(&chat.send(&chat.bob, "hello").await["id"]);
    let command = json!({"message_ids": [id], "conversation_ids": [one, two]});
    wire.pass("append_whole");
    wire.damage("append_whole");
    let answer = chat.tell(&chat.ada, "POST /messages/forward", &command).await;
    assert!(wire.is_done());
    assert_eq!((&answer["forwarded_count"], answer["messages"].as_array().unwrap().len()), (&json!(1), 1));
    assert_eq!(answer["message"], "1 of 2 messages forwarded, the others could not be");
    chat.server.stop().await;
}

#[tokio::test]
async fn conversations_are_written_to_side_by_side() {
    let (chat, wire) = wired().await;
    let (one, two) = (chat.group(&[&chat.bob]).await, chat.group(&[&chat.eve]).await);
    let id = text(&chat.send(&chat.bob, "hello").await["id"]);
    let held = [wire.hold("append_whole"), wire.hold("append_whole")];
    let command = json!({"message_ids": [id], "conversation_ids": [one, two]});
    let forwarding = chat.tell(&chat.ada, "POST /messages/forward", &command);
    let both = async {
        for call in &held {
            call.reached().await;
        }
        held.iter().for_each(Held::go_on);
    };
    assert_eq!(tokio::join!(forwarding, both).0["forwarded_count"], 2);
    chat.server.stop().await;
}

#[tokio::test]
async fn each_copy_counts_as_a_message_sent() {
    // Each node counts for itself.
    let chat = Chat::on(TestServer::alone(|config| config.rate_limit = true).await).await;
    let group = chat.group(&[&chat.bob]).await;
    let mut ids = Vec::new();
    for n in 0..30 {
        ids.push(text(&chat.send(&chat.ada, &format!("m{n}")).await["id"]));
    }
    let forward = json!({"message_ids": ids, "conversation_ids": [group, chat.id]});
    let refused = json!({"message_ids": ids, "conversation_ids": [group, UNKNOWN]});
    for _ in 0..5 {
        chat.refuse(&chat.bob, "POST /messages/forward", &refused, 404, "not_found").await;
    }
    // More than the burst passes at once, and is paid for: the next message waits for it.
    assert_eq!(chat.tell(&chat.bob, "POST /messages/forward", &forward).await["forwarded_count"], 60);
    let send = json!({"conversation_id": chat.id, "content": "one more"});
    let wait = call(&chat.server, "POST /messages", Some(&chat.bob.token), &send).await;
    assert!(wait.headers().contains_key("retry-after"));
    failed(wait, 429, "rate_limited").await;
    chat.server.stop().await;
}

#[tokio::test]
async fn what_the_system_says_is_nobodys_to_forward_or_to_change() {
    let chat = Chat::start().await;
    let group = chat.group(&[&chat.bob]).await;
    let (ada, eve) = (chat.ada.id().parse().unwrap(), chat.eve.id().parse().unwrap());
    let conversations = &chat.server.services.conversations;
    conversations.add_members(ada, group.parse().unwrap(), &[eve], Origin::default()).await.unwrap();
    let history = chat.ask(&chat.ada, &format!("GET /conversations/{group}/messages")).await;
    let said = &history["messages"][0];
    assert_eq!((&said["messageType"], &said["content"]), (&json!("SYSTEM"), &json!("Ada added Eve")));
    let (id, fine) = (text(&said["id"]), text(&chat.send(&chat.ada, "fine").await["id"]));
    let forward = json!({"message_ids": [fine, id], "conversation_id": chat.id});
    chat.refuse(&chat.ada, "POST /messages/forward", &forward, 400, "bad_request").await;
    assert_eq!(chat.history(&chat.ada).await["total"], 1, "nothing was forwarded");
    chat.refuse(&chat.ada, &format!("PUT /messages/{id}"), &json!({"content": "x"}), 403, "forbidden").await;
    chat.refuse(&chat.ada, &format!("DELETE /messages/{id}?scope=everyone"), &Value::Null, 403, "forbidden").await;
    chat.refuse(&chat.bob, "POST /messages", &json!({"conversation_id": group, "content": "x", "type": "SYSTEM"}), 422, "validation_error")
        .await;
    // From one's own view it goes like any other.
    chat.ask(&chat.ada, &format!("DELETE /messages/{id}")).await;
    assert_eq!(chat.ask(&chat.ada, &format!("GET /conversations/{group}/messages")).await["total"], 0);
    assert_eq!(chat.ask(&chat.bob, &format!("GET /conversations/{group}/messages")).await["total"], 1);
    chat.server.stop().await;
}
