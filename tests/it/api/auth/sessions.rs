//! Sessions: refreshing, theft, listing, ending, forgotten passwords, profiles, tickets.

use std::sync::Arc;
use std::time::Duration;

use loadtest::{Auth, Door, Options};
use serde_json::{Value, json};
use tempfile::TempDir;
use urge::clock::Clock;

use super::{Person, call, code_for, failed, ok, sign_up};
use crate::support::{Switch, TestServer};

const ADA: &str = "+12025550101";

async fn ada(server: &TestServer) -> Person {
    sign_up(server, &json!({"phone_number": ADA, "password": "correct horse", "display_name": "Ada"})).await
}

async fn log_in(server: &TestServer, password: &str) -> Person {
    Person::of(&ok(call(server, "POST /auth/login", None, &json!({"phone_number": ADA, "password": password})).await).await)
}

async fn refresh(server: &TestServer, token: &str) -> reqwest::Response {
    call(server, "POST /auth/refresh", None, &json!({"refresh_token": token})).await
}

#[tokio::test]
async fn the_first_refresh_token_works_for_ever_until_a_newer_one_is_used() {
    let server = TestServer::start().await;
    let ada = ada(&server).await;
    let newer = ok(refresh(&server, &ada.refresh).await).await;
    assert_eq!((&newer["user"]["id"], &newer["token_type"]), (&ada.user["id"], &json!("bearer")));
    for _ in 0..3 {
        ok(refresh(&server, &ada.refresh).await).await;
    }
    ok(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await).await;
    ok(refresh(&server, newer["refresh_token"].as_str().unwrap()).await).await;
    failed(refresh(&server, &ada.refresh).await, 401, "unauthenticated").await;
    failed(refresh(&server, newer["refresh_token"].as_str().unwrap()).await, 401, "unauthenticated").await;
    for token in [&ada.token, newer["access_token"].as_str().unwrap()] {
        failed(call(&server, "GET /auth/me", Some(token), &Value::Null).await, 401, "unauthenticated").await;
    }
    for token in ["", "x", &ada.token] {
        failed(refresh(&server, token).await, 401, "unauthenticated").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn tokens_and_sessions_live_their_time() {
    let server = TestServer::start().await;
    let ada = ada(&server).await;
    server.clock.advance(Duration::from_hours(24 * 31));
    failed(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await, 401, "unauthenticated").await;
    for _ in 0..2 {
        server.clock.advance(Duration::from_hours(24 * 140));
        ok(refresh(&server, &ada.refresh).await).await;
    }
    server.clock.advance(Duration::from_hours(24 * 181));
    failed(refresh(&server, &ada.refresh).await, 401, "unauthenticated").await;
    server.stop().await;
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let server = TestServer::start().await;
    let first = ada(&server).await;
    let second = log_in(&server, "correct horse").await;
    let third = log_in(&server, "correct horse").await;
    let list = ok(call(&server, "GET /auth/sessions", Some(&first.token), &Value::Null).await).await;
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 3);
    assert_eq!(sessions.iter().filter(|session| session["current"] == true).count(), 1);
    assert_eq!(sessions[0]["address"], "127.0.0.1");
    let own = ok(call(&server, "GET /auth/sessions", Some(&second.token), &Value::Null).await).await;
    let id =
        own["sessions"].as_array().unwrap().iter().find(|session| session["current"] == true).unwrap()["id"].as_str().unwrap().to_owned();
    ok(call(&server, &format!("DELETE /auth/sessions/{id}"), Some(&first.token), &Value::Null).await).await;
    failed(call(&server, "GET /auth/me", Some(&second.token), &Value::Null).await, 401, "unauthenticated").await;
    failed(call(&server, &format!("DELETE /auth/sessions/{id}"), Some(&first.token), &Value::Null).await, 404, "not_found").await;
    failed(call(&server, "DELETE /auth/sessions/x", Some(&first.token), &Value::Null).await, 422, "validation_error").await;
    let bob = sign_up(&server, &json!({"phone_number": "+12025550102"})).await;
    let bobs = ok(call(&server, "GET /auth/sessions", Some(&bob.token), &Value::Null).await).await;
    let bobs = bobs["sessions"][0]["id"].as_str().unwrap().to_owned();
    failed(call(&server, &format!("DELETE /auth/sessions/{bobs}"), Some(&first.token), &Value::Null).await, 404, "not_found").await;
    ok(call(&server, "DELETE /auth/sessions", Some(&first.token), &Value::Null).await).await;
    failed(refresh(&server, &third.refresh).await, 401, "unauthenticated").await;
    ok(call(&server, "POST /auth/logout", Some(&first.token), &Value::Null).await).await;
    failed(call(&server, "GET /auth/me", Some(&first.token), &Value::Null).await, 401, "unauthenticated").await;
    failed(refresh(&server, &first.refresh).await, 401, "unauthenticated").await;
    ok(call(&server, "GET /auth/me", Some(&bob.token), &Value::Null).await).await;
    for route in ["GET /auth/me", "GET /auth/sessions", "POST /auth/logout", "PUT /auth/profile", "POST /auth/socket-ticket"] {
        failed(call(&server, route, None, &Value::Null).await, 401, "unauthenticated").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn asking_for_the_end_of_somebody_elses_login_changes_nothing_for_him() {
    let switch = Switch::default();
    // Each node remembers whom it was asked about.
    let server = TestServer::alone_on(Arc::new(TempDir::new().unwrap()), |_| {}, |backends| switch.wrap(backends)).await;
    let (ada, bob) = (ada(&server).await, sign_up(&server, &json!({"phone_number": "+12025550102"})).await);
    let bobs = ok(call(&server, "GET /auth/sessions", Some(&bob.token), &Value::Null).await).await;
    let bobs = bobs["sessions"][0]["id"].as_str().unwrap();
    let me = ok(call(&server, "GET /auth/me", Some(&bob.token), &Value::Null).await).await;
    failed(call(&server, &format!("DELETE /auth/sessions/{bobs}"), Some(&ada.token), &Value::Null).await, 404, "not_found").await;
    // Without the store he is answered from memory, unless his login is known to have ended.
    switch.take_away();
    assert_eq!(ok(call(&server, "GET /auth/me", Some(&bob.token), &Value::Null).await).await, me);
    switch.give_back();
    server.stop().await;
}

#[tokio::test]
async fn a_session_says_what_made_it_and_when_it_was_last_used() {
    let server = TestServer::start().await;
    let begin = now(&server);
    let phone =
        server.request(reqwest::Method::POST, "/auth/register").header("user-agent", format!("URGE/1.0 (Pixel 9) {}", "x".repeat(300)));
    let command = json!({"phone_number": ADA, "password": "correct horse"}).to_string();
    let login = phone.header("content-type", "application/json").body(command).send().await.unwrap();
    let ada = Person::of(&ok(login).await);
    let sessions = async |token: &str| ok(call(&server, "GET /auth/sessions", Some(token), &Value::Null).await).await["sessions"].clone();
    let first = sessions(&ada.token).await[0].clone();
    let device = first["device"].as_str().unwrap();
    assert!(device.starts_with("URGE/1.0 (Pixel 9) xxx") && device.len() == 200, "{device}");
    assert_eq!((&first["address"], &first["current"]), (&json!("127.0.0.1"), &json!(true)));
    assert!(first["created_at"].as_str().unwrap() >= begin.as_str());
    assert_eq!(first["created_at"], first["last_used_at"]);

    // Noted to the hour, behind the answer: asked until it shows.
    server.clock.advance(Duration::from_hours(2));
    let later = now(&server);
    let second = log_in(&server, "correct horse").await;
    let noted = async {
        // A change of the account makes the node look at its logins anew, which it does every few seconds otherwise.
        ok(call(&server, "PUT /auth/profile", Some(&ada.token), &json!({"bio": "x"})).await).await;
        ok(call(&server, "GET /users/me", Some(&ada.token), &Value::Null).await).await;
        loop {
            let listed = sessions(&second.token).await;
            let of_first = listed.as_array().unwrap().iter().find(|one| one["id"] == first["id"]).unwrap().clone();
            if of_first["last_used_at"].as_str().unwrap() >= later.as_str() {
                break of_first;
            }
        }
    };
    let noted = tokio::time::timeout(crate::support::PATIENCE, noted).await.expect("its use was not noted");
    assert_eq!((&noted["created_at"], &noted["current"]), (&first["created_at"], &json!(false)));
    // A refresh is a use, too.
    server.clock.advance(Duration::from_hours(2));
    let latest = now(&server);
    ok(refresh(&server, &ada.refresh).await).await;
    let listed = sessions(&second.token).await;
    let of_first = listed.as_array().unwrap().iter().find(|one| one["id"] == first["id"]).unwrap();
    assert!(of_first["last_used_at"].as_str().unwrap() >= latest.as_str(), "{of_first}");
    server.stop().await;
}

/// The node's time as it is written in answers.
fn now(server: &TestServer) -> String {
    server.clock.now().to_string()
}

#[tokio::test]
async fn logging_out_takes_ones_own_other_login_along_and_nobody_elses() {
    let server = TestServer::start().await;
    let (phone, bob) = (ada(&server).await, sign_up(&server, &json!({"phone_number": "+12025550102"})).await);
    let (tablet, desk) = (log_in(&server, "correct horse").await, log_in(&server, "correct horse").await);
    let out = async |who: &Person, refresh_token: &str| {
        ok(call(&server, "POST /auth/logout", Some(&who.token), &json!({"refresh_token": refresh_token})).await).await
    };
    let me = async |who: &Person| call(&server, "GET /auth/me", Some(&who.token), &Value::Null).await;
    out(&phone, &tablet.refresh).await;
    for gone in [&phone, &tablet] {
        failed(me(gone).await, 401, "unauthenticated").await;
        failed(refresh(&server, &gone.refresh).await, 401, "unauthenticated").await;
    }
    // Somebody else's token, or nonsense, ends nothing but the caller's own login.
    out(&desk, &bob.refresh).await;
    failed(me(&desk).await, 401, "unauthenticated").await;
    ok(me(&bob).await).await;
    ok(refresh(&server, &bob.refresh).await).await;
    out(&bob, "nonsense").await;
    failed(me(&bob).await, 401, "unauthenticated").await;
    server.stop().await;
}

#[tokio::test]
async fn the_fifty_first_session_ends_the_least_used() {
    let server = TestServer::start().await;
    let code = code_for(&server, ADA).await;
    let first = sign_up(&server, &json!({"phone_number": ADA, "verification_code": code})).await;
    let mut people = Vec::new();
    for _ in 0..50 {
        server.clock.advance(Duration::from_secs(1));
        let code = code_for(&server, ADA).await;
        people.push(Person::of(
            &ok(call(&server, "POST /auth/login", None, &json!({"phone_number": ADA, "verification_code": code})).await).await,
        ));
    }
    server.settled().await;
    failed(call(&server, "GET /auth/me", Some(&first.token), &Value::Null).await, 401, "unauthenticated").await;
    let list = ok(call(&server, "GET /auth/sessions", Some(&people[0].token), &Value::Null).await).await;
    assert_eq!(list["sessions"].as_array().unwrap().len(), 50);
    server.stop().await;
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_and_every_session_ends() {
    let server = TestServer::start().await;
    let ada = ada(&server).await;
    let known = ok(call(&server, "POST /auth/forgot-password", None, &json!({"phone_number": ADA})).await).await;
    let unknown = ok(call(&server, "POST /auth/forgot-password", None, &json!({"phone_number": "+12025550199"})).await).await;
    assert_eq!(known, unknown);
    let code = server.sms.wait(ADA, 1).await;
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let with = |code: &str| json!({"phone_number": ADA, "code": code, "new_password": "another horse"});
    failed(call(&server, "POST /auth/verify-reset-code", None, &with(wrong)).await, 400, "bad_request").await;
    for _ in 0..2 {
        ok(call(&server, "POST /auth/verify-reset-code", None, &with(&code)).await).await;
    }
    let login = json!({"phone_number": ADA, "verification_code": code});
    failed(call(&server, "POST /auth/login", None, &login).await, 401, "unauthenticated").await;
    failed(call(&server, "POST /auth/reset-password", None, &with(wrong)).await, 400, "bad_request").await;
    let short = json!({"phone_number": ADA, "code": code, "new_password": "short"});
    failed(call(&server, "POST /auth/reset-password", None, &short).await, 422, "validation_error").await;
    ok(call(&server, "POST /auth/reset-password", None, &with(&code)).await).await;
    failed(call(&server, "POST /auth/reset-password", None, &with(&code)).await, 400, "bad_request").await;
    failed(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await, 401, "unauthenticated").await;
    let old = json!({"phone_number": ADA, "password": "correct horse"});
    failed(call(&server, "POST /auth/login", None, &old).await, 401, "unauthenticated").await;
    log_in(&server, "another horse").await;
    assert_eq!(server.sms.count("+12025550199"), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_profile_is_changed_and_shown_whole_and_field_by_field() {
    let server = TestServer::start().await;
    let ada = ada(&server).await;
    let update = json!({"display_name": "Ada L.", "bio": "engines", "avatar": "file:///x.png", "social_links": {"x": "@ada"}});
    let answer = ok(call(&server, "PUT /auth/profile", Some(&ada.token), &update).await).await;
    assert_eq!((&answer["success"], &answer["display_name"], &answer["bio"]), (&json!(true), &json!("Ada L."), &json!("engines")));
    assert_eq!((&answer["data"]["display_name"], &answer["data"]["avatar_url"]), (&json!("Ada L."), &Value::Null));
    let answer = ok(call(&server, "PUT /auth/profile", Some(&ada.token), &json!({"bio": null})).await).await;
    assert_eq!((&answer["bio"], &answer["display_name"]), (&Value::Null, &json!("Ada L.")));
    failed(call(&server, "PUT /auth/profile", Some(&ada.token), &json!({"email": "x"})).await, 422, "validation_error").await;
    let me = ok(call(&server, "GET /auth/me", Some(&ada.token), &Value::Null).await).await;
    assert_eq!(me["display_name"], "Ada L.");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_ticket_opens_one_socket_within_thirty_seconds() {
    let server = TestServer::start().await;
    let ada = ada(&server).await;
    let ticket = async || {
        let answer = ok(call(&server, "POST /auth/socket-ticket", Some(&ada.token), &Value::Null).await).await;
        assert_eq!(answer["expires_in"], 30);
        answer["ticket"].as_str().unwrap().to_owned()
    };
    let open = async |ticket: &str| Options::new(&server.url(""), Door::WebSocket, Auth::Ticket(ticket.to_owned())).connect().await;
    let (first, second, late) = (ticket().await, ticket().await, ticket().await);
    assert_ne!(first, second);
    let socket = open(&first).await.unwrap();
    assert_eq!(socket.user_id(), ada.user["id"].as_str().unwrap());
    assert!(open(&first).await.is_err(), "it is used up");
    assert!(open(&first[1..]).await.is_err() && open("").await.is_err());
    server.clock.advance(Duration::from_secs(29));
    open(&second).await.unwrap();
    server.clock.advance(Duration::from_secs(1));
    assert!(open(&late).await.is_err(), "its time is up");
    server.stop().await;
}
