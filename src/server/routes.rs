//! The routes as they are documented. The framework numbers what varies in a path (`:param0`); here are the names of
//! it, for answers and metrics, and the methods that each route takes, for `Allow`.

use std::collections::HashMap;

use poem::http::HeaderValue;
use poem_openapi::OpenApi;

/// The documented routes, by their form.
#[derive(Clone, Debug, Default)]
pub struct Routes(HashMap<String, Route>);

#[derive(Clone, Debug)]
struct Route {
    /// With `{id}` for what varies.
    name: String,
    /// Joined by commas.
    methods: String,
}

impl Routes {
    /// Those of these APIs; pages not among them take GET.
    pub fn of<T: OpenApi>() -> Self {
        let mut routes: HashMap<String, Route> = HashMap::new();
        for path in T::meta().into_iter().flat_map(|api| api.paths) {
            let route = routes.entry(form(&path.path)).or_insert_with(|| Route { name: named(&path.path), methods: String::new() });
            for operation in path.operations {
                if !route.methods.is_empty() {
                    route.methods.push_str(", ");
                }
                route.methods.push_str(operation.method.as_str());
            }
        }
        Self(routes)
    }

    /// What the route is called, `{id}` for what varies.
    pub fn name(&self, pattern: &str) -> String {
        self.0.get(&form(pattern)).map_or_else(|| named(pattern), |route| route.name.clone())
    }

    /// The documented name of the parameter of the path that the framework calls this.
    pub fn parameter(&self, pattern: &str, framework_name: &str) -> Option<String> {
        let place: usize = framework_name.strip_prefix("param")?.parse().ok()?;
        let name = self.name(pattern);
        let parameter = name.split('/').filter_map(|step| step.strip_prefix('{')?.strip_suffix('}')).nth(place)?;
        Some(parameter.to_owned())
    }

    /// The methods that it takes.
    pub fn allow(&self, pattern: &str) -> HeaderValue {
        let known = self.0.get(&form(pattern)).and_then(|route| HeaderValue::from_str(&route.methods).ok());
        known.unwrap_or(HeaderValue::from_static("GET"))
    }
}

/// A route with `{}` for what varies, whichever way it was written down.
fn form(route: &str) -> String {
    let steps: Vec<_> = route.split('/').map(|step| if step.starts_with([':', '{']) { "{}" } else { step }).collect();
    steps.join("/")
}

/// A route with `{id}` for what varies, whichever way it was written down.
fn named(route: &str) -> String {
    let step = |step: &str| match step.strip_prefix(':') {
        Some(name) => format!("{{{name}}}"),
        None => step.to_owned(),
    };
    let steps: Vec<_> = route.split('/').map(step).collect();
    steps.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_known_whichever_way_it_is_written() {
        let route = Route { name: "/groups/{id}/members/{user_id}".to_owned(), methods: "DELETE".to_owned() };
        let routes = Routes(HashMap::from([(form(&route.name), route.clone())]));
        let pattern = "/groups/:param0/members/:param1";
        assert_eq!(routes.name(pattern), route.name);
        assert_eq!(routes.allow(pattern), "DELETE");
        assert_eq!(routes.parameter(pattern, "param0").as_deref(), Some("id"));
        assert_eq!(routes.parameter(pattern, "param1").as_deref(), Some("user_id"));
        assert_eq!((routes.parameter(pattern, "param2"), routes.parameter(pattern, "other")), (None, None));
        assert_eq!(routes.name("/docs/:page"), "/docs/{page}");
        assert_eq!(routes.allow("/docs"), "GET");
    }
}
