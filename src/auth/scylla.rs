//! [`AuthStore`] on the cluster. Every write here is conditional: plain ones beside them would go by another clock.
//! Sessions change under conditions on their own columns; what is counted or spent is read, decided and written under its
//! revision ([`counted`]). Rows with an end leave by themselves some time after it, and are over when the caller's clock says so.

mod counted;

use std::time::Duration;

use async_trait::async_trait;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::Row;
use uuid::Uuid;

use self::counted::{InDoubt, LoginTicket, Step, Tries, Units, change};
use super::code::{CodeRecord, CodeState, Purpose};
use super::keys::Bytes32;
use super::session::Session;
use super::store::{AuthStore, Refreshed, Spent, Try};
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::phone::Phone;
use crate::store::{Prepared, StoreError, StoreResult, statements};

statements! {
    /// The statements of logins and codes.
    pub struct AuthStatements {
        insert_session: Conditional "INSERT INTO sessions (user_id, session_id, device, address, created_at, last_used_at, generation,
            secret_hash, login_epoch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS";
        session: Read "SELECT session_id, device, address, created_at, last_used_at, generation, secret_hash, login_epoch FROM sessions
            WHERE user_id = ? AND session_id = ?";
        session_now: Serial "SELECT session_id, device, address, created_at, last_used_at, generation, secret_hash, login_epoch
            FROM sessions WHERE user_id = ? AND session_id = ?";
        sessions: Read "SELECT session_id, device, address, created_at, last_used_at, generation, secret_hash, login_epoch FROM sessions
            WHERE user_id = ?";
        use_generation: Conditional "UPDATE sessions SET generation = ?, last_used_at = ? WHERE user_id = ? AND session_id = ?
            IF secret_hash = ? AND generation <= ? AND last_used_at >= ? AND last_used_at <= ?";
        touch_session: Conditional "UPDATE sessions SET last_used_at = ? WHERE user_id = ? AND session_id = ? IF last_used_at < ?";
        end_session: Conditional "DELETE FROM sessions WHERE user_id = ? AND session_id = ? IF EXISTS";

        code: Serial "SELECT revision, code_id, code_hash, sent_at, expires_at, tries, state, claim FROM one_time_codes
            WHERE phone = ? AND purpose = ?";
        put_code: Conditional "UPDATE one_time_codes USING TTL ? SET revision = ?, code_id = ?, code_hash = ?, sent_at = ?, expires_at = ?,
            tries = ?, state = ?, claim = ? WHERE phone = ? AND purpose = ? IF revision = ?";
        remove_code: Conditional "DELETE FROM one_time_codes WHERE phone = ? AND purpose = ? IF revision = ?";

        budget: Serial "SELECT revision, spent_at, ends_at FROM budgets WHERE name = ?";
        put_budget: Conditional "UPDATE budgets USING TTL ? SET revision = ?, spent_at = ?, ends_at = ? WHERE name = ? IF revision = ?";
        remove_budget: Conditional "DELETE FROM budgets WHERE name = ? IF revision = ?";

        login_ticket: Serial "SELECT revision, tries, expires_at FROM login_tickets WHERE user_id = ?";
        put_login_ticket: Conditional "UPDATE login_tickets USING TTL ? SET revision = ?, tries = ?, expires_at = ? WHERE user_id = ?
            IF revision = ?";
        remove_login_ticket: Conditional "DELETE FROM login_tickets WHERE user_id = ? IF revision = ?";

        put_socket_ticket: Conditional "INSERT INTO socket_tickets (ticket_hash, user_id, session_id, expires_at) VALUES (?, ?, ?, ?)
            IF NOT EXISTS USING TTL ?";
        socket_ticket: Serial "SELECT user_id, session_id, expires_at FROM socket_tickets WHERE ticket_hash = ?";
        remove_socket_ticket: Conditional "DELETE FROM socket_tickets WHERE ticket_hash = ? IF EXISTS";
    }
}

/// How long a login ticket's row stays when nobody says what time it is now.
const UNTOLD: Duration = Duration::from_hours(24 * 7);

type SessionRow = (Uuid, String, String, i64, i64, i64, Vec<u8>, i64);

#[async_trait]
impl AuthStore for Prepared<AuthStatements> {
    async fn insert_session(&self, session: &Session) -> StoreResult<()> {
        let (s, key) = (session, (session.user_id.0, session.id.0));
        let (created_at, last_used_at, generation) = (s.created_at.0, s.last_used_at.0, i64::from(s.generation));
        let row = (key.0, key.1, &s.device, &s.address, created_at, last_used_at, generation, s.secret_hash, s.login_epoch);
        self.insert_once(&self.statements.insert_session, row, &self.statements.session_now, key).await
    }

    async fn session(&self, user: UserId, id: SessionId) -> StoreResult<Option<Session>> {
        self.find_session(&self.statements.session, user, id).await
    }

    async fn sessions(&self, user: UserId) -> StoreResult<Vec<Session>> {
        let rows = self.rows::<SessionRow>(&self.statements.sessions, (user.0,)).await?;
        rows.into_iter().map(|row| read_session(user, row)).collect()
    }

    async fn use_generation(
        &self,
        user: UserId,
        id: SessionId,
        secret_hash: Bytes32,
        generation: u32,
        unused_since: Timestamp,
        now: Timestamp,
    ) -> StoreResult<Refreshed> {
        let (number, mut now, mut tries, mut perhaps) = (i64::from(generation), now, Tries::new(), None);
        loop {
            let values = (number, now.0, user.0, id.0, secret_hash, number, unused_since.0, now.0);
            match self.apply(&self.statements.use_generation, values).await {
                Ok(true) => return Ok(Refreshed::Applied),
                Ok(false) => {}
                Err(error @ StoreError::Unavailable(_)) => perhaps = Some(error),
                Err(error) => return Err(perhaps.unwrap_or(error)),
            }
            let found = match self.find_session(&self.statements.session_now, user, id).await {
                Ok(found) => found.filter(|found| found.secret_hash == secret_hash && found.last_used_at >= unused_since),
                Err(error) => return Err(perhaps.unwrap_or(error)),
            };
            let Some(found) = found else { return Ok(Refreshed::Gone) };
            if found.generation > generation {
                // Who is behind loses the session: not the one who was perhaps in time.
                return perhaps.map_or(Ok(Refreshed::Behind), Err);
            }
            // The last use does not go back where the clock does. What was perhaps done may be done once more.
            now = now.max(found.last_used_at);
            tries.again().await.map_err(|error| perhaps.take().unwrap_or(error))?;
        }
    }

    async fn touch_session(&self, user: UserId, id: SessionId, now: Timestamp) -> StoreResult<()> {
        self.apply(&self.statements.touch_session, (now.0, user.0, id.0, now.0)).await.map(drop)
    }

    async fn end_session(&self, user: UserId, id: SessionId) -> StoreResult<bool> {
        self.remove_once(&self.statements.end_session, &self.statements.session_now, (user.0, id.0)).await
    }

    async fn put_code(&self, phone: &Phone, purpose: Purpose, code: &CodeRecord) -> StoreResult<Option<CodeRecord>> {
        let mut before = None;
        change(self, &(phone.clone(), purpose), InDoubt::Repeat, |known: Option<CodeRecord>| {
            if known.as_ref().is_some_and(|known| known.id == code.id) {
                // It was done, and somebody has tried it since.
                return Step::Leave(before.clone());
            }
            before = known.filter(|known| known.expires_at >= code.sent_at);
            put(code.clone(), before.clone())
        })
        .await
    }

    async fn take_code_back(&self, phone: &Phone, purpose: Purpose, code_id: Uuid, before: Option<&CodeRecord>) -> StoreResult<()> {
        change(self, &(phone.clone(), purpose), InDoubt::Repeat, |known: Option<CodeRecord>| match (known, before) {
            (Some(known), Some(before)) if known.id == code_id => put(before.clone(), ()),
            (Some(known), None) if known.id == code_id => Step::Remove(()),
            _ => Step::Leave(()),
        })
        .await
    }

    async fn claim_try(&self, phone: &Phone, purpose: Purpose, limit: u32, now: Timestamp) -> StoreResult<Try> {
        // In doubt a try is taken twice: never are more granted than the limit.
        change(self, &(phone.clone(), purpose), InDoubt::Repeat, |known: Option<CodeRecord>| {
            let living = known.filter(|code| code.expires_at > now && code.state != CodeState::Spent);
            let Some(code) = living else { return Step::Leave(Try::Absent) };
            if code.tries >= limit {
                return Step::Leave(Try::Exhausted(code));
            }
            put(CodeRecord { tries: code.tries + 1, ..code.clone() }, Try::Granted(code))
        })
        .await
    }

    async fn return_try(&self, phone: &Phone, purpose: Purpose, code_id: Uuid) -> StoreResult<()> {
        change(self, &(phone.clone(), purpose), InDoubt::Fail, |known: Option<CodeRecord>| match known {
            Some(code) if code.id == code_id && code.tries > 0 => put(CodeRecord { tries: code.tries - 1, ..code }, ()),
            _ => Step::Leave(()),
        })
        .await
    }

    async fn claim_code(
        &self,
        phone: &Phone,
        purpose: Purpose,
        code_id: Uuid,
        from: &[CodeState],
        to: CodeState,
        claim: Bytes32,
    ) -> StoreResult<bool> {
        change(self, &(phone.clone(), purpose), InDoubt::Repeat, |known: Option<CodeRecord>| match known {
            Some(code) if code.id == code_id && code.state == to => Step::Leave(code.claim == Some(claim)),
            known => go_on(known, code_id, from, |code| CodeRecord { state: to, claim: Some(claim), ..code }),
        })
        .await
    }

    async fn advance_code(
        &self,
        phone: &Phone,
        purpose: Purpose,
        code_id: Uuid,
        from: &[CodeState],
        to: CodeState,
        expires_at: Timestamp,
    ) -> StoreResult<bool> {
        change(self, &(phone.clone(), purpose), InDoubt::Fail, |known: Option<CodeRecord>| {
            go_on(known, code_id, from, |code| CodeRecord { state: to, expires_at, claim: None, ..code })
        })
        .await
    }

    async fn spend(&self, budget: &str, limit: u32, window: Duration, now: Timestamp) -> StoreResult<Spent> {
        // In doubt two units are taken: no window sees more than the limit.
        change(self, &budget.to_owned(), InDoubt::Repeat, |known: Option<Units>| {
            let mut spent_at = known.map(|units| units.spent_at).unwrap_or_default();
            spent_at.retain(|at| at.plus(window) > now);
            if let Some(oldest) = spent_at.len().checked_sub(limit as usize).and_then(|more| spent_at.get(more)) {
                return Step::Leave(Spent::Refused(oldest.plus(window)));
            }
            // In order also when the clock was put back.
            let last = spent_at.last().copied().unwrap_or(now).max(now);
            spent_at.push(last);
            let ends_at = last.plus(window);
            Step::Put(Units { spent_at, ends_at }, ends_at.since(now), Spent::Granted)
        })
        .await
    }

    async fn return_unit(&self, budget: &str, now: Timestamp) -> StoreResult<()> {
        change(self, &budget.to_owned(), InDoubt::Fail, |known: Option<Units>| {
            let Some(mut units) = known.filter(|units| units.ends_at > now) else { return Step::Leave(()) };
            units.spent_at.pop();
            let lives = units.ends_at.since(now);
            if units.spent_at.is_empty() { Step::Remove(()) } else { Step::Put(units, lives, ()) }
        })
        .await
    }

    async fn open_login_ticket(&self, user: UserId, expires_at: Timestamp) -> StoreResult<()> {
        change(self, &user, InDoubt::Fail, |_| Step::Put(LoginTicket { tries: 0, expires_at }, UNTOLD, ())).await
    }

    async fn claim_login_ticket(&self, user: UserId, limit: u32, now: Timestamp) -> StoreResult<bool> {
        change(self, &user, InDoubt::Repeat, |known: Option<LoginTicket>| match known {
            Some(LoginTicket { tries, expires_at }) if tries < limit && expires_at > now => {
                Step::Put(LoginTicket { tries: tries + 1, expires_at }, expires_at.since(now), true)
            }
            _ => Step::Leave(false),
        })
        .await
    }

    async fn close_login_ticket(&self, user: UserId) -> StoreResult<()> {
        change(self, &user, InDoubt::Repeat, |known: Option<LoginTicket>| if known.is_some() { Step::Remove(()) } else { Step::Leave(()) })
            .await
    }

    async fn put_socket_ticket(
        &self,
        hash: Bytes32,
        user: UserId,
        session: SessionId,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> StoreResult<()> {
        let row = (hash, user.0, session.0, expires_at.0, counted::ttl(expires_at.since(now)));
        self.insert_once(&self.statements.put_socket_ticket, row, &self.statements.socket_ticket, (hash,)).await
    }

    async fn take_socket_ticket(&self, hash: Bytes32, now: Timestamp) -> StoreResult<Option<(UserId, SessionId)>> {
        let found = self.row::<(Uuid, Uuid, i64)>(&self.statements.socket_ticket, (hash,)).await?;
        let Some((user, session, expires_at)) = found else { return Ok(None) };
        let is_ours = self.remove_once(&self.statements.remove_socket_ticket, &self.statements.socket_ticket, (hash,)).await?;
        Ok((is_ours && expires_at > now.0).then_some((UserId(user), SessionId(session))))
    }
}

impl Prepared<AuthStatements> {
    async fn find_session(&self, select: &PreparedStatement, user: UserId, id: SessionId) -> StoreResult<Option<Session>> {
        self.row::<SessionRow>(select, (user.0, id.0)).await?.map(|row| read_session(user, row)).transpose()
    }

    /// Writes a row that only this call can have written, if it is not there.
    async fn insert_once(
        &self,
        insert: &PreparedStatement,
        row: impl SerializeRow + Send + Sync,
        select: &PreparedStatement,
        key: impl SerializeRow + Send + Sync,
    ) -> StoreResult<()> {
        let Err(error) = self.apply(insert, row).await else { return Ok(()) };
        let is_done = matches!(error, StoreError::Unavailable(_)) && matches!(self.row::<Row>(select, key).await, Ok(Some(_)));
        if is_done { Ok(()) } else { Err(error) }
    }

    /// Removes a row that never comes back; whether this call has.
    async fn remove_once(
        &self,
        delete: &PreparedStatement,
        select: &PreparedStatement,
        key: impl SerializeRow + Copy + Send + Sync,
    ) -> StoreResult<bool> {
        let (mut tries, mut perhaps) = (Tries::new(), None);
        loop {
            let error = match self.apply(delete, key).await {
                Ok(true) => return Ok(true),
                // Gone, perhaps by the try before.
                Ok(false) => return perhaps.map_or(Ok(false), Err),
                Err(error @ StoreError::Unavailable(_)) => error,
                Err(error) => return Err(perhaps.unwrap_or(error)),
            };
            if !matches!(self.row::<Row>(select, key).await, Ok(Some(_))) {
                return Err(error);
            }
            perhaps = Some(error);
            tries.again().await?;
        }
    }
}

fn read_session(user_id: UserId, row: SessionRow) -> StoreResult<Session> {
    let (id, device, address, created_at, last_used_at, generation, secret_hash, login_epoch) = row;
    Ok(Session {
        user_id,
        id: SessionId(id),
        device,
        address,
        created_at: Timestamp(created_at),
        last_used_at: Timestamp(last_used_at),
        generation: generation as u32,
        secret_hash: counted::hash(&secret_hash)?,
        login_epoch,
    })
}

/// Writes this code. It stays for as long as a code of its kind lives in all, which is never too short.
fn put<T>(code: CodeRecord, answer: T) -> Step<CodeRecord, T> {
    let lives = code.expires_at.since(code.sent_at);
    Step::Put(code, lives, answer)
}

/// Takes a code on to what it becomes, if it is this one and in one of these states.
fn go_on(
    known: Option<CodeRecord>,
    code_id: Uuid,
    from: &[CodeState],
    become_of: impl FnOnce(CodeRecord) -> CodeRecord,
) -> Step<CodeRecord, bool> {
    match known {
        Some(code) if code.id == code_id && from.contains(&code.state) => put(become_of(code), true),
        _ => Step::Leave(false),
    }
}
