//! The one error answer: a service's [`Error`] becomes a status and the contract's envelope here and nowhere else.
//! 5xx are logged here, once, inside the request's span (which carries its id); 4xx are the caller's affair.

use std::borrow::Cow;
use std::time::Duration;

use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use poem_openapi::{ApiResponse, Object};
use serde::{Deserialize, Serialize};
use tracing::Level;

use super::Json;
use crate::error::{Error, ErrorCode, FieldError};

/// The body of every answer that is not 2xx.
#[derive(Clone, Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Failure {
    /// Always false.
    pub success: bool,
    /// What went wrong, for the machine.
    pub code: String,
    /// What went wrong, for the person in front of the app.
    pub message: String,
    /// The same sentence; for 422 the list of wrong fields.
    pub detail: Detail,
}

impl poem_openapi::types::Example for Failure {
    fn example() -> Self {
        Self::from(&Error::not_found("there is no such conversation"))
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let message = error.message.clone().into_owned();
        let detail = if error.code == ErrorCode::Invalid {
            Detail::Fields(error.fields.iter().map(WrongField::from).collect())
        } else {
            Detail::Text(message.clone())
        };
        Self { success: false, code: error.code.name().to_owned(), message, detail }
    }
}

/// One wrong field of a 422.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Object)]
pub struct WrongField {
    /// Where it is: `body`, `query` or `path`, then the path within it.
    pub loc: Vec<String>,
    /// What is wrong with it.
    pub msg: String,
    /// The kind of fault: `missing`, `type_error` or `value_error`.
    #[serde(rename = "type")]
    #[oai(rename = "type")]
    pub kind: String,
}

impl From<&FieldError> for WrongField {
    fn from(field: &FieldError) -> Self {
        Self { loc: field.loc.clone(), msg: field.msg.clone(), kind: field.kind.to_owned() }
    }
}

/// `detail`: a sentence, or the wrong fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Detail {
    /// The sentence of `message` again.
    Text(String),
    /// What is wrong, field by field.
    Fields(Vec<WrongField>),
}

impl Type for Detail {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "Detail".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let one_of = vec![String::schema_ref(), <Vec<WrongField>>::schema_ref()];
        MetaSchemaRef::Inline(Box::new(MetaSchema { one_of, ..MetaSchema::ANY }))
    }

    fn register(registry: &mut Registry) {
        WrongField::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromJSON for Detail {
    fn parse_from_json(value: Option<serde_json::Value>) -> ParseResult<Self> {
        serde_json::from_value(value.unwrap_or_default()).map_err(ParseError::custom)
    }
}

impl ToJSON for Detail {
    fn to_json(&self) -> Option<serde_json::Value> {
        serde_json::to_value(self).ok()
    }
}

/// The HTTP status of a code: the only table of its kind.
pub fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated | ErrorCode::TotpRequired => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden | ErrorCode::PhoneUnverified => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable | ErrorCode::SmsUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A service's error on its way out.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ApiError(#[from] pub Error);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = self.0;
        let status = status(error.code);
        if status.is_server_error() {
            log(&error);
        }
        let mut response = Json(Failure::from(&error)).into_response();
        response.set_status(status);
        if let Some(seconds) = retry_after_s(&error) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Who is told to come back later is always told when.
fn retry_after_s(error: &Error) -> Option<u64> {
    let says_when = matches!(status(error.code), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
    let wait = error.retry_after.or(says_when.then_some(Duration::from_secs(1)))?;
    // Rounded up: who comes back at the second that was named must find room.
    Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
}

/// The answer as it goes over the wire, the last of its connection: for those with whom no request is made out.
pub fn whole_answer(error: &Error) -> Vec<u8> {
    whole_answer_as(status(error.code), error)
}

/// The same with this status.
pub fn whole_answer_as(status: StatusCode, error: &Error) -> Vec<u8> {
    let body = serde_json::to_string(&Failure::from(error)).unwrap_or_default();
    let retry_after = retry_after_s(error).map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
    let (content_type, length) = (Json::<Failure>::CONTENT_TYPE, body.len());
    let head = format!("content-type: {content_type}\r\ncontent-length: {length}\r\n{retry_after}connection: close\r\n");
    format!("HTTP/1.1 {status}\r\n{head}\r\n{body}").into_bytes()
}

/// Being away is told from being broken: the one is expected now and then, the other is a fault of ours.
fn log(error: &Error) {
    let code = error.code.name();
    let cause = error.source.as_deref().map(chain).unwrap_or_default();
    match error.level() {
        Level::ERROR => tracing::error!(code, cause, "{}", error.message),
        Level::WARN => tracing::warn!(code, cause, "{}", error.message),
        _ => tracing::debug!(code, "{}", error.message),
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

impl From<ApiError> for poem::Error {
    fn from(error: ApiError) -> Self {
        Self::from_response(error.into_response())
    }
}

impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        let responses = DOCUMENTED.iter().map(|&(status, description, waits)| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content: vec![MetaMediaType { content_type: Json::<Failure>::CONTENT_TYPE, schema: Failure::schema_ref() }],
            headers: if waits { vec![retry_after()] } else { Vec::new() },
        });
        MetaResponses { responses: responses.collect() }
    }

    fn register(registry: &mut Registry) {
        Failure::register(registry);
    }
}

/// Every status that an operation may answer with, beside its success: (status, meaning, has `Retry-After`).
const DOCUMENTED: [(u16, &str, bool); 12] = [
    (400, "The request cannot be read or makes no sense now (`bad_request`).", false),
    (401, "No valid login (`unauthenticated`), or the second factor is asked for (`totp_required`).", false),
    (403, "Not allowed (`forbidden`), or the phone number must be verified first (`phone_unverified`).", false),
    (404, "No such thing for this caller (`not_found`).", false),
    (405, "The path exists, the method does not (`method_not_allowed`).", false),
    (413, "The body is over 1 MiB (`too_large`).", false),
    (415, "The body is of a type that is not understood (`unsupported_media_type`).", false),
    (422, "Fields are missing or wrong; `detail` lists them (`validation_error`).", false),
    (429, "Too much in too short a time (`rate_limited`).", true),
    (500, "A fault of the server (`internal_error`).", false),
    (501, "Not set up on this server (`not_implemented`).", false),
    (503, "The store is away, or too much is going on: try again (`unavailable`, `sms_unavailable`).", true),
];

fn retry_after() -> MetaHeader {
    MetaHeader {
        name: "Retry-After".to_owned(),
        description: Some("Seconds until there is room again.".to_owned()),
        required: false,
        deprecated: false,
        schema: u64::schema_ref(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::{Value, json};

    use super::*;

    async fn body(response: Response) -> Value {
        response.into_body().into_json().await.unwrap()
    }

    #[tokio::test]
    async fn every_code_has_a_documented_status_and_the_envelope() {
        for code in ErrorCode::ALL {
            let response = ApiError(Error::new(code, "words")).into_response();
            let status = response.status().as_u16();
            assert!(DOCUMENTED.iter().any(|row| row.0 == status), "{code:?} answers {status}, which is not documented");
            let body = body(response).await;
            assert_eq!((&body["success"], &body["code"]), (&json!(false), &json!(code.name())));
            assert_eq!(body["message"], "words");
        }
    }

    #[tokio::test]
    async fn wrong_fields_are_listed() {
        let response = ApiError(Error::invalid("name", "name is too long")).into_response();
        assert_eq!(response.status(), 422);
        let body = body(response).await;
        assert_eq!(body["detail"], json!([{"loc": ["body", "name"], "msg": "name is too long", "type": "value_error"}]));
        assert_eq!(body["message"], "name is too long");
    }

    #[test]
    fn retry_after_is_whole_seconds_rounded_up() {
        for (wait, seconds) in [(0, "1"), (1_000, "1"), (1_001, "2"), (59_400, "60")] {
            let error = Error::rate_limited("slow down", Duration::from_millis(wait));
            assert_eq!(ApiError(error).into_response().headers()["retry-after"], seconds);
        }
    }

    #[tokio::test]
    async fn the_cause_stays_inside() {
        let response = ApiError(Error::internal("the table is gone")).into_response();
        assert_eq!(response.status(), 500);
        assert!(!response.into_body().into_string().await.unwrap().contains("table"));
    }
}
