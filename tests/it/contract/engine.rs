//! What the embedded engine promises below the stores: an answered write is on the disk, and writes that share a commit
//! share no fate. A process that dies is played by copying its files while it has them open.

use std::path::Path;
use std::sync::Arc;

use futures_util::poll;
use urge::id::{ConversationId, UserId};
use urge::log::{Insert, LogReader, LogStore};
use urge::store::{Sqlite, SqliteOptions, StoreError};

use super::{racing, sqlite};
use crate::support::files_after_a_crash;
use crate::support::rows::{row, words};

fn open(path: &Path) -> Sqlite {
    Sqlite::open(&SqliteOptions { path: path.to_owned(), readers: 1, migrate: true }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_a_crash() {
    let (store, folder) = sqlite();
    let user = UserId::fresh();
    for round in 0..5 {
        let answered = racing(64, |_| {
            let store = store.clone();
            let row = row(ConversationId::fresh(), 1, user, words("acknowledged"));
            async move {
                assert_eq!(store.insert_rows(std::slice::from_ref(&row)).await.unwrap(), Insert::Applied);
                row
            }
        })
        .await;
        let crashed = files_after_a_crash(folder.path());
        let reopened = open(&crashed.path().join("urge.db"));
        for row in answered {
            let found = reopened.row(row.conversation_id, 1).await.unwrap();
            assert_eq!(found, Some(row), "an answered row is gone (round {round})");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_is_there_after_closing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("urge.db");
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    for seq in 1..=3 {
        let store = open(&path);
        assert_eq!(store.insert_rows(&[row(conversation, seq, user, words("kept"))]).await.unwrap(), Insert::Applied);
    }
    let rows = LogReader::new(Arc::new(open(&path))).after(conversation, 0, 10).await.unwrap();
    assert_eq!(rows.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_write_takes_no_other_along() {
    let (store, _folder) = sqlite();
    store.write(|c| c.execute_batch("CREATE TABLE numbers (n INTEGER PRIMARY KEY)")).await.unwrap();
    let results = racing(200, |number| {
        let store = store.clone();
        let n = number as i64;
        async move {
            let insert = "INSERT INTO numbers (n) VALUES (?1)";
            store
                .write(move |c| {
                    c.execute(insert, [n])?;
                    // Every seventh inserts the same again and fails, after its first statement has been done.
                    if n % 7 == 0 { c.execute(insert, [n]) } else { Ok(0) }
                })
                .await
        }
    })
    .await;
    let kept = store
        .read(|c| c.prepare("SELECT n FROM numbers ORDER BY n")?.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>())
        .await
        .unwrap();
    assert_eq!(kept, (0..200).filter(|n| n % 7 != 0).collect::<Vec<_>>());
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Ok(_) => assert_ne!(n % 7, 0, "write {n} was answered and is not there"),
            Err(error) => assert!(n % 7 == 0 && matches!(error, StoreError::Statement(_)), "write {n}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_sees_what_was_answered_before() {
    let (store, _folder) = sqlite();
    racing(16, |_| {
        let (store, conversation, user) = (store.clone(), ConversationId::fresh(), UserId::fresh());
        async move {
            for seq in 1..=20 {
                let row = row(conversation, seq, user, words("mine"));
                store.insert_rows(std::slice::from_ref(&row)).await.unwrap();
                assert_eq!(store.row(conversation, seq).await.unwrap(), Some(row));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_goes_away_waits_no_longer_and_cancels_nothing() {
    let (store, _folder) = sqlite();
    let row = row(ConversationId::fresh(), 1, UserId::fresh(), words("sent and gone"));
    {
        let rows = [row.clone()];
        let mut insert = Box::pin(store.insert_rows(&rows));
        assert!(poll!(&mut insert).is_pending());
        assert_eq!(store.writes_waiting(), 1);
    }
    assert_eq!(store.writes_waiting(), 0);
    // Writes keep their order: when this one is answered, the one before has been done.
    store.probe().await.unwrap();
    assert_eq!(store.row(row.conversation_id, 1).await.unwrap(), Some(row));
    assert_eq!(store.writes_waiting(), 0);
}

/// What a commit must have done before it is answered is what keeps it through a loss of power, which no test can play.
#[tokio::test]
async fn a_commit_waits_for_the_disk() {
    let (store, _folder) = sqlite();
    let setting = |c: &rusqlite::Connection, name: &str| c.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
    let synchronous = store.write(move |c| setting(c, "synchronous")).await.unwrap();
    let journal = store.write(move |c| setting(c, "journal_mode")).await.unwrap();
    assert_eq!((synchronous, journal), (2.into(), "wal".to_owned().into()), "synchronous=FULL, in the write-ahead log");
}

#[tokio::test]
async fn readers_cannot_write() {
    let (store, _folder) = sqlite();
    assert!(store.read(|c| c.execute("UPDATE probe SET n = 7", [])).await.is_err());
}
