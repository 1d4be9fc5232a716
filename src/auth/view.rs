//! The wire objects of logins.

use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};

use super::sessions::TICKET_TTL;
use super::{Login, Session, Verified};
use crate::clock::Timestamp;
use crate::id::SessionId;
use crate::users::User;

const BEARER: &str = "bearer";

/// Somebody who is logged in now.
#[derive(Serialize, Deserialize, Object)]
#[oai(example)]
pub struct LoginAnswer {
    /// Who.
    pub user: User,
    /// The same as `access_token`.
    pub token: String,
    /// To be sent as `Authorization: Bearer`.
    pub access_token: String,
    /// Good for fresh tokens.
    pub refresh_token: String,
    /// Always `bearer`.
    pub token_type: String,
    /// How long the access token lives, in seconds.
    pub expires_in: u64,
}

impl From<Login> for LoginAnswer {
    fn from(Login { user, tokens }: Login) -> Self {
        Self {
            user,
            token: tokens.access.clone(),
            access_token: tokens.access,
            refresh_token: tokens.refresh,
            token_type: BEARER.to_owned(),
            expires_in: tokens.expires_in,
        }
    }
}

impl Example for LoginAnswer {
    fn example() -> Self {
        Self {
            user: User::example(),
            token: "eyJhbGciOiJIUzI1NiIsImtpZCI6IjRmMmEifQ.e30.c2ln".into(),
            access_token: "eyJhbGciOiJIUzI1NiIsImtpZCI6IjRmMmEifQ.e30.c2ln".into(),
            refresh_token: "AZdaPHfSfwCOET9bLJ1OEA".into(),
            token_type: BEARER.into(),
            expires_in: 2_592_000,
        }
    }
}

/// Fresh tokens.
#[derive(Serialize, Deserialize, Object)]
#[oai(example)]
pub struct RefreshAnswer {
    /// To be sent as `Authorization: Bearer`.
    pub access_token: String,
    /// Good for the next ones.
    pub refresh_token: String,
    /// Always `bearer`.
    pub token_type: String,
    /// How long the access token lives, in seconds.
    pub expires_in: u64,
    /// Who.
    pub user: User,
}

impl From<Login> for RefreshAnswer {
    fn from(Login { user, tokens }: Login) -> Self {
        Self {
            access_token: tokens.access,
            refresh_token: tokens.refresh,
            token_type: BEARER.to_owned(),
            expires_in: tokens.expires_in,
            user,
        }
    }
}

impl Example for RefreshAnswer {
    fn example() -> Self {
        let LoginAnswer { user, access_token, refresh_token, token_type, expires_in, .. } = LoginAnswer::example();
        Self { access_token, refresh_token, token_type, expires_in, user }
    }
}

/// A right code: the tokens of the number's account, or the token to register one with.
#[derive(Serialize, Deserialize, Object)]
#[serde(default)]
#[oai(example, skip_serializing_if_is_none)]
pub struct VerifyAnswer {
    /// Always true.
    pub success: bool,
    /// Always true.
    pub verified: bool,
    /// To register this number with, for half an hour; the number has no account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_token: Option<String>,
    /// Whose number it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The same as `access_token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// To be sent as `Authorization: Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Good for fresh tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// Always `bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_type: Option<String>,
    /// How long the access token lives, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u64>,
}

impl Example for VerifyAnswer {
    fn example() -> Self {
        let LoginAnswer { user, token, access_token, refresh_token, token_type, expires_in } = LoginAnswer::example();
        Self {
            user: Some(user),
            token: Some(token),
            access_token: Some(access_token),
            refresh_token: Some(refresh_token),
            token_type: Some(token_type),
            expires_in: Some(expires_in),
            ..Self::default()
        }
    }
}

impl Default for VerifyAnswer {
    fn default() -> Self {
        Self {
            success: true,
            verified: true,
            registration_token: None,
            user: None,
            token: None,
            access_token: None,
            refresh_token: None,
            token_type: None,
            expires_in: None,
        }
    }
}

impl From<Verified> for VerifyAnswer {
    fn from(verified: Verified) -> Self {
        match verified {
            Verified::Number(token) => Self { registration_token: Some(token), ..Self::default() },
            Verified::Account(login) => Self {
                user: Some(login.user),
                token: Some(login.tokens.access.clone()),
                access_token: Some(login.tokens.access),
                refresh_token: Some(login.tokens.refresh),
                token_type: Some(BEARER.to_owned()),
                expires_in: Some(login.tokens.expires_in),
                ..Self::default()
            },
        }
    }
}

/// The changed profile, whole and field by field.
#[derive(Serialize, Deserialize, Object)]
#[oai(example)]
pub struct ProfileAnswer {
    /// Always true.
    pub success: bool,
    /// The profile.
    pub data: User,
    /// The same fields again.
    #[serde(flatten)]
    #[oai(flatten)]
    pub user: User,
}

impl Example for ProfileAnswer {
    fn example() -> Self {
        Self { success: true, data: User::example(), user: User::example() }
    }
}

/// The sessions of a person.
#[derive(Serialize, Deserialize, Object)]
#[oai(example)]
pub struct SessionList {
    /// The last used first.
    pub sessions: Vec<SessionView>,
}

impl Example for SessionList {
    fn example() -> Self {
        let session = SessionView {
            id: SessionId(uuid::Uuid::from_u128(0x0197_5a3c_77d2_7f00_8e11_3f5b_2c9d_4e11)),
            device: "okhttp/4.12.0".into(),
            address: "192.0.2.1".into(),
            created_at: Timestamp(1_767_225_600_000),
            last_used_at: Timestamp(1_769_860_800_000),
            current: true,
        };
        Self { sessions: vec![session] }
    }
}

/// One session.
#[derive(Serialize, Deserialize, Object)]
pub struct SessionView {
    /// To end it by.
    pub id: SessionId,
    /// What it was made with (`User-Agent`).
    pub device: String,
    /// Where it was made from.
    pub address: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, to the hour.
    pub last_used_at: Timestamp,
    /// It is the one that asks.
    pub current: bool,
}

impl SessionView {
    /// The session as the one called `current` sees it.
    pub fn of(session: Session, current: SessionId) -> Self {
        Self {
            current: session.id == current,
            id: session.id,
            device: session.device,
            address: session.address,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
        }
    }
}

/// A ticket that opens one socket.
#[derive(Serialize, Deserialize, Object)]
#[oai(example)]
pub struct SocketTicket {
    /// For `/ws?ticket=`.
    pub ticket: String,
    /// How long it is good, in seconds.
    pub expires_in: u64,
}

impl Example for SocketTicket {
    fn example() -> Self {
        Self::new("pM2yV0Yt3rXf8mWbq7Jc1A".into())
    }
}

impl SocketTicket {
    /// The answer with this ticket.
    pub fn new(ticket: String) -> Self {
        Self { ticket, expires_in: TICKET_TTL.as_secs() }
    }
}
