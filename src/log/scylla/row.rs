//! Rows of the log's tables to records and back. A row that has marks alone, and no change of a member, is none yet.

use scylla::value::MaybeUnset;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::log::numbers::{body_number, kind_of, role_of, state_of};
use crate::log::{Body, ConversationRecord, Head, LogRow, Member, Membership, bucket_of};
use crate::store::{StoreError, StoreResult};

/// A row of `messages`, in the order of its statement. Whatever cells are empty, it has a place: a log has no gap.
pub type RowTuple = (
    Uuid,
    i64,
    Option<Uuid>,
    Option<Uuid>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<Vec<u8>>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<Uuid>,
);

pub fn log_row(row: RowTuple) -> LogRow {
    let (conversation, seq, message, sender, n, total, target_seq, body, created, updated, deleted, version, change_seq, change) = row;
    let numbers = [n, total, created, updated, version, change_seq];
    let is_whole = numbers.iter().all(Option::is_some) && [message, sender, change].iter().all(Option::is_some);
    // Without its body too it is reported as one that cannot be read.
    let body = body.filter(|_| is_whole).unwrap_or_default();
    let [n, total, created, updated, version, change_seq] = numbers.map(Option::unwrap_or_default);
    LogRow {
        conversation_id: ConversationId(conversation),
        seq,
        message_id: MessageId(message.unwrap_or_default()),
        sender_id: UserId(sender.unwrap_or_default()),
        n,
        total,
        target_seq,
        body: Body::read(&body, ConversationId(conversation), seq),
        created_at: Timestamp(created),
        updated_at: Timestamp(updated),
        deleted_at: deleted.map(Timestamp),
        version,
        change_seq,
        change_id: MessageId(change.unwrap_or_default()),
    }
}

pub fn encode(row: &LogRow) -> StoreResult<Vec<u8>> {
    serde_json::to_vec(&row.body).map_err(|error| StoreError::Statement(Box::new(error)))
}

type Cell = MaybeUnset<i64>;
pub type RowValues<'a> = (Uuid, i64, Seq, Uuid, i32, Uuid, i64, i64, Cell, &'a [u8], i64, i64, Cell, i64, Seq, Uuid);

/// What an insert binds.
pub fn row_values<'a>(row: &LogRow, body: &'a [u8]) -> RowValues<'a> {
    (
        row.conversation_id.0,
        bucket_of(row.seq),
        row.seq,
        row.message_id.0,
        body_number(&row.body),
        row.sender_id.0,
        row.n,
        row.total,
        MaybeUnset::from_option(row.target_seq),
        body,
        row.created_at.0,
        row.updated_at.0,
        MaybeUnset::from_option(row.deleted_at.map(|at| at.0)),
        row.version,
        row.change_seq,
        row.change_id.0,
    )
}

/// What a rewrite binds.
pub fn rewrite_values<'a>(row: &LogRow, body: &'a [u8]) -> (&'a [u8], i64, Cell, i64, Seq, Uuid, Uuid, i64, Seq, i64) {
    (
        body,
        row.updated_at.0,
        MaybeUnset::from_option(row.deleted_at.map(|at| at.0)),
        row.version,
        row.change_seq,
        row.change_id.0,
        row.conversation_id.0,
        bucket_of(row.seq),
        row.seq,
        row.version - 1,
    )
}

/// A row of `conversations`, in the order of its statement.
pub type ConversationRow = (
    Option<i32>,
    Option<Uuid>,
    Option<i64>,
    Option<String>,
    Option<bool>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

pub fn conversation(row: ConversationRow) -> StoreResult<Option<ConversationRecord>> {
    let (kind, created_by, created_at, profile, large, last_seq, last_n, last_total, last_message_seq, last_at, indexed_seq) = row;
    let (Some(kind), Some(created_by), Some(created_at), Some(profile)) = (kind, created_by, created_at, profile) else {
        return Ok(None);
    };
    Ok(Some(ConversationRecord {
        kind: kind_of(kind).map_err(StoreError::Corrupt)?,
        created_by: UserId(created_by),
        created_at: Timestamp(created_at),
        profile: serde_json::from_str(&profile).map_err(|error| StoreError::Corrupt(format!("a conversation's profile: {error}")))?,
        large: large.unwrap_or(false),
        head: head(last_seq, last_n, last_total, last_message_seq, last_at),
        indexed_seq: indexed_seq.unwrap_or(0),
    }))
}

fn head(seq: Option<i64>, n: Option<i64>, total: Option<i64>, message_seq: Option<i64>, at: Option<i64>) -> Head {
    let [seq, n, total, message_seq, at] = [seq, n, total, message_seq, at].map(|cell| cell.unwrap_or(0));
    Head { seq, n, total, message_seq, at: Timestamp(at) }
}

/// A row of `members`, in the order of its statement.
pub type MemberRow =
    (Uuid, Option<i32>, Option<i32>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

pub fn member(row: MemberRow) -> StoreResult<Option<Member>> {
    let (user, state, role, change_seq, joined_seq, joined_at, delivered_seq, delivered_at, read_seq, read_at) = row;
    let (Some(state), Some(role), Some(change_seq)) = (state, role, change_seq) else { return Ok(None) };
    Ok(Some(Member {
        user_id: UserId(user),
        state: state_of(state).map_err(StoreError::Corrupt)?,
        role: role_of(role).map_err(StoreError::Corrupt)?,
        change_seq,
        joined_seq: joined_seq.unwrap_or(0),
        joined_at: Timestamp(joined_at.unwrap_or(0)),
        delivered_seq: delivered_seq.unwrap_or(0),
        delivered_at: Timestamp(delivered_at.unwrap_or(0)),
        read_seq: read_seq.unwrap_or(0),
        read_at: Timestamp(read_at.unwrap_or(0)),
    }))
}

/// A row of `memberships`, by the names of its columns.
#[derive(scylla::DeserializeRow)]
pub struct MembershipRow {
    conversation_id: Uuid,
    kind: Option<i32>,
    large: Option<bool>,
    peer_id: Option<Uuid>,
    state: Option<i32>,
    role: Option<i32>,
    change_seq: Option<i64>,
    joined_seq: Option<i64>,
    last_seq: Option<i64>,
    last_n: Option<i64>,
    last_total: Option<i64>,
    last_message_seq: Option<i64>,
    last_at: Option<i64>,
    read_seq: Option<i64>,
    read_n: Option<i64>,
    peer_read_seq: Option<i64>,
    peer_delivered_seq: Option<i64>,
    cleared_seq: Option<i64>,
    cleared_n: Option<i64>,
    cleared_total: Option<i64>,
    hidden_seq: Option<i64>,
    muted: Option<bool>,
    archived: Option<bool>,
    favourite: Option<bool>,
    muted_us: Option<i64>,
    archived_us: Option<i64>,
    favourite_us: Option<i64>,
}

impl MembershipRow {
    /// Which conversation it is of.
    pub fn conversation(&self) -> ConversationId {
        ConversationId(self.conversation_id)
    }
}

pub fn membership(row: &MembershipRow) -> StoreResult<Option<Membership>> {
    let (Some(kind), Some(state), Some(role), Some(change_seq)) = (row.kind, row.state, row.role, row.change_seq) else {
        return Ok(None);
    };
    let flags_us = [row.muted_us, row.archived_us, row.favourite_us].into_iter().flatten().max();
    Ok(Some(Membership {
        conversation_id: ConversationId(row.conversation_id),
        kind: kind_of(kind).map_err(StoreError::Corrupt)?,
        large: row.large.unwrap_or(false),
        peer_id: row.peer_id.map(UserId),
        state: state_of(state).map_err(StoreError::Corrupt)?,
        role: role_of(role).map_err(StoreError::Corrupt)?,
        change_seq,
        joined_seq: row.joined_seq.unwrap_or(0),
        head: head(row.last_seq, row.last_n, row.last_total, row.last_message_seq, row.last_at),
        read_seq: row.read_seq.unwrap_or(0),
        read_n: row.read_n.unwrap_or(0),
        peer_read_seq: row.peer_read_seq.unwrap_or(0),
        peer_delivered_seq: row.peer_delivered_seq.unwrap_or(0),
        cleared_seq: row.cleared_seq.unwrap_or(0),
        cleared_n: row.cleared_n.unwrap_or(0),
        cleared_total: row.cleared_total.unwrap_or(0),
        hidden_seq: row.hidden_seq.unwrap_or(0),
        muted: row.muted.unwrap_or(false),
        archived: row.archived.unwrap_or(false),
        favourite: row.favourite.unwrap_or(false),
        flags_at: Timestamp(flags_us.unwrap_or(0) / 1_000),
    }))
}
