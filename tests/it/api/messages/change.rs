//! PUT and DELETE /messages/{id}: one's own for everyone, those of others from one's own view.

use serde_json::{Value, json};

use super::{Chat, contents, text};

#[tokio::test]
async fn its_sender_edits_a_message_and_everybody_reads_it() {
    let chat = Chat::start().await;
    let sent = chat.send(&chat.ada, "helo").await;
    let route = format!("PUT /messages/{}", text(&sent["id"]));
    let edited = chat.tell(&chat.ada, &route, &json!({"content": "hello"})).await;
    assert_eq!((&edited["content"], &edited["isEdited"]), (&json!("hello"), &json!(true)));
    assert_eq!((&edited["id"], &edited["seq"], &edited["changeSeq"]), (&sent["id"], &sent["seq"], &json!(3)));
    let history = chat.history(&chat.bob).await;
    assert_eq!((contents(&history), &history["total"], &history["messages"][0]["isEdited"]), (vec!["hello"], &json!(1), &json!(true)));
    chat.refuse(&chat.bob, &route, &json!({"content": "x"}), 403, "forbidden").await;
    for wrong in [json!({}), json!({"content": " "}), json!({"content": 1}), json!({"content": "x".repeat(16 * 1024 + 1)})] {
        chat.refuse(&chat.ada, &route, &wrong, 422, "validation_error").await;
    }
    chat.ask(&chat.ada, &route.replace("PUT", "DELETE")).await;
    chat.refuse(&chat.ada, &route, &json!({"content": "x"}), 400, "bad_request").await;
    chat.server.stop().await;
}

#[tokio::test]
async fn its_sender_deletes_a_message_for_everyone() {
    let chat = Chat::start().await;
    let command = json!({"conversation_id": chat.id, "media_url": "https://example.org/x.jpg", "type": "IMAGE", "content": "secret"});
    let id = text(&chat.tell(&chat.ada, "POST /messages", &command).await["id"]);
    let answer = json!({"success": true, "message": "message deleted"});
    for scope in ["", "?scope=everyone", ""] {
        assert_eq!(chat.ask(&chat.ada, &format!("DELETE /messages/{id}{scope}")).await, answer);
    }
    for reader in [&chat.ada, &chat.bob] {
        let message = chat.ask(reader, &format!("GET /messages/{id}")).await;
        assert_eq!((&message["content"], &message["messageType"]), (&json!("This message was deleted"), &json!("TEXT")));
        assert_eq!((&message["isDeleted"], &message["mediaUrl"]), (&json!(true), &Value::Null));
        assert!(message["deletedAt"].is_string());
    }
    assert_eq!(chat.history(&chat.bob).await["total"], 1);
    chat.server.stop().await;
}

#[tokio::test]
async fn what_others_wrote_goes_from_ones_own_view() {
    let chat = Chat::start().await;
    let (first, second) = (text(&chat.send(&chat.ada, "one").await["id"]), text(&chat.send(&chat.bob, "two").await["id"]));
    chat.refuse(&chat.bob, &format!("DELETE /messages/{first}?scope=everyone"), &Value::Null, 403, "forbidden").await;
    chat.refuse(&chat.bob, &format!("DELETE /messages/{first}?scope=nobody"), &Value::Null, 422, "validation_error").await;
    let answer = json!({"success": true, "message": "message deleted from your view"});
    for _ in 0..2 {
        assert_eq!(chat.ask(&chat.bob, &format!("DELETE /messages/{first}")).await, answer);
    }
    chat.refuse(&chat.bob, &format!("GET /messages/{first}"), &Value::Null, 404, "not_found").await;
    let history = chat.history(&chat.bob).await;
    assert_eq!((contents(&history), &history["total"]), (vec!["two"], &json!(1)));
    // One's own, from one's own view alone.
    chat.ask(&chat.bob, &format!("DELETE /messages/{second}?scope=me")).await;
    assert_eq!(chat.history(&chat.bob).await["total"], 0);
    assert_eq!(contents(&chat.history(&chat.ada).await), ["one", "two"]);
    assert_eq!(chat.ask(&chat.ada, &format!("GET /messages/{second}")).await["isDeleted"], false);
    chat.server.stop().await;
}
