//! The statements of [`MessageStore`] on SQLite, and nothing else.

use async_trait::async_trait;
use rusqlite::params;

use super::store::{MessageStore, Star, Term, TermMatch};
use crate::clock::Timestamp;
use crate::id::{ConversationId, Seq, UserId};
use crate::store::{Sqlite, StoreResult};

/// Sorts after every letter and digit.
const LAST_CHARACTER: char = char::MAX;

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

    async fn put_hidden(&self, user: UserId, conversation: ConversationId, seq: Seq) -> StoreResult<()> {
        self.write(move |connection| {
            connection
                .prepare_cached("INSERT INTO hidden (user_id, conversation_id, seq) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                .execute(params![user.0, conversation.0, seq])?;
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

    async fn put_terms(&self, conversation: ConversationId, block: i64, terms: &[Term]) -> StoreResult<()> {
        let terms = terms.to_vec();
        self.write(move |connection| {
            let mut statement = connection.prepare_cached(
                "INSERT INTO search_terms (conversation_id, block, term, seq) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?;
            for term in &terms {
                statement.execute(params![conversation.0, block, term.word, term.seq])?;
            }
            Ok(())
        })
        .await
    }

    async fn term_rows(
        &self,
        conversation: ConversationId,
        block: i64,
        wanted: &TermMatch,
        before: Seq,
        limit: usize,
    ) -> StoreResult<Option<Vec<Seq>>> {
        let wanted = wanted.clone();
        self.read(move |connection| {
            let more_than_limit = limit as i64 + 1;
            let mut seqs: Vec<Seq> = match wanted {
                TermMatch::Word(word) => connection
                    .prepare_cached(
                        "SELECT seq FROM search_terms WHERE conversation_id = ?1 AND block = ?2 AND term = ?3 AND seq < ?4 LIMIT ?5",
                    )?
                    .query_map(params![conversation.0, block, word, before, more_than_limit], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?,
                TermMatch::Prefix(prefix) => connection
                    .prepare_cached(
                        "SELECT seq FROM search_terms WHERE conversation_id = ?1 AND block = ?2 AND term >= ?3 AND term < ?4 LIMIT ?5",
                    )?
                    .query_map(params![conversation.0, block, prefix, format!("{prefix}{LAST_CHARACTER}"), more_than_limit], |row| {
                        row.get(0)
                    })?
                    .collect::<rusqlite::Result<_>>()?,
            };
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
            store.put_hidden(user, conversation, seq).await.unwrap();
        }
        assert_eq!(store.hidden_in(user, conversation, 2, 7).await.unwrap(), [2, 4]);
        assert_eq!(store.hidden_count(user, conversation, 0).await.unwrap(), 3);
        assert_eq!(store.hidden_count(user, conversation, 2).await.unwrap(), 2);
        assert_eq!(store.hidden_count(UserId::fresh(), conversation, 0).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn words_are_found_whole_or_by_their_beginning() {
        let (store, _folder) = store();
        let conversation = ConversationId::fresh();
        let term = |word: &str, seq| Term { word: word.to_owned(), seq };
        let terms = [term("fox", 2), term("foxes", 3), term("fox", 7), term("foxes", 7), term("dog", 7), term("été", 8)];
        store.put_terms(conversation, 0, &terms).await.unwrap();
        store.put_terms(conversation, 0, &terms).await.unwrap();
        store.put_terms(conversation, 1, &[term("fox", 16_384)]).await.unwrap();
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
