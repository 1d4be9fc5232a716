//! [`AuthStore`] on SQLite: statements and the mapping of rows, nothing else.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::code::{CodeRecord, CodeState, Purpose};
use super::keys::Bytes32;
use super::session::Session;
use super::store::{AuthStore, Refreshed, Spent, Try};
use crate::clock::Timestamp;
use crate::id::{SessionId, UserId};
use crate::phone::Phone;
use crate::store::{Sqlite, StoreResult};

const SELECT_SESSIONS: &str = "SELECT user_id, session_id, device, address, created_at, last_used_at, generation, secret_hash, login_epoch
    FROM sessions WHERE user_id = ?1";

#[async_trait]
impl AuthStore for Sqlite {
    async fn insert_session(&self, session: &Session) -> StoreResult<()> {
        let s = session.clone();
        self.write(move |c| {
            let insert = "INSERT INTO sessions (user_id, session_id, device, address, created_at, last_used_at, generation, secret_hash,
                login_epoch) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
            let generation = i64::from(s.generation);
            c.prepare_cached(insert)?.execute(params![
                key(s.user_id.0),
                key(s.id.0),
                s.device,
                s.address,
                s.created_at.0,
                s.last_used_at.0,
                generation,
                &s.secret_hash[..],
                s.login_epoch
            ])?;
            Ok(())
        })
        .await
    }

    async fn session(&self, user: UserId, id: SessionId) -> StoreResult<Option<Session>> {
        self.read(move |c| session(c, user, id)).await
    }

    async fn sessions(&self, user: UserId) -> StoreResult<Vec<Session>> {
        self.read(move |c| c.prepare_cached(SELECT_SESSIONS)?.query_map([key(user.0)], read_session)?.collect()).await
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
        self.write(move |c| {
            let update = "UPDATE sessions SET generation = ?5, last_used_at = max(last_used_at, ?6)
                WHERE user_id = ?1 AND session_id = ?2 AND secret_hash = ?3 AND last_used_at >= ?4 AND generation <= ?5";
            let changed = c.prepare_cached(update)?.execute(params![
                key(user.0),
                key(id.0),
                &secret_hash[..],
                unused_since.0,
                i64::from(generation),
                now.0
            ])?;
            if changed == 1 {
                return Ok(Refreshed::Applied);
            }
            let known = session(c, user, id)?.filter(|known| known.secret_hash == secret_hash && known.last_used_at >= unused_since);
            Ok(if known.is_some() { Refreshed::Behind } else { Refreshed::Gone })
        })
        .await
    }

    async fn touch_session(&self, user: UserId, id: SessionId, now: Timestamp) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("UPDATE sessions SET last_used_at = max(last_used_at, ?3) WHERE user_id = ?1 AND session_id = ?2")?
                .execute(params![key(user.0), key(id.0), now.0])?;
            Ok(())
        })
        .await
    }

    async fn end_session(&self, user: UserId, id: SessionId) -> StoreResult<bool> {
        self.write(move |c| {
            let delete = "DELETE FROM sessions WHERE user_id = ?1 AND session_id = ?2";
            Ok(c.prepare_cached(delete)?.execute(params![key(user.0), key(id.0)])? == 1)
        })
        .await
    }

    async fn put_code(&self, phone: &Phone, purpose: Purpose, code: &CodeRecord) -> StoreResult<Option<CodeRecord>> {
        let (phone, code) = (phone.as_str().to_owned(), code.clone());
        self.write(move |c| {
            c.prepare_cached("DELETE FROM one_time_codes WHERE expires_at < ?1")?.execute([code.sent_at.0])?;
            let before = code_of(c, &phone, purpose)?;
            put_code(c, &phone, purpose, &code)?;
            Ok(before)
        })
        .await
    }

    async fn take_code_back(&self, phone: &Phone, purpose: Purpose, code_id: Uuid, before: Option<&CodeRecord>) -> StoreResult<()> {
        let (phone, before) = (phone.as_str().to_owned(), before.cloned());
        self.write(move |c| {
            let delete = "DELETE FROM one_time_codes WHERE phone = ?1 AND purpose = ?2 AND code_id = ?3";
            let was_there = c.prepare_cached(delete)?.execute(params![phone, purpose as i64, key(code_id)])? == 1;
            match &before {
                Some(before) if was_there => put_code(c, &phone, purpose, before),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn claim_try(&self, phone: &Phone, purpose: Purpose, limit: u32, now: Timestamp) -> StoreResult<Try> {
        let phone = phone.as_str().to_owned();
        self.write(move |c| {
            let living = |code: &CodeRecord| code.expires_at > now && code.state != CodeState::Spent;
            let known = code_of(c, &phone, purpose)?.filter(living);
            let Some(code) = known else { return Ok(Try::Absent) };
            if code.tries >= limit {
                return Ok(Try::Exhausted(code));
            }
            c.prepare_cached("UPDATE one_time_codes SET tries = tries + 1 WHERE phone = ?1 AND purpose = ?2")?
                .execute(params![phone, purpose as i64])?;
            Ok(Try::Granted(code))
        })
        .await
    }

    async fn return_try(&self, phone: &Phone, purpose: Purpose, code_id: Uuid) -> StoreResult<()> {
        let phone = phone.as_str().to_owned();
        self.write(move |c| {
            let update = "UPDATE one_time_codes SET tries = tries - 1 WHERE phone = ?1 AND purpose = ?2 AND code_id = ?3 AND tries > 0";
            c.prepare_cached(update)?.execute(params![phone, purpose as i64, key(code_id)])?;
            Ok(())
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
        let (phone, from) = (phone.as_str().to_owned(), from.to_vec());
        self.write(move |c| {
            let update = "UPDATE one_time_codes SET state = ?5, claim = ?6
                WHERE phone = ?1 AND purpose = ?2 AND code_id = ?3 AND state = ?4 AND (state <> ?5 OR claim = ?6)";
            let mut statement = c.prepare_cached(update)?;
            for state in from.iter().chain([&to]) {
                if statement.execute(params![phone, purpose as i64, key(code_id), *state as i64, to as i64, &claim[..]])? == 1 {
                    return Ok(true);
                }
            }
            Ok(false)
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
        let (phone, from) = (phone.as_str().to_owned(), from.to_vec());
        self.write(move |c| {
            let update = "UPDATE one_time_codes SET state = ?5, expires_at = ?6, claim = NULL
                WHERE phone = ?1 AND purpose = ?2 AND code_id = ?3 AND state = ?4";
            let mut statement = c.prepare_cached(update)?;
            for state in &from {
                let row = params![phone, purpose as i64, key(code_id), *state as i64, to as i64, expires_at.0];
                if statement.execute(row)? == 1 {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    async fn spend(&self, budget: &str, limit: u32, window: Duration, now: Timestamp) -> StoreResult<Spent> {
        let budget = budget.to_owned();
        self.write(move |c| {
            c.prepare_cached("DELETE FROM budgets WHERE ends_at <= ?1")?.execute([now.0])?;
            let mut spent_at = spent_at(c, &budget)?;
            spent_at.retain(|at| at.plus(window) > now);
            if let Some(oldest) = spent_at.len().checked_sub(limit as usize).and_then(|more| spent_at.get(more)) {
                return Ok(Spent::Refused(oldest.plus(window)));
            }
            // In order also when the clock was put back.
            let last = spent_at.last().copied().unwrap_or(now).max(now);
            spent_at.push(last);
            c.prepare_cached("INSERT OR REPLACE INTO budgets (name, spent_at, ends_at) VALUES (?1, ?2, ?3)")?.execute(params![
                budget,
                to_bytes(&spent_at),
                last.plus(window).0
            ])?;
            Ok(Spent::Granted)
        })
        .await
    }

    async fn return_unit(&self, budget: &str, now: Timestamp) -> StoreResult<()> {
        let budget = budget.to_owned();
        self.write(move |c| {
            let mut spent_at = spent_at(c, &budget)?;
            if spent_at.pop().is_some() {
                c.prepare_cached("UPDATE budgets SET spent_at = ?2 WHERE name = ?1 AND ends_at > ?3")?.execute(params![
                    budget,
                    to_bytes(&spent_at),
                    now.0
                ])?;
            }
            Ok(())
        })
        .await
    }

    async fn open_login_ticket(&self, user: UserId, expires_at: Timestamp) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("INSERT OR REPLACE INTO login_tickets (user_id, tries, expires_at) VALUES (?1, 0, ?2)")?
                .execute(params![key(user.0), expires_at.0])?;
            Ok(())
        })
        .await
    }

    async fn claim_login_ticket(&self, user: UserId, limit: u32, now: Timestamp) -> StoreResult<bool> {
        self.write(move |c| {
            let update = "UPDATE login_tickets SET tries = tries + 1 WHERE user_id = ?1 AND tries < ?2 AND expires_at > ?3";
            Ok(c.prepare_cached(update)?.execute(params![key(user.0), limit, now.0])? == 1)
        })
        .await
    }

    async fn close_login_ticket(&self, user: UserId) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("DELETE FROM login_tickets WHERE user_id = ?1")?.execute([key(user.0)])?;
            Ok(())
        })
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
        self.write(move |c| {
            c.prepare_cached("DELETE FROM socket_tickets WHERE expires_at <= ?1")?.execute([now.0])?;
            let insert = "INSERT INTO socket_tickets (ticket_hash, user_id, session_id, expires_at) VALUES (?1, ?2, ?3, ?4)
                ON CONFLICT DO NOTHING";
            c.prepare_cached(insert)?.execute(params![&hash[..], key(user.0), key(session.0), expires_at.0])?;
            Ok(())
        })
        .await
    }

    async fn take_socket_ticket(&self, hash: Bytes32, now: Timestamp) -> StoreResult<Option<(UserId, SessionId)>> {
        self.write(move |c| {
            let delete = "DELETE FROM socket_tickets WHERE ticket_hash = ?1 RETURNING user_id, session_id, expires_at";
            let taken = c
                .prepare_cached(delete)?
                .query_row([&hash[..]], |row| Ok((UserId(id(row, 0)?), SessionId(id(row, 1)?), row.get::<_, i64>(2)?)))
                .optional()?;
            c.prepare_cached("DELETE FROM socket_tickets WHERE expires_at <= ?1")?.execute([now.0])?;
            Ok(taken.filter(|ticket| ticket.2 > now.0).map(|ticket| (ticket.0, ticket.1)))
        })
        .await
    }
}

fn session(c: &Connection, user: UserId, id: SessionId) -> rusqlite::Result<Option<Session>> {
    let select = "SELECT user_id, session_id, device, address, created_at, last_used_at, generation, secret_hash, login_epoch FROM sessions
        WHERE user_id = ?1 AND session_id = ?2";
    c.prepare_cached(select)?.query_row(params![key(user.0), key(id.0)], read_session).optional()
}

fn read_session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        user_id: UserId(id(row, 0)?),
        id: SessionId(id(row, 1)?),
        device: row.get(2)?,
        address: row.get(3)?,
        created_at: Timestamp(row.get(4)?),
        last_used_at: Timestamp(row.get(5)?),
        generation: row.get(6)?,
        secret_hash: row.get(7)?,
        login_epoch: row.get(8)?,
    })
}

fn code_of(c: &Connection, phone: &str, purpose: Purpose) -> rusqlite::Result<Option<CodeRecord>> {
    let select =
        "SELECT code_id, code_hash, sent_at, expires_at, tries, state, claim FROM one_time_codes WHERE phone = ?1 AND purpose = ?2";
    c.prepare_cached(select)?.query_row(params![phone, purpose as i64], read_code).optional()
}

fn put_code(c: &Connection, phone: &str, purpose: Purpose, code: &CodeRecord) -> rusqlite::Result<()> {
    let insert = "INSERT OR REPLACE INTO one_time_codes (phone, purpose, code_id, code_hash, sent_at, expires_at, tries, state, claim)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    c.prepare_cached(insert)?.execute(params![
        phone,
        purpose as i64,
        key(code.id),
        &code.hash[..],
        code.sent_at.0,
        code.expires_at.0,
        code.tries,
        code.state as i64,
        code.claim.as_ref().map(|claim| &claim[..])
    ])?;
    Ok(())
}

/// When the units of a budget were spent, the oldest first.
fn spent_at(c: &Connection, budget: &str) -> rusqlite::Result<Vec<Timestamp>> {
    let bytes: Option<Vec<u8>> =
        c.prepare_cached("SELECT spent_at FROM budgets WHERE name = ?1")?.query_row([budget], |row| row.get(0)).optional()?;
    let (times, _) = bytes.as_deref().unwrap_or_default().as_chunks::<8>();
    Ok(times.iter().map(|time| Timestamp(i64::from_le_bytes(*time))).collect())
}

fn to_bytes(times: &[Timestamp]) -> Vec<u8> {
    times.iter().flat_map(|time| time.0.to_le_bytes()).collect()
}

fn read_code(row: &Row<'_>) -> rusqlite::Result<CodeRecord> {
    let state = match row.get::<_, i64>(5)? {
        0 => CodeState::Fresh,
        1 => CodeState::Verified,
        2 => CodeState::Spent,
        3 => CodeState::Verifying,
        4 => CodeState::Claimed,
        other => return Err(rusqlite::Error::IntegralValueOutOfRange(5, other)),
    };
    Ok(CodeRecord {
        id: id(row, 0)?,
        hash: row.get(1)?,
        sent_at: Timestamp(row.get(2)?),
        expires_at: Timestamp(row.get(3)?),
        tries: row.get(4)?,
        state,
        claim: row.get(6)?,
    })
}

fn key(id: Uuid) -> [u8; 16] {
    id.into_bytes()
}

fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}
