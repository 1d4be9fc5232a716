//! Who somebody is: registration, login, one-time codes, passwords, tokens and the sessions behind them.
//! A token is bound to a session, and the session is checked; ending it closes its sockets. Accounts themselves
//! (name, picture, number) are `users`'; this feature changes only what a login depends on.

mod account;
mod api;
pub mod caller;
mod code;
mod keys;
mod login;
mod password;
mod recovery;
mod refresh;
mod register;
mod scylla;
mod service;
mod session;
mod sessions;
pub mod sms;
mod sqlite;
mod store;
mod token;
mod totp;
mod view;

pub use api::AuthApi;
pub use caller::{AnyCaller, Bearer, Caller, OptionalCaller, UserLimit};
pub use code::{CodeRecord, CodeState, Purpose, Rate, SendLimits};
use poem_openapi::Object;
use poem_openapi::types::Example;
pub use scylla::AuthStatements;
use serde::Deserialize;
pub use service::{Auth, Client, Settings};
pub use session::{Identity, MAX_SESSIONS, SESSION_TTL, Session};
pub use store::{AuthStore, Refreshed, Spent, Try};
pub use view::{LoginAnswer, ProfileAnswer, RefreshAnswer, SessionList, SessionView, SocketTicket, VerifyAnswer};

use crate::users::User;

/// A wish to make an account.
#[derive(Clone, Default, Deserialize, Object)]
#[oai(example)]
pub struct Register {
    /// The number, in any usual spelling.
    pub phone_number: String,
    /// 8 to 100 characters; without one, codes are the only way in.
    pub password: Option<String>,
    /// What others call one, up to 100 characters.
    pub display_name: Option<String>,
    /// One's own address; nobody else sees it.
    pub email: Option<String>,
    /// A code that was sent to the number: the account is verified at once.
    pub verification_code: Option<String>,
    /// The token of verify-phone: the account is verified at once.
    pub registration_token: Option<String>,
}

impl Example for Register {
    fn example() -> Self {
        Self {
            phone_number: "+12025550123".into(),
            password: Some("correct horse battery".into()),
            display_name: Some("Ada Lovelace".into()),
            ..Self::default()
        }
    }
}

/// A wish to log in: by password or by code.
#[derive(Clone, Default, Deserialize, Object)]
#[oai(example)]
pub struct LogIn {
    /// The number, in any usual spelling.
    pub phone_number: String,
    /// The password.
    pub password: Option<String>,
    /// A code that was sent to the number; after `totp_required`, for five minutes, the authenticator's or a backup code.
    pub verification_code: Option<String>,
    /// The authenticator's code, or a backup code, when two-factor login is on.
    pub totp_code: Option<String>,
}

impl Example for LogIn {
    fn example() -> Self {
        Self { phone_number: "+12025550123".into(), password: Some("correct horse battery".into()), ..Self::default() }
    }
}

/// A wish for a code by SMS.
#[derive(Clone, Default, Deserialize, Object)]
#[oai(example)]
pub struct SendCode {
    /// The number, in any usual spelling.
    pub phone_number: String,
}

impl Example for SendCode {
    fn example() -> Self {
        Self { phone_number: "+12025550123".into() }
    }
}

/// A code that was received.
#[derive(Clone, Default, Deserialize, Object)]
#[oai(example)]
pub struct VerifyPhone {
    /// The number, in any usual spelling.
    pub phone_number: String,
    /// The six digits; after `totp_required`, for five minutes, the authenticator's or a backup code.
    pub code: String,
}

impl Example for VerifyPhone {
    fn example() -> Self {
        Self { phone_number: "+12025550123".into(), code: "123456".into() }
    }
}

/// A question whether a reset code is right.
#[derive(Clone, Default, Deserialize, Object)]
#[oai(example)]
pub struct CheckResetCode {
    /// The number, in any usual spelling.
    pub phone_number: String,
    /// The six digits.
    pub code: String,
}

impl Example for CheckResetCode {
    fn example() -> Self {
        Self { phone_number: "+12025550123".into(), code: "123456".into() }
    }
}

/// A new password.
#[derive(Clone, Default, Deserialize, Object)]
#[oai(example)]
pub struct ResetPassword {
    /// The number, in any usual spelling.
    pub phone_number: String,
    /// The six digits.
    pub code: String,
    /// 8 to 100 characters.
    pub new_password: String,
}

impl Example for ResetPassword {
    fn example() -> Self {
        Self { phone_number: "+12025550123".into(), code: "123456".into(), new_password: "correct horse battery".into() }
    }
}

/// A wish for fresh tokens.
#[derive(Clone, Default, Deserialize, Object)]
#[oai(example)]
pub struct Refresh {
    /// Any refresh token of the session that is not behind one used before.
    pub refresh_token: String,
}

impl Example for Refresh {
    fn example() -> Self {
        Self { refresh_token: "AZdaPHfSfwCOET9bLJ1OEA".into() }
    }
}

/// The end of a login.
#[derive(Clone, Default, Deserialize, Object)]
#[oai(example)]
pub struct LogOut {
    /// The refresh token; when it is of another login of the same person, that one ends too.
    pub refresh_token: Option<String>,
}

impl Example for LogOut {
    fn example() -> Self {
        Self { refresh_token: Some("AZdaPHfSfwCOET9bLJ1OEA".into()) }
    }
}

/// The tokens of a session.
#[derive(Clone)]
pub struct Tokens {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
    /// How long the access token lives, in seconds.
    pub expires_in: u64,
}

/// Somebody who is logged in now.
#[derive(Clone)]
pub struct Login {
    /// Who.
    pub user: User,
    /// His tokens.
    pub tokens: Tokens,
}

/// What a right code means.
#[derive(Clone)]
pub enum Verified {
    /// The number has an account, and it is logged in.
    Account(Box<Login>),
    /// The number has none: the token to register with.
    Number(String),
}
