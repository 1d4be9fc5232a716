//! Rows: inserted once, changed under their version, read by bucket.

use std::sync::Arc;

use urge::clock::Timestamp;
use urge::id::{ConversationId, MessageId, UserId};
use urge::log::{
    BUCKET_ROWS, Body, Content, ConversationKind, Creation, GroupRules, Insert, Location, LogRow, LogStore, MemberState, MembersChange,
    MessageType, Profile, ProfileChange, Reply, Rewrite, Rewritten, Role,
};

use crate::contract::racing;
use crate::support::rows::{row, seed, words};

promises!(
    urge::log::LogStatements;
    rows_come_back_as_they_were_written,
    an_insert_is_all_or_nothing,
    of_racing_inserts_one_is_applied,
    of_racing_batches_one_is_applied_whole,
    a_change_and_its_notice_are_one,
    a_change_without_a_notice,
    a_refused_change_says_what_is_there,
    of_racing_changes_one_is_applied,
    a_change_meets_an_insert_at_its_notices_place,
    reads_end_with_the_bucket,
    a_message_is_located,
);

async fn rows_come_back_as_they_were_written(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    let profile = Profile {
        name: Some("Zoë's 🦊".into()),
        description: Some("line\nline".into()),
        avatar_url: Some("https://example.org/a.png".into()),
        rules: GroupRules { invite_link: Some("abcdefghijkl".into()), ..GroupRules::default() },
    };
    let content = Content {
        message_type: MessageType::Voice,
        content: "'quoted' \"twice\" \u{0} ✓".into(),
        media_url: Some("https://example.org/m".into()),
        thumbnail_url: Some("https://example.org/t".into()),
        audio_duration: Some(1.25),
        reply_to: Some(Reply { id: MessageId::fresh(), seq: 1, sender_id: user, content: "so?".into() }),
        is_encrypted: true,
        is_forwarded: true,
        client_message_id: Some("c-1".into()),
        is_edited: true,
    };
    let creation = Creation { kind: ConversationKind::Group, profile: profile.clone(), members: vec![(user, Role::Founder)] };
    let change = MembersChange { members: vec![(user, MemberState::Removed, Role::Cheerleader)], text: "gone".into() };
    let bodies = [
        Body::Created(creation),
        Body::Message(content),
        Body::Edited,
        Body::Deleted,
        Body::Members(change),
        Body::Profile(ProfileChange { profile, text: "renamed".into() }),
    ];
    for (body, seq) in bodies.into_iter().zip(1..) {
        let mut row = row(conversation, seq, user, body);
        row.target_seq = (seq == 3).then_some(2);
        row.deleted_at = (seq == 2).then_some(Timestamp(9_999));
        (row.n, row.total, row.version, row.change_seq) = (seq * 10, seq * 11, seq * 12, seq * 13);
        row.change_id = MessageId::fresh();
        assert_eq!(store.insert_rows(std::slice::from_ref(&row)).await.unwrap(), Insert::Applied);
        assert_eq!(store.row(conversation, seq).await.unwrap(), Some(row));
    }
    assert_eq!(store.row(conversation, 7).await.unwrap(), None);
    assert_eq!(store.row(ConversationId::fresh(), 1).await.unwrap(), None);
}

async fn an_insert_is_all_or_nothing(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    let rows: Vec<_> = (1..=3).map(|seq| row(conversation, seq, user, words("first"))).collect();
    assert_eq!(store.insert_rows(&rows).await.unwrap(), Insert::Applied);
    let late: Vec<_> = (3..=5).map(|seq| row(conversation, seq, user, words("late"))).collect();
    assert_eq!(store.insert_rows(&late).await.unwrap(), Insert::Exists(Box::new(rows[2].clone())));
    assert_eq!(store.row(conversation, 4).await.unwrap(), None, "of a refused insert nothing may stand");
    assert_eq!(store.insert_rows(&late[1..]).await.unwrap(), Insert::Applied);
    // Again is the same, and says whose the place is.
    assert_eq!(store.insert_rows(&rows).await.unwrap(), Insert::Exists(Box::new(rows[0].clone())));
    let expected: Vec<_> = rows.into_iter().chain(late.into_iter().skip(1)).collect();
    assert_eq!(store.rows_after(conversation, 0, 100).await.unwrap(), expected);
    assert_eq!(store.insert_rows(&[]).await.unwrap(), Insert::Applied);
}

async fn of_racing_inserts_one_is_applied(store: Arc<dyn LogStore>) {
    let conversation = ConversationId::fresh();
    for seq in 1..=4 {
        let results = racing(64, |_| {
            let (store, row) = (Arc::clone(&store), row(conversation, seq, UserId::fresh(), words("mine")));
            async move { (store.insert_rows(std::slice::from_ref(&row)).await.unwrap(), row) }
        })
        .await;
        let applied: Vec<_> = results.iter().filter(|(insert, _)| *insert == Insert::Applied).map(|(_, row)| row).collect();
        assert_eq!(applied.len(), 1, "row {seq} was claimed by several or none");
        assert_eq!(store.row(conversation, seq).await.unwrap().as_ref(), Some(applied[0]));
        let told = Insert::Exists(Box::new(applied[0].clone()));
        assert!(results.iter().all(|(insert, row)| row == applied[0] || *insert == told), "a loser was told of another row");
    }
}

async fn of_racing_batches_one_is_applied_whole(store: Arc<dyn LogStore>) {
    let conversation = ConversationId::fresh();
    let results = racing(32, |_| {
        let (store, user) = (Arc::clone(&store), UserId::fresh());
        let rows: Vec<_> = (1..=8).map(|seq| row(conversation, seq, user, words("ours"))).collect();
        async move { (store.insert_rows(&rows).await.unwrap(), rows) }
    })
    .await;
    let applied: Vec<_> = results.into_iter().filter(|(insert, _)| *insert == Insert::Applied).map(|(_, rows)| rows).collect();
    assert_eq!(applied.len(), 1);
    assert_eq!(store.rows_after(conversation, 0, 100).await.unwrap(), applied[0]);
}

fn changed(target: &LogRow, notice: &LogRow, text: &str) -> LogRow {
    LogRow {
        body: words(text),
        updated_at: notice.created_at,
        deleted_at: Some(notice.created_at),
        version: target.version + 1,
        change_seq: notice.seq,
        change_id: notice.message_id,
        ..target.clone()
    }
}

async fn a_change_and_its_notice_are_one(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    seed(&*store, conversation, user, 1, 3).await;
    let stored = store.row(conversation, 2).await.unwrap().unwrap();
    let notice = LogRow { target_seq: Some(2), ..row(conversation, 4, user, Body::Edited) };
    let target = changed(&stored, &notice, "changed");
    let rewrite = Rewrite { target: target.clone(), notice: Some(notice.clone()) };
    assert_eq!(store.rewrite_row(&rewrite).await.unwrap(), Rewritten::Applied);
    assert_eq!(store.row(conversation, 2).await.unwrap(), Some(target.clone()));
    assert_eq!(store.row(conversation, 4).await.unwrap(), Some(notice.clone()));
    // Again is refused, and the writer knows itself in what it is told.
    let again = Rewritten::Refused { target: Some(Box::new(target)), taken: Some(Box::new(notice)) };
    assert_eq!(store.rewrite_row(&rewrite).await.unwrap(), again);
}

async fn a_change_without_a_notice(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    seed(&*store, conversation, user, 1, 1).await;
    let mut stored = store.row(conversation, 1).await.unwrap().unwrap();
    for text in ["once", "twice"] {
        let target = changed(&stored, &row(conversation, 5_000, user, Body::Edited), text);
        assert_eq!(store.rewrite_row(&Rewrite { target: target.clone(), notice: None }).await.unwrap(), Rewritten::Applied);
        assert_eq!(store.row(conversation, 1).await.unwrap(), Some(target.clone()));
        stored = target;
    }
    assert_eq!(store.row(conversation, 2).await.unwrap(), None);
}

async fn a_refused_change_says_what_is_there(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    seed(&*store, conversation, user, 1, 3).await;
    let stored = store.row(conversation, 2).await.unwrap().unwrap();
    let last = store.row(conversation, 3).await.unwrap().unwrap();
    let at = |seq| LogRow { target_seq: Some(2), ..row(conversation, seq, user, Body::Edited) };
    // The notice's place is taken.
    let rewrite = Rewrite { target: changed(&stored, &at(3), "x"), notice: Some(at(3)) };
    let expected = Rewritten::Refused { target: Some(Box::new(stored.clone())), taken: Some(Box::new(last)) };
    assert_eq!(store.rewrite_row(&rewrite).await.unwrap(), expected);
    // Another version than the expected one, too high and too low.
    for version in [0, 2] {
        let rewrite = Rewrite { target: LogRow { version, ..changed(&stored, &at(4), "x") }, notice: Some(at(4)) };
        let expected = Rewritten::Refused { target: Some(Box::new(stored.clone())), taken: None };
        assert_eq!(store.rewrite_row(&rewrite).await.unwrap(), expected);
    }
    // No such row.
    let absent = row(conversation, 9, user, words("never"));
    let rewrite = Rewrite { target: changed(&absent, &at(4), "x"), notice: Some(at(4)) };
    assert_eq!(store.rewrite_row(&rewrite).await.unwrap(), Rewritten::Refused { target: None, taken: None });
    assert_eq!(store.row(conversation, 2).await.unwrap(), Some(stored));
    assert_eq!(store.row(conversation, 4).await.unwrap(), None, "a refused change left its notice");
    assert_eq!(store.row(conversation, 9).await.unwrap(), None, "a change of nothing made a row");
}

async fn of_racing_changes_one_is_applied(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    seed(&*store, conversation, user, 1, 2).await;
    let stored = store.row(conversation, 1).await.unwrap().unwrap();
    let results = racing(64, |number| {
        // Half of them bring a notice, all of them to places of their own: the version alone decides.
        let notice = LogRow { target_seq: Some(1), ..row(conversation, 3 + number as i64, user, Body::Edited) };
        let target = changed(&stored, &notice, "mine");
        let rewrite = Rewrite { target, notice: (number % 2 == 0).then_some(notice) };
        let store = Arc::clone(&store);
        async move { (store.rewrite_row(&rewrite).await.unwrap(), rewrite) }
    })
    .await;
    let applied: Vec<_> = results.into_iter().filter(|(result, _)| *result == Rewritten::Applied).map(|(_, rewrite)| rewrite).collect();
    assert_eq!(applied.len(), 1);
    assert_eq!(store.row(conversation, 1).await.unwrap().as_ref(), Some(&applied[0].target));
    let notices: Vec<_> = applied[0].notice.clone().into_iter().collect();
    assert_eq!(store.rows_after(conversation, 2, 100).await.unwrap(), notices);
}

async fn a_change_meets_an_insert_at_its_notices_place(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    seed(&*store, conversation, user, 1, 1).await;
    for seq in 2..=9 {
        let stored = store.row(conversation, 1).await.unwrap().unwrap();
        let won = racing(2, |number| {
            let store = Arc::clone(&store);
            let notice = LogRow { target_seq: Some(1), ..row(conversation, seq, user, Body::Edited) };
            let rewrite = Rewrite { target: changed(&stored, &notice, "changed"), notice: Some(notice) };
            let message = row(conversation, seq, user, words("inserted"));
            async move {
                if number == 0 {
                    store.rewrite_row(&rewrite).await.unwrap() == Rewritten::Applied
                } else {
                    store.insert_rows(&[message]).await.unwrap() == Insert::Applied
                }
            }
        })
        .await;
        assert_ne!(won[0], won[1], "exactly one gets row {seq}");
        let version = store.row(conversation, 1).await.unwrap().unwrap().version;
        assert_eq!(version, stored.version + i64::from(won[0]));
        assert_eq!(store.row(conversation, seq).await.unwrap().unwrap().body == Body::Edited, won[0]);
    }
}

async fn reads_end_with_the_bucket(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    let edge = BUCKET_ROWS;
    seed(&*store, conversation, user, edge - 5, edge + 5).await;
    let seqs = |rows: Vec<LogRow>| rows.into_iter().map(|row| row.seq).collect::<Vec<_>>();
    let after = async |after, limit| seqs(store.rows_after(conversation, after, limit).await.unwrap());
    let before = async |before, limit| seqs(store.rows_before(conversation, before, limit).await.unwrap());
    assert_eq!(after(edge - 3, 100).await, [edge - 2, edge - 1]);
    assert_eq!(after(edge - 2, 100).await, [edge - 1]);
    assert_eq!(after(edge - 1, 3).await, [edge, edge + 1, edge + 2]);
    assert_eq!(after(edge, 100).await, [edge + 1, edge + 2, edge + 3, edge + 4, edge + 5]);
    assert!(after(edge + 5, 100).await.is_empty());
    assert_eq!(before(edge + 3, 100).await, [edge + 2, edge + 1, edge]);
    assert_eq!(before(edge + 1, 100).await, [edge]);
    assert_eq!(before(edge, 2).await, [edge - 1, edge - 2]);
    assert!(before(edge - 5, 100).await.is_empty());
    assert_eq!(before(edge + 100, 2).await, [edge + 5, edge + 4]);
}

async fn a_message_is_located(store: Arc<dyn LogStore>) {
    let (message, conversation_id) = (MessageId::fresh(), ConversationId::fresh());
    assert_eq!(store.location(message).await.unwrap(), None);
    let low = Location { conversation_id, floor_seq: 3 };
    store.put_locations(&[message], &low).await.unwrap();
    assert_eq!(store.location(message).await.unwrap(), Some(low));
    // Two writers: either floor is right, and nothing else.
    let high = Location { conversation_id, floor_seq: 7 };
    store.put_locations(&[message], &high).await.unwrap();
    let found = store.location(message).await.unwrap().unwrap();
    assert!(found == low || found == high, "{found:?}");
}
