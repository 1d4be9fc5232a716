//! The statements of logins and codes, shaped after ScyllaDB: one partition a method, timestamps given by the caller.
//! What is counted or spent is claimed here by one conditional write, before anybody compares anything.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::code::{CodeRecord, CodeState, Purpose};
use super::keys::Bytes32;
use super::session::Session;
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::phone::Phone;
use crate::store::StoreResult;

/// What became of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The generation counts as used now, and the session as used at this time.
    Applied,
    /// A newer generation has been used before: nothing changed.
    Behind,
    /// There is no such session with this secret, or it lay unused for too long.
    Gone,
}

/// What became of a try at a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Try {
    /// One try is taken from the code; compare.
    Granted(CodeRecord),
    /// The code has none left.
    Exhausted(CodeRecord),
    /// There is no code that still lives.
    Absent,
}

/// What became of a claim on a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// One unit is taken.
    Granted,
    /// None is left before this time.
    Refused(Timestamp),
}

/// Logins, one-time codes, budgets and tickets.
///
/// An error other than `Full` of any write means: perhaps done.
#[async_trait]
pub trait AuthStore: Send + Sync + 'static {
    /// Writes a new session.
    async fn insert_session(&self, session: &Session) -> StoreResult<()>;

    /// One session, over or not.
    async fn session(&self, user: UserId, id: SessionId) -> StoreResult<Option<Session>>;

    /// All sessions of a person, over or not: one partition.
    async fn sessions(&self, user: UserId) -> StoreResult<Vec<Session>>;

    /// Uses a generation: if the session is there with this secret, was used at or after `unused_since`,
    /// and no newer generation was used, then `generation` becomes the used one and `now` the last use.
    async fn use_generation(
        &self,
        user: UserId,
        id: SessionId,
        secret_hash: Bytes32,
        generation: u32,
        unused_since: Timestamp,
        now: Timestamp,
    ) -> StoreResult<Refreshed>;

    /// Moves the last use of a session forward, if it is there; never back.
    async fn touch_session(&self, user: UserId, id: SessionId, now: Timestamp) -> StoreResult<()>;

    /// Removes a session for ever; whether it was there.
    async fn end_session(&self, user: UserId, id: SessionId) -> StoreResult<bool>;

    /// Puts a code in the place of the one before it, which is given back.
    async fn put_code(&self, phone: &Phone, purpose: Purpose, code: &CodeRecord) -> StoreResult<Option<CodeRecord>>;

    /// Takes this very code away again and puts the one before it back, as it was.
    async fn take_code_back(&self, phone: &Phone, purpose: Purpose, code_id: Uuid, before: Option<&CodeRecord>) -> StoreResult<()>;

    /// Takes one of `limit` tries from the living code, if there is one.
    async fn claim_try(&self, phone: &Phone, purpose: Purpose, limit: u32, now: Timestamp) -> StoreResult<Try>;

    /// Gives a try back to this very code: it was a right one.
    async fn return_try(&self, phone: &Phone, purpose: Purpose, code_id: Uuid) -> StoreResult<()>;

    /// Moves this very code from one of the states `from` to `to` on behalf of `claim`; one that is in `to` already stays there
    /// for the same claim. Whether the code is this claim's now.
    async fn claim_code(
        &self,
        phone: &Phone,
        purpose: Purpose,
        code_id: Uuid,
        from: &[CodeState],
        to: CodeState,
        claim: Bytes32,
    ) -> StoreResult<bool>;

    /// Moves this very code from one of the states `from` to `to`, to live until `expires_at`; whether it was in one of them.
    async fn advance_code(
        &self,
        phone: &Phone,
        purpose: Purpose,
        code_id: Uuid,
        from: &[CodeState],
        to: CodeState,
        expires_at: Timestamp,
    ) -> StoreResult<bool>;

    /// Takes a unit from a budget of which no stretch of time as long as `window` sees more than `limit` units.
    async fn spend(&self, budget: &str, limit: u32, window: Duration, now: Timestamp) -> StoreResult<Spent>;

    /// Gives the unit back that was taken last, if there is one that still counts.
    async fn return_unit(&self, budget: &str, now: Timestamp) -> StoreResult<()>;

    /// Opens the person's login ticket until `expires_at`, with all its tries.
    async fn open_login_ticket(&self, user: UserId, expires_at: Timestamp) -> StoreResult<()>;

    /// Takes one of `limit` tries from the person's login ticket; `false`: it is not open or has none left.
    async fn claim_login_ticket(&self, user: UserId, limit: u32, now: Timestamp) -> StoreResult<bool>;

    /// Closes the person's login ticket.
    async fn close_login_ticket(&self, user: UserId) -> StoreResult<()>;

    /// Writes a socket ticket. Those that are over by `now` go.
    async fn put_socket_ticket(
        &self,
        hash: Bytes32,
        user: UserId,
        session: SessionId,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> StoreResult<()>;

    /// Takes a socket ticket away: whom it was for, if it was there and not over. One caller gets it.
    async fn take_socket_ticket(&self, hash: Bytes32, now: Timestamp) -> StoreResult<Option<(UserId, SessionId)>>;
}
