//! The pages that belong to no feature.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json as value};
use tempfile::TempDir;
use urge::bus::{Bus, BusError, Subscription};
use urge::event::Envelope;

use crate::support::document::resolved;
use crate::support::{People, TestServer, json};

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
async fn probes_say_that_a_node_runs_and_is_ready() {
    let server = TestServer::start().await;
    assert_eq!(json(server.get("/health").await).await, value!({"status": "ok"}));
    assert_eq!(json(server.get("/ready").await).await, value!({"status": "ready", "store": "up", "bus": "up"}));
    server.stop().await;
}

/// A bus that takes nothing and brings nothing.
struct Down;

#[async_trait]
impl Bus for Down {
    async fn publish(&self, _: Envelope) -> Result<(), BusError> {
        Err(BusError("the test has taken it down".into()))
    }

    fn subscribe(&self) -> Subscription {
        tokio::sync::mpsc::channel(1).1
    }

    fn is_up(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_bus_that_is_down_is_shown_and_refuses_nothing() {
    let wrap = |backends| urge::app::Backends { bus: Arc::new(Down), ..backends };
    let people = People::of(TestServer::on(Arc::new(TempDir::new().unwrap()), |_| {}, wrap).await);
    let ready = people.server.get("/ready").await;
    assert_eq!(ready.status(), 200);
    assert_eq!(json(ready).await, value!({"status": "ready", "store": "up", "bus": "down"}));
    let (ada, bob) = (people.person("Ada").await, people.person("Bob").await);
    let place = people.direct(&ada, &bob).await;
    people.call(&ada, "POST /messages", &value!({"conversation_id": place, "content": "anyway"})).await;
    assert_eq!(people.get(&bob, &format!("GET /conversations/{place}/messages")).await["messages"][0]["content"], "anyway");
    // Logging out holds at once, although nobody can be told.
    people.get(&ada, "POST /auth/logout").await;
    people.refused(&ada, "GET /users/me", &Value::Null, 401, "unauthenticated").await;
    people.server.stop().await;
}

/// The value of the series with these labels; nodes of other tests count in the same ones.
fn count(metrics: &str, series: &str) -> u64 {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn metrics_count_by_route_and_never_hold_ids() {
    let server = TestServer::start().await;
    let metrics = async || server.get("/metrics").await.text().await.unwrap();
    let series = |labels: &str| format!("urge_http_requests_total{{method=\"GET\",{labels}}}");
    let counted = [
        series("route=\"/users/{user_id}\",status=\"401\""),
        series("route=\"/conversations/{id}/messages\",status=\"401\""),
        series("route=\"(none)\",status=\"404\""),
        series("route=\"/health\",status=\"200\""),
        "urge_http_request_seconds_count{method=\"GET\",route=\"/users/{user_id}\"}".to_owned(),
    ];
    let before = metrics().await;
    let id = uuid::Uuid::now_v7().to_string();
    for path in [&format!("/users/{id}"), &format!("/api/conversations/{id}/messages"), &format!("/{id}"), "/health"] {
        server.get(path).await;
    }
    let after = metrics().await;
    for series in &counted {
        assert!(count(&after, series) > count(&before, series), "{series} in {after}");
    }
    assert!(after.contains("urge_http_request_seconds_bucket{method=\"GET\",route=\"/health\",le=\""), "{after}");
    assert!(!after.contains(&id));
    let helped = |name: &str| after.contains(&format!("# HELP {name} "));
    let mut names = after.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).peekable();
    assert!(names.peek().is_some() && names.all(helped), "{after}");
    server.stop().await;
}

#[tokio::test]
async fn documentation_needs_nothing_from_outside() {
    let server = TestServer::start().await;
    let document = urge::server::document::<urge::app::Apis>();
    for page in ["/docs", "/redoc"] {
        let response = server.get(page).await;
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
        let text = response.text().await.unwrap();
        assert!(text.contains(&document.replace("</", "<\\/")), "{page} holds the whole document");
        // Scripts are in the page, and what stands around them fetches nothing either.
        let (mut markup, mut rest, mut scripts) = (String::new(), text.as_str(), 0);
        while let Some((before, script)) = rest.split_once("<script") {
            let (tag, script) = script.split_once('>').unwrap();
            assert!(!tag.contains("src"), "{page} fetches a script: {tag}");
            markup += before;
            rest = script.split_once("</script>").unwrap().1;
            scripts += 1;
        }
        markup += rest;
        assert!(scripts > 0, "{page} is a page that shows it");
        for fetched in ["<link ", "src=", "<iframe", "@import", "url(http", "url('http", "url(\"http"] {
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

#[test]
fn every_call_stands_under_a_heading() {
    let document: serde_json::Value = serde_json::from_str(&urge::server::document::<urge::app::Apis>()).unwrap();
    let headings: Vec<_> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let paths = document["paths"].as_object().unwrap();
    let calls = paths.iter().flat_map(|(path, calls)| calls.as_object().unwrap().iter().map(move |(method, call)| (path, method, call)));
    for (path, method, call) in calls {
        let tags = call["tags"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(tags.len() == 1 && headings.contains(&&tags[0]), "{method} {path}: {tags:?}");
    }
}
