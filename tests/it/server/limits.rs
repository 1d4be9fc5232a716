//! Limits by address and by user.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{People, TestServer, failure};

#[tokio::test]
async fn a_flood_from_one_address_is_429_with_retry_after() {
    let server = TestServer::with(|config| {
        config.rate_limit = true;
        (config.server.requests_per_minute, config.server.request_burst) = (1, 3);
    })
    .await;
    for _ in 0..3 {
        assert_eq!(server.get("/").await.status(), 200);
    }
    let refused = server.get("/").await;
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    failure(refused, 429, "rate_limited").await;
    for probe in ["/health", "/ready", "/metrics"] {
        assert_eq!(server.get(probe).await.status(), 200, "{probe} is never limited");
    }
    // The app's first question is answered too: 401 for a stranger, never 429.
    failure(server.get("/api/auth/me").await, 401, "unauthenticated").await;
    server.stop().await;
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_own_limit() {
    let server = TestServer::with(|config| {
        config.rate_limit = true;
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        (config.server.requests_per_minute, config.server.request_burst) = (1, 1);
    })
    .await;
    let ask = async |client: &str| server.request(Method::GET, "/").header("x-forwarded-for", client).send().await.unwrap().status();
    assert_eq!(ask("192.0.2.1").await, 200);
    assert_eq!(ask("192.0.2.1").await, 429);
    assert_eq!(ask("192.0.2.2").await, 200);
    assert_eq!(ask("2001:db8::1").await, 200);
    assert_eq!(ask("2001:db8::2").await, 429);
    server.stop().await;
}

#[tokio::test]
async fn without_one_the_header_is_ignored() {
    let server = TestServer::with(|config| {
        config.rate_limit = true;
        (config.server.requests_per_minute, config.server.request_burst) = (1, 1);
    })
    .await;
    let ask = async |client: &str| server.request(Method::GET, "/").header("x-forwarded-for", client).send().await.unwrap().status();
    assert_eq!(ask("192.0.2.1").await, 200);
    assert_eq!(ask("192.0.2.2").await, 429);
    server.stop().await;
}

#[tokio::test]
async fn polls_of_no_session_are_counted_and_those_of_one_are_not() {
    let server = TestServer::with(|config| {
        config.rate_limit = true;
        (config.server.requests_per_minute, config.server.request_burst) = (1, 4);
    })
    .await;
    let poll = |query: &str| format!("/socket.io/?EIO=4&transport=polling{query}");
    let opened = server.get(&poll("")).await.text().await.unwrap();
    let opened: Value = serde_json::from_str(opened.strip_prefix('0').unwrap()).unwrap();
    let own = poll(&format!("&sid={}", opened["sid"].as_str().unwrap()));
    for unknown in [poll("&sid=0123456789abcdef0123456789abcdef"), "/socket.iox?sid=1".to_owned(), "/socket.io/x?sid=1".to_owned()] {
        assert!(server.get(&unknown).await.status().is_client_error());
    }
    for unknown in [poll("&sid=0123456789abcdef0123456789abcdef"), "/socket.iox?sid=1".to_owned()] {
        failure(server.get(&unknown).await, 429, "rate_limited").await;
    }
    for _ in 0..5 {
        let taken = server.request(Method::POST, &own).body("6").send().await.unwrap();
        assert_eq!(taken.status(), 200, "a session's own polls go on");
    }
    server.stop().await;
}

/// Checks that the answer says when to come back.
fn waits(response: &reqwest::Response) {
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
}

#[tokio::test]
async fn each_user_has_a_limit_of_his_own_and_may_always_ask_who_he_is_and_log_out() {
    let limited = |config: &mut urge::config::Config| {
        config.rate_limit = true;
        (config.server.user_requests_per_minute, config.server.user_request_burst) = (1, 3);
    };
    let world = People::of(TestServer::with(limited).await);
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    for _ in 0..3 {
        world.get(&ada, "GET /users/me").await;
    }
    let refused = world.send("GET /conversations", Some(&ada.token), &Value::Null).await;
    waits(&refused);
    failure(refused, 429, "rate_limited").await;
    world.get(&bob, "GET /users/me").await;
    world.get(&ada, "GET /auth/me").await;
    world.get(&ada, "POST /auth/logout").await;
    world.server.stop().await;
}

#[tokio::test]
async fn sending_by_post_has_the_limit_of_a_socket() {
    let limited = |config: &mut urge::config::Config| {
        config.rate_limit = true;
        (config.server.requests_per_minute, config.server.request_burst) = (6_000, 1_000);
        (config.server.user_requests_per_minute, config.server.user_request_burst) = (6_000, 1_000);
    };
    let world = People::of(TestServer::with(limited).await);
    let (ada, bob) = (world.person("Ada").await, world.person("Bob").await);
    let direct = world.direct(&ada, &bob).await;
    // The app's burst passes whole; a flood beyond it does not.
    let command = json!({"conversation_id": direct, "content": "again"});
    let flood = (0..200).map(|_| world.send("POST /messages", Some(&ada.token), &command));
    let (taken, refused): (Vec<_>, Vec<_>) =
        futures_util::future::join_all(flood).await.into_iter().partition(|response| response.status() == 200);
    assert!(taken.len() >= 50, "{} were taken", taken.len());
    let refused = refused.into_iter().next().unwrap();
    waits(&refused);
    failure(refused, 429, "rate_limited").await;
    world.get(&ada, &format!("GET /conversations/{direct}/messages")).await;
    world.call(&bob, "POST /messages", &json!({"conversation_id": direct, "content": "hello"})).await;
    world.server.stop().await;
}
