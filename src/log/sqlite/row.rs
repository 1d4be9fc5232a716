//! Rows of the log's tables to records and back. Numbers stand for names, so that a renamed role changes no stored row.

use rusqlite::Row;
use rusqlite::types::Type;

use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, UserId};
use crate::log::{Body, ConversationKind, Head, LogRow, Member, MemberState, Membership, Role};

pub fn read_row(row: &Row<'_>) -> rusqlite::Result<LogRow> {
    let body = row.get_ref(7)?.as_blob()?;
    Ok(LogRow {
        conversation_id: ConversationId(row.get(0)?),
        seq: row.get(1)?,
        message_id: MessageId(row.get(2)?),
        sender_id: UserId(row.get(3)?),
        n: row.get(4)?,
        total: row.get(5)?,
        target_seq: row.get(6)?,
        body: serde_json::from_slice(body).map_err(|error| unreadable(7, error))?,
        created_at: Timestamp(row.get(8)?),
        updated_at: Timestamp(row.get(9)?),
        deleted_at: row.get::<_, Option<i64>>(10)?.map(Timestamp),
        version: row.get(11)?,
        change_seq: row.get(12)?,
        change_id: MessageId(row.get(13)?),
    })
}

pub fn read_head(row: &Row<'_>, at: usize) -> rusqlite::Result<Head> {
    Ok(Head {
        seq: row.get(at)?,
        n: row.get(at + 1)?,
        total: row.get(at + 2)?,
        message_seq: row.get(at + 3)?,
        at: Timestamp(row.get(at + 4)?),
    })
}

pub fn read_member(row: &Row<'_>) -> rusqlite::Result<Member> {
    Ok(Member {
        user_id: UserId(row.get(0)?),
        state: state_of(row.get(1)?)?,
        role: role_of(row.get(2)?)?,
        change_seq: row.get(3)?,
        joined_seq: row.get(4)?,
        joined_at: Timestamp(row.get(5)?),
        delivered_seq: row.get(6)?,
        delivered_at: Timestamp(row.get(7)?),
        read_seq: row.get(8)?,
        read_at: Timestamp(row.get(9)?),
    })
}

pub fn read_membership(row: &Row<'_>) -> rusqlite::Result<Membership> {
    Ok(Membership {
        conversation_id: ConversationId(row.get(0)?),
        kind: kind_of(row.get(1)?)?,
        large: row.get(2)?,
        peer_id: row.get::<_, Option<_>>(3)?.map(UserId),
        state: state_of(row.get(4)?)?,
        role: role_of(row.get(5)?)?,
        change_seq: row.get(6)?,
        joined_seq: row.get(7)?,
        head: read_head(row, 8)?,
        read_seq: row.get(13)?,
        read_n: row.get(14)?,
        peer_read_seq: row.get(15)?,
        peer_delivered_seq: row.get(16)?,
        cleared_seq: row.get(17)?,
        cleared_n: row.get(18)?,
        cleared_total: row.get(19)?,
        hidden_seq: row.get(20)?,
        muted: row.get(21)?,
        archived: row.get(22)?,
        favourite: row.get(23)?,
        flags_at: Timestamp(row.get(24)?),
    })
}

pub fn encode(body: &Body) -> rusqlite::Result<Vec<u8>> {
    serde_json::to_vec(body).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

pub fn unreadable(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
}

pub fn body_number(body: &Body) -> i64 {
    match body {
        Body::Created(_) => 1,
        Body::Message(_) => 2,
        Body::Edited => 3,
        Body::Deleted => 4,
        Body::Members(_) => 5,
        Body::Profile(_) => 6,
    }
}

pub fn kind_number(kind: ConversationKind) -> i64 {
    match kind {
        ConversationKind::Direct => 1,
        ConversationKind::Group => 2,
    }
}

pub fn kind_of(number: i64) -> rusqlite::Result<ConversationKind> {
    match number {
        1 => Ok(ConversationKind::Direct),
        2 => Ok(ConversationKind::Group),
        _ => Err(unreadable(0, format!("{number} is no kind of conversation"))),
    }
}

const STATES: [MemberState; 3] = [MemberState::Active, MemberState::Left, MemberState::Removed];

pub fn state_number(state: MemberState) -> i64 {
    STATES.iter().position(|known| *known == state).map_or(0, |at| at as i64 + 1)
}

pub fn state_of(number: i64) -> rusqlite::Result<MemberState> {
    let at = usize::try_from(number - 1).ok();
    at.and_then(|at| STATES.get(at)).copied().ok_or_else(|| unreadable(0, format!("{number} is no state of a member")))
}

const ROLES: [Role; 7] =
    [Role::Founder, Role::Accountant, Role::Moderator, Role::Recruiter, Role::Support, Role::Cheerleader, Role::Member];

pub fn role_number(role: Role) -> i64 {
    ROLES.iter().position(|known| *known == role).map_or(0, |at| at as i64 + 1)
}

pub fn role_of(number: i64) -> rusqlite::Result<Role> {
    let at = usize::try_from(number - 1).ok();
    at.and_then(|at| ROLES.get(at)).copied().ok_or_else(|| unreadable(0, format!("{number} is no role")))
}
