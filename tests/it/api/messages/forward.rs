//! POST /messages/forward: in order, or not at all.

use serde_json::{Value, json};

use super::{Chat, UNKNOWN, contents, text};

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
