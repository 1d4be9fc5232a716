//! What happens to every request, in this order: it gets an id, an address and a span; a preflight is answered;
//! `/api` is taken off its path and its query is brought into one spelling; NUL characters and floods are refused; its handler runs under a deadline and
//! cannot take the node down by a panic; whatever went wrong becomes the one envelope; it is counted by its route.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use poem::endpoint::BoxEndpoint;
use poem::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use poem::{Endpoint, IntoResponse, PathPattern, Request, Response};
use tracing::Instrument;
use uuid::Uuid;

use super::failure::translate;
use super::{Cors, Proxies, Routes, query};
use crate::error::Error;
use crate::rate::{self, Limiter};
use crate::rest::{ApiError, ClientAddress, RequestId};
use crate::task::Tasks;

/// Carries a request's id, in and out.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What counts as no route in metrics and logs.
const NO_ROUTE: &str = "(none)";

/// The endpoint in front of all others.
pub struct Front {
    /// What answers.
    pub inner: Arc<BoxEndpoint<'static, Response>>,
    /// Where a request goes on whose client has gone away.
    pub tasks: Tasks,
    /// What it answers, as documented.
    pub routes: Routes,
    /// Which web pages may call.
    pub cors: Cors,
    /// Whose word on addresses counts.
    pub proxies: Proxies,
    /// The limit by address.
    pub limiter: Limiter<IpAddr>,
    /// Whether a request with this query belongs to a session of Socket.IO, which has limits of its own.
    pub polls: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// The deadline of a request.
    pub deadline: Duration,
}

impl Endpoint for Front {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let started = Instant::now();
        let method = request.method().clone();
        let id = request_id(&request);
        let span = tracing::info_span!("request", id);
        let address = self.proxies.client(&request);
        let allowed = self.cors.allowed(request.headers());
        request.set_data(ClientAddress(address));
        request.set_data(RequestId(id.clone()));
        let mut response = self.answer(request, address, allowed.is_some()).instrument(span.clone()).await;
        self.cors.mark(&mut response, allowed);
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID.clone(), id);
        }
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // What is below `/` and no route has an empty pattern.
        let pattern = response.data::<PathPattern>().filter(|pattern| !pattern.0.is_empty());
        let route = pattern.map_or_else(|| NO_ROUTE.to_owned(), |pattern| self.routes.name(&pattern.0));
        span.in_scope(|| record(&method, route, response.status(), started.elapsed()));
        Ok(response)
    }
}

impl Front {
    async fn answer(&self, mut request: Request, address: IpAddr, origin_allowed: bool) -> Response {
        if Cors::is_preflight(&request) {
            return if origin_allowed { Cors::preflight(&request) } else { refuse(Error::forbidden("this origin may not call")) };
        }
        if let Some(uri) = without_prefix(request.uri()) {
            *request.uri_mut() = uri;
        }
        let path = request.uri().path().to_owned();
        if !is_socket(&path)
            && let Some(uri) = query::normalised(request.uri())
        {
            *request.uri_mut() = uri;
        }
        if has_nul(request.uri()) {
            return refuse(Error::invalid_at("path", "", "the path and query must not contain NUL characters"));
        }
        if !self.is_unlimited(request.uri())
            && let Err(error) = self.limiter.check(rate::network(address))
        {
            return refuse(error);
        }
        let inner = Arc::clone(&self.inner);
        let is_safe = request.method().is_safe();
        let handling = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
        let handled = if is_lasting(&path) {
            Ok(handling.await)
        } else if is_safe {
            tokio::time::timeout(self.deadline, handling).await
        } else {
            // A client that disconnects in the middle of a change cancels nothing.
            self.tasks.carry_out(tokio::time::timeout(self.deadline, handling)).await
        };
        match handled {
            Ok(Ok(Ok(response))) => response,
            Ok(Ok(Err(error))) => self.failed(error),
            Ok(Err(_)) => refuse(Error::internal("a handler panicked")),
            Err(_) => refuse(Error::unavailable("this took too long, try again in a moment").with_source("the request's deadline passed")),
        }
    }

    /// Probes; the app's first question after its start, which must not log anybody out; and polls of a session
    /// that has its own limits. Polls of none are counted like anything else.
    fn is_unlimited(&self, uri: &Uri) -> bool {
        match uri.path() {
            "/health" | "/ready" | "/metrics" | "/auth/me" => true,
            "/socket.io" | "/socket.io/" => uri.query().is_some_and(|query| (self.polls)(query)),
            _ => false,
        }
    }

    fn failed(&self, error: poem::Error) -> Response {
        let route = error.data::<PathPattern>().cloned();
        let pattern = route.as_ref().map_or("", |route| &route.0);
        let parameter = |name: &str| self.routes.parameter(pattern, name);
        let mut response = if error.is_from_response() { error.into_response() } else { refuse(translate(&error, parameter)) };
        if let Some(route) = route {
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                response.headers_mut().insert(header::ALLOW, self.routes.allow(&route.0));
            }
            response.set_data(route);
        }
        response
    }
}

fn refuse(error: Error) -> Response {
    ApiError(error).into_response()
}

/// The caller's id when it is sane, so that a proxy's log and ours can be laid side by side; else a fresh one.
fn request_id(request: &Request) -> String {
    let sane = |id: &&str| (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let given = request.headers().get(&REQUEST_ID).and_then(|id| id.to_str().ok()).filter(sane);
    given.map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned)
}

/// The same without the base path; both are answered, the app's release build leaves it out.
fn without_prefix(uri: &Uri) -> Option<Uri> {
    let rest = uri.path_and_query()?.as_str().strip_prefix("/api")?;
    match rest.as_bytes().first() {
        Some(b'/') => rest.parse().ok(),
        None | Some(b'?') => format!("/{rest}").parse().ok(),
        Some(_) => None,
    }
}

fn has_nul(uri: &Uri) -> bool {
    uri.path().contains("%00") || uri.query().is_some_and(|query| query.contains("%00"))
}

/// Sockets, polling and files last as long as they last.
fn is_lasting(path: &str) -> bool {
    is_socket(path) || path.starts_with("/media/")
}

/// The doors of sockets, whose parameters are their protocols' own.
fn is_socket(path: &str) -> bool {
    matches!(path, "/ws" | "/ws/" | "/socket.io" | "/socket.io/")
}

fn record(method: &Method, route: String, status: StatusCode, took: Duration) {
    let method = match method.as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS") => Box::<str>::from(known),
        _ => "OTHER".into(),
    };
    let method: Arc<str> = method.into();
    let route: Arc<str> = route.into();
    tracing::debug!(target: "urge::access", %method, %route, status = status.as_u16(), ms = took.as_millis() as u64, "answered");
    let labels = [("method", Arc::clone(&method)), ("route", Arc::clone(&route))];
    metrics::histogram!("urge_http_request_seconds", &labels).record(took.as_secs_f64());
    metrics::counter!("urge_http_requests_total", "method" => method, "route" => route, "status" => status.as_str().to_owned())
        .increment(1);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use poem::EndpointExt;

    use super::*;

    fn front<E: Endpoint<Output = Response> + 'static>(inner: E) -> Front {
        Front {
            inner: Arc::new(inner.boxed()),
            tasks: Tasks::default(),
            routes: Routes::default(),
            cors: Cors::default(),
            proxies: Proxies::default(),
            limiter: Limiter::new(false, 1, Duration::from_secs(1), 1),
            polls: Arc::new(|_| false),
            deadline: Duration::from_millis(50),
        }
    }

    fn get(path: &'static str) -> Request {
        Request::builder().uri_str(path).finish()
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_a_500_in_the_envelope() {
        let front = front(poem::endpoint::make_sync(|_| -> Response { panic!("on purpose") }));
        let response = front.call(get("/")).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = response.into_body().into_string().await.unwrap();
        assert!(body.contains("internal_error") && !body.contains("purpose"), "{body}");
    }

    #[tokio::test]
    async fn a_handler_that_does_not_end_is_a_503_with_retry_after() {
        let front = front(poem::endpoint::make(|_| std::future::pending::<poem::Result<Response>>()));
        let response = front.call(get("/api/users/me")).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn files_and_sockets_have_no_deadline() {
        let front = front(poem::endpoint::make(|_| async {
            // Longer than the deadline of the test's front.
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok::<_, poem::Error>(Response::default())
        }));
        for lasting in ["/ws", "/socket.io/?transport=polling", "/api/media/upload"] {
            assert_eq!(front.call(get(lasting)).await.unwrap().status(), StatusCode::OK, "{lasting}");
        }
    }

    #[test]
    fn the_base_path_may_be_left_out() {
        let strip = |path: &str| without_prefix(&path.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(strip("/api/users/me?x=1").as_deref(), Some("/users/me?x=1"));
        assert_eq!(strip("/api").as_deref(), Some("/"));
        assert_eq!(strip("/api?x=1").as_deref(), Some("/?x=1"));
        assert_eq!(strip("/apis/users"), None);
        assert_eq!(strip("/users/api"), None);
    }

    #[test]
    fn insane_request_ids_are_replaced() {
        let id = |given: &str| request_id(&Request::builder().header("x-request-id", given).finish());
        assert_eq!(id("abc-1"), "abc-1");
        assert_ne!(id("a b"), "a b");
        assert_ne!(id(&"a".repeat(65)), "a".repeat(65));
    }
}
