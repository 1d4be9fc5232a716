//! Rows of logs, put into a store without an appender: for tests of what stands below it, and of long logs.

use urge::clock::Timestamp;
use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{BUCKET_ROWS, Body, Content, Insert, LogRow, LogStore, bucket_of};
use urge::store::{StoreError, StoreResult};

/// Rows of one statement.
const SEEDED_ROWS: Seq = 256;

/// How often a busy store is asked to take them.
const TRIES: usize = 10;

/// What somebody wrote.
pub fn words(text: &str) -> Body {
    Body::Message(Content { content: text.to_owned(), ..Content::default() })
}

/// A row with this body at this place, after nothing but messages and the row that began the log.
pub fn row(conversation_id: ConversationId, seq: Seq, sender_id: UserId, body: Body) -> LogRow {
    let message_id = MessageId::fresh();
    LogRow {
        conversation_id,
        seq,
        message_id,
        sender_id,
        n: seq - 1,
        total: seq - 1,
        target_seq: None,
        body,
        created_at: Timestamp(1_000 + seq),
        updated_at: Timestamp(1_000 + seq),
        deleted_at: None,
        version: 0,
        change_seq: seq,
        change_id: message_id,
    }
}

/// Asks a busy store again, for what may be written twice.
pub async fn written<T: std::fmt::Debug>(write: impl AsyncFn() -> StoreResult<T>) -> T {
    let mut tries = 0;
    loop {
        tries += 1;
        match write().await {
            Ok(written) => return written,
            Err(StoreError::Unavailable(_)) if tries < TRIES => {}
            Err(error) => panic!("it was not written: {error}"),
        }
    }
}

/// Fills the log from row `from` up to and including row `upto` with this person's messages.
pub async fn seed(store: &dyn LogStore, conversation: ConversationId, sender: UserId, from: Seq, upto: Seq) {
    let mut at = from;
    while at <= upto {
        let end = (at + SEEDED_ROWS).min(upto + 1).min((bucket_of(at) + 1) * BUCKET_ROWS);
        let rows: Vec<_> = (at..end).map(|seq| row(conversation, seq, sender, words(&format!("row {seq}")))).collect();
        match written(async || store.insert_rows(&rows).await).await {
            Insert::Applied => {}
            // The try before was done after all, and all of it.
            Insert::Exists(first) if *first == rows[0] => {}
            refused @ Insert::Exists(_) => panic!("rows {at} to {end} were not taken: {refused:?}"),
        }
        at = end;
    }
}
