//! Paths and queries: ids that are none, of nothing and of others, bytes that are no text, methods that are none.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use super::super::good::Stage;
use crate::support::document::{Operation, operations};
use crate::support::{Human, People, failure};

const UNKNOWN: &str = "0197a5a3-0000-7000-8000-000000000000";

fn with_path_parameter() -> Vec<Operation> {
    operations().into_iter().filter(|operation| !operation.path_parameters.is_empty()).collect()
}

/// A body with which the call reaches its subject.
fn body(call: &Operation) -> Value {
    match call.id.as_str() {
        "edit_message" => json!({"content": "x"}),
        "update_message_status" => json!({"status": "READ"}),
        _ if call.fields.is_some() => json!({}),
        _ => Value::Null,
    }
}

async fn call(people: &People, who: &Human, call: &Operation, id: &str) -> reqwest::Response {
    people.send(&call.with_id(id), Some(&who.token), &body(call)).await
}

#[tokio::test]
async fn ids_that_are_none_are_named_by_every_call() {
    let stage = Stage::set().await;
    let long = "x".repeat(2_000);
    for operation in with_path_parameter() {
        for odd in ["no-uuid", "%FF", "%F0%9F%A6%8A", "%20", "..%2F", "0197a5a3-0000-7000-8000-00000000000", &long] {
            let refused = call(&stage.people, &stage.ada, &operation, odd).await;
            assert_eq!(refused.status(), 422, "{}: {odd:.40}", operation.route());
            let loc = failure(refused, 422, "validation_error").await["detail"][0]["loc"].clone();
            // What is no text at all is no value of a parameter.
            let named = if odd == "%FF" { json!(["path"]) } else { json!(["path", operation.path_parameters[0]]) };
            assert_eq!(loc, named, "{}: {odd:.40}", operation.route());
        }
        let nul = call(&stage.people, &stage.ada, &operation, "%00").await;
        assert_eq!(failure(nul, 422, "validation_error").await["detail"][0]["loc"], json!(["path"]));
    }
    stage.people.server.stop().await;
}

#[tokio::test]
async fn an_id_of_nothing_is_404_everywhere() {
    let stage = Stage::set().await;
    for operation in with_path_parameter() {
        let refused = call(&stage.people, &stage.ada, &operation, UNKNOWN).await;
        assert_eq!(refused.status(), 404, "{}", operation.route());
        failure(refused, 404, "not_found").await;
    }
    stage.people.server.stop().await;
}

#[tokio::test]
async fn what_belongs_to_others_is_refused_everywhere() {
    let stage = Stage::set().await;
    let sessions = stage.people.get(&stage.ada, "GET /auth/sessions").await;
    let session = sessions["sessions"][0]["id"].as_str().unwrap();
    for operation in with_path_parameter() {
        let (id, status, code) = match operation.path.split('/').nth(1).unwrap() {
            "conversations" => (stage.conversation.as_str(), 403, "forbidden"),
            "messages" => (stage.message.as_str(), 403, "forbidden"),
            // That there is such a login is nobody else's business.
            "auth" => (session, 404, "not_found"),
            // People are everybody's to see and to block.
            "users" | "settings" => continue,
            other => panic!("whose is what /{other}/{{id}} names?"),
        };
        let refused = call(&stage.people, &stage.eve, &operation, id).await;
        assert_eq!(refused.status(), status, "{}", operation.route());
        failure(refused, status, code).await;
    }
    // Nothing of all this has changed anything.
    let still = stage.people.get(&stage.ada, &format!("GET /messages/{}", stage.message)).await;
    assert_eq!((&still["content"], &still["isEdited"], &still["isStarred"]), (&json!("hello"), &json!(false), &json!(false)));
    stage.people.server.stop().await;
}

#[tokio::test]
async fn queries_with_bytes_that_are_no_text_are_no_fault_of_ours() {
    let stage = Stage::set().await;
    for operation in operations() {
        let id = match operation.path.split('/').nth(1).unwrap() {
            "messages" => &stage.message,
            "conversations" => &stage.conversation,
            _ => &stage.bob.id.to_string(),
        };
        for name in &operation.query_parameters {
            for odd in ["%FF", "%C3%28", "%ED%A0%80", "%", "%zz", "%F0%9F%A6%8A", "%E2%80%AE", "%1B"] {
                let words = if operation.id == "search_messages" && name != "q" { "&q=x" } else { "" };
                let route = format!("{}?{name}={odd}{words}", operation.with_id(id));
                let response = stage.people.send(&route, Some(&stage.ada.token), &body(&operation)).await;
                match response.status().as_u16() {
                    200 => {}
                    422 => {
                        let refused = failure(response, 422, "validation_error").await;
                        assert_eq!(refused["detail"][0]["loc"], json!(["query", name]), "{route}");
                    }
                    status => panic!("{route}: {status}"),
                }
            }
        }
        let route = format!("{}?%FF=%FE&&=&a", operation.with_id(id));
        let response = stage.people.send(&route, Some(&stage.eve.token), &body(&operation)).await;
        assert!(response.status().as_u16() < 500, "{route}: {}", response.status());
    }
    stage.people.server.stop().await;
}

#[tokio::test]
async fn paths_that_are_no_text_lead_nowhere() {
    let stage = Stage::set().await;
    for path in ["/%FF", "/api/%FF%FE", "/conversations/%FF/messages/%FF"] {
        let refused = failure(stage.people.server.get(path).await, 422, "validation_error").await;
        assert_eq!(refused["detail"][0]["loc"], json!(["path"]), "{path}");
    }
    for path in ["/api%2Fusers", "/%2e%2e/%2e%2e/etc/passwd", "//users/me", "/users//me", "/conversations/%F0%9F%A6%8A/nowhere"] {
        let response = stage.people.server.get(path).await;
        assert_eq!(response.status(), 404, "{path}");
        failure(response, 404, "not_found").await;
    }
    stage.people.server.stop().await;
}

#[tokio::test]
async fn every_path_says_which_methods_it_takes() {
    let stage = Stage::set().await;
    let mut paths: BTreeMap<String, (BTreeSet<String>, String)> = BTreeMap::new();
    for operation in operations() {
        let route = operation.with_id(UNKNOWN);
        let path = route.split_once(' ').unwrap().1.to_owned();
        paths.entry(operation.path.clone()).or_insert((BTreeSet::new(), path)).0.insert(operation.method);
    }
    for (documented, (methods, path)) in paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "BREW"] {
            if methods.contains(method) || (documented.ends_with('}') && method == "GET") {
                continue;
            }
            let request = stage.people.server.request(method.parse::<Method>().unwrap(), &path).bearer_auth(&stage.ada.token);
            let refused = request.send().await.unwrap();
            let allow = refused.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned());
            assert_eq!(refused.status(), 405, "{method} {documented}");
            failure(refused, 405, "method_not_allowed").await;
            let allowed: BTreeSet<_> = allow.unwrap().split(", ").map(str::to_owned).collect();
            assert_eq!(allowed, methods, "{documented}");
        }
    }
    stage.people.server.stop().await;
}
