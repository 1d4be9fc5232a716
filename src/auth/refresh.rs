//! Fresh tokens for old ones. A refresh token carries its generation; using it raises the session's mark, and one that is
//! behind the mark was stolen or its successor was: the session ends. So a client may keep its first token for ever and
//! refresh in parallel, and a theft shows as soon as a newer token has been used.

use super::store::Refreshed;
use super::token::RefreshClaims;
use super::{Auth, Login, keys};
use crate::error::{Error, Result};

impl Auth {
    /// New tokens of the same session; older access tokens stay valid.
    ///
    /// # Errors
    /// `Unauthenticated`: no such session, it is over, or the token is behind (then the session ends).
    pub async fn refresh(&self, token: &str) -> Result<Login> {
        let claims =
            self.signer.read_refresh(token).ok_or_else(|| Error::unauthenticated("the refresh token is not valid, log in again"))?;
        let RefreshClaims { user_id, session_id, generation, secret } = claims;
        let now = self.clock.now();
        let unused_since = now.minus(self.sessions.ttl());
        match self.store.use_generation(user_id, session_id, keys::digest(&secret), generation, unused_since, now).await? {
            Refreshed::Applied => {}
            Refreshed::Behind => {
                self.end_session(user_id, session_id).await?;
                tracing::warn!(%user_id, %session_id, "a refresh token was used after its successor: its session was ended");
                return Err(Error::unauthenticated("this login was used from elsewhere and has ended, log in again"));
            }
            Refreshed::Gone => return Err(Error::unauthenticated("this login has ended, log in again")),
        }
        let record = self.users.find(user_id).await?.ok_or_else(|| Error::unauthenticated("this account no longer exists"))?;
        let session = self.store.session(user_id, session_id).await?;
        if session.is_none_or(|session| session.login_epoch != record.login_epoch) {
            return Err(Error::unauthenticated("this login has ended, log in again"));
        }
        let next = RefreshClaims { user_id, session_id, generation: generation.saturating_add(1), secret };
        let tokens = self.tokens_for(&record, &next)?;
        Ok(Login { user: self.users.own_view(record).await?, tokens })
    }
}
