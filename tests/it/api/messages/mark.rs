//! PUT /messages/{id}/status, POST /messages/read, GET /messages/{id}/receipts. On one node: marks that were moved through
//! another one are remembered as they were.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Chat, UNKNOWN, text};
use crate::support::{PATIENCE, People};

#[tokio::test]
async fn reading_goes_up_to_the_newest_message_named() {
    let chat = Chat::start().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(text(&chat.send(&chat.ada, &format!("m{n}")).await["id"]));
    }
    let statuses = async || {
        let history = chat.history(&chat.ada).await;
        history["messages"].as_array().unwrap().iter().map(|message| text(&message["status"])).collect::<Vec<_>>()
    };
    let set = async |id: &str, status: &str| {
        chat.tell(&chat.bob, &format!("PUT /messages/{id}/status"), &json!({"status": status})).await["updated"].clone()
    };
    assert_eq!(statuses().await, ["SENT", "SENT", "SENT"]);
    assert_eq!(set(&ids[0], "delivered").await, 0);
    assert_eq!(statuses().await, ["DELIVERED", "SENT", "SENT"]);
    assert_eq!(set(&ids[1], "READ").await, 2);
    assert_eq!(set(&ids[0], "SENT").await, 0);
    assert_eq!(statuses().await, ["READ", "READ", "SENT"]);
    let answer = chat.tell(&chat.bob, "POST /messages/read", &json!({"message_ids": [ids[2], ids[0]]})).await;
    assert_eq!(answer, json!({"success": true, "updated": 1}));
    assert_eq!(statuses().await, ["READ", "READ", "READ"]);
    chat.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_marked_is_named() {
    let chat = Chat::start().await;
    let id = text(&chat.send(&chat.ada, "x").await["id"]);
    let group = chat.group(&[&chat.bob]).await;
    for wrong in [json!({}), json!({"status": "EATEN"}), json!({"status": 1})] {
        chat.refuse(&chat.bob, &format!("PUT /messages/{id}/status"), &wrong, 422, "validation_error").await;
    }
    let many: Vec<_> = (0..501).map(|_| UNKNOWN).collect();
    let cases = [
        (json!({}), 422, "validation_error"),
        (json!({"message_ids": many}), 422, "validation_error"),
        (json!({"message_ids": [id], "conversation_id": group}), 422, "validation_error"),
        (json!({"message_ids": [UNKNOWN]}), 404, "not_found"),
    ];
    for (command, status, code) in cases {
        chat.refuse(&chat.bob, "POST /messages/read", &command, status, code).await;
    }
    chat.server.stop().await;
}

#[tokio::test]
async fn receipts_say_who_has_read_unless_he_hides_it() {
    let chat = Chat::start().await;
    let group = chat.group(&[&chat.bob, &chat.eve]).await;
    let id = text(&chat.send_to(&chat.ada, &group, "who reads this?").await["id"]);
    let receipts = async |query: &str| chat.ask(&chat.ada, &format!("GET /messages/{id}/receipts{query}")).await;
    let nobody = json!({"receipts": [], "read_count": 0, "delivered_count": 0, "next_cursor": null});
    assert_eq!(receipts("").await, nobody);
    chat.tell(&chat.bob, &format!("PUT /messages/{id}/status"), &json!({"status": "READ"})).await;
    chat.tell(&chat.eve, "PUT /settings/privacy", &json!({"show_read_receipts": false})).await;
    chat.server.settled().await;
    chat.tell(&chat.eve, &format!("PUT /messages/{id}/status"), &json!({"status": "READ"})).await;
    let read = receipts("?kind=read").await;
    assert_eq!((&read["read_count"], &read["delivered_count"]), (&json!(1), &json!(2)));
    assert_eq!(read["receipts"].as_array().unwrap().len(), 1);
    let receipt = &read["receipts"][0];
    assert_eq!((&receipt["user_id"], &receipt["display_name"]), (&json!(chat.bob.id()), &json!("Bob")));
    assert!(text(&receipt["at"]).ends_with('Z'));
    let first = receipts("?kind=delivered&limit=1").await;
    let second = receipts(&format!("?kind=delivered&limit=1&cursor={}", text(&first["next_cursor"]))).await;
    assert_eq!(second["next_cursor"], Value::Null);
    let mut people = [text(&first["receipts"][0]["user_id"]), text(&second["receipts"][0]["user_id"])];
    people.sort_unstable();
    let mut wanted = [chat.bob.id(), chat.eve.id()];
    wanted.sort_unstable();
    assert_eq!(people, wanted);
    let route = format!("GET /messages/{id}/receipts");
    chat.refuse(&chat.ada, &format!("{route}?kind=eaten"), &Value::Null, 422, "validation_error").await;
    let cursor = text(&first["next_cursor"]);
    chat.refuse(&chat.ada, &format!("{route}?kind=read&cursor={cursor}"), &Value::Null, 422, "validation_error").await;
    chat.server.stop().await;
}

/// Marks in such a group are written every five seconds, not with each call: asked for until they show.
#[tokio::test]
async fn in_a_large_group_receipts_show_who_has_read() {
    let people = People::start().await;
    let (ada, bob, eve) = (people.person("Ada").await, people.person("Bob").await, people.person("Eve").await);
    let mut others = Vec::new();
    for n in 0..64 {
        others.push(people.person(&format!("Member {n}")).await);
    }
    let all: Vec<_> = [&bob, &eve].into_iter().chain(&others).collect();
    let group = people.group(&ada, &all, "Crowd").await;
    let first = people.say(&ada, group, "first").await.id;
    let second = people.say(&ada, group, "second").await.id;
    people.get(&eve, &format!("GET /conversations/{group}/messages")).await;
    let read = people.call(&bob, "POST /messages/read", &json!({"message_ids": [first]})).await;
    assert_eq!(read["updated"], 0, "no message turns in such a group");
    let receipts = async |id, kind: &str| people.get(&ada, &format!("GET /messages/{id}/receipts?kind={kind}")).await;
    let begin = Instant::now();
    let shown = loop {
        let shown = receipts(first, "read").await;
        if shown["read_count"] == 1 && shown["delivered_count"] == 2 {
            break shown;
        }
        assert!(begin.elapsed() < PATIENCE, "{shown}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&shown["receipts"][0]["user_id"], &shown["next_cursor"]), (&json!(bob.id), &Value::Null));
    let delivered = receipts(second, "delivered").await;
    assert_eq!((&delivered["read_count"], &delivered["delivered_count"]), (&json!(0), &json!(1)));
    assert_eq!(delivered["receipts"][0]["user_id"], json!(eve.id));
    assert_eq!(people.get(&ada, &format!("GET /messages/{first}")).await["status"], "SENT");
    people.server.stop().await;
}
