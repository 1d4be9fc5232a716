//! Who somebody is: registration, login, one-time codes, passwords, tokens and the sessions behind them.
//! A token is bound to a session, and the session is checked; ending it closes its sockets. Accounts themselves
//! (name, picture, number) are `users`'; this feature changes only what a login depends on.

#![allow(dead_code)]

pub mod caller;
mod code;
mod keys;
mod password;
mod service;
mod session;
pub mod sms;
mod sqlite;
mod store;
mod token;

pub use caller::{AnyCaller, Bearer, Caller, OptionalCaller};
pub use code::SendLimits;
pub use service::{Auth, Client, Settings};
pub use session::{Identity, MAX_SESSIONS, SESSION_TTL, Session};
pub use store::AuthStore;
