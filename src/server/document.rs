//! The OpenAPI document: what poem-openapi derives from the code, less the errors that an operation cannot answer with.
//! It needs no running node, so `urge openapi` and the test that guards `docs/openapi.json` take it from here.

use std::collections::HashMap;
use std::marker::PhantomData;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService};
use serde_json::Value;

/// What the document says of the whole.
const DESCRIPTION: &str = "The backend of a mobile messenger. Every path answers with and without `/api` in front. \
Fields of requests may be spelt in snake_case or camelCase; unknown ones are ignored, `null` is like absent. \
Every answer that is not 2xx has the body of `Failure`. Lists take `limit`, `offset` and the opaque `cursor`.";

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

/// The document without what does not apply.
pub fn tidy(spec: &str) -> String {
    let Ok(mut document) = serde_json::from_str::<Value>(spec) else { return spec.to_owned() };
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for (path, item) in paths.into_iter().flatten() {
        let operations = item.as_object_mut().into_iter().flat_map(serde_json::Map::values_mut);
        for operation in operations.filter_map(Value::as_object_mut) {
            let reads_body = operation.contains_key("requestBody");
            let is_public = !operation.contains_key("security") && !path.starts_with("/auth");
            let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { continue };
            responses.retain(|status, _| match status.as_str() {
                // A documented operation has a method that its path takes.
                "405" => false,
                "413" | "415" => reads_body,
                "401" => !is_public,
                // The pages of the node itself ask nothing that could be refused or missing.
                "400" | "403" | "404" => !matches!(path.as_str(), "/" | "/health" | "/ready"),
                "429" => !matches!(path.as_str(), "/health" | "/ready"),
                "501" => path.starts_with("/account"),
                _ => true,
            });
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
