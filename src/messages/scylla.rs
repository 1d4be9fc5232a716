//! [`MessageStore`] on ScyllaDB or Cassandra: statements and the mapping of rows. Stars come and go under conditions; the words of
//! the search are plain writes whose timestamp is the row's version, so that the order in which they come does not matter.

use std::collections::BTreeMap;

use async_trait::async_trait;
use scylla::value::MaybeUnset;
use uuid::Uuid;

use super::store::{MessageStore, RowWords, Star, TermMatch};
use crate::clock::Timestamp;
use crate::id::{ConversationId, Seq, UserId};
use crate::store::{Prepared, StoreError, StoreResult, Writes, limit, statements};

/// What is written or removed in one batch.
const BATCH_STATEMENTS: usize = 256;
/// Rows whose words, up to 16 KiB each, are written in one batch; and what is asked for in one `IN`, of which ScyllaDB takes 100.
const BATCH_ROWS: usize = 64;

statements! {
    /// What [`MessageStore`] is made of on the cluster.
    pub struct MessageStatements {
        put_star: Conditional "INSERT INTO stars (user_id, conversation_id, seq, starred_at) VALUES (?, ?, ?, ?) IF NOT EXISTS";
        remove_star: Conditional "DELETE FROM stars WHERE user_id = ? AND conversation_id = ? AND seq = ? IF EXISTS";
        stars: Read "SELECT conversation_id, seq, starred_at FROM stars WHERE user_id = ?";
        stars_in: Read "SELECT seq FROM stars WHERE user_id = ? AND conversation_id = ? AND seq >= ? AND seq <= ?";
        put_hidden: Write "INSERT INTO hidden (user_id, conversation_id, seq, counted) VALUES (?, ?, ?, ?)";
        hidden_in: Read "SELECT seq FROM hidden WHERE user_id = ? AND conversation_id = ? AND seq >= ? AND seq <= ?";
        hidden_count: Read "SELECT count(*) FROM hidden WHERE user_id = ? AND conversation_id = ? AND seq > ?";
        hidden_unread: Read "SELECT count(counted) FROM hidden WHERE user_id = ? AND conversation_id = ? AND seq >= ? AND seq <= ?";
        put_document: Write "INSERT INTO search_documents (conversation_id, block, seq, version, words) VALUES (?, ?, ?, ?, ?)";
        versions: Read "SELECT seq, version FROM search_documents WHERE conversation_id = ? AND block = ? AND seq IN ?";
        documents: Read "SELECT version, words FROM search_documents WHERE conversation_id = ? AND block = ? AND seq = ?";
        remove_document: Write "DELETE FROM search_documents WHERE conversation_id = ? AND block = ? AND seq = ? AND version = ?";
        put_term: Write "INSERT INTO search_terms (conversation_id, block, term, seq) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
        remove_term: Write "DELETE FROM search_terms USING TIMESTAMP ? WHERE conversation_id = ? AND block = ? AND term = ? AND seq = ?";
        word: Read "SELECT seq FROM search_terms WHERE conversation_id = ? AND block = ? AND term = ? AND seq < ? LIMIT ?";
        prefix: Read "SELECT seq FROM search_terms WHERE conversation_id = ? AND block = ? AND term >= ? AND term <= ? LIMIT ?";
    }
}

#[async_trait]
impl MessageStore for Prepared<MessageStatements> {
    async fn put_star(&self, user: UserId, star: &Star) -> StoreResult<()> {
        let values = (user.0, star.conversation_id.0, star.seq, star.starred_at.0);
        self.apply(&self.statements.put_star, values).await.map(drop)
    }

    async fn remove_star(&self, user: UserId, conversation: ConversationId, seq: Seq) -> StoreResult<()> {
        self.apply(&self.statements.remove_star, (user.0, conversation.0, seq)).await.map(drop)
    }

    async fn stars(&self, user: UserId, most: usize) -> StoreResult<Vec<Star>> {
        let rows: Vec<(Uuid, Seq, i64)> = self.rows(&self.statements.stars, (user.0,)).await?;
        let star = |(conversation, seq, at)| Star { conversation_id: ConversationId(conversation), seq, starred_at: Timestamp(at) };
        let mut stars: Vec<Star> = rows.into_iter().map(star).collect();
        // The store's order is another one: it puts the version of an id first, and DIRECT conversations have ids of their own kind.
        stars.sort_unstable_by_key(|star| (star.conversation_id, star.seq));
        stars.truncate(most);
        Ok(stars)
    }

    async fn stars_in(&self, user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> StoreResult<Vec<Seq>> {
        Ok(seqs(self.rows(&self.statements.stars_in, (user.0, conversation.0, from, to)).await?))
    }

    async fn put_hidden(&self, user: UserId, conversation: ConversationId, seq: Seq, counted: bool) -> StoreResult<()> {
        // Nothing in the cell of one that is not counted: so the store can count the others.
        let counted = if counted { MaybeUnset::Set(true) } else { MaybeUnset::Unset };
        self.write(&self.statements.put_hidden, (user.0, conversation.0, seq, counted)).await
    }

    async fn hidden_in(&self, user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> StoreResult<Vec<Seq>> {
        Ok(seqs(self.rows(&self.statements.hidden_in, (user.0, conversation.0, from, to)).await?))
    }

    async fn hidden_count(&self, user: UserId, conversation: ConversationId, after: Seq) -> StoreResult<i64> {
        let count: Option<(i64,)> = self.row(&self.statements.hidden_count, (user.0, conversation.0, after)).await?;
        Ok(count.map_or(0, |(count,)| count))
    }

    async fn hidden_unread(&self, user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> StoreResult<i64> {
        let count: Option<(i64,)> = self.row(&self.statements.hidden_unread, (user.0, conversation.0, from, to)).await?;
        Ok(count.map_or(0, |(count,)| count))
    }

    async fn put_words(&self, conversation: ConversationId, block: i64, rows: &[RowWords]) -> StoreResult<()> {
        Index { store: self, conversation: conversation.0, block }.put(rows).await.map_err(|error| match error {
            // Something of it may be written by now.
            StoreError::Full => StoreError::Unavailable(Box::new(error)),
            error => error,
        })
    }

    async fn term_rows(
        &self,
        conversation: ConversationId,
        block: i64,
        wanted: &TermMatch,
        before: Seq,
        most: usize,
    ) -> StoreResult<Option<Vec<Seq>>> {
        let enough = limit(most.saturating_add(1));
        let rows = match wanted {
            TermMatch::Word(word) => self.rows(&self.statements.word, (conversation.0, block, word, before, enough)).await?,
            TermMatch::Prefix(prefix) => {
                let last = format!("{prefix}{}", char::MAX);
                self.rows(&self.statements.prefix, (conversation.0, block, prefix, last, enough)).await?
            }
        };
        if rows.len() > most {
            return Ok(None);
        }
        let mut found = seqs(rows);
        found.retain(|seq| *seq < before);
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.dedup();
        Ok(Some(found))
    }
}

fn seqs(rows: Vec<(Seq,)>) -> Vec<Seq> {
    rows.into_iter().map(|(seq,)| seq).collect()
}

/// The timestamp of the words of a version; what takes words of earlier ones away has the one below.
fn time_of(version: i64) -> i64 {
    2 * version + 1
}

/// One partition of the search index.
struct Index<'a> {
    store: &'a Prepared<MessageStatements>,
    conversation: Uuid,
    block: i64,
}

impl Index<'_> {
    /// Each version of a row has a document. All write theirs first and then look for others: of two that race, one at least sees
    /// the other's, and takes away what the later version does not say.
    async fn put(&self, rows: &[RowWords]) -> StoreResult<()> {
        let statements = &self.store.statements;
        for part in rows.chunks(BATCH_ROWS) {
            let mut writes = Writes::default();
            for row in part {
                writes.add(&statements.put_document, (self.conversation, self.block, row.seq, row.version, &row.words));
                for word in &row.words {
                    writes.add(&statements.put_term, (self.conversation, self.block, word, row.seq, time_of(row.version)));
                }
            }
            self.write(&writes).await?;
        }
        for part in rows.chunks(BATCH_ROWS) {
            let asked: Vec<Seq> = part.iter().map(|row| row.seq).collect();
            let found: Vec<(Seq, i64)> = self.store.rows(&statements.versions, (self.conversation, self.block, asked)).await?;
            for row in part {
                if found.iter().any(|(seq, version)| *seq == row.seq && *version != row.version) {
                    self.keep_latest(row).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes away what earlier versions of this row said, this one perhaps among them, and the latest does not.
    async fn keep_latest(&self, row: &RowWords) -> StoreResult<()> {
        let statements = &self.store.statements;
        let found: Vec<(i64, Vec<String>)> = self.store.rows(&statements.documents, (self.conversation, self.block, row.seq)).await?;
        let mut documents: BTreeMap<i64, Vec<String>> = found.into_iter().collect();
        // Another may have taken it away already, before its last words came.
        documents.entry(row.version).or_insert_with(|| row.words.clone());
        let Some((latest, said)) = documents.pop_last() else { return Ok(()) };
        let gone = documents.values().flatten().filter(|word| !said.contains(word));
        let mut writes = Writes::default();
        for word in gone {
            writes.add(&statements.remove_term, (time_of(latest) - 1, self.conversation, self.block, word, row.seq));
        }
        // Last, for they say which words there are to take away.
        for version in documents.keys() {
            writes.add(&statements.remove_document, (self.conversation, self.block, row.seq, *version));
        }
        self.write(&writes).await
    }

    /// In batches of a bounded size, one after the other.
    async fn write(&self, Writes { statements, values }: &Writes<'_>) -> StoreResult<()> {
        for (statements, values) in statements.chunks(BATCH_STATEMENTS).zip(values.chunks(BATCH_STATEMENTS)) {
            self.store.write_batch(statements, values).await?;
        }
        Ok(())
    }
}
