//! The pages that belong to no feature.

use crate::support::{TestServer, json};

#[tokio::test]
async fn the_index_names_the_product_and_its_links() {
    let server = TestServer::start().await;
    let body = json(server.get("/").await).await;
    assert_eq!((&body["name"], &body["version"]), (&"urge".into(), &env!("CARGO_PKG_VERSION").into()));
    for link in body["links"].as_object().unwrap().values() {
        assert!(server.get(link.as_str().unwrap()).await.status().is_success(), "{link}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_node_is_ready_until_it_stops() {
    let server = TestServer::with(|config| config.server.drain_timeout = std::time::Duration::from_millis(500)).await;
    assert_eq!(json(server.get("/health").await).await["status"], "ok");
    let body = json(server.get("/ready").await).await;
    assert_eq!((&body["store"], &body["bus"]), (&"up".into(), &"up".into()));
    server.stop().await;
}

#[tokio::test]
async fn metrics_count_by_route_and_never_hold_ids() {
    let server = TestServer::start().await;
    let id = uuid::Uuid::now_v7().to_string();
    for path in [format!("/users/{id}"), format!("/api/conversations/{id}/messages"), format!("/{id}")] {
        server.get(&path).await;
    }
    server.get("/health").await;
    let text = server.get("/metrics").await.text().await.unwrap();
    assert!(text.contains("urge_http_requests_total{method=\"GET\",route=\"/health\",status=\"200\"}"), "{text}");
    assert!(text.contains("urge_http_request_seconds_bucket"));
    assert!(!text.contains(&id));
    server.stop().await;
}

#[tokio::test]
async fn documentation_needs_nothing_from_outside() {
    let server = TestServer::start().await;
    for page in ["/docs", "/redoc"] {
        let response = server.get(page).await;
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
        let text = response.text().await.unwrap();
        assert!(text.contains("get_health"), "{page} holds the document");
        for fetched in ["<link ", "src=\"http", "@import", "fonts.googleapis.com/css"] {
            let markup = text.split("<script").filter_map(|part| part.split("</script>").nth(1)).collect::<String>()
                + text.split("<script").next().unwrap();
            assert!(!markup.contains(fetched), "{page} has {fetched}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_served_document_is_the_one_that_the_command_prints() {
    let server = TestServer::start().await;
    let shown = server.get("/openapi.json").await.text().await.unwrap();
    assert_eq!(shown, urge::server::document::<urge::app::Apis>());
    server.stop().await;
}

#[test]
fn the_committed_document_is_that_of_the_code() {
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json")).unwrap();
    let current = urge::server::document::<urge::app::Apis>();
    assert!(committed == current, "docs/openapi.json is out of date: urge openapi > docs/openapi.json");
}
