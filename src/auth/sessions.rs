//! The person's view of his logins, ending them, who he is himself, and tickets for sockets that cannot send headers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::account::random_bytes;
use super::session::{Identity, Session};
use super::token::AccessClaims;
use super::{Auth, keys};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorCode, Result};
use crate::id::SessionId;
use crate::users::{UpdateProfile, User};

/// How long a socket ticket is good.
pub const TICKET_TTL: Duration = Duration::from_secs(30);
/// How long `/auth/me` waits for the store before it answers from memory.
const PATIENCE: Duration = Duration::from_secs(1);

impl Auth {
    /// The sessions that go on, the last used first.
    pub async fn list_sessions(&self, caller: &Identity) -> Result<Vec<Session>> {
        let now = self.clock.now();
        let epoch = self.users.record(caller.user_id).await?.login_epoch;
        let mut sessions = self.store.sessions(caller.user_id).await?;
        sessions.retain(|session| !self.sessions.is_over(session, now) && session.login_epoch == epoch);
        sessions.sort_by_key(|session| std::cmp::Reverse((session.last_used_at, session.id)));
        Ok(sessions)
    }

    /// Ends one of the caller's sessions.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn end_own_session(&self, caller: &Identity, session: SessionId) -> Result<()> {
        if self.end_session(caller.user_id, session).await? { Ok(()) } else { Err(Error::not_found("there is no such session")) }
    }

    /// Ends all of the caller's sessions but this one.
    pub async fn end_other_sessions(&self, caller: &Identity) -> Result<()> {
        self.end_sessions(caller.user_id, Some(caller.session_id)).await
    }

    /// Ends this session; and, when a refresh token of another one of the same person comes along, that one too.
    pub async fn logout(&self, caller: &Identity, refresh_token: Option<&str>) -> Result<()> {
        self.end_session(caller.user_id, caller.session_id).await?;
        let other = refresh_token.and_then(|token| self.signer.read_refresh(token));
        if let Some(other) = other.filter(|other| other.user_id == caller.user_id && other.session_id != caller.session_id) {
            self.end_session(other.user_id, other.session_id).await?;
        }
        Ok(())
    }

    /// The caller himself. The app asks at its start and drops its login on any failure: so while the store is away this
    /// answers from memory, or else from what the token says.
    ///
    /// # Errors
    /// As [`Auth::authenticate`]; `Unavailable` only for a login that has ended lately, or may have.
    pub async fn me(&self, token: &str) -> Result<User> {
        let claims = self.signer.read_access(token, self.clock.now())?;
        let asked = tokio::time::timeout(PATIENCE, self.me_from_store(&claims)).await;
        match asked.unwrap_or_else(|_| Err(Error::unavailable("the store is too slow, try again in a moment"))) {
            Err(error) if error.code == ErrorCode::Unavailable && !self.sessions.was_revoked(claims.sub, claims.sid).await => {
                match self.known.get(&claims.sub) {
                    Some(user) => Ok(user),
                    None if claims.verified || !self.settings.require_verified_phone => Ok(from_claims(&claims)),
                    None => Err(error),
                }
            }
            answer => answer,
        }
    }

    async fn me_from_store(&self, claims: &AccessClaims) -> Result<User> {
        let identity = self.check(claims).await?;
        self.require_verified(&identity)?;
        let user = self.users.own_view(self.users.record(identity.user_id).await?).await?;
        self.remember(&user);
        Ok(user)
    }

    /// Changes the caller's profile.
    ///
    /// # Errors
    /// `Invalid`: every wrong field.
    pub async fn update_profile(&self, caller: &Identity, update: UpdateProfile) -> Result<User> {
        let user = self.users.update_profile(caller.user_id, update).await?;
        self.sessions.forget(user.id);
        self.remember(&user);
        Ok(user)
    }

    /// Keeps how a person sees himself; of two views the later one, for a slow reading may come after a change.
    fn remember(&self, user: &User) {
        let known = |known: &User| known.updated_at > user.updated_at;
        self.known.entry(user.id).and_upsert_with(|entry| match entry.map(moka::Entry::into_value) {
            Some(later) if known(&later) => later,
            _ => user.clone(),
        });
    }

    /// A ticket that opens one socket for this login.
    pub async fn issue_ticket(&self, caller: &Identity) -> Result<String> {
        let ticket = URL_SAFE_NO_PAD.encode(random_bytes()?);
        let (hash, now) = (keys::digest(ticket.as_bytes()), self.clock.now());
        self.store.put_socket_ticket(hash, caller.user_id, caller.session_id, now.plus(TICKET_TTL), now).await?;
        Ok(ticket)
    }

    /// Whose ticket this is; it is used up.
    ///
    /// # Errors
    /// `Unauthenticated`: no such ticket, used, over, or its login has ended. `Unavailable`: it cannot be checked now.
    pub async fn redeem_ticket(&self, ticket: &str) -> Result<Identity> {
        let taken = self.store.take_socket_ticket(keys::digest(ticket.as_bytes()), self.clock.now()).await?;
        let (user, session) = taken.ok_or_else(|| Error::unauthenticated("the ticket is not valid, ask for a new one"))?;
        let identity = self.recheck(user, session).await?;
        self.require_verified(&identity)?;
        Ok(identity)
    }
}

fn from_claims(claims: &AccessClaims) -> User {
    let made_at = Timestamp(claims.iat.saturating_mul(1_000));
    let mut record = crate::users::UserRecord::new(claims.sub, String::new(), made_at);
    record.display_name.clone_from(&claims.name);
    record.is_verified = claims.verified;
    let user = User::of(record, &crate::settings::Privacy::default(), crate::users::Sight::OWN, true);
    User { phone_number: None, ..user }
}
