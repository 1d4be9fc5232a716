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
    /// Logins that have ended one by one.
    ended: moka::sync::Cache<SessionId, ()>,
    /// When all logins of a person ended, and which one went on.
    ended_all: moka::sync::Cache<UserId, (Instant, Option<SessionId>)>,
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
            // Longer than they are believed: they tell which logins were there after all others had ended.
            checked: Cache::builder().max_capacity(CACHE_ENTRIES).time_to_live(BARRIER_TTL).build(),
            barriers: moka::sync::Cache::builder().max_capacity(CACHE_ENTRIES).time_to_live(BARRIER_TTL).build(),
            ended: moka::sync::Cache::builder().max_capacity(CACHE_ENTRIES).time_to_live(BARRIER_TTL).build(),
            ended_all: moka::sync::Cache::builder().max_capacity(CACHE_ENTRIES).time_to_live(BARRIER_TTL).build(),
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

    /// This login of the person has ended, or all but one have.
    pub fn revoke(&self, user: UserId, session: Option<SessionId>, except: Option<SessionId>) {
        match session {
            Some(session) => self.ended.insert(session, ()),
            None => self.ended_all.insert(user, (Instant::now(), except)),
        }
        self.forget(user);
    }

    /// Whether this login is known to have ended lately, or may be one of those that have.
    pub async fn was_revoked(&self, user: UserId, session: SessionId) -> bool {
        if self.ended.contains_key(&session) {
            return true;
        }
        let Some((at, except)) = self.ended_all.get(&user) else { return false };
        except != Some(session) && self.checked.get(&session).await.is_none_or(|checked| checked.at <= at)
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
