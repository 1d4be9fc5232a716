//! The three kinds of tokens and what makes them believable.
//! *Access*: a JWT (HS256 pinned, `kid`), bound to a session that is checked apart from it. *Refresh*: opaque; names its
//! session and its generation, carries the session's random secret, and is signed so that a generation cannot be made up.
//! *Registration*: says that somebody received a code on a number that has no account yet.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::keys::{self, Bytes32, KeyRing, Keys};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::phone::Phone;
use crate::users::UserRecord;

/// A longer token is none of ours.
const MAX_TOKEN_BYTES: usize = 2_048;
/// How long a number stays proven while its owner fills in the rest of the form.
pub const REGISTRATION_TTL: Duration = Duration::from_mins(30);

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// Whose.
    pub sub: UserId,
    /// The login that it is bound to.
    pub sid: SessionId,
    /// Made at, seconds since the epoch.
    pub iat: i64,
    /// Good until, seconds since the epoch.
    pub exp: i64,
    /// The owner's display name when it was made: what is shown while the store is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the owner's number was proven when it was made.
    #[serde(default)]
    pub verified: bool,
}

/// What a refresh token says.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshClaims {
    /// Whose.
    pub user_id: UserId,
    /// Which login.
    pub session_id: SessionId,
    /// How many refreshes lie before it in its line.
    pub generation: u32,
    /// The login's random secret; stored hashed.
    pub secret: Bytes32,
}

#[derive(Serialize, Deserialize)]
struct RegistrationClaims {
    sub: String,
    exp: i64,
}

/// Makes tokens and believes them.
pub struct Signer {
    ring: KeyRing,
    access_ttl: Duration,
}

impl Signer {
    /// Signs with these keys; access tokens live for `access_ttl`.
    pub fn new(ring: KeyRing, access_ttl: Duration) -> Self {
        Self { ring, access_ttl }
    }

    /// How long access tokens live.
    pub fn access_ttl(&self) -> Duration {
        self.access_ttl
    }

    /// An access token for this session.
    pub fn access(&self, owner: &UserRecord, session: SessionId, now: Timestamp) -> Result<String> {
        let (iat, exp) = (now.seconds(), now.plus(self.access_ttl).seconds());
        let claims = AccessClaims { sub: owner.id, sid: session, iat, exp, name: owner.display_name.clone(), verified: owner.is_verified };
        sign(&claims, &self.ring.current, |keys| &keys.access)
    }

    /// What the token says, if it is ours and not over.
    pub fn read_access(&self, token: &str, now: Timestamp) -> Result<AccessClaims> {
        let claims: AccessClaims = verify(token, &self.ring, |keys| &keys.access)
            .ok_or_else(|| Error::unauthenticated("the access token is not valid, log in again"))?;
        if claims.exp <= now.seconds() {
            return Err(Error::unauthenticated("the access token has expired, refresh it or log in again"));
        }
        Ok(claims)
    }

    /// A refresh token that says this.
    pub fn refresh(&self, claims: &RefreshClaims) -> String {
        let mut bytes = claims.to_bytes();
        bytes.extend_from_slice(&keys::tag(&self.ring.current.refresh, &[&bytes]));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What the refresh token says, if we made it. Whether it still holds, its session knows.
    pub fn read_refresh(&self, token: &str) -> Option<RefreshClaims> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token.trim()).ok()?;
        let (body, signature) = bytes.split_at_checked(RefreshClaims::BYTES)?;
        let genuine = self.ring.believed().any(|keys| keys::same(&keys::tag(&keys.refresh, &[body]), signature));
        if genuine { RefreshClaims::from_bytes(body) } else { None }
    }

    /// A token that says that this number received a code just now.
    pub fn registration(&self, phone: &Phone, now: Timestamp) -> Result<String> {
        let claims = RegistrationClaims { sub: phone.as_str().to_owned(), exp: now.plus(REGISTRATION_TTL).seconds() };
        sign(&claims, &self.ring.current, |keys| &keys.registration)
    }

    /// Whether this is such a token for this number, and not over.
    pub fn proves(&self, token: &str, phone: &Phone, now: Timestamp) -> bool {
        verify::<RegistrationClaims>(token, &self.ring, |keys| &keys.registration)
            .is_some_and(|claims| claims.sub == phone.as_str() && claims.exp > now.seconds())
    }
}

impl RefreshClaims {
    const BYTES: usize = 16 + 16 + 4 + 32;

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES + 32);
        bytes.extend_from_slice(self.user_id.0.as_bytes());
        bytes.extend_from_slice(self.session_id.0.as_bytes());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.secret);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (user, rest) = bytes.split_first_chunk::<16>()?;
        let (session, rest) = rest.split_first_chunk::<16>()?;
        let (generation, rest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            user_id: UserId(Uuid::from_bytes(*user)),
            session_id: SessionId(Uuid::from_bytes(*session)),
            generation: u32::from_be_bytes(*generation),
            secret: rest.try_into().ok()?,
        })
    }
}

fn sign<T: Serialize>(claims: &T, keys: &Keys, key: fn(&Keys) -> &Bytes32) -> Result<String> {
    let header = Header { kid: Some(keys.kid.clone()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(key(keys))).map_err(Error::internal)
}

/// The claims, if the key named by `kid` signed them with HS256. Times are checked by the caller, on our clock.
fn verify<T: DeserializeOwned>(token: &str, ring: &KeyRing, key: fn(&Keys) -> &Bytes32) -> Option<T> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    let kid = jsonwebtoken::decode_header(token).ok()?.kid?;
    let keys = ring.believed().find(|keys| keys.kid == kid)?;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode(token, &DecodingKey::from_secret(key(keys)), &validation).ok().map(|data| data.claims)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::phone::Country;

    const NOW: Timestamp = Timestamp(1_769_860_800_000);

    fn tokens(secret: &str, previous: Option<&str>) -> Signer {
        Signer::new(KeyRing::new(secret.as_bytes(), previous.map(str::as_bytes)), Duration::from_hours(24 * 30))
    }

    fn ann() -> UserRecord {
        UserRecord { display_name: Some("Ann".into()), ..UserRecord::new(UserId(Uuid::nil()), "+12025550123".into(), NOW) }
    }

    fn phone(text: &str) -> Phone {
        Phone::read(text, Some(Country::US)).unwrap()
    }

    #[test]
    fn an_access_token_says_who_and_lives_its_time() {
        let tokens = tokens("secret", None);
        let (user, session) = (UserId(Uuid::nil()), SessionId::fresh());
        let token = tokens.access(&ann(), session, NOW).unwrap();
        let claims = tokens.read_access(&token, NOW).unwrap();
        assert_eq!((claims.sub, claims.sid, claims.name.as_deref()), (user, session, Some("Ann")));
        assert_eq!(claims.exp - claims.iat, 30 * 86_400);
        assert!(tokens.read_access(&token, NOW.plus(Duration::from_hours(24 * 30 - 1))).is_ok());
        assert!(tokens.read_access(&token, NOW.plus(Duration::from_hours(24 * 30))).is_err());
    }

    #[test]
    fn two_secrets_hold_at_once_and_a_third_does_not() {
        let old = tokens("old", None);
        let token = old.access(&ann(), SessionId::fresh(), NOW).unwrap();
        let refresh = old.refresh(&refresh_claims());
        let between = tokens("new", Some("old"));
        assert!(between.read_access(&token, NOW).is_ok() && between.read_refresh(&refresh).is_some());
        let after = tokens("newer", Some("new"));
        assert!(after.read_access(&token, NOW).is_err() && after.read_refresh(&refresh).is_none());
    }

    #[test]
    fn forged_headers_are_not_believed() {
        let tokens = tokens("secret", None);
        let token = tokens.access(&ann(), SessionId::fresh(), NOW).unwrap();
        let parts: Vec<_> = token.split('.').collect();
        let kid = &Keys::derive(b"secret").kid;
        for header in [
            json!({"alg": "none", "kid": kid}),
            json!({"alg": "HS512", "kid": kid}),
            json!({"alg": "RS256", "kid": kid}),
            json!({"alg": "HS256", "kid": "00000000"}),
            json!({"alg": "HS256"}),
        ] {
            let header = URL_SAFE_NO_PAD.encode(header.to_string());
            for signature in [parts[2], ""] {
                assert!(tokens.read_access(&format!("{header}.{}.{signature}", parts[1]), NOW).is_err());
            }
        }
        for text in ["", ".", "..", "a.b.c", "Bearer x", &"x".repeat(5_000)] {
            assert!(tokens.read_access(text, NOW).is_err());
        }
    }

    #[test]
    fn one_kind_of_token_is_not_taken_for_another() {
        let tokens = tokens("secret", None);
        let number = phone("+12025550123");
        let registration = tokens.registration(&number, NOW).unwrap();
        let access = tokens.access(&ann(), SessionId::fresh(), NOW).unwrap();
        assert!(tokens.proves(&registration, &number, NOW));
        assert!(!tokens.proves(&registration, &phone("+12025550124"), NOW));
        assert!(!tokens.proves(&registration, &number, NOW.plus(REGISTRATION_TTL)));
        assert!(!tokens.proves(&access, &number, NOW));
        assert!(tokens.read_access(&registration, NOW).is_err());
        assert!(tokens.read_refresh(&access).is_none());
    }

    fn refresh_claims() -> RefreshClaims {
        RefreshClaims { user_id: UserId::fresh(), session_id: SessionId::fresh(), generation: 7, secret: [9; 32] }
    }

    #[test]
    fn a_refresh_token_cannot_be_moved_to_another_generation() {
        let tokens = tokens("secret", None);
        let claims = refresh_claims();
        let token = tokens.refresh(&claims);
        assert!(tokens.read_refresh(&token).unwrap() == claims);
        let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        bytes[35] += 1;
        assert!(tokens.read_refresh(&URL_SAFE_NO_PAD.encode(&bytes)).is_none());
        assert!(tokens.read_refresh(&token[..token.len() - 2]).is_none());
        assert!(tokens.read_refresh("").is_none());
    }
}
