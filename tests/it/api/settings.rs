//! `/settings` and `/notifications/settings`: privacy, blocks, notification switches.

use serde_json::{Value, json};

use super::auth::{Person, call, failed, ok, sign_up};
use crate::support::TestServer;

const UNKNOWN: &str = "0197a5a3-0000-7000-8000-000000000000";

async fn person(server: &TestServer, n: u32, name: &str) -> Person {
    sign_up(server, &json!({"phone_number": format!("+1202555{n:04}"), "password": "correct horse", "display_name": name})).await
}

async fn tell(server: &TestServer, caller: &Person, route: &str, body: &Value) -> Value {
    ok(call(server, route, Some(&caller.token), body).await).await
}

async fn refused(server: &TestServer, caller: &Person, route: &str, body: &Value, status: u16, code: &str) {
    failed(call(server, route, Some(&caller.token), body).await, status, code).await;
}

fn id(person: &Person) -> &str {
    person.user["id"].as_str().unwrap()
}

#[tokio::test]
async fn every_call_needs_a_login() {
    let server = TestServer::start().await;
    for route in [
        "GET /settings/privacy",
        "PUT /settings/privacy",
        "POST /settings/privacy/block/0197a5a3-0000-7000-8000-000000000000",
        "DELETE /settings/privacy/unblock/0197a5a3-0000-7000-8000-000000000000",
        "GET /settings/privacy/blocked",
        "GET /settings/privacy/blocked/check/0197a5a3-0000-7000-8000-000000000000",
        "GET /notifications/settings",
        "PUT /notifications/settings",
        "GET /settings/notifications",
        "PUT /settings/notifications",
    ] {
        failed(call(&server, route, None, &Value::Null).await, 401, "unauthenticated").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn privacy_is_changed_by_body_or_query_and_hides_from_others() {
    let server = TestServer::start().await;
    let (ada, bob) = (person(&server, 1, "Ada").await, person(&server, 2, "Bob").await);
    let all = json!({"show_online_status": true, "show_last_seen": true, "show_profile_photo": true, "show_read_receipts": true});
    assert_eq!(tell(&server, &ada, "GET /settings/privacy", &Value::Null).await, all);
    let changed = tell(&server, &ada, "PUT /settings/privacy", &json!({"showLastSeen": false, "show_read_receipts": null})).await;
    assert_eq!(changed["show_last_seen"], false);
    let changed = tell(&server, &ada, "PUT /settings/privacy?show_profile_photo=false", &Value::Null).await;
    let expected = json!({"show_online_status": true, "show_last_seen": false, "show_profile_photo": false, "show_read_receipts": true});
    assert_eq!(changed, expected);
    assert_eq!(tell(&server, &ada, "GET /settings/privacy", &Value::Null).await, expected);
    tell(&server, &ada, "PUT /auth/profile", &json!({"avatar_url": "https://example.org/a.png"})).await;
    let path = format!("GET /users/{}", id(&ada));
    assert_eq!(tell(&server, &bob, &path, &Value::Null).await["avatar_url"], Value::Null);
    tell(&server, &ada, "PUT /settings/privacy", &json!({"show_profile_photo": true})).await;
    assert_eq!(tell(&server, &bob, &path, &Value::Null).await["avatar_url"], "https://example.org/a.png");
    for bad in [json!({"show_last_seen": "no"}), json!({"show_last_seen": 0}), json!([])] {
        refused(&server, &ada, "PUT /settings/privacy", &bad, 422, "validation_error").await;
    }
    let odd = call(&server, "PUT /settings/privacy?show_last_seen=maybe", Some(&ada.token), &Value::Null).await;
    let odd = failed(odd, 422, "validation_error").await;
    assert_eq!(odd["detail"][0]["loc"], json!(["query", "show_last_seen"]));
    // Nothing of what was refused was taken, and of both places the body wins.
    assert_eq!(tell(&server, &ada, "GET /settings/privacy", &Value::Null).await["show_last_seen"], false);
    let both = tell(&server, &ada, "PUT /settings/privacy?show_last_seen=false", &json!({"show_last_seen": true})).await;
    assert_eq!(both, all);
    for (text, shown) in [("False", false), ("TRUE", true), ("0", false), ("1", true)] {
        let privacy = tell(&server, &ada, &format!("PUT /settings/privacy?show_last_seen={text}"), &Value::Null).await;
        assert_eq!(privacy["show_last_seen"], shown, "{text}");
    }
    assert!(call(&server, "PUT /settings/privacy?show_last_seen=maybe", Some(&ada.token), &Value::Null).await.status().is_client_error());
    server.stop().await;
}

#[tokio::test]
async fn blocking_shows_to_both_sides_and_ends() {
    let server = TestServer::start().await;
    let (ada, bob) = (person(&server, 1, "Ada").await, person(&server, 2, "Bob").await);
    tell(&server, &ada, "PUT /auth/profile", &json!({"avatar_url": "https://example.org/a.png"})).await;
    let (block, unblock) = (format!("POST /settings/privacy/block/{}", id(&bob)), format!("DELETE /settings/privacy/unblock/{}", id(&bob)));
    let empty = tell(&server, &ada, "GET /settings/privacy/blocked", &Value::Null).await;
    assert_eq!(empty, json!({"blocked_users": []}));
    for _ in 0..2 {
        assert_eq!(tell(&server, &ada, &block, &Value::Null).await["success"], true);
    }
    let blocked = tell(&server, &ada, "GET /settings/privacy/blocked", &Value::Null).await;
    assert_eq!(blocked, json!({"blocked_users": [{"id": id(&bob), "display_name": "Bob", "phone_number": null, "avatar_url": null}]}));
    let mine = tell(&server, &ada, &format!("GET /settings/privacy/blocked/check/{}", id(&bob)), &Value::Null).await;
    assert_eq!(mine, json!({"i_blocked_them": true, "they_blocked_me": false, "is_blocked": true}));
    let theirs = tell(&server, &bob, &format!("GET /settings/privacy/blocked/check/{}", id(&ada)), &Value::Null).await;
    assert_eq!(theirs, json!({"i_blocked_them": false, "they_blocked_me": true, "is_blocked": true}));
    let seen = tell(&server, &bob, &format!("GET /users/{}", id(&ada)), &Value::Null).await;
    assert_eq!((&seen["avatar_url"], &seen["is_online"], &seen["last_seen"]), (&Value::Null, &json!(false), &Value::Null));
    assert_eq!(tell(&server, &bob, "GET /users/search?q=ada", &Value::Null).await["users"], json!([]));
    assert_eq!(tell(&server, &ada, "GET /users/search?q=bob", &Value::Null).await["users"][0]["id"], id(&bob));
    tell(&server, &ada, &unblock, &Value::Null).await;
    refused(&server, &ada, &unblock, &Value::Null, 404, "not_found").await;
    let ended = tell(&server, &bob, &format!("GET /settings/privacy/blocked/check/{}", id(&ada)), &Value::Null).await;
    assert_eq!(ended, json!({"i_blocked_them": false, "they_blocked_me": false, "is_blocked": false}));
    assert_eq!(tell(&server, &bob, "GET /users/search?q=ada", &Value::Null).await["users"][0]["id"], id(&ada));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_blocked_is_said() {
    let server = TestServer::start().await;
    let ada = person(&server, 1, "Ada").await;
    refused(&server, &ada, &format!("POST /settings/privacy/block/{}", id(&ada)), &Value::Null, 400, "bad_request").await;
    refused(&server, &ada, &format!("POST /settings/privacy/block/{UNKNOWN}"), &Value::Null, 404, "not_found").await;
    refused(&server, &ada, &format!("DELETE /settings/privacy/unblock/{UNKNOWN}"), &Value::Null, 404, "not_found").await;
    refused(&server, &ada, &format!("GET /settings/privacy/blocked/check/{UNKNOWN}"), &Value::Null, 404, "not_found").await;
    let odd = call(&server, "POST /settings/privacy/block/not-an-id", Some(&ada.token), &Value::Null).await;
    assert_eq!(failed(odd, 422, "validation_error").await["detail"][0]["loc"], json!(["path", "user_id"]));
    assert_eq!(tell(&server, &ada, "GET /settings/privacy/blocked", &Value::Null).await, json!({"blocked_users": []}));
    server.stop().await;
}

#[tokio::test]
async fn notification_switches_in_both_forms() {
    let server = TestServer::start().await;
    let ada = person(&server, 1, "Ada").await;
    let on = json!({"enabled": true, "show_preview": true, "sound": true, "vibration": true, "message_notifications": true, "group_notifications": true});
    let documented = tell(&server, &ada, "GET /notifications/settings", &Value::Null).await;
    assert_eq!(documented, json!({"user_id": id(&ada), "settings": on}));
    let app = tell(&server, &ada, "GET /settings/notifications", &Value::Null).await;
    let camel = json!({
        "enabled": true, "showPreview": true, "sound": true, "vibration": true, "messageNotifications": true, "groupNotifications": true,
        "settings": on,
    });
    assert_eq!(app, camel);
    let app = tell(&server, &ada, "PUT /settings/notifications", &json!({"showPreview": false, "sound": null})).await;
    assert_eq!((&app["showPreview"], &app["settings"]["show_preview"], &app["sound"]), (&json!(false), &json!(false), &json!(true)));
    let nested = json!({"settings": {"groupNotifications": false, "vibration": false}});
    let documented = tell(&server, &ada, "PUT /notifications/settings", &nested).await;
    assert_eq!(documented["settings"]["group_notifications"], false);
    // An object sent back as it came changes nothing.
    let app = tell(&server, &ada, "GET /settings/notifications", &Value::Null).await;
    assert_eq!(tell(&server, &ada, "PUT /settings/notifications", &app).await, app);
    let documented = tell(&server, &ada, "GET /notifications/settings", &Value::Null).await;
    assert_eq!(tell(&server, &ada, "PUT /notifications/settings", &documented).await, documented);
    // Sent back with one switch turned, at whichever place: that one is meant, not the copy of how it was.
    for (place, switch) in [("", "sound"), ("/settings", "sound"), ("", "showPreview"), ("/settings", "show_preview")] {
        let mut object = tell(&server, &ada, "GET /settings/notifications", &Value::Null).await;
        let value = object.pointer_mut(&format!("{place}/{switch}")).unwrap();
        let wanted = !value.as_bool().unwrap();
        *value = json!(wanted);
        let answer = tell(&server, &ada, "PUT /settings/notifications", &object).await;
        assert_eq!(answer.pointer(&format!("{place}/{switch}")), Some(&json!(wanted)), "{place}/{switch}");
    }
    for route in ["PUT /settings/notifications", "PUT /notifications/settings"] {
        for bad in [json!({"sound": "loud"}), json!({"settings": {"sound": 1}}), json!({"settings": []}), json!("x")] {
            refused(&server, &ada, route, &bad, 422, "validation_error").await;
        }
    }
    server.stop().await;
}
