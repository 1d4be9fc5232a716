//! POST and GET /messages: what is taken, what is refused, and that nothing is sent twice.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::super::auth::{call, failed};
use super::{Chat, UNKNOWN, contents, text};

#[tokio::test]
async fn a_message_reads_as_it_was_written() {
    let chat = Chat::start().await;
    let sent = chat.send(&chat.ada, "hello").await;
    assert_eq!(sent["content"], "hello");
    assert_eq!((&sent["seq"], &sent["changeSeq"]), (&json!(2), &json!(2)));
    assert_eq!((&sent["messageType"], &sent["type"], &sent["status"]), (&json!("TEXT"), &json!("TEXT"), &json!("SENT")));
    assert_eq!((&sent["senderId"], &sent["senderName"]), (&json!(chat.ada.id()), &json!("Ada")));
    assert_eq!(sent["conversationId"], json!(chat.id));
    let flags = ["isEdited", "isDeleted", "isEncrypted", "isStarred", "isForwarded"];
    assert!(flags.iter().all(|flag| sent[flag] == false), "{sent}");
    let absent = ["mediaUrl", "thumbnailUrl", "audioDuration", "replyToId", "replyTo", "clientMessageId", "deletedAt"];
    assert!(absent.iter().all(|field| sent.get(*field) == Some(&Value::Null)), "{sent}");
    let created = text(&sent["createdAt"]);
    assert!(created.len() == 24 && created.ends_with('Z'), "{created}");
    let got = chat.ask(&chat.bob, &format!("GET /messages/{}", text(&sent["id"]))).await;
    assert_eq!((&got["id"], &got["content"]), (&sent["id"], &sent["content"]));
    // A client may send back an object as it got it: both spellings, the type under two names.
    let mut again = got.clone();
    again["content"] = json!("hello again");
    again["conversation_id"] = json!(chat.id);
    again.as_object_mut().unwrap().remove("id");
    assert_eq!(chat.tell(&chat.bob, "POST /messages", &again).await["content"], "hello again");
    assert_eq!(contents(&chat.history(&chat.ada).await), ["hello", "hello again"]);
    chat.server.stop().await;
}

#[tokio::test]
async fn media_and_answers() {
    let chat = Chat::start().await;
    let first = chat.send(&chat.ada, "where are you?").await;
    let command = json!({"conversationId": chat.id, "type": "voice", "mediaUrl": "https://example.org/a.m4a", "audioDuration": 2.5,
        "thumbnailUrl": "http://example.org/a.png", "replyToId": first["id"], "isEncrypted": true});
    let sent = chat.tell(&chat.bob, "POST /messages", &command).await;
    assert_eq!((&sent["messageType"], &sent["content"], &sent["audioDuration"]), (&json!("VOICE"), &json!(""), &json!(2.5)));
    assert_eq!((&sent["mediaUrl"], &sent["isEncrypted"]), (&json!("https://example.org/a.m4a"), &json!(true)));
    assert_eq!(sent["replyToId"], first["id"]);
    assert_eq!(sent["replyTo"], json!({"id": first["id"], "senderName": "Ada", "content": "where are you?"}));
    chat.server.stop().await;
}

#[tokio::test]
async fn a_client_message_id_stands_for_one_message() {
    let chat = Chat::start().await;
    let command = json!({"conversation_id": chat.id, "content": "once", "client_message_id": "m1"});
    let attempts = join_all((0..8).map(|_| chat.tell(&chat.ada, "POST /messages", &command))).await;
    assert!(attempts.iter().all(|message| message["id"] == attempts[0]["id"] && message["clientMessageId"] == "m1"));
    let other_words = json!({"conversation_id": chat.id, "content": "twice", "client_message_id": "m1"});
    assert_eq!(chat.tell(&chat.ada, "POST /messages", &other_words).await["content"], "once");
    assert_ne!(chat.tell(&chat.bob, "POST /messages", &command).await["id"], attempts[0]["id"]);
    assert_eq!(chat.history(&chat.bob).await["total"], 2);
    for wrong in ["", &"x".repeat(129)] {
        let command = json!({"conversation_id": chat.id, "content": "x", "client_message_id": wrong});
        chat.refuse(&chat.ada, "POST /messages", &command, 422, "validation_error").await;
    }
    chat.server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_named() {
    let chat = Chat::start().await;
    let other = chat.group(&[&chat.bob]).await;
    let elsewhere = text(&chat.send_to(&chat.ada, &other, "elsewhere").await["id"]);
    let cases = [
        (json!({}), "content"),
        (json!({"content": null}), "content"),
        (json!({"content": ""}), "content"),
        (json!({"content": " \n\t "}), "content"),
        (json!({"content": "\u{200b}\u{200b}"}), "content"),
        (json!({"content": "\u{1}\u{2}"}), "content"),
        (json!({"content": 5}), "content"),
        (json!({"content": ["x"]}), "content"),
        (json!({"content": {"x": 1}}), "content"),
        (json!({"content": "a\u{0}b"}), "content"),
        (json!({"content": "x".repeat(16 * 1024 + 1)}), "content"),
        (json!({"content": "😀".repeat(4_097)}), "content"),
        (json!({"content": "x", "message_type": "SYSTEM"}), "message_type"),
        (json!({"content": "x", "type": "SONG"}), "type"),
        (json!({"content": "x", "message_type": 7}), "message_type"),
        (json!({"media_url": "ftp://example.org/x"}), "media_url"),
        (json!({"media_url": "javascript:alert(1)"}), "media_url"),
        (json!({"media_url": format!("https://example.org/{}", "x".repeat(3_000))}), "media_url"),
        (json!({"content": "x", "thumbnail_url": "file:///etc/passwd"}), "thumbnail_url"),
        (json!({"content": "x", "audio_duration": -1}), "audio_duration"),
        (json!({"content": "x", "audio_duration": "long"}), "audio_duration"),
        (json!({"content": "x", "is_encrypted": "yes"}), "is_encrypted"),
        (json!({"content": "x", "reply_to_id": "no-uuid"}), "reply_to_id"),
        (json!({"content": "x", "reply_to_id": UNKNOWN}), "reply_to_id"),
        (json!({"content": "x", "reply_to_id": elsewhere}), "reply_to_id"),
        (json!({"content": "x", "conversation_id": "no-uuid"}), "conversation_id"),
        (json!({"content": "x", "conversation_id": null}), "conversation_id"),
    ];
    for (mut command, field) in cases {
        if command.get("conversation_id").is_none() {
            command["conversation_id"] = json!(chat.id);
        }
        let body = chat.refuse(&chat.ada, "POST /messages", &command, 422, "validation_error").await;
        assert_eq!(body["detail"][0]["loc"][1], json!(field), "{body}");
    }
    chat.refuse(&chat.ada, "POST /messages", &json!({"conversation_id": UNKNOWN, "content": "x"}), 404, "not_found").await;
    chat.refuse(&chat.ada, "POST /messages", &json!(["x"]), 422, "validation_error").await;
    let broken = chat.server.request(reqwest::Method::POST, "/messages").bearer_auth(&chat.ada.token);
    failed(broken.header("content-type", "application/json").body("{\"content\":").send().await.unwrap(), 400, "bad_request").await;
    assert_eq!(chat.history(&chat.bob).await["total"], 0);
    chat.server.stop().await;
}

#[tokio::test]
async fn words_arrive_as_they_were_typed() {
    let chat = Chat::start().await;
    let long = "x".repeat(16 * 1024);
    let words = ["👩‍💻🏴󠁧󠁢󠁥󠁮󠁧󠁿😀", "שלום مرحبا abc", "e\u{301}", "می\u{200c}خواهم", "tab\there\nline", "<b>\"quoted\"</b> \\n", " padded ", &long];
    for content in words {
        assert_eq!(chat.send(&chat.ada, content).await["content"], content);
    }
    assert_eq!(contents(&chat.history(&chat.bob).await), words);
    chat.server.stop().await;
}

#[tokio::test]
async fn a_block_either_way_ends_writing() {
    let chat = Chat::start().await;
    let mine = text(&chat.send(&chat.ada, "hello").await["id"]);
    for (blocker, blocked) in [(&chat.ada, &chat.bob), (&chat.bob, &chat.ada)] {
        chat.ask(blocker, &format!("POST /settings/privacy/block/{}", blocked.id())).await;
        chat.server.settled().await;
        for person in [&chat.ada, &chat.bob] {
            let send = json!({"conversation_id": chat.id, "content": "x"});
            chat.refuse(person, "POST /messages", &send, 403, "forbidden").await;
            let forward = json!({"message_ids": [mine], "conversation_id": chat.id});
            chat.refuse(person, "POST /messages/forward", &forward, 403, "forbidden").await;
            assert_eq!(chat.ask(person, &format!("GET /messages/{mine}")).await["content"], "hello");
        }
        chat.refuse(&chat.ada, &format!("PUT /messages/{mine}"), &json!({"content": "x"}), 403, "forbidden").await;
        chat.ask(blocker, &format!("DELETE /settings/privacy/unblock/{}", blocked.id())).await;
        chat.server.settled().await;
    }
    chat.send(&chat.bob, "friends again").await;
    chat.server.stop().await;
}

#[tokio::test]
async fn cleared_messages_are_gone_for_who_cleared_them() {
    let chat = Chat::start().await;
    let id = text(&chat.send(&chat.ada, "old").await["id"]);
    chat.ask(&chat.bob, &format!("DELETE /conversations/{}/clear", chat.id)).await;
    let now = text(&chat.send(&chat.ada, "new").await["id"]);
    for route in ["GET /messages/{}", "POST /messages/{}/star", "GET /messages/{}/receipts"] {
        chat.refuse(&chat.bob, &route.replace("{}", &id), &Value::Null, 404, "not_found").await;
    }
    let reply = json!({"conversation_id": chat.id, "content": "x", "reply_to_id": id});
    chat.refuse(&chat.bob, "POST /messages", &reply, 422, "validation_error").await;
    let history = chat.history(&chat.bob).await;
    assert_eq!((contents(&history), &history["total"]), (vec!["new"], &json!(1)));
    assert_eq!(chat.ask(&chat.ada, &format!("GET /messages/{id}")).await["content"], "old");
    assert_eq!(chat.ask(&chat.bob, &format!("GET /messages/{now}")).await["content"], "new");
    let without = call(&chat.server, &format!("GET /messages/{id}"), None, &Value::Null).await;
    failed(without, 401, "unauthenticated").await;
    chat.server.stop().await;
}
