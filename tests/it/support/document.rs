//! The OpenAPI document as the tests use it: all operations of this version, so that a loop over them leaves none out.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::Value;

/// One call of the document.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `PUT`
    pub method: String,
    /// `/messages/{id}`
    pub path: String,
    /// The operation id, `edit_message`.
    pub id: String,
    /// Whether it is refused without a token.
    pub needs_login: bool,
    /// The fields of its body; `None`: it reads none.
    pub fields: Option<Vec<String>>,
    /// The names of what varies in its path.
    pub path_parameters: Vec<String>,
    /// The names of its query parameters.
    pub query_parameters: Vec<String>,
    /// What it may answer with, beside 200.
    pub errors: BTreeSet<u16>,
}

impl Operation {
    /// `PUT /messages/{id}`
    pub fn route(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// The route with this in place of what varies in its path.
    pub fn with_id(&self, id: &str) -> String {
        let steps: Vec<_> = self.path.split('/').map(|step| if step.starts_with('{') { id } else { step }).collect();
        format!("{} {}", self.method, steps.join("/"))
    }
}

/// All calls of this version.
pub fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&urge::server::document::<urge::app::Apis>()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let all =
        paths.iter().flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, operation)| (path, method, operation)));
    all.map(|(path, method, operation)| read(&document, path, method, operation)).collect()
}

fn read(document: &Value, path: &str, method: &str, operation: &Value) -> Operation {
    let parameters = |place: &str| {
        let all = operation["parameters"].as_array().into_iter().flatten();
        all.filter(|one| one["in"] == place).map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    let security = operation["security"].as_array();
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    Operation {
        method: method.to_uppercase(),
        path: path.to_owned(),
        id: operation["operationId"].as_str().unwrap().to_owned(),
        needs_login: security.is_some_and(|ways| !ways.iter().any(|way| way.as_object().unwrap().is_empty())),
        fields: (!body.is_null()).then(|| resolved(document, body)["properties"].as_object().unwrap().keys().cloned().collect()),
        path_parameters: parameters("path"),
        query_parameters: parameters("query"),
        errors: operation["responses"].as_object().unwrap().keys().filter_map(|status| status.parse().ok()).filter(|s| *s != 200).collect(),
    }
}

/// The schema that a `$ref` names, or the one that stands there.
pub fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
    name.map_or(schema, |name| &document["components"]["schemas"][name])
}

/// Holds the document to these metrics: all nodes of the process count what they answered by route and status.
///
/// # Panics
/// A call has answered with an error that the document does not list for it. Another test than the caller may have seen it.
pub fn holds_what_was_seen(metrics: &str) {
    static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(operations);
    let seen = metrics.lines().filter_map(|line| {
        let labels = line.strip_prefix("urge_http_requests_total{")?.split_once('}')?.0;
        let label = |name: &str| Some(labels.split_once(&format!("{name}=\""))?.1.split_once('"')?.0);
        Some((label("method")?, label("route")?, label("status")?.parse::<u16>().ok()?))
    });
    let is_unknown = |(method, route, status): &(&str, &str, u16)| {
        let call = OPERATIONS.iter().find(|call| call.method == *method && call.path == *route);
        call.is_some_and(|call| *status != 200 && !call.errors.contains(status))
    };
    let unknown: Vec<_> = seen.filter(is_unknown).collect();
    assert!(unknown.is_empty(), "these were answered, but are not documented: {unknown:?}");
}
