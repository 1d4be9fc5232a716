//! The JSON client: base address, bearer token, every verb, and refusals parsed into the contract's error envelope.
//! The calls of the contract by name are in `calls.rs`; anything else, wrong requests too, goes through [`Rest::send`].
//! It retries nothing: a test must see what the server said.

mod calls;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use serde::Serialize;
use serde_json::Value;

pub use self::calls::{Account, draft};
use crate::http::{Answer, Http, HttpError};

/// Longer than the server's own deadline of 3 s, so that its refusal is seen and not our patience.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A non-2xx answer.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The status.
    pub status: StatusCode,
    /// The envelope's `code`; empty when the body is not the envelope.
    pub code: String,
    /// The envelope's `message`; the body's text when it is not the envelope.
    pub message: String,
    /// The envelope's `detail`: the sentence again, or the list of wrong fields of a 422.
    pub detail: Value,
    /// `Retry-After`, seconds.
    pub retry_after_s: Option<u64>,
    /// Whether the body was the envelope of the contract, all four fields of it.
    pub is_envelope: bool,
}

impl Refusal {
    fn from_answer(answer: &Answer) -> Self {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let is_envelope = body["success"] == Value::Bool(false)
            && text("code").is_some_and(|code| !code.is_empty())
            && text("message").is_some_and(|message| !message.is_empty())
            && (body["detail"] == body["message"] || body["detail"].is_array());
        Self {
            status: answer.status,
            code: text("code").unwrap_or_default(),
            message: text("message").unwrap_or_else(|| answer.text()),
            detail: body["detail"].clone(),
            retry_after_s: answer.header(RETRY_AFTER.as_str()).and_then(|value| value.parse().ok()),
            is_envelope,
        }
    }

    /// The field paths that a 422 names, dots between the parts, without the leading `body`.
    pub fn fields(&self) -> Vec<String> {
        let path = |item: &Value| -> Option<String> {
            let parts = item["loc"].as_array()?.iter().skip(1);
            Some(parts.map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect::<Vec<_>>().join("."))
        };
        self.detail.as_array().map(|items| items.iter().filter_map(path).collect()).unwrap_or_default()
    }
}

/// Why a call has no value.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RestError {
    /// The server said no.
    #[error("{} {}: {}", .0.status.as_u16(), .0.code, .0.message)]
    Refused(Box<Refusal>),
    /// There was no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The request could not be written: a bad address or header.
    #[error("the request cannot be written: {0}")]
    Request(String),
    /// The answer is not what its status promised.
    #[error("the answer cannot be read: {0}")]
    Body(String),
}

impl RestError {
    /// The refusal, if the server answered at all.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The status of the refusal; 0 when there was no answer.
    pub fn status(&self) -> u16 {
        self.refusal().map_or(0, |refusal| refusal.status.as_u16())
    }

    /// The machine code of the refusal; empty when there is none.
    pub fn code(&self) -> &str {
        self.refusal().map_or("", |refusal| refusal.code.as_str())
    }
}

/// Where calls go.
#[derive(Clone)]
enum Base {
    /// All to one server.
    One(Arc<str>),
    /// Each to one that is chosen then.
    Chosen(Arc<dyn Fn() -> String + Send + Sync>),
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(base) => f.write_str(base),
            Self::Chosen(_) => f.write_str("one of several"),
        }
    }
}

/// The client. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct Rest {
    http: Http,
    base: Base,
    prefix: Arc<str>,
    token: Option<Arc<str>>,
    timeout: Duration,
}

impl Rest {
    /// A client of the server at `base` (`http://127.0.0.1:8080`), nobody logged in, paths below `/api`.
    pub fn new(base: &str) -> Self {
        Self::with_http(base, Http::new(None))
    }

    /// The same, leaving from one address of this machine.
    pub fn from_source(base: &str, source: IpAddr) -> Self {
        Self::with_http(base, Http::new(Some(source)))
    }

    /// The same, over a pool that others use too.
    pub fn with_http(base: &str, http: Http) -> Self {
        Self::at(Base::One(base.trim_end_matches('/').into()), http)
    }

    /// A client of several servers: each call goes to the one that `choose` names for it, `http://127.0.0.1:8080` for example.
    pub fn choosing(choose: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self::at(Base::Chosen(Arc::new(choose)), Http::new(None))
    }

    fn at(base: Base, http: Http) -> Self {
        Self { http, base, prefix: "/api".into(), token: None, timeout: TIMEOUT }
    }

    /// The same client, as the owner of this access token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The same client, as nobody.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// The same client with another prefix before its paths: `""` for `/health`, or for the app's release build.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        Self { prefix: prefix.into(), ..self.clone() }
    }

    /// The same client, waiting this long for an answer.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The address of the server that a call would go to now, without a slash at its end.
    pub fn base(&self) -> String {
        match &self.base {
            Base::One(base) => base.to_string(),
            Base::Chosen(choose) => choose(),
        }
    }

    /// The access token in use.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Its connections, for sockets that shall share them.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Any request, also a wrong one: headers and bytes as given (the token apart), the answer as it came, whatever its status.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Result<Answer, RestError> {
        let mut request = Request::builder().method(method).uri(format!("{}{}{path}", self.base(), self.prefix));
        if let Some(token) = &self.token
            && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).map_err(|error| RestError::Request(error.to_string()))?;
        Ok(self.http.send(request, self.timeout).await?)
    }

    /// A call with a JSON body, or with none and then without Content-Type; its JSON, or the refusal.
    pub async fn call<T: Serialize + ?Sized>(&self, method: Method, path: &str, body: Option<&T>) -> Result<Value, RestError> {
        let answer = match body {
            Some(body) => {
                let bytes = serde_json::to_vec(body).map_err(|error| RestError::Request(error.to_string()))?;
                self.send(method, path, &[(CONTENT_TYPE.as_str(), "application/json")], bytes).await?
            }
            None => self.send(method, path, &[], Bytes::new()).await?,
        };
        if !answer.status.is_success() {
            return Err(RestError::Refused(Box::new(Refusal::from_answer(&answer))));
        }
        serde_json::from_slice(&answer.body).map_err(|error| RestError::Body(format!("{error}, in {:.200}", answer.text())))
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Value, RestError> {
        self.call::<Value>(Method::GET, path, None).await
    }

    /// POST with a body.
    pub async fn post<T: Serialize + ?Sized>(&self, path: &str, body: &T) -> Result<Value, RestError> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// POST without a body.
    pub async fn post_empty(&self, path: &str) -> Result<Value, RestError> {
        self.call::<Value>(Method::POST, path, None).await
    }

    /// PUT with a body.
    pub async fn put<T: Serialize + ?Sized>(&self, path: &str, body: &T) -> Result<Value, RestError> {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// PUT without a body.
    pub async fn put_empty(&self, path: &str) -> Result<Value, RestError> {
        self.call::<Value>(Method::PUT, path, None).await
    }

    /// PATCH with a body.
    pub async fn patch<T: Serialize + ?Sized>(&self, path: &str, body: &T) -> Result<Value, RestError> {
        self.call(Method::PATCH, path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Value, RestError> {
        self.call::<Value>(Method::DELETE, path, None).await
    }
}
