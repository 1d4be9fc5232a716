//! Statements that more than one method of the log's store is made of.

use rusqlite::{Connection, OptionalExtension, params};

use super::ROW;
use super::row::{encode, read_row};
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::log::numbers::{body_number, kind_number, role_number, state_number};
use crate::log::{Cleared, ConversationKind, Head, Location, LogRow, Member, MemberState, OwnMark, bucket_of};

pub fn insert_row(connection: &Connection, row: &LogRow) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO messages (bucket, kind, {ROW}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        bucket_of(row.seq),
        body_number(&row.body),
        row.conversation_id.0,
        row.seq,
        row.message_id.0,
        row.sender_id.0,
        row.n,
        row.total,
        row.target_seq,
        encode(&row.body)?,
        row.created_at.0,
        row.updated_at.0,
        row.deleted_at.map(|at| at.0),
        row.version,
        row.change_seq,
        row.change_id.0
    ])?;
    Ok(())
}

pub fn select_location(connection: &Connection, message: MessageId) -> rusqlite::Result<Option<Location>> {
    connection
        .prepare_cached("SELECT conversation_id, floor_seq FROM message_locations WHERE message_id = ?1")?
        .query_row([message.0], |row| Ok(Location { conversation_id: ConversationId(row.get(0)?), floor_seq: row.get(1)? }))
        .optional()
}

pub fn locate(connection: &Connection, message: MessageId, location: &Location) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO message_locations (message_id, conversation_id, floor_seq) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET floor_seq = excluded.floor_seq",
        )?
        .execute(params![message.0, location.conversation_id.0, location.floor_seq])?;
    Ok(())
}

/// Moves a membership's head, and its owner's read mark if the last row is his own: one statement for both.
pub fn move_head(connection: &Connection, user: UserId, id: ConversationId, head: &Head, own: Option<&OwnMark>) -> rusqlite::Result<()> {
    let (read_seq, read_n) = own.map_or((0, 0), |mark| (mark.seq, mark.n));
    connection
        .prepare_cached(
            "INSERT INTO memberships (user_id, conversation_id, last_seq, last_n, last_total, last_message_seq, last_at, read_seq, read_n)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO UPDATE SET
                 last_n = iif(excluded.last_seq > last_seq, excluded.last_n, last_n),
                 last_total = iif(excluded.last_seq > last_seq, excluded.last_total, last_total),
                 last_message_seq = iif(excluded.last_seq > last_seq, excluded.last_message_seq, last_message_seq),
                 last_at = iif(excluded.last_seq > last_seq, excluded.last_at, last_at),
                 last_seq = max(last_seq, excluded.last_seq),
                 read_n = iif(excluded.read_seq > read_seq, excluded.read_n, read_n),
                 read_seq = max(read_seq, excluded.read_seq)
             WHERE excluded.last_seq > last_seq OR excluded.read_seq > read_seq",
        )?
        .execute(params![user.0, id.0, head.seq, head.n, head.total, head.message_seq, head.at.0, read_seq, read_n])?;
    Ok(())
}

pub fn put_head(connection: &Connection, id: ConversationId, head: &Head) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO conversations (id, last_seq, last_n, last_total, last_message_seq, last_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET last_seq = excluded.last_seq, last_n = excluded.last_n, last_total = excluded.last_total,
                 last_message_seq = excluded.last_message_seq, last_at = excluded.last_at
             WHERE excluded.last_seq > last_seq",
        )?
        .execute(params![id.0, head.seq, head.n, head.total, head.message_seq, head.at.0])?;
    Ok(())
}

pub fn put_member(connection: &Connection, id: ConversationId, member: &Member) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO members (conversation_id, user_id, state, role, change_seq, joined_seq, joined_at, delivered_seq, read_seq)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO UPDATE SET state = excluded.state, role = excluded.role, change_seq = excluded.change_seq,
                 joined_seq = excluded.joined_seq, joined_at = excluded.joined_at,
                 delivered_seq = max(delivered_seq, excluded.delivered_seq), read_seq = max(read_seq, excluded.read_seq)
             WHERE excluded.change_seq > change_seq",
        )?
        .execute(params![
            id.0,
            member.user_id.0,
            state_number(member.state),
            role_number(member.role),
            member.change_seq,
            member.joined_seq,
            member.joined_at.0,
            member.delivered_seq,
            member.read_seq
        ])?;
    Ok(())
}

pub fn move_read_mark(connection: &Connection, user: UserId, id: ConversationId, seq: Seq, n: i64) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO memberships (user_id, conversation_id, read_seq, read_n) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET read_seq = excluded.read_seq, read_n = excluded.read_n WHERE excluded.read_seq > read_seq",
        )?
        .execute(params![user.0, id.0, seq, n])?;
    Ok(())
}

pub fn put_membership(
    connection: &Connection,
    id: ConversationId,
    kind: ConversationKind,
    large: bool,
    peer: Option<UserId>,
    member: &Member,
    cleared: &Cleared,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO memberships (user_id, conversation_id, kind, large, peer_id, state, role, change_seq, joined_seq)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT DO UPDATE SET kind = excluded.kind, large = max(large, excluded.large),
                 peer_id = coalesce(excluded.peer_id, peer_id), state = excluded.state, role = excluded.role,
                 change_seq = excluded.change_seq, joined_seq = excluded.joined_seq
             WHERE excluded.change_seq > change_seq",
        )?
        .execute(params![
            member.user_id.0,
            id.0,
            kind_number(kind),
            large,
            peer.map(|peer| peer.0),
            state_number(member.state),
            role_number(member.role),
            member.change_seq,
            member.joined_seq
        ])?;
    if member.joined_seq == member.change_seq && member.state == MemberState::Active {
        connection
            .prepare_cached(
                "UPDATE memberships SET cleared_seq = max(cleared_seq, ?3), cleared_n = max(cleared_n, ?4),
                     cleared_total = max(cleared_total, ?5), read_seq = max(read_seq, ?3), read_n = max(read_n, ?4)
                 WHERE user_id = ?1 AND conversation_id = ?2",
            )?
            .execute(params![member.user_id.0, id.0, cleared.seq, cleared.n, cleared.total])?;
    }
    Ok(())
}

/// Whether a row stands at this place.
pub fn is_taken(connection: &Connection, conversation: ConversationId, seq: Seq) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM messages WHERE conversation_id = ?1 AND bucket = ?2 AND seq = ?3")?.exists(params![
        conversation.0,
        bucket_of(seq),
        seq
    ])
}

pub fn select_row(connection: &Connection, conversation: ConversationId, seq: Seq) -> rusqlite::Result<Option<LogRow>> {
    let sql = format!("SELECT {ROW} FROM messages WHERE conversation_id = ?1 AND bucket = ?2 AND seq = ?3");
    connection.prepare_cached(&sql)?.query_row(params![conversation.0, bucket_of(seq), seq], read_row).optional()
}
