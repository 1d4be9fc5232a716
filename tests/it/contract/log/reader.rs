//! `LogReader` over a store: the log is one, whatever buckets it stands in.

use std::sync::Arc;

use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{BUCKET_ROWS, Location, LogReader, LogRow, LogStore};

use crate::support::rows::seed;

promises!(
    urge::log::LogStatements;
    a_log_is_read_across_its_buckets, a_message_is_found_wherever_its_floor_is);

/// Into its third bucket.
const LAST: Seq = 2 * BUCKET_ROWS + 300;

fn seqs(rows: &[LogRow]) -> Vec<Seq> {
    rows.iter().map(|row| row.seq).collect()
}

async fn a_log_is_read_across_its_buckets(store: Arc<dyn LogStore>) {
    let conversation = ConversationId::fresh();
    seed(&*store, conversation, UserId::fresh(), 1, LAST).await;
    let reader = LogReader::new(store);
    let after = async |after, limit| seqs(&reader.after(conversation, after, limit).await.unwrap());
    let before = async |before, limit| seqs(&reader.before(conversation, before, limit).await.unwrap());
    let edge = BUCKET_ROWS;
    assert_eq!(after(0, usize::MAX >> 1).await, (1..=LAST).collect::<Vec<_>>());
    assert_eq!(after(edge - 3, 5).await, [edge - 2, edge - 1, edge, edge + 1, edge + 2]);
    assert_eq!(after(edge - 3, 2).await, [edge - 2, edge - 1]);
    assert_eq!(after(edge - 1, 1).await, [edge]);
    assert_eq!(after(10, 2 * edge as usize).await, (11..=2 * edge + 10).collect::<Vec<_>>());
    assert_eq!(after(LAST - 1, 100).await, [LAST]);
    assert!(after(LAST, 100).await.is_empty());
    assert_eq!(after(-5, 2).await, [1, 2]);
    assert_eq!(before(LAST + 1, usize::MAX >> 1).await, (1..=LAST).rev().collect::<Vec<_>>());
    assert_eq!(before(edge + 2, 4).await, [edge + 1, edge, edge - 1, edge - 2]);
    assert_eq!(before(edge, 1).await, [edge - 1]);
    assert_eq!(before(5 * edge + 7, 2).await, [LAST, LAST - 1], "from beyond the end");
    assert!(before(1, 10).await.is_empty());
    assert!(before(0, 10).await.is_empty());
    assert_eq!(seqs(&reader.between(conversation, edge - 2, edge + 1).await.unwrap()), [edge - 1, edge, edge + 1]);
    assert_eq!(seqs(&reader.between(conversation, LAST - 1, LAST + 50).await.unwrap()), [LAST]);
    assert!(reader.between(conversation, 9, 9).await.unwrap().is_empty());
    assert!(reader.between(conversation, 9, 3).await.unwrap().is_empty());
}

async fn a_message_is_found_wherever_its_floor_is(store: Arc<dyn LogStore>) {
    let conversation_id = ConversationId::fresh();
    seed(&*store, conversation_id, UserId::fresh(), 1, LAST).await;
    let reader = LogReader::new(Arc::clone(&store));
    let places = [
        (1, 0),
        (LAST, LAST - 1),
        (LAST, 0),
        (BUCKET_ROWS, BUCKET_ROWS - 1),
        (BUCKET_ROWS, BUCKET_ROWS - 9),
        (BUCKET_ROWS - 1, 0),
        (2 * BUCKET_ROWS + 1, 17),
    ];
    for (seq, floor_seq) in places {
        let row = store.row(conversation_id, seq).await.unwrap().unwrap();
        store.put_locations(&[row.message_id], &Location { conversation_id, floor_seq }).await.unwrap();
        assert_eq!(reader.find(row.message_id).await.unwrap(), Some(row), "row {seq} after {floor_seq}");
    }
    // An attempt that was given up left its location and no row.
    let abandoned = MessageId::fresh();
    for floor_seq in [0, LAST] {
        store.put_locations(&[abandoned], &Location { conversation_id, floor_seq }).await.unwrap();
        assert_eq!(reader.find(abandoned).await.unwrap(), None);
    }
    assert_eq!(reader.find(MessageId::fresh()).await.unwrap(), None);
}
