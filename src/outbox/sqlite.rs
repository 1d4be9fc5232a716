//! The statements of [`OutboxStore`] on SQLite, and nothing else.

use async_trait::async_trait;
use rusqlite::params;

use super::store::{KEPT_MINUTES, Minute, OutboxStore, Slot};
use crate::bus::Growth;
use crate::id::ConversationId;
use crate::store::{Sqlite, StoreResult};

/// Rows that are given up in one commit, at most: no send waits long behind it.
const SWEPT_ROWS: i64 = 10_000;

#[async_trait]
impl OutboxStore for Sqlite {
    async fn put_minute(&self, minute: Minute) -> StoreResult<()> {
        self.write(move |c| {
            // What a cluster's store forgets by itself goes here, a bounded part each minute.
            let oldest = minute.0 - KEPT_MINUTES;
            let sweep = "DELETE FROM outbox WHERE (minute, shard, conversation_id, seq) IN
                (SELECT minute, shard, conversation_id, seq FROM outbox WHERE minute < ?1 LIMIT ?2)";
            c.prepare_cached(sweep)?.execute([oldest, SWEPT_ROWS])?;
            let days = Minute(oldest).day();
            c.prepare_cached("DELETE FROM outbox_minutes WHERE day < ?1 OR (day = ?1 AND minute < ?2)")?.execute([days, oldest])?;
            c.prepare_cached("INSERT INTO outbox_minutes (day, minute) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute([minute.day(), minute.0])?;
            Ok(())
        })
        .await
    }

    async fn minutes(&self, day: i64) -> StoreResult<Vec<Minute>> {
        self.read(move |c| {
            c.prepare_cached("SELECT minute FROM outbox_minutes WHERE day = ?1 ORDER BY minute")?
                .query_map([day], |row| Ok(Minute(row.get(0)?)))?
                .collect()
        })
        .await
    }

    async fn remove_minute(&self, minute: Minute) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("DELETE FROM outbox_minutes WHERE day = ?1 AND minute = ?2")?.execute([minute.day(), minute.0])?;
            Ok(())
        })
        .await
    }

    async fn put(&self, slot: Slot, growth: &Growth) -> StoreResult<()> {
        let growth = *growth;
        self.write(move |c| {
            c.prepare_cached("INSERT INTO outbox (minute, shard, conversation_id, seq) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?
                .execute(params![slot.minute.0, slot.shard, growth.conversation_id.0, growth.seq])?;
            Ok(())
        })
        .await
    }

    async fn events(&self, slot: Slot, after: Option<Growth>, limit: usize) -> StoreResult<Vec<Growth>> {
        let (id, seq) = after.map_or((uuid::Uuid::nil(), 0), |growth| (growth.conversation_id.0, growth.seq));
        self.read(move |c| {
            let wanted = "SELECT conversation_id, seq FROM outbox WHERE minute = ?1 AND shard = ?2 AND (conversation_id, seq) > (?3, ?4)
                ORDER BY conversation_id, seq LIMIT ?5";
            c.prepare_cached(wanted)?
                .query_map(params![slot.minute.0, slot.shard, id, seq, limit as i64], |row| {
                    Ok(Growth { conversation_id: ConversationId(row.get(0)?), seq: row.get(1)? })
                })?
                .collect()
        })
        .await
    }

    async fn remove(&self, slot: Slot, growths: &[Growth]) -> StoreResult<()> {
        let growths = growths.to_vec();
        self.write(move |c| {
            let remove = "DELETE FROM outbox WHERE minute = ?1 AND shard = ?2 AND conversation_id = ?3 AND seq = ?4";
            let mut remove = c.prepare_cached(remove)?;
            growths
                .iter()
                .try_for_each(|growth| remove.execute(params![slot.minute.0, slot.shard, growth.conversation_id.0, growth.seq]).map(drop))
        })
        .await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::SqliteOptions;

    #[tokio::test]
    async fn what_is_too_old_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&SqliteOptions { path: folder.path().join("t.db"), readers: 1, migrate: true }).unwrap();
        let now = Minute(20_000_000);
        for age in [KEPT_MINUTES + 1, KEPT_MINUTES, 1] {
            let minute = Minute(now.0 - age);
            store.put_minute(minute).await.unwrap();
            store.put(Slot { minute, shard: 2 }, &Growth { conversation_id: ConversationId::fresh(), seq: age }).await.unwrap();
        }
        store.put_minute(now).await.unwrap();
        let mut left = Vec::new();
        for day in Minute(now.0 - KEPT_MINUTES - 1).day()..=now.day() {
            for minute in store.minutes(day).await.unwrap() {
                left.push((now.0 - minute.0, store.events(Slot { minute, shard: 2 }, None, 9).await.unwrap().len()));
            }
        }
        assert_eq!(left, [(KEPT_MINUTES, 1), (1, 1), (0, 0)]);
        let gone = Slot { minute: Minute(now.0 - KEPT_MINUTES - 1), shard: 2 };
        assert!(store.events(gone, None, 9).await.unwrap().is_empty());
    }
}
