//! The pages that belong to no feature.

use serde_json::Value;

use crate::support::document::resolved;
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

#[test]
fn every_operation_is_explained_with_examples_and_errors() {
    let document: Value = serde_json::from_str(&urge::server::document::<urge::app::Apis>()).unwrap();
    let mut lacks = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let mut need = |is_there: bool, what: &str| {
                if !is_there {
                    lacks.push(format!("{method} {path}: {what}"));
                }
            };
            let words = |name: &str| operation[name].as_str().is_some_and(|words| !words.trim().is_empty());
            need(words("summary"), "a summary");
            need(words("description"), "a description");
            need(words("operationId"), "an operation id");
            let has_example = |content: &Value| {
                let schema = resolved(&document, &content["application/json"]["schema"]);
                // A bare list shows what is in it.
                let schema = if schema["type"] == "array" { resolved(&document, &schema["items"]) } else { schema };
                !schema["example"].is_null()
            };
            if let Some(body) = operation.get("requestBody") {
                need(has_example(&body["content"]), "an example of its body");
            }
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses {
                need(has_example(&response["content"]), &format!("an example of its {status}"));
                let waits = matches!(status.as_str(), "429" | "503");
                need(
                    !waits || response["headers"]["RETRY-AFTER"].is_object() || response["headers"]["Retry-After"].is_object(),
                    "when to come back",
                );
            }
            for status in ["500", "503"] {
                need(responses.contains_key(status), status);
            }
        }
    }
    assert!(lacks.is_empty(), "{lacks:#?}");
}
