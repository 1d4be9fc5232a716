//! The OpenAPI document: what poem-openapi derives from the code, less the errors that an operation cannot answer with.
//! It needs no running node, so `urge openapi` and the test that guards `docs/openapi.json` take it from here.

use std::collections::HashMap;
use std::marker::PhantomData;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

/// What the document says of the whole.
const DESCRIPTION: &str = "The backend of a mobile messenger. Every path answers with and without `/api` in front. \
Fields of requests may be spelt in snake_case or camelCase; unknown ones are ignored, `null` is like absent. \
Every answer that is not 2xx has the body of `Failure`; a NUL character in a path or query is 422 anywhere. Lists take `limit`, `offset` and the opaque `cursor`.";

/// The service of these APIs, with its title and description.
pub fn service<T: OpenApi>(apis: T) -> OpenApiService<T, ()> {
    OpenApiService::new(apis, "URGE", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .license(LicenseObject::new("Apache-2.0").identifier("Apache-2.0"))
        .server("/api")
}

/// The document of these APIs, pretty-printed JSON with a newline at its end.
pub fn document<T: OpenApi>() -> String {
    tidy(&service(Described::<T>(PhantomData)).spec())
}

/// What some operations answer with that their form does not tell.
fn is_special(operation: &str, status: &str) -> bool {
    match status {
        // Oneself, what is deleted already, and more stars or hidden messages than one can have.
        "400" => matches!(operation, "block_user" | "star_message" | "delete_message"),
        // A wrong password, code or token; a second factor that is missing.
        "401" => matches!(operation, "login_user" | "verify_phone" | "refresh_tokens"),
        // Numbers of countries that get no codes.
        "403" => matches!(operation, "send_code" | "send_verification" | "forgot_password"),
        // People, conversations and messages that are named in a body or a query.
        "404" => matches!(operation, "create_conversation" | "send_message" | "forward_messages" | "read_messages" | "search_messages"),
        _ => false,
    }
}

/// Whether an operation can answer with this error; `tests/it/api/answers.rs` holds it to the code.
fn can_answer(path: &str, operation: &Map<String, Value>, status: &str) -> bool {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
    let reads_body = operation.contains_key("requestBody");
    let ways_in = operation.get("security").and_then(Value::as_array);
    let needs_login = ways_in.is_some_and(|ways| !ways.iter().any(|way| way.as_object().is_some_and(Map::is_empty)));
    let by_form = match status {
        "400" | "413" | "415" => reads_body,
        "401" => needs_login,
        // Who is not verified may not do anything but log out.
        "403" => needs_login && id != "logout_user",
        "404" => path.contains('{'),
        "422" => reads_body || operation.contains_key("parameters"),
        "429" => !matches!(id, "get_health" | "get_readiness" | "get_me"),
        "500" | "503" => true,
        // A documented operation has a method that its path takes (405), and is set up on every server (501).
        _ => false,
    };
    by_form || is_special(id, status)
}

/// Says of a schema's optional fields that they may be null: answers name every field, and `null` in a request is like absent.
/// In OpenAPI 3.0 nothing may stand beside a `$ref`, so it moves into an `allOf`.
fn allow_null(schema: &mut Value) {
    let required: Vec<String> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
    for (_, field) in fields.filter(|(name, _)| !required.contains(name)) {
        let Some(field) = field.as_object_mut() else { continue };
        if let Some(reference) = field.remove("$ref") {
            field.insert("allOf".to_owned(), json!([{"$ref": reference}]));
        }
        field.insert("nullable".to_owned(), Value::Bool(true));
    }
}

/// The document without what does not apply, and with what the code's types say of null.
pub fn tidy(spec: &str) -> String {
    let Ok(mut document) = serde_json::from_str::<Value>(spec) else { return spec.to_owned() };
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    schemas.into_iter().flat_map(Map::values_mut).for_each(allow_null);
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        let operations = item.as_object_mut().into_iter().flat_map(Map::values_mut);
        for operation in operations.filter_map(Value::as_object_mut) {
            let Some(mut responses) = operation.remove("responses") else { continue };
            if let Some(responses) = responses.as_object_mut() {
                responses.retain(|status, _| status.starts_with('2') || can_answer(path, operation, status));
            }
            operation.insert("responses".to_owned(), responses);
        }
    }
    serde_json::to_string_pretty(&document).map_or_else(|_| spec.to_owned(), |text| text + "\n")
}

/// APIs that are only described: without the services behind them, and without routes.
struct Described<T>(PhantomData<T>);

impl<T: OpenApi> OpenApi for Described<T> {
    fn meta() -> Vec<MetaApi> {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, _: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}
