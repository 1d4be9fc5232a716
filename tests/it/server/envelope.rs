//! Whatever is refused before a handler is asked has the one envelope.

use reqwest::Method;

use crate::support::{TestServer, failure};

#[tokio::test]
async fn an_unknown_route_is_404() {
    let server = TestServer::start().await;
    for path in ["/nowhere", "/api/nowhere", "/apis", "/api/", "/health/more"] {
        if path == "/api/" {
            assert_eq!(server.get(path).await.status(), 200);
        } else {
            failure(server.get(path).await, 404, "not_found").await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_method_is_405_and_says_which_are_right() {
    let server = TestServer::start().await;
    for path in ["/health", "/api/health", "/metrics"] {
        let response = server.request(Method::DELETE, path).send().await.unwrap();
        assert_eq!(response.headers()["allow"], "GET", "{path}");
        failure(response, 405, "method_not_allowed").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn nul_characters_in_the_path_are_422() {
    let server = TestServer::start().await;
    failure(server.get("/health?q=a%00b").await, 422, "validation_error").await;
    failure(server.get("/%00").await, 422, "validation_error").await;
    server.stop().await;
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let server = TestServer::start().await;
    let given = server.request(Method::GET, "/nowhere").header("x-request-id", "abc-123").send().await.unwrap();
    assert_eq!(given.headers()["x-request-id"], "abc-123");
    let fresh = server.request(Method::GET, "/nowhere").header("x-request-id", "a b\tc").send().await.unwrap();
    assert_eq!(fresh.headers()["x-request-id"].len(), 32);
    server.stop().await;
}

#[tokio::test]
async fn browsers_may_ask_first() {
    let server = TestServer::with(|config| config.cors_origins = vec!["https://app.example.com".to_owned()]).await;
    let ask = |origin: &'static str| {
        let request = server.request(Method::OPTIONS, "/api/auth/login").header("origin", origin);
        request.header("access-control-request-method", "POST").header("access-control-request-headers", "authorization").send()
    };
    let allowed = ask("https://app.example.com").await.unwrap();
    assert_eq!(allowed.status(), 204);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://app.example.com");
    assert_eq!(allowed.headers()["access-control-allow-headers"], "authorization");
    assert!(allowed.headers()["access-control-allow-methods"].to_str().unwrap().contains("POST"));
    let refused = ask("https://evil.example.com").await.unwrap();
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    failure(refused, 403, "forbidden").await;

    // Errors carry the headers too, or the page could not read them; a foreign page gets none.
    let wrong = server.request(Method::GET, "/nowhere").header("origin", "https://app.example.com").send().await.unwrap();
    assert_eq!(wrong.headers()["access-control-allow-origin"], "https://app.example.com");
    assert_eq!(wrong.headers()["vary"], "origin");
    let foreign = server.request(Method::GET, "/health").header("origin", "https://evil.example.com").send().await.unwrap();
    assert_eq!(foreign.status(), 200);
    assert!(!foreign.headers().contains_key("access-control-allow-origin"));
    server.stop().await;
}

#[tokio::test]
async fn head_is_answered_like_get() {
    let server = TestServer::start().await;
    let response = server.request(Method::HEAD, "/health").send().await.unwrap();
    assert_eq!(response.status(), 200);
    server.stop().await;
}
