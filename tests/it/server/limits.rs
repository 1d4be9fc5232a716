//! Limits by address.

use reqwest::Method;

use crate::support::{TestServer, failure};

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
