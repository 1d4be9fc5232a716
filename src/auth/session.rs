//! Logins: what is stored of one, and what a checked token says of its bearer.
//! A token is believed for its signature, and then its session is looked up: that is what makes logging out work.
//! The look-up is cached for [`CHECK_TTL`] while the bus carries revocations, and done each time while it does not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;

use super::keys::Bytes32;
use super::store::AuthStore;
use super::token::AccessClaims;
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::id::{SessionId, UserId};
use crate::users::Users;

/// A login is over this long after its last use, unless the settings say otherwise.
pub const SESSION_TTL: Duration = Duration::from_hours(24 * 180);
/// Sessions of one person; one more ends the least used.
pub const MAX_SESSIONS: usize = 50;
/// How old a check may be.
pub const CHECK_TTL: Duration = Duration::from_secs(5);
/// The last use of a session is written at most this often.
pub const TOUCH_EVERY: Duration = Duration::from_hours(1);
/// How long a revocation is remembered: as long as anything made before it may be in a cache.
const BARRIER_TTL: Duration = Duration::from_hours(1);
/// Checks and persons kept in memory.
const CACHE_ENTRIES: u64 = 100_000;

/// A login, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub user_id: UserId,
    /// Which.
    pub id: SessionId,
    /// What it was made with (`User-Agent`), shortened.
    pub device: String,
    /// Where it was made from.
    pub address: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its tokens were last used, to the hour.
    pub last_used_at: Timestamp,
    /// The highest generation of its refresh tokens that was used.
    pub generation: u32,
    /// SHA-256 of the secret in its refresh tokens.
    pub secret_hash: Bytes32,
    /// Its owner's `login_epoch` when it was made: it is over once that has gone on.
    pub login_epoch: i64,
}

/// Who a checked token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The person.
    pub user_id: UserId,
    /// The login.
    pub session_id: SessionId,
    /// Whether the number has been proven by a code.
    pub is_verified: bool,
    /// The display name.
    pub name: Option<String>,
}

/// A check and when its reading of the store began.
#[derive(Clone)]
struct Checked {
    identity: Identity,
    at: Instant,
}

/// Checks sessions.
pub(super) struct Sessions {
    store: Arc<dyn AuthStore>,
    users: Arc<Users>,
    ttl: Duration,
    checked: Cache<SessionId, Checked>,
    /// What was read before this moment about this person is not believed any more.
    barriers: moka::sync::Cache<UserId, Instant>,
}

/// What the check found out, and whether the session's last use is due to be written.
pub(super) struct Check {
    pub identity: Identity,
    pub touch: bool,
}

impl Sessions {
    pub fn new(store: Arc<dyn AuthStore>, users: Arc<Users>, ttl: Duration) -> Self {
        Self {
            store,
            users,
            ttl,
            checked: Cache::builder().max_capacity(CACHE_ENTRIES).time_to_live(CHECK_TTL).build(),
            barriers: moka::sync::Cache::builder().max_capacity(CACHE_ENTRIES).time_to_live(BARRIER_TTL).build(),
        }
    }

    /// How long a session lives unused.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether the session is over for not having been used.
    pub fn is_over(&self, session: &Session, now: Timestamp) -> bool {
        session.last_used_at.plus(self.ttl) <= now
    }

    /// Checks the claims' session. `cached`: a check of the last seconds will do, unless `verified` is asked for and was not
    /// found then: who has just verified on another node need not wait.
    pub async fn check(&self, claims: &AccessClaims, now: Timestamp, cached: bool, verified: bool) -> Result<Check> {
        if cached
            && let Some(known) = self.checked.get(&claims.sid).await
            && self.holds(&known)
            && (known.identity.is_verified || !verified)
        {
            return if known.identity.user_id == claims.sub { Ok(Check { identity: known.identity, touch: false }) } else { Err(ended()) };
        }
        let at = Instant::now();
        let (session, user) = tokio::join!(self.store.session(claims.sub, claims.sid), self.users.find(claims.sub));
        let session = session.map_err(away)?.filter(|session| !self.is_over(session, now)).ok_or_else(ended)?;
        let user = user.map_err(away)?.filter(|user| user.login_epoch == session.login_epoch).ok_or_else(ended)?;
        let identity = Identity { user_id: user.id, session_id: session.id, is_verified: user.is_verified, name: user.display_name };
        self.checked.insert(session.id, Checked { identity: identity.clone(), at }).await;
        Ok(Check { identity, touch: session.last_used_at.plus(TOUCH_EVERY) <= now })
    }

    /// From now on nothing that was read before is believed about this person.
    pub fn forget(&self, user: UserId) {
        self.barriers.insert(user, Instant::now());
    }

    /// Whether something about this person's logins changed lately.
    pub fn changed_lately(&self, user: UserId) -> bool {
        self.barriers.contains_key(&user)
    }

    fn holds(&self, known: &Checked) -> bool {
        known.at.elapsed() < CHECK_TTL && self.barriers.get(&known.identity.user_id).is_none_or(|barrier| barrier < known.at)
    }
}

/// 401: the token is fine, its login is not.
fn ended() -> Error {
    Error::unauthenticated("this login has ended, log in again")
}

/// 503, whatever the store's trouble is: a login that cannot be checked is not a login that has ended.
fn away(error: impl Into<Error>) -> Error {
    let error = error.into();
    if error.code == ErrorCode::Unavailable {
        error
    } else {
        Error::unavailable("your login cannot be checked now, try again in a moment").with_source(error)
    }
}
