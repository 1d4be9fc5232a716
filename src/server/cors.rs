//! Which web pages may call (CORS). A foreign origin gets its answer without the headers, and the browser keeps it
//! from the page; apps, curl and proxies send no `Origin` and never notice. Logins are tokens, so no credentials.

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};

/// What a preflight allows.
const METHODS: &str = "GET, POST, PUT, DELETE, OPTIONS";
/// What a page may send when it does not ask by name.
const HEADERS: &str = "authorization, content-type, x-request-id";
/// What a page may read of an answer.
const EXPOSED: &str = "retry-after, x-request-id, etag, content-disposition";
/// How long a browser remembers a preflight, in seconds.
const MAX_AGE: &str = "7200";

/// The allowed origins.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    any: bool,
    origins: Vec<String>,
}

impl Cors {
    /// Allows these origins; `*` is any.
    pub fn new(origins: Vec<String>) -> Self {
        Self { any: origins.iter().any(|origin| origin == "*"), origins }
    }

    /// The value of `Access-Control-Allow-Origin` for this request, if its origin may call.
    pub fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        if self.any {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    /// Whether this is a browser asking before it calls.
    pub fn is_preflight(request: &Request) -> bool {
        let headers = request.headers();
        request.method() == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The answer to an allowed preflight; the origin's own headers are put on by [`Cors::mark`].
    pub fn preflight(request: &Request) -> Response {
        let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        Response::builder()
            .status(StatusCode::NO_CONTENT)
            .header(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS)
            .header(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(HeaderValue::from_static(HEADERS)))
            .header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE)
            .finish()
    }

    /// Puts the headers on an answer.
    pub fn mark(&self, response: &mut Response, allowed: Option<HeaderValue>) {
        let headers = response.headers_mut();
        if !self.any {
            // Caches must not hand one origin's answer to another, nor the bare one to an allowed origin.
            headers.append(header::VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = allowed {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}
