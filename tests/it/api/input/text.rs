//! What becomes of odd characters (docs/API.md, "Text"): the words of a message stay as they were typed; names and
//! other lines that stand in the text of others lose what would turn or hide it.

use loadtest::Door;
use serde_json::{Value, json};

use super::super::good::Stage;
use crate::support::PATIENCE;

/// Typed by nobody, but sent: an escape sequence, a bell, an override, its end, an isolate, a mark and joiners.
const ODD: &str = "a\u{1b}[31mb\u{7}\u{202e}c\u{202c}\u{2066}d\u{200e}e\u{200d}f\u{200b}\u{feff}g\r\n\th";

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_a_message_stay_as_they_were_typed() {
    let stage = Stage::set().await;
    let (people, ada, bob) = (&stage.people, &stage.ada, &stage.bob);
    let mut sockets = Vec::new();
    for door in Door::ALL {
        sockets.push(loadtest::Socket::connect(&people.server.url(""), &bob.token, door).await.unwrap());
    }
    let sent = people.call(ada, "POST /messages", &json!({"conversation_id": stage.conversation, "content": ODD})).await;
    assert_eq!(sent["content"], ODD);
    let got = people.get(bob, &format!("GET /messages/{}", sent["id"].as_str().unwrap())).await;
    assert_eq!(got["content"], ODD);
    for socket in &mut sockets {
        // What the stage has sent may still be on its way when a socket opens.
        let told = socket.next_match("message:received", PATIENCE, |event| event.json()["id"] == sent["id"]).await.unwrap();
        assert_eq!(told.json()["content"], ODD);
    }
    let edited = people.call(ada, &format!("PUT /messages/{}", stage.message), &json!({"content": format!("{ODD}!")})).await;
    assert_eq!(edited["content"], format!("{ODD}!"));
    let client_id = json!({"conversation_id": stage.conversation, "content": "x", "client_message_id": ODD});
    assert_eq!(people.call(ada, "POST /messages", &client_id).await["clientMessageId"], ODD);
    stage.people.server.stop().await;
}

#[tokio::test]
async fn names_and_profiles_lose_what_turns_or_hides_text() {
    let stage = Stage::set().await;
    let (people, ada, bob) = (&stage.people, &stage.ada, &stage.bob);
    let line = "a[31mbcde\u{200d}fg h";
    let profile = json!({"display_name": ODD, "bio": ODD, "social_links": {"site": ODD}});
    let shown = people.call(ada, "PUT /auth/profile", &profile).await;
    assert_eq!((&shown["display_name"], &shown["social_links"]["site"]), (&json!(line), &json!(line)));
    // A text of several lines keeps them, and the marks that belong to its letters.
    assert_eq!(shown["bio"], "a[31mbcd\u{200e}e\u{200d}f\u{200b}\u{feff}g\n\th");
    let seen = people.get(bob, &format!("GET /users/{}", ada.id)).await;
    assert_eq!((&seen["display_name"], &seen["bio"]), (&shown["display_name"], &shown["bio"]));
    let group = people.call(ada, "POST /conversations", &json!({"type": "GROUP", "participant_ids": [bob.id], "name": ODD})).await;
    assert_eq!(group["name"], line);
    // What runs code when it is clicked is no link, however it is dressed up.
    for link in ["java\u{1}script:alert(1)", "\u{202e}javascript:alert(1)", "java\u{200b}script:alert(1)"] {
        let answer = people.refused(ada, "PUT /auth/profile", &json!({"social_links": {"site": link}}), 422, "validation_error").await;
        assert_eq!(answer["detail"][0]["loc"], json!(["body", "social_links", "site"]));
    }
    let device = people.server.request(reqwest::Method::POST, "/auth/register").header("user-agent", b"phone\t\xe2\x80\xae 1".as_slice());
    let body = json!({"phone_number": people.number()}).to_string();
    let login = crate::support::json(device.header("content-type", "application/json").body(body).send().await.unwrap()).await;
    let sessions = people.send("GET /auth/sessions", login["token"].as_str(), &Value::Null).await;
    let sessions = crate::support::json(sessions).await;
    assert!(!sessions["sessions"][0]["device"].as_str().unwrap().contains(['\t', '\u{202e}']), "{sessions}");
    stage.people.server.stop().await;
}
