//! [`OutboxStore`] on ScyllaDB or Cassandra: statements and the mapping of rows. The tables forget by themselves after three days.

use async_trait::async_trait;
use uuid::Uuid;

use super::store::{Minute, OutboxStore, Slot};
use crate::bus::Growth;
use crate::id::{ConversationId, Seq};
use crate::store::{Prepared, StoreResult, limit, statements};

/// Events that are removed in one batch.
const BATCH_ROWS: usize = 256;

statements! {
    /// What [`OutboxStore`] is made of on the cluster.
    pub struct OutboxStatements {
        put_minute: Write "INSERT INTO outbox_minutes (day, minute) VALUES (?, ?)";
        minutes: Read "SELECT minute FROM outbox_minutes WHERE day = ?";
        remove_minute: Write "DELETE FROM outbox_minutes WHERE day = ? AND minute = ?";
        put: Write "INSERT INTO outbox (minute, shard, conversation_id, seq) VALUES (?, ?, ?, ?)";
        events: Read "SELECT conversation_id, seq FROM outbox WHERE minute = ? AND shard = ? LIMIT ?";
        events_after: Read "SELECT conversation_id, seq FROM outbox
            WHERE minute = ? AND shard = ? AND (conversation_id, seq) > (?, ?) LIMIT ?";
        remove: Write "DELETE FROM outbox WHERE minute = ? AND shard = ? AND conversation_id = ? AND seq = ?";
    }
}

#[async_trait]
impl OutboxStore for Prepared<OutboxStatements> {
    async fn put_minute(&self, minute: Minute) -> StoreResult<()> {
        self.write(&self.statements.put_minute, (minute.day(), minute.0)).await
    }

    async fn minutes(&self, day: i64) -> StoreResult<Vec<Minute>> {
        let rows: Vec<(i64,)> = self.rows(&self.statements.minutes, (day,)).await?;
        Ok(rows.into_iter().map(|(minute,)| Minute(minute)).collect())
    }

    async fn remove_minute(&self, minute: Minute) -> StoreResult<()> {
        self.write(&self.statements.remove_minute, (minute.day(), minute.0)).await
    }

    async fn put(&self, slot: Slot, growth: &Growth) -> StoreResult<()> {
        self.write(&self.statements.put, (slot.minute.0, slot.shard, growth.conversation_id.0, growth.seq)).await
    }

    async fn events(&self, slot: Slot, after: Option<Growth>, most: usize) -> StoreResult<Vec<Growth>> {
        let (minute, shard, most) = (slot.minute.0, slot.shard, limit(most));
        let rows: Vec<(Uuid, Seq)> = match after {
            None => self.rows(&self.statements.events, (minute, shard, most)).await?,
            Some(Growth { conversation_id, seq }) => {
                self.rows(&self.statements.events_after, (minute, shard, conversation_id.0, seq, most)).await?
            }
        };
        Ok(rows.into_iter().map(|(id, seq)| Growth { conversation_id: ConversationId(id), seq }).collect())
    }

    async fn remove(&self, slot: Slot, growths: &[Growth]) -> StoreResult<()> {
        for part in growths.chunks(BATCH_ROWS) {
            let values: Vec<_> = part.iter().map(|growth| (slot.minute.0, slot.shard, growth.conversation_id.0, growth.seq)).collect();
            self.write_batch(&vec![&self.statements.remove; part.len()], &values).await?;
        }
        Ok(())
    }
}
