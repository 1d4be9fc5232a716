//! The `Authorization: Bearer` header as an argument of handlers, documented as the API's one security scheme.
//! [`Caller`] is a checked login that may do things; [`AnyCaller`] may still lack its verification;
//! [`OptionalCaller`] is for public calls, where a stale token is as good as none; [`Bearer`] is the bare token.
//! Who is a [`Caller`] has his limit counted here; logging out and asking who one is are never refused for it.

use std::future::{Ready, ready};
use std::ops::Deref;
use std::sync::Arc;

use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::{Auth, Identity};
use crate::error::{Error, ErrorCode, Result};
use crate::id::UserId;
use crate::rate::Limiter;
use crate::rest::ApiError;

/// The name of the scheme in the OpenAPI document.
const SCHEME: &str = "bearer";

/// How many requests each user may make; data of the routes.
#[derive(Clone)]
pub struct UserLimit(pub Limiter<UserId>);

/// A login that may use the service.
#[derive(Clone, Debug)]
pub struct Caller(pub Identity);

/// A login, its number verified or not.
#[derive(Clone, Debug)]
pub struct AnyCaller(pub Identity);

/// The login that a public call happens to come with, if it still holds.
#[derive(Clone, Debug)]
pub struct OptionalCaller(pub Option<Identity>);

/// The token as it was sent, unchecked.
#[derive(Clone)]
pub struct Bearer(pub String);

impl Deref for Caller {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl Deref for AnyCaller {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.0
    }
}

impl Caller {
    async fn read(request: &Request) -> Result<Self> {
        let identity = auth(request)?.authenticate(token(request)?).await?;
        let limit = request.data::<UserLimit>().ok_or_else(|| Error::internal("the routes were built without the limit by user"))?;
        limit.0.check(identity.user_id)?;
        Ok(Self(identity))
    }
}

impl AnyCaller {
    async fn read(request: &Request) -> Result<Self> {
        auth(request)?.authenticate_any(token(request)?).await.map(Self)
    }
}

impl OptionalCaller {
    /// A login that cannot be checked now is no stale one: whether the call is its owner's matters, so 503 it is.
    async fn read(request: &Request) -> Result<Self> {
        let Ok(token) = token(request) else { return Ok(Self(None)) };
        match auth(request)?.authenticate_any(token).await {
            Ok(identity) => Ok(Self(Some(identity))),
            Err(error) if error.code == ErrorCode::Unauthenticated => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }
}

impl Bearer {
    fn read(request: &Request) -> Ready<Result<Self>> {
        ready(token(request).map(|token| Self(token.to_owned())))
    }
}

/// The token of `Authorization: Bearer <token>`.
///
/// # Errors
/// `Unauthenticated` when there is none.
pub fn token(request: &Request) -> Result<&str> {
    let missing = || Error::unauthenticated("log in first: send Authorization: Bearer with your access token");
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    let (scheme, token) = value.trim().split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

fn auth(request: &Request) -> Result<&Auth> {
    request.data::<Arc<Auth>>().map(AsRef::as_ref).ok_or_else(|| Error::internal("the routes were built without the auth service"))
}

macro_rules! bearer_scheme {
    ($name:ident, fallback: $fallback:literal) => {
        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                let scheme = MetaSecurityScheme {
                    ty: "http",
                    description: Some("The `access_token` of register, login, verify-phone or refresh."),
                    name: None,
                    key_in: None,
                    scheme: Some("bearer"),
                    bearer_format: Some("JWT"),
                    flows: None,
                    openid_connect_url: None,
                };
                registry.create_security_scheme(SCHEME, scheme);
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![SCHEME]
            }

            fn has_security_fallback() -> bool {
                $fallback
            }

            async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> poem::Result<Self> {
                Self::read(request).await.map_err(|error| ApiError(error).into())
            }
        }
    };
}

bearer_scheme!(Caller, fallback: false);
bearer_scheme!(AnyCaller, fallback: false);
bearer_scheme!(OptionalCaller, fallback: true);
bearer_scheme!(Bearer, fallback: false);
