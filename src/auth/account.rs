//! What several use cases do to an account: prove its number, end its sessions, log it in.

use rand::TryRng;
use rand::rngs::SysRng;

use super::keys::{self, Bytes32};
use super::session::{Identity, MAX_SESSIONS, Session};
use super::token::RefreshClaims;
use super::{Auth, Client, Login, Tokens};
use crate::error::{Error, Result};
use crate::id::{SessionId, UserId};
use crate::users::UserRecord;

/// Longest device name that is kept, in characters.
const MAX_DEVICE_CHARS: usize = 200;

impl Auth {
    /// Notes that a code has proven the account's number. On an unverified account it ends what whoever registered it
    /// has left (sessions, password, second factor, profile), unless the request is that account's own: nobody sits on a
    /// number that is not his.
    pub(super) async fn prove(&self, record: UserRecord, caller: Option<&Identity>) -> Result<UserRecord> {
        if record.is_verified {
            return Ok(record);
        }
        let own = caller.is_some_and(|caller| caller.user_id == record.id);
        if !own {
            // Before, so that a crash leaves no session on a proven account; and after, for those made meanwhile.
            self.end_sessions(record.id, None).await?;
        }
        let proven = self
            .users
            .change(record.id, |record| {
                if !record.is_verified && !own {
                    let before = std::mem::replace(record, blank(record));
                    // The app registers without a password and proves the number right after, without its token: what it
                    // registered with stays. A password is no part of that, so whoever set one was somebody else.
                    if before.password_hash.is_none() {
                        (record.display_name, record.email) = (before.display_name, before.email);
                    }
                }
                record.is_verified = true;
                Ok(())
            })
            .await?;
        if own {
            self.sessions.forget(proven.id);
        } else {
            self.end_sessions(proven.id, None).await?;
        }
        Ok(proven)
    }

    /// Ends the person's sessions, one of them excepted, and closes their sockets.
    pub(super) async fn end_sessions(&self, user: UserId, except: Option<SessionId>) -> Result<()> {
        let sessions = self.store.sessions(user).await?;
        let ending = sessions.iter().filter(|session| Some(session.id) != except);
        let mut any = false;
        for session in ending {
            any |= self.store.end_session(user, session.id).await?;
        }
        if any {
            self.revoked(user, None, except).await;
        }
        Ok(())
    }

    /// Ends one session and closes its sockets; whether there was one.
    pub(super) async fn end_session(&self, user: UserId, session: SessionId) -> Result<bool> {
        let ended = self.store.end_session(user, session).await?;
        self.revoked(user, Some(session), None).await;
        Ok(ended)
    }

    /// Logs the person in: a new session and its tokens. The least used session ends when there are too many.
    pub(super) async fn log_in(&self, record: UserRecord, client: &Client) -> Result<Login> {
        let now = self.clock.now();
        let secret = random_bytes()?;
        let session = Session {
            user_id: record.id,
            id: SessionId::fresh(),
            device: crate::text::clean_line(&client.device).unwrap_or_default().chars().take(MAX_DEVICE_CHARS).collect(),
            address: client.address.map(|address| address.to_canonical().to_string()).unwrap_or_default(),
            created_at: now,
            last_used_at: now,
            generation: 0,
            secret_hash: keys::digest(&secret),
        };
        self.store.insert_session(&session).await?;
        self.end_least_used(&session).await?;
        let claims = RefreshClaims { user_id: record.id, session_id: session.id, generation: 0, secret };
        let tokens = self.tokens_for(&record, &claims)?;
        Ok(Login { user: self.users.own_view(record).await?, tokens })
    }

    /// The tokens of a session: an access token, and the refresh token that says this.
    pub(super) fn tokens_for(&self, record: &UserRecord, refresh: &RefreshClaims) -> Result<Tokens> {
        let access = self.signer.access(record, refresh.session_id, self.clock.now())?;
        Ok(Tokens { access, refresh: self.signer.refresh(refresh), expires_in: self.signer.access_ttl().as_secs() })
    }

    async fn end_least_used(&self, new: &Session) -> Result<()> {
        let now = self.clock.now();
        let mut others = self.store.sessions(new.user_id).await?;
        others.retain(|session| session.id != new.id);
        others.sort_by_key(|session| std::cmp::Reverse(session.last_used_at));
        for (place, session) in others.iter().enumerate() {
            if place + 1 >= MAX_SESSIONS || self.sessions.is_over(session, now) {
                self.end_session(session.user_id, session.id).await?;
            }
        }
        Ok(())
    }
}

/// The same account as if it had just been made; its number is nobody's to change here.
pub(super) fn blank(record: &UserRecord) -> UserRecord {
    UserRecord::new(record.id, record.phone.clone(), record.created_at)
}

/// 32 bytes of the operating system's randomness.
pub(super) fn random_bytes() -> Result<Bytes32> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(Error::internal)?;
    Ok(bytes)
}
