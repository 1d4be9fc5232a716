//! The log's statements on SQLite: one statement a promise of [`LogStore`], no rule of the log.
//! Conditions are `ON CONFLICT DO NOTHING` and `WHERE version = ?`; monotone cells are `max()`.

mod row;
mod statement;

use async_trait::async_trait;
use row::{encode, read_head, read_kind, read_member, read_membership, read_row, unreadable};
use rusqlite::{OptionalExtension, Row, params};
use statement::{
    insert_row, is_taken, locate, move_head, move_read_mark, put_head, put_member, put_membership, select_location, select_row,
};

use super::numbers::kind_number;
use super::spoilt::readable;
use super::store::{Insert, LogStore, MemberMark, OwnMark, Rewrite, Rewritten, Whole, WholeAppend};
use super::{BUCKET_ROWS, Cleared, ConversationKind, ConversationRecord, Flags, Head, Location, LogRow, Member, Membership, bucket_of};
use crate::clock::Timestamp;
use crate::id::{ConversationId, MessageId, Seq, UserId};
use crate::store::{Sqlite, StoreResult};

const ROW: &str = "conversation_id, seq, message_id, sender_id, n, total, target_seq, body, created_at, updated_at, deleted_at, version, \
                   change_seq, change_id";

const MEMBERSHIP: &str = "conversation_id, kind, large, peer_id, state, role, change_seq, joined_seq, last_seq, last_n, last_total, \
                          last_message_seq, last_at, read_seq, read_n, peer_read_seq, peer_delivered_seq, cleared_seq, cleared_n, \
                          cleared_total, hidden_seq, muted, archived, favourite,
                          max(muted_at, archived_at, favourite_at)";

const MEMBER: &str = "user_id, state, role, change_seq, joined_seq, joined_at, delivered_seq, delivered_at, read_seq, read_at";

#[async_trait]
impl LogStore for Sqlite {
    async fn insert_rows(&self, rows: &[LogRow]) -> StoreResult<Insert> {
        let rows = rows.to_vec();
        self.write(move |connection| {
            let Some(first) = rows.first() else { return Ok(Insert::Applied) };
            if let Some(row) = select_row(connection, first.conversation_id, first.seq)? {
                return Ok(Insert::Exists(Box::new(row)));
            }
            for row in &rows {
                insert_row(connection, row)?;
            }
            Ok(Insert::Applied)
        })
        .await
    }

    async fn append_whole(&self, append: &WholeAppend) -> StoreResult<Whole> {
        let append = append.clone();
        self.write(move |connection| {
            let Some(first) = append.rows.first() else { return Ok(Whole::Applied) };
            let id = first.conversation_id;
            if is_taken(connection, id, first.seq)? {
                return Ok(Whole::Refused);
            }
            for message in &append.may_exist {
                if select_location(connection, *message)?.is_some() {
                    return Ok(Whole::Refused);
                }
            }
            let location = Location { conversation_id: id, floor_seq: append.floor_seq };
            for row in &append.rows {
                locate(connection, row.message_id, &location)?;
                insert_row(connection, row)?;
            }
            for user in append.members.iter() {
                let own = append.own.iter().find(|mark| mark.user_id == *user);
                move_head(connection, *user, id, &append.head, own)?;
            }
            for mark in append.own.iter().filter(|mark| !append.members.contains(&mark.user_id)) {
                move_read_mark(connection, mark.user_id, id, mark.seq, mark.n)?;
            }
            put_head(connection, id, &append.head)?;
            Ok(Whole::Applied)
        })
        .await
    }

    async fn rewrite_row(&self, rewrite: &Rewrite) -> StoreResult<Rewritten> {
        let Rewrite { target, notice } = rewrite.clone();
        self.write(move |connection| {
            let stored = select_row(connection, target.conversation_id, target.seq)?;
            let taken = match &notice {
                Some(notice) => select_row(connection, notice.conversation_id, notice.seq)?,
                None => None,
            };
            let expected = stored.as_ref().is_some_and(|row| row.version + 1 == target.version);
            if !expected || taken.is_some() {
                return Ok(Rewritten::Refused { target: stored.map(Box::new), taken: taken.map(Box::new) });
            }
            connection
                .prepare_cached(
                    "UPDATE messages SET body = ?4, updated_at = ?5, deleted_at = ?6, version = ?7, change_seq = ?8, change_id = ?9
                     WHERE conversation_id = ?1 AND bucket = ?2 AND seq = ?3",
                )?
                .execute(params![
                    target.conversation_id.0,
                    bucket_of(target.seq),
                    target.seq,
                    encode(&target.body)?,
                    target.updated_at.0,
                    target.deleted_at.map(|at| at.0),
                    target.version,
                    target.change_seq,
                    target.change_id.0
                ])?;
            if let Some(notice) = &notice {
                insert_row(connection, notice)?;
            }
            Ok(Rewritten::Applied)
        })
        .await
    }

    async fn rows_after(&self, conversation: ConversationId, after: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT {ROW} FROM messages WHERE conversation_id = ?1 AND bucket = ?2 AND seq > ?3 AND seq < ?4 ORDER BY seq LIMIT ?5"
            );
            let bucket = bucket_of(after.saturating_add(1));
            connection
                .prepare_cached(&sql)?
                .query_map(params![conversation.0, bucket, after, (bucket + 1).saturating_mul(BUCKET_ROWS), limit as i64], read_row)?
                .collect()
        })
        .await
    }

    async fn rows_before(&self, conversation: ConversationId, before: Seq, limit: usize) -> StoreResult<Vec<LogRow>> {
        self.read(move |connection| {
            let sql = format!(
                "SELECT {ROW} FROM messages WHERE conversation_id = ?1 AND bucket = ?2 AND seq < ?3 ORDER BY bucket DESC, seq DESC LIMIT ?4"
            );
            connection
                .prepare_cached(&sql)?
                .query_map(params![conversation.0, bucket_of(before.saturating_sub(1)), before, limit as i64], read_row)?
                .collect()
        })
        .await
    }

    async fn row(&self, conversation: ConversationId, seq: Seq) -> StoreResult<Option<LogRow>> {
        self.read(move |connection| select_row(connection, conversation, seq)).await
    }

    async fn location(&self, message: MessageId) -> StoreResult<Option<Location>> {
        self.read(move |connection| select_location(connection, message)).await
    }

    async fn put_locations(&self, messages: &[MessageId], location: &Location) -> StoreResult<()> {
        let (messages, location) = (messages.to_vec(), *location);
        self.write(move |connection| messages.iter().try_for_each(|message| locate(connection, *message, &location))).await
    }

    async fn conversation(&self, id: ConversationId) -> StoreResult<Option<ConversationRecord>> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT kind, created_by, created_at, profile, large, last_seq, last_n, last_total, last_message_seq, last_at, indexed_seq
                     FROM conversations WHERE id = ?1 AND kind IS NOT NULL",
                )?
                .query_row([id.0], |row| {
                    let profile: String = row.get(3)?;
                    Ok(ConversationRecord {
                        kind: read_kind(row, 0)?,
                        created_by: UserId(row.get(1)?),
                        created_at: Timestamp(row.get(2)?),
                        profile: serde_json::from_str(&profile).map_err(|error| unreadable(3, error))?,
                        large: row.get(4)?,
                        head: read_head(row, 5)?,
                        indexed_seq: row.get(10)?,
                    })
                })
                .optional()
        })
        .await
    }

    async fn put_conversation(&self, id: ConversationId, record: &ConversationRecord, seq: Seq) -> StoreResult<()> {
        let record = record.clone();
        self.write(move |connection| {
            let profile = serde_json::to_string(&record.profile).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            connection
                .prepare_cached(
                    "INSERT INTO conversations (id, kind, created_by, created_at, profile, profile_seq, large) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                     ON CONFLICT DO UPDATE SET kind = excluded.kind, created_by = excluded.created_by, created_at = excluded.created_at,
                         profile = CASE WHEN excluded.profile_seq >= profile_seq OR kind IS NULL THEN excluded.profile ELSE profile END,
                         large = max(large, excluded.large),
                         profile_seq = max(profile_seq, excluded.profile_seq)",
                )?
                .execute(params![
                    id.0,
                    kind_number(record.kind),
                    record.created_by.0,
                    record.created_at.0,
                    profile,
                    seq,
                    record.large
                ])?;
            Ok(())
        })
        .await
    }

    async fn mark_large(&self, id: ConversationId, members: &[UserId]) -> StoreResult<()> {
        let members = members.to_vec();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO memberships (user_id, conversation_id, large) VALUES (?1, ?2, 1) ON CONFLICT DO UPDATE SET large = 1",
            )?;
            for user in &members {
                statement.execute(params![user.0, id.0])?;
            }
            connection
                .prepare_cached("INSERT INTO conversations (id, large) VALUES (?1, 1) ON CONFLICT DO UPDATE SET large = 1")?
                .execute([id.0])?;
            Ok(())
        })
        .await
    }

    async fn advance_heads(&self, id: ConversationId, head: &Head, members: &[UserId], own: &[OwnMark]) -> StoreResult<()> {
        let (head, members, own) = (*head, members.to_vec(), own.to_vec());
        self.write(move |connection| {
            for user in &members {
                let own = own.iter().find(|mark| mark.user_id == *user);
                move_head(connection, *user, id, &head, own)?;
            }
            for mark in own.iter().filter(|mark| !members.contains(&mark.user_id)) {
                move_read_mark(connection, mark.user_id, id, mark.seq, mark.n)?;
            }
            put_head(connection, id, &head)?;
            Ok(())
        })
        .await
    }

    async fn mark_indexed(&self, id: ConversationId, seq: Seq) -> StoreResult<()> {
        self.write(move |connection| {
            connection
                .prepare_cached("UPDATE conversations SET indexed_seq = max(indexed_seq, ?2) WHERE id = ?1")?
                .execute(params![id.0, seq])?;
            Ok(())
        })
        .await
    }

    async fn unindexed(&self, after: Option<ConversationId>, limit: usize) -> StoreResult<Vec<ConversationId>> {
        self.read(move |connection| {
            let after = after.map_or_else(Vec::new, |id| id.0.as_bytes().to_vec());
            connection
                .prepare_cached("SELECT id FROM conversations WHERE indexed_seq < last_seq AND id > ?1 ORDER BY id LIMIT ?2")?
                .query_map(params![after, limit as i64], |row| row.get(0).map(ConversationId))?
                .collect()
        })
        .await
    }

    async fn members(&self, id: ConversationId, after: Option<UserId>, limit: usize) -> StoreResult<Vec<Member>> {
        self.read(move |connection| {
            let after = after.map_or_else(Vec::new, |user| user.0.as_bytes().to_vec());
            let sql =
                format!("SELECT {MEMBER} FROM members WHERE conversation_id = ?1 AND user_id > ?2 AND change_seq > 0 ORDER BY user_id");
            let mut statement = connection.prepare_cached(&sql)?;
            let members = statement.query_map(params![id.0, after], |row| Ok(readable("members", id, read_member(row))))?;
            members.filter_map(Result::transpose).take(limit).collect()
        })
        .await
    }

    async fn member(&self, id: ConversationId, user: UserId) -> StoreResult<Option<Member>> {
        self.read(move |connection| {
            let sql = format!("SELECT {MEMBER} FROM members WHERE conversation_id = ?1 AND user_id = ?2 AND change_seq > 0");
            connection.prepare_cached(&sql)?.query_row(params![id.0, user.0], read_member).optional()
        })
        .await
    }

    async fn put_members(&self, id: ConversationId, record: &ConversationRecord, changes: &[Member], cleared: &Cleared) -> StoreResult<()> {
        let (kind, large, changes, cleared) = (record.kind, record.large, changes.to_vec(), *cleared);
        self.write(move |connection| {
            for member in &changes {
                put_member(connection, id, member)?;
                let peer = match (kind, changes.as_slice()) {
                    (ConversationKind::Direct, [a, b]) => Some(if a.user_id == member.user_id { b.user_id } else { a.user_id }),
                    _ => None,
                };
                put_membership(connection, id, kind, large, peer, member, &cleared)?;
            }
            Ok(())
        })
        .await
    }

    async fn mark_members(&self, id: ConversationId, marks: &[MemberMark], at: Timestamp) -> StoreResult<()> {
        let marks = marks.to_vec();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO members (conversation_id, user_id, delivered_seq, delivered_at, read_seq, read_at)
                 VALUES (?1, ?2, ?3, ?5, ?4, iif(?4 > 0, ?5, 0))
                 ON CONFLICT DO UPDATE SET
                     delivered_at = iif(excluded.delivered_seq > delivered_seq, excluded.delivered_at, delivered_at),
                     delivered_seq = max(delivered_seq, excluded.delivered_seq),
                     read_at = iif(excluded.read_seq > read_seq, excluded.read_at, read_at),
                     read_seq = max(read_seq, excluded.read_seq)
                 WHERE excluded.delivered_seq > delivered_seq OR excluded.read_seq > read_seq",
            )?;
            let mut of_peer = connection.prepare_cached(
                "INSERT INTO memberships (user_id, conversation_id, peer_delivered_seq, peer_read_seq) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET peer_delivered_seq = max(peer_delivered_seq, excluded.peer_delivered_seq),
                     peer_read_seq = max(peer_read_seq, excluded.peer_read_seq)",
            )?;
            for mark in &marks {
                statement.execute(params![id.0, mark.user_id.0, mark.delivered_seq, mark.read_seq, at.0])?;
                if let Some(peer) = mark.peer {
                    of_peer.execute(params![peer.0, id.0, mark.delivered_seq, mark.read_seq])?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn memberships(&self, user: UserId) -> StoreResult<Vec<Membership>> {
        self.read(move |connection| {
            let sql = format!("SELECT {MEMBERSHIP} FROM memberships WHERE user_id = ?1 AND change_seq > 0");
            let mut statement = connection.prepare_cached(&sql)?;
            let read = |row: &Row<'_>| Ok(readable("memberships", ConversationId(row.get(0)?), read_membership(row)));
            statement.query_map([user.0], read)?.filter_map(Result::transpose).collect()
        })
        .await
    }

    async fn membership(&self, user: UserId, id: ConversationId) -> StoreResult<Option<Membership>> {
        self.read(move |connection| {
            let sql = format!("SELECT {MEMBERSHIP} FROM memberships WHERE user_id = ?1 AND conversation_id = ?2 AND change_seq > 0");
            connection.prepare_cached(&sql)?.query_row(params![user.0, id.0], read_membership).optional()
        })
        .await
    }

    async fn mark_read(&self, user: UserId, id: ConversationId, seq: Seq, n: i64) -> StoreResult<()> {
        self.write(move |connection| move_read_mark(connection, user, id, seq, n)).await
    }

    async fn clear(&self, user: UserId, id: ConversationId, cleared: &Cleared) -> StoreResult<()> {
        let cleared = *cleared;
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO memberships (user_id, conversation_id, cleared_seq, cleared_n, cleared_total) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT DO UPDATE SET cleared_seq = excluded.cleared_seq, cleared_n = excluded.cleared_n,
                         cleared_total = excluded.cleared_total
                     WHERE excluded.cleared_seq > cleared_seq",
                )?
                .execute(params![user.0, id.0, cleared.seq, cleared.n, cleared.total])?;
            Ok(())
        })
        .await
    }

    async fn hide(&self, user: UserId, id: ConversationId, seq: Seq) -> StoreResult<()> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO memberships (user_id, conversation_id, hidden_seq) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET hidden_seq = max(hidden_seq, excluded.hidden_seq)",
                )?
                .execute(params![user.0, id.0, seq])?;
            Ok(())
        })
        .await
    }

    async fn set_flags(&self, user: UserId, id: ConversationId, flags: &Flags, at: Timestamp) -> StoreResult<()> {
        let flags = *flags;
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "UPDATE memberships SET
                         muted = iif(?3 IS NOT NULL AND muted_at <= ?5, ?3, muted),
                         muted_at = iif(?3 IS NOT NULL, max(muted_at, ?5), muted_at),
                         archived = iif(?4 IS NOT NULL AND archived_at <= ?5, ?4, archived),
                         archived_at = iif(?4 IS NOT NULL, max(archived_at, ?5), archived_at)
                     WHERE user_id = ?1 AND conversation_id = ?2",
                )?
                .execute(params![user.0, id.0, flags.muted, flags.archived, at.0])?;
            Ok(())
        })
        .await
    }

    async fn turn_favourite(&self, user: UserId, id: ConversationId, to: bool, at: Timestamp) -> StoreResult<bool> {
        self.write(move |connection| {
            let turned = connection
                .prepare_cached(
                    "UPDATE memberships SET favourite = ?3, favourite_at = max(favourite_at, ?4)
                     WHERE user_id = ?1 AND conversation_id = ?2 AND favourite <> ?3",
                )?
                .execute(params![user.0, id.0, to, at.0])?;
            Ok(turned == 1)
        })
        .await
    }
}
