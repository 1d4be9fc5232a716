//! The one error of the services: a closed set of codes, a sentence for the person, the cause for the log.
//! No HTTP in here: `rest::failure` and `gateway::command` each map the codes once.
//! Messages never contain bodies, tokens, codes or phone numbers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What went wrong, as a machine reads it: [`ErrorCode::name`] is the `code` of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Fields are missing or wrong; [`Error::fields`] says which.
    Invalid,
    /// The request as a whole cannot be read or makes no sense now.
    BadRequest,
    /// No valid login.
    Unauthenticated,
    /// The password or code was right, and the second factor is asked for.
    TotpRequired,
    /// Logged in, but not allowed.
    Forbidden,
    /// Logged in, but the phone number must be verified first.
    PhoneUnverified,
    /// There is no such thing, or not for this caller.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// A body, frame or file is over its limit.
    TooLarge,
    /// The body is of a type that is not understood.
    UnsupportedMediaType,
    /// Too much in too short a time.
    RateLimited,
    /// The store is away or this class of work is full: try again.
    Unavailable,
    /// The SMS provider did not take the message.
    SmsUnavailable,
    /// Not set up on this server.
    NotImplemented,
    /// A fault of ours.
    Internal,
}

impl ErrorCode {
    /// Every code, for tables and documents.
    pub const ALL: [Self; 15] = [
        Self::Invalid,
        Self::BadRequest,
        Self::Unauthenticated,
        Self::TotpRequired,
        Self::Forbidden,
        Self::PhoneUnverified,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::RateLimited,
        Self::Unavailable,
        Self::SmsUnavailable,
        Self::NotImplemented,
        Self::Internal,
    ];

    /// The machine-readable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "validation_error",
            Self::BadRequest => "bad_request",
            Self::Unauthenticated => "unauthenticated",
            Self::TotpRequired => "totp_required",
            Self::Forbidden => "forbidden",
            Self::PhoneUnverified => "phone_unverified",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::SmsUnavailable => "sms_unavailable",
            Self::NotImplemented => "not_implemented",
            Self::Internal => "internal_error",
        }
    }
}

/// One wrong field of a request, in the form of the 422 answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where: `body`, `query` or `path`, then the path within it.
    pub loc: Vec<String>,
    /// What is wrong and how to mend it.
    pub msg: String,
    /// The kind of fault: `missing`, `type_error`, `value_error` …
    pub kind: &'static str,
}

/// Why a service refused or failed. Several who wait for one thing get the same error, with the same cause.
#[derive(Clone, Debug)]
pub struct Error {
    /// The machine-readable kind.
    pub code: ErrorCode,
    /// A sentence for the person in front of the app.
    pub message: Cow<'static, str>,
    /// The wrong fields, for [`ErrorCode::Invalid`].
    pub fields: Vec<FieldError>,
    /// When to try again, for [`ErrorCode::RateLimited`] and the unavailable ones.
    pub retry_after: Option<Duration>,
    /// The cause, for the log only.
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// What services return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this code with this sentence.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), fields: Vec::new(), retry_after: None, source: None }
    }

    /// One wrong field of the body: `name` is its path, dots between the steps.
    pub fn invalid(name: &str, msg: impl Into<String>) -> Self {
        Self::invalid_at("body", name, msg)
    }

    /// One wrong field of `place` (`body`, `query` or `path`).
    pub fn invalid_at(place: &str, name: &str, msg: impl Into<String>) -> Self {
        let loc = std::iter::once(place).chain(name.split('.')).filter(|step| !step.is_empty()).map(str::to_owned);
        Self::invalid_fields(vec![FieldError { loc: loc.collect(), msg: msg.into(), kind: "value_error" }])
    }

    /// Several wrong fields; the first one's words become the message.
    pub fn invalid_fields(fields: Vec<FieldError>) -> Self {
        let message = fields.first().map_or_else(|| "the request is not valid".to_owned(), |field| field.msg.clone());
        Self { fields, ..Self::new(ErrorCode::Invalid, message) }
    }

    /// 400: the request makes no sense now.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadRequest, message)
    }

    /// 401: no valid login.
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Unauthenticated, message)
    }

    /// 403: logged in, but not allowed.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Forbidden, message)
    }

    /// 404: no such thing for this caller.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// 429: too much; `retry_after` says when there is room again.
    pub fn rate_limited(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(ErrorCode::RateLimited, message) }
    }

    /// 503: full or away; try again in a second.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(ErrorCode::Unavailable, message) }
    }

    /// 500: a fault of ours, with its cause for the log.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ErrorCode::Internal, "something went wrong on our side").with_source(source)
    }

    /// How it is logged. Who is full says so itself and counts whom he refuses: a line for each would be more work than the refusal.
    pub fn level(&self) -> tracing::Level {
        match self.code {
            ErrorCode::Internal => tracing::Level::ERROR,
            ErrorCode::Unavailable | ErrorCode::SmsUnavailable if self.source.is_some() => tracing::Level::WARN,
            _ => tracing::Level::DEBUG,
        }
    }

    /// The same error with its cause for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_codes_are_unique() {
        let names: std::collections::HashSet<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn a_field_error_says_where() {
        let error = Error::invalid("keys.auth", "too short");
        assert_eq!(error.fields[0].loc, ["body", "keys", "auth"]);
        assert_eq!(error.message, "too short");
    }
}
