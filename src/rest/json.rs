//! JSON bodies: read and written by serde, described by poem-openapi's schema of the same type.
//! Reading takes care of what the contract says of all bodies: the size limit (chunked ones too), both spellings of
//! field names, `null` as absent, no NUL characters, and 422 answers that say which field. Sockets read with it too.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use poem::http::{StatusCode, header};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::payload::{ParsePayload, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::ApiError;
use crate::error::{Error, ErrorCode, FieldError, Result};

/// The largest JSON body.
pub const BODY_LIMIT_BYTES: usize = 1024 * 1024;
/// How much more is read of a body that is too large …
const DRAINED_BYTES: usize = 8 * BODY_LIMIT_BYTES;
/// … and for how long.
const DRAIN_PATIENCE: Duration = Duration::from_millis(500);

/// A JSON body, of a request (`null` is like absent) or of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// A JSON body of a request in which `null` clears and so is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonWithNulls<T>(pub T);

macro_rules! request_payload {
    ($name:ident, keep_nulls: $keep_nulls:literal) => {
        impl<T: Type> Payload for $name<T> {
            const CONTENT_TYPE: &'static str = "application/json";

            fn schema_ref() -> MetaSchemaRef {
                T::schema_ref()
            }

            fn register(registry: &mut Registry) {
                T::register(registry);
            }
        }

        impl<T: Type + DeserializeOwned> ParsePayload for $name<T> {
            const IS_REQUIRED: bool = T::IS_REQUIRED;

            async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
                let object = receive(request, body).await.map_err(ApiError)?;
                Ok(Self(read_object(object, $keep_nulls).map_err(ApiError)?))
            }
        }

        impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for $name<T> {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                T::register(registry);
            }

            fn request_meta() -> Option<MetaRequest> {
                let content = vec![MetaMediaType { content_type: Self::CONTENT_TYPE, schema: T::schema_ref() }];
                Some(MetaRequest { description: None, content, required: T::IS_REQUIRED })
            }

            async fn from_request(request: &'a Request, body: &mut RequestBody, _: ExtractParamOptions<()>) -> poem::Result<Self> {
                <Self as ParsePayload>::from_request(request, body).await
            }
        }
    };
}

request_payload!(Json, keep_nulls: false);
request_payload!(JsonWithNulls, keep_nulls: true);

impl<T: Serialize + Send> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(bytes) => Response::builder().content_type("application/json").body(bytes),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                let bytes = br#"{"success":false,"code":"internal_error","message":"something went wrong on our side","detail":"something went wrong on our side"}"#;
                Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).content_type("application/json").body(&bytes[..])
            }
        }
    }
}

impl<T: Type + Serialize + Send> ApiResponse for Json<T> {
    fn meta() -> MetaResponses {
        let content = vec![MetaMediaType { content_type: Self::CONTENT_TYPE, schema: T::schema_ref() }];
        MetaResponses {
            responses: vec![MetaResponse { description: "Success", status: Some(200), status_range: None, content, headers: Vec::new() }],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// The body as a JSON object; an empty one is the empty object, whatever type it claims, and so is a bare `null`.
async fn receive(request: &Request, body: &mut RequestBody) -> Result<Value> {
    let too_large = || Error::new(ErrorCode::TooLarge, "the body is over 1 MiB");
    let mut body: BoxBody<_, _> = body.take().map_err(Error::internal)?.into();
    if announced_length(request).is_some_and(|length| length > BODY_LIMIT_BYTES as u64) {
        // Who asks before he sends will not send.
        if !request.headers().contains_key(header::EXPECT) {
            drain(&mut body).await;
        }
        return Err(too_large());
    }
    let bytes = match Limited::new(&mut body, BODY_LIMIT_BYTES).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            drain(&mut body).await;
            return Err(too_large());
        }
        Err(_) => return Err(Error::bad_request("the body broke off")),
    };
    if bytes.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    if request.content_type().is_some_and(|content_type| !is_json(content_type)) {
        return Err(Error::new(ErrorCode::UnsupportedMediaType, "send the body as application/json"));
    }
    if is_packed(request) {
        return Err(Error::new(ErrorCode::UnsupportedMediaType, "send the body as it is, without Content-Encoding"));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Null) => Ok(Value::Object(Map::new())),
        read => read.map_err(|error| Error::bad_request(format!("the body is not valid JSON: {error}"))),
    }
}

/// Reads on for a little and keeps nothing: a client that writes all before it reads anything would find the connection
/// reset, and not the answer.
async fn drain<B: Body<Data = Bytes> + Unpin>(body: &mut B) {
    let reading = async {
        let mut left = DRAINED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Who sends nothing has read the answer, or never will.
    let _ = tokio::time::timeout(DRAIN_PATIENCE, reading).await;
}

fn announced_length(request: &Request) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether the body is said to be compressed. It is not unpacked: a small body could become a large one.
fn is_packed(request: &Request) -> bool {
    let codings = request.headers().get_all(header::CONTENT_ENCODING).iter();
    codings.into_iter().any(|coding| !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity"))
}

/// `application/json` and `application/<anything>+json`, with or without parameters.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads a command from a JSON object as clients send it: camelCase spellings of the top-level fields count as the
/// snake_case ones (which win), unknown fields are ignored, and `null` is like absent unless `keep_nulls`.
///
/// # Errors
/// [`ErrorCode::Invalid`] with the path of the wrong field, `body` first.
pub fn read_object<T: DeserializeOwned>(value: Value, keep_nulls: bool) -> Result<T> {
    let Value::Object(object) = value else {
        return Err(wrong(vec!["body".to_owned()], "the body must be a JSON object".to_owned(), "type_error"));
    };
    let object = Value::Object(normalise(object, keep_nulls));
    let mut path = vec!["body".to_owned()];
    if find_nul(&object, &mut path) {
        let msg = format!("{} must not contain NUL characters", name(&path));
        return Err(wrong(path, msg, "value_error"));
    }
    serde_path_to_error::deserialize(object).map_err(|error| {
        let steps = error.path().iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Unknown => None,
        });
        let path = std::iter::once("body".to_owned()).chain(steps).collect();
        explain(path, &error.inner().to_string())
    })
}

fn normalise(object: Map<String, Value>, keep_nulls: bool) -> Map<String, Value> {
    let mut snake = Map::with_capacity(object.len());
    let mut camel = Vec::new();
    for (key, value) in object {
        if value.is_null() && !keep_nulls {
            continue;
        }
        if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
            camel.push((key, value));
        } else {
            snake.insert(key, value);
        }
    }
    for (key, value) in camel {
        snake.entry(snake_case(&key)).or_insert(value);
    }
    snake
}

/// A camelCase name in snake_case.
pub fn snake_case(key: &str) -> String {
    let mut snake = String::with_capacity(key.len() + 4);
    for letter in key.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// Looks for a NUL in any string; `path` ends up at the first one found.
fn find_nul(value: &Value, path: &mut Vec<String>) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().enumerate().any(|(index, item)| step(index.to_string(), item, path)),
        Value::Object(object) => object.iter().any(|(key, item)| {
            if key.contains('\0') {
                return true;
            }
            step(key.clone(), item, path)
        }),
        _ => false,
    }
}

fn step(name: String, value: &Value, path: &mut Vec<String>) -> bool {
    path.push(name);
    let found = find_nul(value, path);
    if !found {
        path.pop();
    }
    found
}

/// Serde's words, made fit for the person in front of the app: the value itself is not repeated.
fn explain(mut path: Vec<String>, words: &str) -> Error {
    if let Some(field) = words.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        path.push(field.to_owned());
        let msg = format!("{} is required", name(&path));
        return wrong(path, msg, "missing");
    }
    let name = name(&path);
    let expected = words.rsplit_once("expected ").map(|(_, expected)| expected);
    if words.starts_with("UUID parsing failed") {
        return wrong(path, format!("{name} must be a UUID"), "value_error");
    }
    if words.starts_with("unknown variant") {
        let choices = expected.unwrap_or_default().trim_start_matches("one of ").replace('`', "");
        return wrong(path, format!("{name} must be one of {choices}"), "value_error");
    }
    match expected {
        Some(expected) if words.starts_with("invalid type") => {
            let msg = format!("{name} must be {}", plain(expected));
            wrong(path, msg, "type_error")
        }
        Some(expected) if words.starts_with("invalid ") => {
            let msg = format!("{name} must be {}", plain(expected));
            wrong(path, msg, "value_error")
        }
        _ => wrong(path, format!("{name}: {words}"), "value_error"),
    }
}

/// Rust's names of types in words.
fn plain(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "a boolean" => "true or false",
        "a formatted UUID string" => "a UUID",
        "f32" | "f64" => "a number",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

/// The field as the person would call it.
fn name(path: &[String]) -> String {
    if path.len() > 1 { path[1..].join(".") } else { "the body".to_owned() }
}

fn wrong(loc: Vec<String>, msg: String, kind: &'static str) -> Error {
    Error::invalid_fields(vec![FieldError { loc, msg, kind }])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::id::ConversationId;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Sample {
        conversation_id: Option<ConversationId>,
        content: String,
        #[serde(default)]
        count: i64,
        #[serde(default)]
        tags: Vec<String>,
        kind: Option<Kind>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    enum Kind {
        Text,
        Image,
    }

    fn fault(value: Value) -> (Vec<String>, String, &'static str) {
        let mut error = read_object::<Sample>(value, false).unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid);
        let field = error.fields.remove(0);
        (field.loc, field.msg, field.kind)
    }

    #[test]
    fn both_spellings_count_and_snake_case_wins() {
        let id = ConversationId::fresh();
        let other = ConversationId::fresh();
        let read = |value| read_object::<Sample>(value, false).unwrap().conversation_id;
        assert_eq!(read(json!({"content": "x", "conversationId": id})), Some(id));
        assert_eq!(read(json!({"content": "x", "conversationId": other, "conversation_id": id})), Some(id));
        assert_eq!(read(json!({"content": "x", "conversation_id": null, "conversationId": id, "unknown": {"a": []}})), Some(id));
    }

    #[test]
    fn null_is_like_absent_unless_kept() {
        assert_eq!(read_object::<Sample>(json!({"content": "x", "count": null}), false).unwrap().count, 0);
        assert!(read_object::<Sample>(json!({"content": "x", "count": null}), true).is_err());
    }

    #[test]
    fn faults_say_where_and_what() {
        let body = |steps: &[&str]| std::iter::once("body").chain(steps.iter().copied()).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(fault(json!({})), (body(&["content"]), "content is required".into(), "missing"));
        assert_eq!(fault(json!({"content": null})), (body(&["content"]), "content is required".into(), "missing"));
        assert_eq!(fault(json!({"content": 5})), (body(&["content"]), "content must be a string".into(), "type_error"));
        assert_eq!(fault(json!({"content": "x", "count": "y"})), (body(&["count"]), "count must be a whole number".into(), "type_error"));
        assert_eq!(fault(json!({"content": "x", "tags": "y"})), (body(&["tags"]), "tags must be a list".into(), "type_error"));
        assert_eq!(
            fault(json!({"content": "x", "tags": ["a", 1]})),
            (body(&["tags", "1"]), "tags.1 must be a string".into(), "type_error")
        );
        assert_eq!(
            fault(json!({"content": "x", "kind": "VIDEO"})),
            (body(&["kind"]), "kind must be one of TEXT or IMAGE".into(), "value_error")
        );
        assert_eq!(
            fault(json!({"content": "x", "conversationId": "secret"})),
            (body(&["conversation_id"]), "conversation_id must be a UUID".into(), "value_error")
        );
        assert_eq!(fault(json!(["x"])), (body(&[]), "the body must be a JSON object".into(), "type_error"));
    }

    #[test]
    fn nul_characters_are_refused_wherever_they_are() {
        assert_eq!(fault(json!({"content": "a\0b"})).1, "content must not contain NUL characters");
        assert_eq!(fault(json!({"content": "a", "tags": ["x", "\0"]})).0, ["body", "tags", "1"]);
        assert_eq!(fault(json!({"content": "a", "other\0": 1})).2, "value_error");
    }

    async fn received(body: poem::Body, content_type: &str) -> Result<Value> {
        let (request, mut body) = Request::builder().content_type(content_type).body(body).split();
        receive(&request, &mut body).await
    }

    fn chunked(bytes: usize) -> poem::Body {
        let chunks = std::iter::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1024])).take(bytes / 1024);
        poem::Body::from_bytes_stream(futures_util::stream::iter(chunks))
    }

    #[tokio::test]
    async fn the_limit_holds_for_bodies_that_do_not_say_their_length() {
        let code = |result: Result<Value>| result.unwrap_err().code;
        assert_eq!(code(received(chunked(BODY_LIMIT_BYTES + 1024), "application/json").await), ErrorCode::TooLarge);
        // Blank to the last byte of the limit: read whole, and no JSON.
        assert_eq!(code(received(chunked(BODY_LIMIT_BYTES), "application/json").await), ErrorCode::BadRequest);
        let announced = Request::builder().header("content-length", (BODY_LIMIT_BYTES + 1).to_string()).body("{}");
        let (request, mut body) = announced.split();
        assert_eq!(code(receive(&request, &mut body).await), ErrorCode::TooLarge);
    }

    #[tokio::test]
    async fn what_is_no_json_is_told_from_what_is_of_another_type() {
        let error = received("{\"a\": }".into(), "application/json").await.unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest);
        assert!(error.message.contains("line 1 column 7"), "{}", error.message);
        assert_eq!(received("\"\\ud800\"".into(), "application/json").await.unwrap_err().code, ErrorCode::BadRequest);
        assert_eq!(received(b"{\"a\": \"\xff\"}"[..].into(), "application/json").await.unwrap_err().code, ErrorCode::BadRequest);
        assert_eq!(received("a=b".into(), "text/plain").await.unwrap_err().code, ErrorCode::UnsupportedMediaType);
        assert_eq!(received("".into(), "text/plain").await.unwrap(), json!({}));
        // What clients send that serialise nothing.
        assert_eq!(received(" null ".into(), "application/json").await.unwrap(), json!({}));
    }

    #[test]
    fn content_types_of_json() {
        assert!(is_json("application/json"));
        assert!(is_json("Application/JSON; charset=utf-8"));
        assert!(is_json("application/merge-patch+json"));
        assert!(!is_json("text/plain"));
        assert!(!is_json("application/x-www-form-urlencoded"));
    }
}
