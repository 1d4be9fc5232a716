//! The search indexer: takes rows of the log into the search index, off the path of sending.
//! It is told of touched conversations, gathers them for a moment and works each off from its `indexed_seq`. A node that is
//! alone tells itself, by a queue, and asks the store at the start what was left behind; among several nodes growths come
//! through the bus, and the store is asked when that has forgotten how far they had come.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use crate::bus::{Consumed, Consumer, Delivery, Trouble};
use crate::id::{ConversationId, Seq};
use crate::log::{Body, LogReader, LogRow, LogStore};
use crate::messages::{IndexQueue, MessageStore, RowWords, search_block_of, terms};
use crate::store::{StoreError, StoreResult};

/// Pause between two rounds: what arrives in it is written together. A message is found within 2 s.
const PAUSE: Duration = Duration::from_millis(800);
/// The longest pause while the store is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Rows of one conversation that are read at a time.
const BATCH_ROWS: usize = 256;
/// Words after which a write ends, so that no send waits long behind it.
const BATCH_WORDS: usize = 2_048;
/// Conversations that are worked on side by side.
const CONCURRENT: usize = 8;
/// Conversations that are asked for at a time when looking for what was left behind.
const PAGE: usize = 500;

/// The search indexer.
pub struct Indexer {
    log: Arc<dyn LogStore>,
    reader: LogReader,
    messages: Arc<dyn MessageStore>,
    queue: Arc<IndexQueue>,
}

impl Indexer {
    /// An indexer of this log that is told by `queue`.
    pub fn new(log: Arc<dyn LogStore>, messages: Arc<dyn MessageStore>, queue: Arc<IndexQueue>) -> Self {
        Self { reader: LogReader::new(Arc::clone(&log)), log, messages, queue }
    }

    /// Indexes until `stopping`: what this node tells itself, and what comes through the bus, if that brings something.
    pub async fn run(self, consumer: Option<Consumer>, stopping: CancellationToken) {
        let is_alone = consumer.is_none();
        let consuming = async {
            if let Some(consumer) = consumer {
                Box::pin(self.consume(consumer, &stopping)).await;
            }
        };
        tokio::join!(stopping.run_until_cancelled(self.work(is_alone)), consuming);
    }

    /// What comes through the bus: each event is given back with what became of it. What has been begun when the node stops is
    /// finished, or others would have to wait for it.
    async fn consume(&self, mut consumer: Consumer, stopping: &CancellationToken) {
        loop {
            let deliveries = match stopping.run_until_cancelled(consumer.next(PAUSE)).await {
                None => return consumer.give_back().await,
                Some(Consumed::Growths(deliveries)) => deliveries,
                Some(Consumed::Anew) => {
                    self.queue.touched_unknown();
                    continue;
                }
            };
            // However long they take, or wait for others: no other node is to be lent them meanwhile.
            consumer.while_lent(self.index_lent(&consumer, deliveries)).await;
        }
    }

    /// Works these off, and gives each back.
    async fn index_lent(&self, consumer: &Consumer, deliveries: Vec<Delivery>) {
        let mut waiting: HashMap<ConversationId, Vec<Delivery>> = HashMap::new();
        for delivery in deliveries {
            waiting.entry(delivery.growth.conversation_id).or_default().push(delivery);
        }
        let ids: Vec<_> = waiting.keys().copied().collect();
        let attempts = stream::iter(ids).map(async |id| (id, self.index(id).await));
        let mut attempts = std::pin::pin!(attempts.buffer_unordered(CONCURRENT));
        while let Some((id, attempt)) = attempts.next().await {
            let deliveries = waiting.remove(&id).unwrap_or_default();
            let Err(error) = attempt else {
                consumer.done(deliveries).await;
                continue;
            };
            tracing::warn!(%error, conversation = %id, "indexing will be tried again");
            let trouble = if is_outage(&error) { Trouble::Outage } else { Trouble::Fault };
            for delivery in deliveries {
                consumer.failed(delivery, trouble, &error.to_string()).await;
            }
        }
    }

    /// What this node tells itself.
    async fn work(&self, mut look: bool) {
        let mut waiting = HashSet::new();
        let mut pause = PAUSE;
        loop {
            if !look && waiting.is_empty() {
                let touched = self.queue.take().await;
                waiting.extend(touched.conversations);
                look = touched.overflown;
            }
            let left = self.round(&mut look, &waiting).await;
            pause = if left.is_empty() && !look { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            waiting = left;
            tokio::time::sleep(pause).await;
        }
    }

    /// One round; what could not be done is returned, and `look` stays true when not everything was looked at.
    async fn round(&self, look: &mut bool, waiting: &HashSet<ConversationId>) -> HashSet<ConversationId> {
        let mut left = self.index_all(waiting.iter().copied()).await;
        let mut after = None;
        while *look {
            match self.log.unindexed(after, PAGE).await {
                Ok(ids) => {
                    *look = ids.len() == PAGE;
                    after = ids.last().copied();
                    left.extend(self.index_all(ids.into_iter()).await);
                }
                Err(error) => {
                    tracing::warn!(%error, "conversations without search index could not be listed");
                    break;
                }
            }
        }
        metrics::gauge!("urge_search_index_waiting").set(left.len() as f64);
        left
    }

    /// Those that are to be tried again.
    async fn index_all(&self, ids: impl Iterator<Item = ConversationId>) -> HashSet<ConversationId> {
        let attempts = stream::iter(ids).map(async |id| (id, self.index(id).await)).buffer_unordered(CONCURRENT);
        attempts
            .filter_map(async |(id, attempt)| match attempt {
                Ok(()) => None,
                Err(error) if is_outage(&error) => {
                    tracing::warn!(%error, conversation = %id, "indexing will be tried again");
                    Some(id)
                }
                Err(error) => {
                    tracing::error!(%error, conversation = %id, "a conversation cannot be indexed");
                    None
                }
            })
            .collect()
            .await
    }

    /// Works a conversation off to its end.
    async fn index(&self, id: ConversationId) -> StoreResult<()> {
        let Some(record) = self.log.conversation(id).await? else { return Ok(()) };
        let mut indexed = record.indexed_seq;
        loop {
            let mut rows = self.reader.after(id, indexed, BATCH_ROWS).await?;
            // A replica that lacks rows must not pass for a log without them.
            let whole = rows.iter().zip(indexed + 1..).take_while(|(row, seq)| row.seq == *seq).count();
            let (ended, gap) = (rows.len() < BATCH_ROWS, whole < rows.len());
            rows.truncate(whole);
            if let Some(last) = rows.last() {
                indexed = last.seq;
                self.put(id, rows).await?;
                self.log.mark_indexed(id, indexed).await?;
            }
            if gap {
                return Err(StoreError::Unavailable(format!("the log was read with a gap after row {indexed}").into()));
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Adds what these rows say, and what the rows that they changed say now, which may be nothing any more.
    async fn put(&self, id: ConversationId, rows: Vec<LogRow>) -> StoreResult<()> {
        // By place, so that the writes go to few places.
        let mut found: BTreeMap<Seq, RowWords> = BTreeMap::new();
        let mut again: BTreeSet<Seq> = BTreeSet::new();
        for row in &rows {
            match (&row.body, row.target_seq) {
                (Body::Edited | Body::Deleted, Some(target)) => drop(again.insert(target)),
                _ if searchable(row).is_some() => drop(found.insert(row.seq, words_of(row))),
                _ => {}
            }
        }
        // Also those of this batch: they may have been read before their change, and the change after it.
        for target in again {
            if let Some(row) = self.reader.row(id, target).await? {
                found.insert(row.seq, words_of(&row));
            }
        }
        let count = found.values().filter(|row| !row.words.is_empty()).count();
        let mut part: Vec<RowWords> = Vec::new();
        let mut found = found.into_values().peekable();
        while let Some(row) = found.next() {
            let block = search_block_of(row.seq);
            part.push(row);
            let words: usize = part.iter().map(|row| row.words.len()).sum();
            if words >= BATCH_WORDS || found.peek().is_none_or(|next| search_block_of(next.seq) != block) {
                self.messages.put_words(id, block, &std::mem::take(&mut part)).await?;
            }
        }
        metrics::counter!("urge_search_indexed_messages_total").increment(count as u64);
        Ok(())
    }
}

/// Whether it may go well later, with nothing changed.
fn is_outage(error: &StoreError) -> bool {
    matches!(error, StoreError::Full | StoreError::Unavailable(_))
}

/// What a row is found by now.
fn words_of(row: &LogRow) -> RowWords {
    RowWords { seq: row.seq, version: row.version, words: searchable(row).map(terms).unwrap_or_default() }
}

/// What may be searched of a row: the words of a person, unless they are deleted or a cipher text.
fn searchable(row: &LogRow) -> Option<&str> {
    match &row.body {
        Body::Message(content) if row.deleted_at.is_none() && !content.is_encrypted => Some(&content.content),
        _ => None,
    }
}
