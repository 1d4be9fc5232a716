//! Rows of the log's tables to records and back.

use rusqlite::Row;
use rusqlite::types::Type;

use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, UserId};
use crate::log::numbers::{kind_of, role_of, state_of};
use crate::log::{Body, ConversationKind, Head, LogRow, Member, Membership};

pub fn read_row(row: &Row<'_>) -> rusqlite::Result<LogRow> {
    let (conversation_id, seq) = (ConversationId(row.get(0)?), row.get(1)?);
    Ok(LogRow {
        conversation_id,
        seq,
        message_id: MessageId(row.get(2)?),
        sender_id: UserId(row.get(3)?),
        n: row.get(4)?,
        total: row.get(5)?,
        target_seq: row.get(6)?,
        body: Body::read(row.get_ref(7)?.as_blob()?, conversation_id, seq),
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

pub fn read_kind(row: &Row<'_>, at: usize) -> rusqlite::Result<ConversationKind> {
    kind_of(row.get(at)?).map_err(|error| unreadable(at, error))
}

pub fn read_member(row: &Row<'_>) -> rusqlite::Result<Member> {
    Ok(Member {
        user_id: UserId(row.get(0)?),
        state: state_of(row.get(1)?).map_err(|error| unreadable(1, error))?,
        role: role_of(row.get(2)?).map_err(|error| unreadable(2, error))?,
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
        kind: read_kind(row, 1)?,
        large: row.get(2)?,
        peer_id: row.get::<_, Option<_>>(3)?.map(UserId),
        state: state_of(row.get(4)?).map_err(|error| unreadable(4, error))?,
        role: role_of(row.get(5)?).map_err(|error| unreadable(5, error))?,
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
