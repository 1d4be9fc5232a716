//! `/users`: who is found, who is seen, and as what.

use serde_json::{Value, json};
use urge::page::{Cursor, MAX_FOUND};
use urge::users::Listing;

use super::auth::{Person, call, code_for, failed, ok, sign_up};
use crate::support::TestServer;

const UNKNOWN: &str = "0197a5a3-0000-7000-8000-000000000000";

/// Somebody whose number is proven.
async fn person(server: &TestServer, n: u32, name: &str) -> Person {
    let phone = format!("+1202555{n:04}");
    let code = code_for(server, &phone).await;
    sign_up(server, &json!({"phone_number": phone, "verification_code": code, "display_name": name})).await
}

async fn get(server: &TestServer, caller: &Person, path: &str) -> Value {
    ok(call(server, &format!("GET {path}"), Some(&caller.token), &Value::Null).await).await
}

async fn refused(server: &TestServer, caller: &Person, route: &str, body: &Value, status: u16, code: &str) -> Value {
    failed(call(server, route, Some(&caller.token), body).await, status, code).await
}

fn ids(answer: &Value) -> Vec<&str> {
    answer["users"].as_array().unwrap().iter().map(|user| user["id"].as_str().unwrap()).collect()
}

fn id(person: &Person) -> &str {
    person.user["id"].as_str().unwrap()
}

#[tokio::test]
async fn every_call_needs_a_login() {
    let server = TestServer::start().await;
    for route in [
        "GET /users",
        "GET /users/search?q=ada",
        "GET /users/me",
        "GET /users/0197a5a3-0000-7000-8000-000000000000",
        "GET /users/0197a5a3-0000-7000-8000-000000000000/status",
        "POST /users/lookup",
        "POST /users/batch",
    ] {
        let body = if route.starts_with("POST") { json!({}) } else { Value::Null };
        failed(call(&server, route, None, &body).await, 401, "unauthenticated").await;
        failed(call(&server, route, Some("nonsense"), &body).await, 401, "unauthenticated").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn one_sees_oneself_whole_and_a_stranger_in_part() {
    let server = TestServer::start().await;
    let (ada, bob) = (person(&server, 1, "Ada").await, person(&server, 2, "Bob").await);
    let me = get(&server, &ada, "/users/me").await;
    assert_eq!(me["phone_number"], "+12025550001");
    assert_eq!((&me["display_name"], &me["role"], &me["is_verified"]), (&json!("Ada"), &json!("REGULAR"), &json!(true)));
    let fields = [
        "id",
        "phone_number",
        "email",
        "display_name",
        "avatar_url",
        "role",
        "bio",
        "social_links",
        "is_verified",
        "is_online",
        "last_seen",
        "created_at",
        "updated_at",
    ];
    assert_eq!(me.as_object().unwrap().len(), fields.len());
    assert!(fields.iter().all(|field| me.get(field).is_some()), "{me}");
    assert_eq!(get(&server, &ada, &format!("/users/{}", id(&ada))).await, me);
    assert_eq!(get(&server, &ada, "/api/users/me").await, me);
    let seen = get(&server, &bob, &format!("/users/{}", id(&ada))).await;
    assert_eq!((&seen["phone_number"], &seen["email"], &seen["display_name"]), (&Value::Null, &Value::Null, &json!("Ada")));
    let status = get(&server, &bob, &format!("/users/{}/status", id(&ada))).await;
    assert_eq!(status, json!({"user_id": id(&ada), "is_online": false, "last_seen": null}));
    refused(&server, &bob, &format!("GET /users/{UNKNOWN}"), &Value::Null, 404, "not_found").await;
    refused(&server, &bob, &format!("GET /users/{UNKNOWN}/status"), &Value::Null, 404, "not_found").await;
    for path in ["/users/not-an-id", "/users/not-an-id/status"] {
        let odd = refused(&server, &bob, &format!("GET {path}"), &Value::Null, 422, "validation_error").await;
        assert_eq!(odd["detail"][0]["loc"], json!(["path", "user_id"]));
    }
    server.stop().await;
}

#[tokio::test]
async fn search_by_name_and_by_number() {
    let server = TestServer::start().await;
    let (me, eva) = (person(&server, 1, "Me").await, person(&server, 2, "Éva Müller 🦊").await);
    for hit in ["eva", "EVA%20mu", "m%C3%BCller", "%2B12025550002", "%2B1%20(202)%20555-0002"] {
        let found = get(&server, &me, &format!("/users/search?q={hit}")).await;
        assert_eq!(ids(&found), [id(&eva)], "{hit}");
        assert_eq!(found["users"][0]["phone_number"], Value::Null);
        assert_eq!(
            (&found["total"], &found["limit"], &found["offset"], &found["next_cursor"]),
            (&json!(1), &json!(50), &json!(0), &Value::Null)
        );
    }
    for nothing in ["", "e", "ller", "%2B1202555000", "%E2%80%8B%E2%80%AE", "%F0%9F%A6%8A", "me"] {
        assert!(ids(&get(&server, &me, &format!("/users/search?q={nothing}")).await).is_empty(), "{nothing}");
    }
    assert!(ids(&get(&server, &me, "/users/search").await).is_empty());
    let clamped = get(&server, &me, "/users/search?q=eva&limit=5000&offset=-4").await;
    assert_eq!((ids(&clamped), &clamped["limit"], &clamped["offset"]), (vec![id(&eva)], &json!(100), &json!(0)));
    refused(&server, &me, "GET /users/search?q=eva&cursor=xyz", &Value::Null, 422, "validation_error").await;
    let counted = Cursor::new("user-search", &(UNKNOWN, usize::MAX)).into_text();
    refused(&server, &me, &format!("GET /users/search?q=eva&cursor={counted}"), &Value::Null, 422, "validation_error").await;
    refused(&server, &me, "GET /users/search?q=%00", &Value::Null, 422, "validation_error").await;
    let long = format!("GET /users/search?q={}", "x".repeat(201));
    refused(&server, &me, &long, &Value::Null, 422, "validation_error").await;
    server.stop().await;
}

#[tokio::test]
async fn searches_are_limited() {
    // Each node counts for itself.
    let server = TestServer::alone(|config| config.rate_limit = true).await;
    let me = person(&server, 1, "Me").await;
    let search = async || call(&server, "GET /users/search?q=ada", Some(&me.token), &Value::Null).await;
    // 30 in any minute; the test is done long before the first one is a minute old.
    for _ in 0..30 {
        ok(search().await).await;
    }
    let refused = search().await;
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    failed(refused, 429, "rate_limited").await;
    // Each has a limit of his own, and other calls have none of this.
    let other = person(&server, 2, "Other").await;
    get(&server, &other, "/users/search?q=ada").await;
    get(&server, &me, "/users").await;
    server.stop().await;
}

#[tokio::test]
async fn the_open_directory_lists_verified_people_page_by_page() {
    let server = TestServer::start().await;
    let me = person(&server, 1, "Me").await;
    let mut expected = Vec::new();
    for n in 2..6 {
        expected.push(id(&person(&server, n, "Somebody").await).to_owned());
    }
    let unverified = sign_up(&server, &json!({"phone_number": "+12025550099", "password": "correct horse", "display_name": "Ghost"})).await;
    let (mut listed, mut path) = (Vec::new(), "/users?limit=2".to_owned());
    loop {
        let page = get(&server, &me, &path).await;
        assert!(page["users"].as_array().unwrap().iter().all(|user| user["phone_number"].is_null()));
        listed.extend(ids(&page).into_iter().map(str::to_owned));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/users?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    assert!(!listed.iter().any(|listed| listed == id(&unverified)));
    refused(&server, &me, "GET /users?cursor=xyz", &Value::Null, 422, "validation_error").await;
    let crafted = |found: usize| format!("GET /users?cursor={}", Cursor::new("users", &(Listing::Directory(None), found)).into_text());
    refused(&server, &me, &crafted(usize::MAX), &Value::Null, 422, "validation_error").await;
    ok(call(&server, &crafted(MAX_FOUND), Some(&me.token), &Value::Null).await).await;
    server.stop().await;
    let closed = TestServer::with(|config| config.directory = urge::config::Directory::Contacts).await;
    let me = person(&closed, 1, "Me").await;
    person(&closed, 2, "Stranger").await;
    assert!(ids(&get(&closed, &me, "/users").await).is_empty());
    closed.stop().await;
}

#[tokio::test]
async fn contacts_are_looked_up_by_number() {
    let server = TestServer::start().await;
    let (me, ada) = (person(&server, 1, "Me").await, person(&server, 2, "Ada").await);
    let book = json!({"phone_numbers": ["+1 202-555-0002", "nonsense", "", "+12025559999"]});
    let found = ok(call(&server, "POST /users/lookup", Some(&me.token), &book).await).await;
    assert_eq!(found["users"].as_array().unwrap().len(), 1);
    assert_eq!(found["users"][0]["phone_number"], "+1 202-555-0002");
    assert_eq!(found["users"][0]["user"]["id"], id(&ada));
    let camel = json!({"phoneNumbers": ["+12025550002"]});
    assert_eq!(ok(call(&server, "POST /users/lookup", Some(&me.token), &camel).await).await["users"].as_array().unwrap().len(), 1);
    for bad in [
        json!({}),
        json!({"phone_numbers": null}),
        json!({"phone_numbers": "x"}),
        json!({"phone_numbers": [1]}),
        json!({"phone_numbers": ["\u{0}"]}),
        json!({"phone_numbers": vec!["+12025550002"; 501]}),
    ] {
        refused(&server, &me, "POST /users/lookup", &bad, 422, "validation_error").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn lookups_have_a_daily_budget() {
    let server = TestServer::with(|config| config.rate_limit = true).await;
    let me = person(&server, 1, "Me").await;
    let full = json!({"phone_numbers": vec!["+12025550002"; 500]});
    for _ in 0..4 {
        ok(call(&server, "POST /users/lookup", Some(&me.token), &full).await).await;
    }
    let one = json!({"phone_numbers": ["+12025550002"]});
    refused(&server, &me, "POST /users/lookup", &one, 429, "rate_limited").await;
    server.clock.advance(std::time::Duration::from_hours(24));
    ok(call(&server, "POST /users/lookup", Some(&me.token), &one).await).await;
    server.stop().await;
}

#[tokio::test]
async fn people_are_fetched_in_batches() {
    let server = TestServer::start().await;
    let (me, ada) = (person(&server, 1, "Me").await, person(&server, 2, "Ada").await);
    let wish = json!({"user_ids": [id(&ada), UNKNOWN, id(&me)]});
    let found = ok(call(&server, "POST /users/batch", Some(&me.token), &wish).await).await;
    assert_eq!(ids(&found), [id(&ada), id(&me)]);
    let none = ok(call(&server, "POST /users/batch", Some(&me.token), &json!({"user_ids": []})).await).await;
    assert!(ids(&none).is_empty());
    for bad in
        [json!({}), json!({"user_ids": null}), json!({"user_ids": ["x"]}), json!({"user_ids": {}}), json!({"user_ids": vec![UNKNOWN; 101]})]
    {
        refused(&server, &me, "POST /users/batch", &bad, 422, "validation_error").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_profile_is_changed_in_part_and_shows_to_others_at_once() {
    let server = TestServer::start().await;
    let (ada, bob) = (person(&server, 1, "Ada").await, person(&server, 2, "Bob").await);
    let put = async |body: Value| ok(call(&server, "PUT /auth/profile", Some(&ada.token), &body).await).await;
    let saved = put(json!({
        "display_name": "  Ada\u{202e}\u{0009}Love\u{200b}lace 🦊 ", "email": "ada@example.org", "bio": "engines",
        "avatar_url": "https://example.org/a.png", "social_links": {"x": "@ada", "y": "https://example.org/y"},
    }))
    .await;
    assert_eq!((&saved["success"], &saved["data"]["display_name"]), (&json!(true), &json!("Ada Lovelace 🦊")));
    assert_eq!(saved["display_name"], saved["data"]["display_name"]);
    let saved = put(json!({"bio": null, "avatar": "file:///data/a.png", "socialLinks": {"x": null, "z": "@z"}})).await["data"].clone();
    assert_eq!((&saved["bio"], &saved["avatar_url"]), (&Value::Null, &json!("https://example.org/a.png")));
    assert_eq!(saved["social_links"], json!({"y": "https://example.org/y", "z": "@z"}));
    let seen = get(&server, &bob, &format!("/users/{}", id(&ada))).await;
    assert_eq!((&seen["display_name"], &seen["email"]), (&json!("Ada Lovelace 🦊"), &Value::Null));
    assert_eq!(ids(&get(&server, &bob, "/users/search?q=lovelace").await), [id(&ada)]);
    for bad in [
        json!({"display_name": "\u{200b}\u{200d}"}),
        json!({"display_name": "\u{0}"}),
        json!({"display_name": "x".repeat(101)}),
        json!({"display_name": 5}),
        json!({"email": "nobody"}),
        json!({"bio": "x".repeat(501)}),
        json!({"social_links": {"x": "javascript:alert(1)"}}),
        json!({"social_links": []}),
    ] {
        refused(&server, &ada, "PUT /auth/profile", &bad, 422, "validation_error").await;
    }
    assert_eq!(get(&server, &ada, "/users/me").await, saved);
    server.stop().await;
}

#[tokio::test]
async fn who_blocked_the_caller_is_in_no_list_of_people() {
    let server = TestServer::start().await;
    let (ada, bob) = (person(&server, 1, "Ada").await, person(&server, 2, "Bob").await);
    let direct = json!({"type": "DIRECT", "participant_ids": [id(&bob)]});
    ok(call(&server, "POST /conversations", Some(&ada.token), &direct).await).await;
    assert_eq!(ids(&get(&server, &ada, "/users").await), [id(&bob)]);
    ok(call(&server, &format!("POST /settings/privacy/block/{}", id(&ada)), Some(&bob.token), &Value::Null).await).await;
    server.settled().await;
    assert_eq!(ids(&get(&server, &ada, "/users").await), [""; 0]);
    // The one who blocked still sees whom he has blocked.
    assert_eq!(ids(&get(&server, &bob, "/users").await), [id(&ada)]);
    server.stop().await;
}

#[tokio::test]
async fn a_blank_name_clears_it_like_null() {
    let server = TestServer::start().await;
    let ada = person(&server, 1, "Ada").await;
    for blank in [json!(""), json!("  "), json!(null)] {
        let saved = async |name: &Value| {
            let answer = call(&server, "PUT /auth/profile", Some(&ada.token), &json!({"display_name": name})).await;
            ok(answer).await["display_name"].clone()
        };
        assert_eq!(saved(&json!("Ada")).await, "Ada");
        assert_eq!(saved(&blank).await, Value::Null, "{blank}");
    }
    server.stop().await;
}
