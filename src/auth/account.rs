//! What several use cases do to an account: prove its number, end its sessions, log it in.

use rand::TryRng;
use rand::rngs::SysRng;

use super::code::InUse;
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
            self.sessions_ended(&proven).await;
        }
        Ok(proven)
    }

    /// Ends the person's sessions, one of them excepted, and closes their sockets.
    ///
    /// # Errors
    /// The first one of the store; all sessions were tried then, and may have ended.
    pub(super) async fn end_sessions(&self, user: UserId, except: Option<SessionId>) -> Result<()> {
        let mut sessions = self.store.sessions(user).await?;
        sessions.retain(|session| Some(session.id) != except);
        let mut ended = Ok(());
        for session in &sessions {
            let one = self.store.end_session(user, session.id).await;
            ended = ended.and(one.map(|_| ()));
        }
        if !sessions.is_empty() {
            self.revoked(user, None, except).await;
        }
        Ok(ended?)
    }

    /// Ends one session and closes its sockets; whether there was one.
    pub(super) async fn end_session(&self, user: UserId, session: SessionId) -> Result<bool> {
        let ended = self.store.end_session(user, session).await;
        // Also when the store did not say: it may have ended. Not when there was none: the id is anybody's choice.
        if !matches!(ended, Ok(false)) {
            self.revoked(user, Some(session), None).await;
        }
        Ok(ended?)
    }

    /// What follows when the account's epoch has gone on and so ended every session before: their sockets close, and the
    /// rows go. Nothing can fail here, for they are over whether their rows are there or not.
    pub(super) async fn sessions_ended(&self, record: &UserRecord) {
        self.revoked(record.id, None, None).await;
        let over = async {
            for session in self.store.sessions(record.id).await? {
                if session.login_epoch < record.login_epoch {
                    self.store.end_session(record.id, session.id).await?;
                }
            }
            Ok::<_, crate::store::StoreError>(())
        };
        if let Err(error) = over.await {
            tracing::debug!(%error, "rows of sessions that are over stay until the next login");
        }
    }

    /// Logs the person in: a new session and its tokens. The least used session ends when there are too many.
    /// The code that this was done with is used up last: what fails before can be asked for again with the same code.
    pub(super) async fn log_in(&self, record: UserRecord, code: Option<&InUse>, client: &Client) -> Result<Login> {
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
            login_epoch: record.login_epoch,
        };
        self.store.insert_session(&session).await?;
        self.end_least_used(&session).await?;
        let claims = RefreshClaims { user_id: record.id, session_id: session.id, generation: 0, secret };
        let tokens = self.tokens_for(&record, &claims)?;
        let login = Login { user: self.users.own_view(record).await?, tokens };
        if let Some(code) = code
            && let Err(error) = self.codes.finish(code).await
        {
            // Nobody has its tokens; it only counts as one.
            if let Err(error) = self.store.end_session(session.user_id, session.id).await {
                tracing::debug!(%error, "a session that nobody has stays until it is the least used");
            }
            return Err(error);
        }
        Ok(login)
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
            if place + 1 >= MAX_SESSIONS || self.sessions.is_over(session, now) || session.login_epoch < new.login_epoch {
                self.end_session(session.user_id, session.id).await?;
            }
        }
        Ok(())
    }
}

/// The same account as if it had just been made, every login over; its number is nobody's to change here.
pub(super) fn blank(record: &UserRecord) -> UserRecord {
    let login_epoch = record.login_epoch + 1;
    UserRecord { login_epoch, ..UserRecord::new(record.id, record.phone.clone(), record.created_at) }
}

/// 32 bytes of the operating system's randomness.
pub(super) fn random_bytes() -> Result<Bytes32> {
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(Error::internal)?;
    Ok(bytes)
}
