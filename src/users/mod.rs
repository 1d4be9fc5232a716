//! People: the stored account, its limits, and how one person is shown to another.
//! The phone number is the identity (claimed once, see [`UserStore::claim_phone`]); names and pictures are decoration.
//! Logins, codes and sessions are `auth`'s; what people allow others to see is `settings`'.

mod api;
mod card;
mod directory;
mod profile;
mod scylla;
mod search;
mod service;
mod sqlite;
mod store;
mod view;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;

pub use api::UsersApi;
pub use card::{Card, Seen};
pub use directory::{Found, Listing};
pub use profile::{UpdateProfile, clean_email, clean_name, is_web_address};
pub use scylla::UserStatements;
use serde::{Deserialize, Serialize};
pub use service::{NewUser, Registered, Users, UsersPolicy};
pub use store::{Claim, Inserted, Replaced, UserStore};
pub use view::{Sight, User};

use crate::clock::Timestamp;
use crate::id::UserId;

/// Longest display name, in characters.
pub const MAX_NAME_CHARS: usize = 100;
/// Longest e-mail address, in bytes (RFC 5321, 4.5.3.1.3).
pub const MAX_EMAIL_BYTES: usize = 254;
/// Longest description of oneself, in characters.
pub const MAX_BIO_CHARS: usize = 500;
/// Longest address of a picture or a link, in bytes.
pub const MAX_URL_BYTES: usize = 2_048;
/// Most links to other networks.
pub const MAX_SOCIAL_LINKS: usize = 20;
/// Longest name of another network, in bytes.
pub const MAX_PLATFORM_BYTES: usize = 32;

/// Most numbers in one lookup.
pub const MAX_LOOKUP_NUMBERS: usize = 500;
/// Numbers that one person may look up in a day (UTC).
pub const LOOKUP_NUMBERS_A_DAY: i64 = 2_000;
/// Most ids in one batch.
pub const MAX_BATCH_IDS: usize = 100;
/// Searches that one person may make in a minute.
pub const SEARCHES_A_MINUTE: usize = 30;
/// Longest text to search for, in characters.
pub const MAX_QUERY_CHARS: usize = 200;

/// The partitions of one search prefix and of the directory.
pub const SHARDS: u8 = 8;

/// The partition that a person stands in, of each of his prefixes and of the directory.
pub fn shard_of(user: UserId) -> u8 {
    user.0.as_bytes()[15] % SHARDS
}

/// What the service thinks of an account; not an office in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, poem_openapi::Enum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[oai(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UserRole {
    /// Anybody.
    #[default]
    Regular,
    /// Checked to be who he says.
    Verified,
    /// Of the people behind the service.
    CoFounder,
    /// The person behind the service.
    Founder,
}

impl UserRole {
    /// How it is stored.
    fn number(self) -> u8 {
        match self {
            Self::Regular => 0,
            Self::Verified => 1,
            Self::CoFounder => 2,
            Self::Founder => 3,
        }
    }

    /// A role of a later version is shown as the least.
    fn of_number(number: u8) -> Self {
        match number {
            1 => Self::Verified,
            2 => Self::CoFounder,
            3 => Self::Founder,
            _ => Self::Regular,
        }
    }
}

/// A second factor (RFC 6238).
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totp {
    /// The shared secret, as `auth` seals it.
    pub secret: String,
    /// Asked for at login; until then the secret waits for its first right code.
    pub enabled: bool,
    /// The last time step whose code was used: no code works twice.
    pub last_step: i64,
    /// Hashes of the backup codes that are left.
    pub backup_codes: Vec<String>,
}

/// An account, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Who.
    pub id: UserId,
    /// The claimed number, E.164.
    pub phone: String,
    /// Not unique, never a login, shown to the owner alone.
    pub email: Option<String>,
    /// What others call him.
    pub display_name: Option<String>,
    /// http(s) address of his picture.
    pub avatar_url: Option<String>,
    /// What the service thinks of him.
    pub role: UserRole,
    /// What he says of himself.
    pub bio: Option<String>,
    /// Platform → address.
    pub social_links: BTreeMap<String, String>,
    /// The number has been proven by a code.
    pub is_verified: bool,
    /// Argon2id, PHC string; without one codes are the only way in.
    pub password_hash: Option<String>,
    /// The second factor, if one was set up.
    pub totp: Option<Totp>,
    /// One more each time that all his logins ended at once: a session of an earlier count is over.
    pub login_epoch: i64,
    /// When he registered.
    pub created_at: Timestamp,
    /// When any of the above last changed.
    pub updated_at: Timestamp,
    /// 0, and one more with each change.
    pub version: i64,
    /// When his last socket closed; not under `version`. Zero: never seen.
    pub last_seen: Timestamp,
}

impl UserRecord {
    /// A new, unverified account with nothing but a number.
    pub fn new(id: UserId, phone: String, now: Timestamp) -> Self {
        Self {
            id,
            phone,
            email: None,
            display_name: None,
            avatar_url: None,
            role: UserRole::default(),
            bio: None,
            social_links: BTreeMap::new(),
            is_verified: false,
            password_hash: None,
            totp: None,
            login_epoch: 0,
            created_at: now,
            updated_at: now,
            version: 0,
            last_seen: Timestamp(0),
        }
    }

    /// Whether a login needs a second factor.
    pub fn totp_enabled(&self) -> bool {
        self.totp.as_ref().is_some_and(|totp| totp.enabled)
    }
}
