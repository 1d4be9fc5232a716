//! What the framework refuses by itself (no such route, wrong method, bad parameters, bodies it reads for others)
//! becomes the same error, in the same words, as what the services refuse.

use poem::error::{MethodNotAllowedError, NotFoundError, ParsePathError, ReadBodyError};
use poem::http::StatusCode;
use poem_openapi::error::{AuthorizationError, ContentTypeError, ParseMultipartError, ParseParamError, ParseRequestPayloadError};

use crate::error::{Error, ErrorCode};

/// The error that says the same as the framework's; `parameter` knows what the framework's names for parts of the path
/// stand for.
pub fn translate(error: &poem::Error, parameter: impl Fn(&str) -> Option<String>) -> Error {
    if let Some(error) = error.downcast_ref::<ParseParamError>() {
        return Error::invalid_at("query", error.name, explain(error.name, &error.reason));
    }
    if let Some(error) = error.downcast_ref::<poem_openapi::error::ParsePathError>() {
        let name = parameter(error.name).unwrap_or_else(|| "id".to_owned());
        return Error::invalid_at("path", &name, explain(&name, &error.reason));
    }
    if error.is::<ParsePathError>() {
        return Error::invalid_at("path", "", "the path cannot be read");
    }
    if error.is::<NotFoundError>() {
        return Error::not_found("there is no such path");
    }
    if error.is::<MethodNotAllowedError>() {
        return Error::new(ErrorCode::MethodNotAllowed, "this path does not take this method");
    }
    if error.is::<ContentTypeError>() {
        return Error::new(ErrorCode::UnsupportedMediaType, "the body's Content-Type is missing or not understood");
    }
    if error.is::<AuthorizationError>() {
        return Error::unauthenticated("log in first");
    }
    if error.is::<ParseRequestPayloadError>() || error.is::<ParseMultipartError>() {
        return Error::bad_request("the body cannot be read");
    }
    if matches!(error.downcast_ref::<ReadBodyError>(), Some(ReadBodyError::PayloadTooLarge)) {
        return Error::new(ErrorCode::TooLarge, "the body is too large");
    }
    by_status(error)
}

/// The rest, by the status that it would have had.
fn by_status(error: &poem::Error) -> Error {
    match error.status() {
        StatusCode::UNAUTHORIZED => Error::unauthenticated("log in first"),
        StatusCode::FORBIDDEN => Error::forbidden("this is not allowed"),
        StatusCode::NOT_FOUND => Error::not_found("there is no such thing"),
        StatusCode::METHOD_NOT_ALLOWED => Error::new(ErrorCode::MethodNotAllowed, "this path does not take this method"),
        StatusCode::PAYLOAD_TOO_LARGE => Error::new(ErrorCode::TooLarge, "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Error::new(ErrorCode::UnsupportedMediaType, "this type of body is not understood"),
        status if status.is_client_error() => Error::bad_request("the request cannot be read"),
        StatusCode::SERVICE_UNAVAILABLE => Error::unavailable("the server is busy, try again in a moment").with_source(error.to_string()),
        status => Error::internal(format!("the framework answered {status}: {error}")),
    }
}

/// The framework's reason without its type names.
fn explain(name: &str, reason: &str) -> String {
    // Our own types' words stand behind the name of the type.
    if let Some((_, words)) = reason.rsplit_once(": must be ") {
        let words = words.split(" (occurred while parsing").next().unwrap_or(words);
        return format!("{name} must be {words}");
    }
    if reason.contains("UUID") || reason.contains("uuid") {
        return format!("{name} must be a UUID");
    }
    if reason.contains("invalid digit") || reason.contains("integer") {
        return format!("{name} must be a whole number");
    }
    if reason.contains("bool") {
        return format!("{name} must be true or false");
    }
    if reason.contains("expect") || reason.contains("required") || reason.contains("Type \"") {
        return format!("{name} is missing or not of the right kind");
    }
    format!("{name} cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_framework_says_is_kept_for_the_log() {
        for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY] {
            let error = translate(&poem::Error::from_string("the pipe burst", status), |_| None);
            let cause = error.source.map(|source| source.to_string()).unwrap_or_default();
            assert!(cause.contains("the pipe burst"), "{status}: {cause}");
            assert!(!error.message.contains("pipe"), "and from the answer it is kept out");
        }
    }
}
