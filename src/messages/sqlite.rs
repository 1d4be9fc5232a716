//! The statements of [`MessageStore`] on SQLite, and nothing else.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::store::{MessageStore, RowWords, SEARCH_BLOCK_ROWS, Star, TermMatch};
use crate::clock::Timestamp;
use crate::id::{ConversationId, Seq, UserId};
use crate::store::{Sqlite, StoreResult};

/// Writes to the index after which it is looked at for runs to merge. Those of one commit are one run.
const MERGE_EVERY: i64 = 8;
/// Steps that such a look takes at most, each a job of its own, between which others have their turn.
const MERGE_STEPS: usize = 8;
/// Pages that a step merges: some tenths of a millisecond.
const MERGE_PAGES: i64 = 8;

#[async_trait]
impl MessageStore for Sqlite {
    async fn put_star(&self, user: UserId, star: &Star) -> StoreResult<()> {
        let star = *star;
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO stars (user_id, conversation_id, seq, starred_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                )?
                .execute(params![user.0, star.conversation_id.0, star.seq, star.starred_at.0])?;
            Ok(())
        })
        .await
    }

    async fn remove_star(&self, user: UserId, conversation: ConversationId, seq: Seq) -> StoreResult<()> {
        self.write(move |connection| {
            connection.prepare_cached("DELETE FROM stars WHERE user_id = ?1 AND conversation_id = ?2 AND seq = ?3")?.execute(params![
                user.0,
                conversation.0,
                seq
            ])?;
            Ok(())
        })
        .await
    }

    async fn stars(&self, user: UserId, limit: usize) -> StoreResult<Vec<Star>> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT conversation_id, seq, starred_at FROM stars WHERE user_id = ?1 ORDER BY conversation_id, seq LIMIT ?2",
                )?
                .query_map(params![user.0, limit as i64], |row| {
                    Ok(Star { conversation_id: ConversationId(row.get(0)?), seq: row.get(1)?, starred_at: Timestamp(row.get(2)?) })
                })?
                .collect()
        })
        .await
    }

    async fn stars_in(&self, user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> StoreResult<Vec<Seq>> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT seq FROM stars WHERE user_id = ?1 AND conversation_id = ?2 AND seq BETWEEN ?3 AND ?4 ORDER BY seq")?
                .query_map(params![user.0, conversation.0, from, to], |row| row.get(0))?
                .collect()
        })
        .await
    }

    async fn put_hidden(&self, user: UserId, conversation: ConversationId, seq: Seq, counted: bool) -> StoreResult<()> {
        self.write(move |connection| {
            connection
                .prepare_cached(
                    "INSERT INTO hidden (user_id, conversation_id, seq, counted) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                )?
                .execute(params![user.0, conversation.0, seq, counted])?;
            Ok(())
        })
        .await
    }

    async fn hidden_in(&self, user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> StoreResult<Vec<Seq>> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT seq FROM hidden WHERE user_id = ?1 AND conversation_id = ?2 AND seq BETWEEN ?3 AND ?4 ORDER BY seq",
                )?
                .query_map(params![user.0, conversation.0, from, to], |row| row.get(0))?
                .collect()
        })
        .await
    }

    async fn hidden_count(&self, user: UserId, conversation: ConversationId, after: Seq) -> StoreResult<i64> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT count(*) FROM hidden WHERE user_id = ?1 AND conversation_id = ?2 AND seq > ?3")?
                .query_row(params![user.0, conversation.0, after], |row| row.get(0))
        })
        .await
    }

    async fn hidden_unread(&self, user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> StoreResult<i64> {
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT count(*) FROM hidden WHERE user_id = ?1 AND conversation_id = ?2 AND seq BETWEEN ?3 AND ?4 AND counted",
                )?
                .query_row(params![user.0, conversation.0, from, to], |row| row.get(0))
        })
        .await
    }

    async fn put_words(&self, conversation: ConversationId, block: i64, rows: &[RowWords]) -> StoreResult<()> {
        let rows = rows.to_vec();
        let put = self.write(move |connection| {
            let n: i64 = connection.prepare_cached("UPDATE search_documents SET n = n + 1 RETURNING n")?.query_row([], |row| row.get(0))?;
            rows.iter().try_for_each(|row| put_document(connection, conversation, block, row, n))?;
            Ok(n)
        });
        if put.await? % MERGE_EVERY == 0 {
            for _ in 0..MERGE_STEPS {
                // The words are in. A merge that was not made is made up for by the next.
                match self.write(merge).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::debug!(%error, "the search index was not merged");
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn term_rows(
        &self,
        conversation: ConversationId,
        block: i64,
        wanted: &TermMatch,
        before: Seq,
        limit: usize,
    ) -> StoreResult<Option<Vec<Seq>>> {
        let partition = partition(conversation, block);
        let query = match wanted {
            TermMatch::Word(word) => format!("\"{partition}{word}\""),
            TermMatch::Prefix(prefix) => format!("\"{partition}{prefix}\" *"),
        };
        self.read(move |connection| {
            let mut statement = connection.prepare_cached("SELECT rowid FROM search_terms WHERE search_terms MATCH ?1 LIMIT ?2")?;
            let rowids = statement.query_map(params![query, limit as i64 + 1], |row| row.get::<_, i64>(0))?;
            let seq = |rowid: i64| block * SEARCH_BLOCK_ROWS + rowid % SEARCH_BLOCK_ROWS;
            let mut seqs = rowids.map(|rowid| rowid.map(seq)).collect::<rusqlite::Result<Vec<Seq>>>()?;
            if seqs.len() > limit {
                return Ok(None);
            }
            seqs.retain(|seq| *seq < before);
            seqs.sort_unstable_by(|a, b| b.cmp(a));
            seqs.dedup();
            Ok(Some(seqs))
        })
        .await
    }
}

/// Merges a few pages of the index's runs, if it has many; false when there was nothing to do.
/// How one learns that: <https://sqlite.org/fts5.html#the_merge_command>
fn merge(connection: &Connection) -> rusqlite::Result<bool> {
    let before = connection.total_changes();
    connection.prepare_cached("INSERT INTO search_terms (search_terms, rank) VALUES ('merge', ?1)")?.execute([MERGE_PAGES])?;
    Ok(connection.total_changes() - before >= 2)
}

/// What the tokens of one partition of the index begin with. Words are letters and digits, so is this: one token.
fn partition(conversation: ConversationId, block: i64) -> String {
    format!("{}{block:x}z", conversation.0.simple())
}

/// The token that all documents of a row have, and no others.
fn row_token(conversation: ConversationId, block: i64, seq: Seq) -> String {
    format!("{}{block:x}y{seq:x}", conversation.0.simple())
}

/// Puts the `n`th document of this row in the place of those before, unless they say what it says later.
fn put_document(connection: &Connection, conversation: ConversationId, block: i64, row: &RowWords, n: i64) -> rusqlite::Result<()> {
    let indexed: Option<i64> = connection
        .prepare_cached("SELECT version FROM search_changes WHERE conversation_id = ?1 AND block = ?2 AND seq = ?3")?
        .query_row(params![conversation.0, block, row.seq], |row| row.get(0))
        .optional()?;
    if indexed.is_some_and(|version| version > row.version) {
        return Ok(());
    }
    let token = row_token(conversation, block, row.seq);
    // A row that never changed may have the same document twice, and is found once.
    if row.version > 0 {
        let rowids: Vec<i64> = connection
            .prepare_cached("SELECT rowid FROM search_terms WHERE search_terms MATCH ?1")?
            .query_map([format!("\"{token}\"")], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut remove = connection.prepare_cached("DELETE FROM search_terms WHERE rowid = ?1")?;
        rowids.iter().try_for_each(|rowid| remove.execute([rowid]).map(drop))?;
        connection
            .prepare_cached("INSERT OR REPLACE INTO search_changes (conversation_id, block, seq, version) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![conversation.0, block, row.seq, row.version])?;
    }
    if !row.words.is_empty() {
        let partition = partition(conversation, block);
        let tokens = row.words.iter().fold(token, |tokens, word| tokens + " " + &partition + word);
        connection
            .prepare_cached("INSERT INTO search_terms (rowid, terms) VALUES (?1, ?2)")?
            .execute(params![n * SEARCH_BLOCK_ROWS + row.seq % SEARCH_BLOCK_ROWS, tokens])?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::SqliteOptions;

    fn store() -> (Sqlite, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions { path: folder.path().join("messages.db"), readers: 1, migrate: true };
        (Sqlite::open(&options).unwrap(), folder)
    }

    #[tokio::test]
    async fn stars_are_their_owners_and_keep_their_time() {
        let (store, _folder) = store();
        let (user, other, conversation) = (UserId::fresh(), UserId::fresh(), ConversationId::fresh());
        let star = |seq, at| Star { conversation_id: conversation, seq, starred_at: Timestamp(at) };
        for (seq, at) in [(5, 1), (3, 2), (9, 3), (5, 4)] {
            store.put_star(user, &star(seq, at)).await.unwrap();
        }
        assert_eq!(store.stars(user, 10).await.unwrap(), [star(3, 2), star(5, 1), star(9, 3)]);
        assert_eq!(store.stars_in(user, conversation, 3, 5).await.unwrap(), [3, 5]);
        assert!(store.stars_in(user, ConversationId::fresh(), 0, 99).await.unwrap().is_empty());
        assert!(store.stars(other, 10).await.unwrap().is_empty());
        store.remove_star(user, conversation, 5).await.unwrap();
        store.remove_star(user, conversation, 5).await.unwrap();
        assert_eq!(store.stars_in(user, conversation, 0, 99).await.unwrap(), [3, 9]);
    }

    #[tokio::test]
    async fn hidden_rows_are_read_by_range_and_counted() {
        let (store, _folder) = store();
        let (user, conversation) = (UserId::fresh(), ConversationId::fresh());
        for seq in [4, 2, 8, 4] {
            store.put_hidden(user, conversation, seq, seq != 2).await.unwrap();
        }
        assert_eq!(store.hidden_in(user, conversation, 2, 7).await.unwrap(), [2, 4]);
        assert_eq!(store.hidden_count(user, conversation, 0).await.unwrap(), 3);
        assert_eq!(store.hidden_count(user, conversation, 2).await.unwrap(), 2);
        assert_eq!(store.hidden_count(UserId::fresh(), conversation, 0).await.unwrap(), 0);
        assert_eq!(store.hidden_unread(user, conversation, 1, 4).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn words_are_found_whole_or_by_their_beginning() {
        let (store, _folder) = store();
        let conversation = ConversationId::fresh();
        let row = |seq, words: &[&str]| RowWords { seq, version: 0, words: words.iter().map(|word| (*word).to_owned()).collect() };
        let rows = [row(2, &["fox"]), row(3, &["foxes"]), row(7, &["fox", "foxes", "dog"]), row(8, &["été"])];
        store.put_words(conversation, 0, &rows).await.unwrap();
        store.put_words(conversation, 0, &rows).await.unwrap();
        store.put_words(conversation, 1, &[row(16_384, &["fox"])]).await.unwrap();
        let find = async |wanted, before, limit| store.term_rows(conversation, 0, &wanted, before, limit).await.unwrap();
        let (word, prefix) = (|text: &str| TermMatch::Word(text.to_owned()), |text: &str| TermMatch::Prefix(text.to_owned()));
        assert_eq!(find(word("fox"), 100, 10).await, Some(vec![7, 2]));
        assert_eq!(find(word("fox"), 7, 10).await, Some(vec![2]));
        assert_eq!(find(prefix("fo"), 100, 10).await, Some(vec![7, 3, 2]));
        assert_eq!(find(prefix("foxe"), 100, 10).await, Some(vec![7, 3]));
        assert_eq!(find(prefix("é"), 100, 10).await, Some(vec![8]));
        assert_eq!(find(prefix("cat"), 100, 10).await, Some(Vec::new()));
        assert_eq!(find(prefix("fo"), 100, 3).await, None);
        assert_eq!(find(word("fox"), 100, 1).await, None);
    }
}
