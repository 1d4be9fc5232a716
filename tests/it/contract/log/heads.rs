//! Heads and marks: they take the largest value ever written, whatever the order of the writes.

use std::sync::Arc;

use urge::clock::Timestamp;
use urge::id::{ConversationId, Seq, UserId};
use urge::log::{Cleared, ConversationKind, Flags, Head, LogStore, MemberMark, Membership, OwnMark, Profile};

use super::{head, joiner, record};
use crate::contract::{ORDERS, racing};

promises!(
    urge::log::LogStatements;
    heads_go_forward_only,
    racing_heads_end_at_the_last,
    whoever_wrote_has_read_up_to_there,
    the_conversation_shows_once_it_is_projected,
    the_profile_is_that_of_the_latest_row,
    a_large_conversation_says_so_everywhere,
    read_marks_go_forward_only,
    the_peers_marks_go_forward_only,
    a_members_marks_go_forward_only,
    what_is_cleared_stays_cleared,
    what_is_hidden_stays_hidden,
    the_latest_flags_stand,
    a_favourite_is_turned_by_one_of_many,
    what_is_not_indexed_is_listed,
);

/// A conversation with one member who joined with row 1.
async fn group(store: &dyn LogStore) -> (ConversationId, UserId) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    let record = record(ConversationKind::Group, false);
    store.put_conversation(conversation, &record, 1).await.unwrap();
    store.put_members(conversation, &record, &[joiner(user, 1)], &Cleared::default()).await.unwrap();
    (conversation, user)
}

async fn membership(store: &dyn LogStore, user: UserId, conversation: ConversationId) -> Membership {
    store.membership(user, conversation).await.unwrap().unwrap()
}

async fn heads_go_forward_only(store: Arc<dyn LogStore>) {
    for order in ORDERS {
        let (conversation, user) = group(&*store).await;
        let (other, mut last) = (UserId::fresh(), 0);
        for at in order {
            let seq = [3, 8, 20][at];
            last = last.max(seq);
            store.advance_heads(conversation, &head(seq), &[user, other], &[]).await.unwrap();
            assert_eq!(store.conversation(conversation).await.unwrap().unwrap().head, head(last));
            assert_eq!(membership(&*store, user, conversation).await.head, head(last));
        }
        assert_eq!(store.membership(other, conversation).await.unwrap(), None, "a head makes nobody a member");
        // It is there for whoever is projected later.
        let record = record(ConversationKind::Group, false);
        store.put_members(conversation, &record, &[joiner(other, 5)], &Cleared::default()).await.unwrap();
        assert_eq!(membership(&*store, other, conversation).await.head, head(20));
    }
}

async fn racing_heads_end_at_the_last(store: Arc<dyn LogStore>) {
    let (conversation, user) = group(&*store).await;
    racing(64, |number| {
        let store = Arc::clone(&store);
        let seq = 1 + (number as Seq * 37) % 64;
        async move {
            let own = OwnMark { user_id: user, seq, n: seq / 2 };
            store.advance_heads(conversation, &head(seq), &[user], &[own]).await.unwrap();
        }
    })
    .await;
    let membership = membership(&*store, user, conversation).await;
    assert_eq!((membership.head, membership.read_seq, membership.read_n), (head(64), 64, 32));
    assert_eq!(store.conversation(conversation).await.unwrap().unwrap().head, head(64));
}

async fn whoever_wrote_has_read_up_to_there(store: Arc<dyn LogStore>) {
    let (conversation, writer) = group(&*store).await;
    let reader = UserId::fresh();
    let record = record(ConversationKind::Group, false);
    store.put_members(conversation, &record, &[joiner(reader, 1)], &Cleared::default()).await.unwrap();
    store.mark_read(writer, conversation, 2, 1).await.unwrap();
    let own = OwnMark { user_id: writer, seq: 9, n: 4 };
    store.advance_heads(conversation, &head(12), &[writer, reader], &[own]).await.unwrap();
    let found = membership(&*store, writer, conversation).await;
    assert_eq!((found.read_seq, found.read_n, found.unread()), (9, 4, 2));
    let found = membership(&*store, reader, conversation).await;
    assert_eq!((found.read_seq, found.read_n, found.unread()), (0, 0, 6));
    // An older head brings no older mark.
    let own = OwnMark { user_id: writer, seq: 5, n: 2 };
    store.advance_heads(conversation, &head(8), &[writer], &[own]).await.unwrap();
    assert_eq!(membership(&*store, writer, conversation).await.read_seq, 9);
}

async fn the_conversation_shows_once_it_is_projected(store: Arc<dyn LogStore>) {
    let conversation = ConversationId::fresh();
    store.advance_heads(conversation, &head(2), &[], &[]).await.unwrap();
    store.mark_large(conversation, &[]).await.unwrap();
    assert_eq!(store.conversation(conversation).await.unwrap(), None);
    let written = record(ConversationKind::Direct, false);
    store.put_conversation(conversation, &written, 1).await.unwrap();
    let expected = urge::log::ConversationRecord { head: head(2), large: true, ..written };
    assert_eq!(store.conversation(conversation).await.unwrap(), Some(expected));
}

async fn the_profile_is_that_of_the_latest_row(store: Arc<dyn LogStore>) {
    for order in ORDERS {
        let conversation = ConversationId::fresh();
        let mut written = record(ConversationKind::Group, false);
        store.advance_heads(conversation, &head(30), &[], &[]).await.unwrap();
        let mut last = 0;
        for at in order {
            let seq = [1, 7, 19][at];
            last = last.max(seq);
            written.profile = Profile { name: Some(format!("named by row {seq}")), ..Profile::default() };
            // The writer's own idea of the head is not the store's.
            written.head = head(seq);
            store.put_conversation(conversation, &written, seq).await.unwrap();
            let found = store.conversation(conversation).await.unwrap().unwrap();
            assert_eq!(found.profile.name, Some(format!("named by row {last}")));
            assert_eq!(found.head, head(30), "a profile moves no head");
        }
    }
}

async fn a_large_conversation_says_so_everywhere(store: Arc<dyn LogStore>) {
    let (conversation, user) = group(&*store).await;
    store.mark_large(conversation, &[user]).await.unwrap();
    assert!(membership(&*store, user, conversation).await.large);
    assert!(store.conversation(conversation).await.unwrap().unwrap().large);
    // Somebody who does not know it yet takes nothing back.
    let small = record(ConversationKind::Group, false);
    store.put_conversation(conversation, &small, 9).await.unwrap();
    store.put_members(conversation, &small, &[joiner(user, 9)], &Cleared::default()).await.unwrap();
    assert!(membership(&*store, user, conversation).await.large);
    assert!(store.conversation(conversation).await.unwrap().unwrap().large);
    let large = record(ConversationKind::Group, true);
    let joined = UserId::fresh();
    store.put_members(conversation, &large, &[joiner(joined, 10)], &Cleared::default()).await.unwrap();
    assert!(membership(&*store, joined, conversation).await.large);
}

async fn read_marks_go_forward_only(store: Arc<dyn LogStore>) {
    for order in ORDERS {
        let (conversation, user) = group(&*store).await;
        let mut last = (0, 0);
        for at in order {
            let (seq, n) = [(2, 1), (9, 4), (14, 4)][at];
            last = last.max((seq, n));
            store.mark_read(user, conversation, seq, n).await.unwrap();
            let found = membership(&*store, user, conversation).await;
            assert_eq!((found.read_seq, found.read_n), last);
        }
    }
}

async fn the_peers_marks_go_forward_only(store: Arc<dyn LogStore>) {
    for order in ORDERS {
        let (conversation, user) = group(&*store).await;
        let (mut delivered, mut read) = (0, 0);
        for at in order {
            let (to, seen) = [(3, 0), (12, 4), (8, 8)][at];
            (delivered, read) = (delivered.max(to), read.max(seen));
            let mark = MemberMark { user_id: UserId::fresh(), delivered_seq: to, read_seq: seen, peer: Some(user) };
            store.mark_members(conversation, &[mark], Timestamp(1)).await.unwrap();
            let found = membership(&*store, user, conversation).await;
            assert_eq!((found.peer_delivered_seq, found.peer_read_seq), (delivered, read));
            assert_eq!(found.read_seq, 0, "the peer's mark is not one's own");
        }
    }
}

async fn a_members_marks_go_forward_only(store: Arc<dyn LogStore>) {
    for order in ORDERS {
        let (conversation, user) = group(&*store).await;
        // Each mark's time belongs to its row.
        let (mut delivered, mut read) = ((0, Timestamp(0)), (0, Timestamp(0)));
        for at in order {
            let (to, seen, time) = [(3, 0, 300), (12, 4, 200), (8, 8, 100)][at];
            let time = Timestamp(time);
            if to > delivered.0 {
                delivered = (to, time);
            }
            if seen > read.0 {
                read = (seen, time);
            }
            let mark = |user_id| MemberMark { user_id, delivered_seq: to, read_seq: seen, peer: None };
            store.mark_members(conversation, &[mark(user), mark(UserId::fresh())], time).await.unwrap();
            let found = store.member(conversation, user).await.unwrap().unwrap();
            assert_eq!((found.delivered_seq, found.delivered_at), delivered);
            assert_eq!((found.read_seq, found.read_at), read);
        }
    }
    let (conversation, nobody) = (ConversationId::fresh(), UserId::fresh());
    store
        .mark_members(conversation, &[MemberMark { user_id: nobody, delivered_seq: 3, read_seq: 3, peer: None }], Timestamp(1))
        .await
        .unwrap();
    assert_eq!(store.member(conversation, nobody).await.unwrap(), None, "a mark makes nobody a member");
    assert!(store.members(conversation, None, 10).await.unwrap().is_empty());
}

async fn what_is_cleared_stays_cleared(store: Arc<dyn LogStore>) {
    for order in ORDERS {
        let (conversation, user) = group(&*store).await;
        let mut last = Cleared::default();
        for at in order {
            let seq = [4, 9, 30][at];
            let cleared = Cleared { seq, n: seq / 2, total: seq / 2 + 1 };
            last = if cleared.seq > last.seq { cleared } else { last };
            store.clear(user, conversation, &cleared).await.unwrap();
            let found = membership(&*store, user, conversation).await;
            assert_eq!(Cleared { seq: found.cleared_seq, n: found.cleared_n, total: found.cleared_total }, last);
        }
    }
}

async fn what_is_hidden_stays_hidden(store: Arc<dyn LogStore>) {
    for order in ORDERS {
        let (conversation, user) = group(&*store).await;
        let mut last = 0;
        for at in order {
            let seq = [4, 9, 30][at];
            last = last.max(seq);
            store.hide(user, conversation, seq).await.unwrap();
            assert_eq!(membership(&*store, user, conversation).await.hidden_seq, last);
        }
    }
}

async fn the_latest_flags_stand(store: Arc<dyn LogStore>) {
    for order in ORDERS {
        let (conversation, user) = group(&*store).await;
        let mut last = Timestamp(0);
        let mut expected = false;
        for at in order {
            let (time, archived) = [(10, true), (20, false), (30, true)][at];
            if Timestamp(time) >= last {
                (last, expected) = (Timestamp(time), archived);
            }
            let flags = Flags { archived: Some(archived), ..Flags::default() };
            store.set_flags(user, conversation, &flags, Timestamp(time)).await.unwrap();
            let found = membership(&*store, user, conversation).await;
            assert_eq!((found.muted, found.archived, found.favourite), (false, expected, false));
        }
        let flags = Flags { muted: Some(true), archived: None };
        store.set_flags(user, conversation, &flags, Timestamp(40)).await.unwrap();
        let found = membership(&*store, user, conversation).await;
        assert_eq!((found.muted, found.archived, found.favourite), (true, true, false), "what is not named stays");
        assert_eq!(found.flags_at, Timestamp(40));
        // Each flag has its own time: one that was set earlier than another is set all the same.
        let earlier = Flags { archived: Some(false), muted: Some(false) };
        store.set_flags(user, conversation, &earlier, Timestamp(35)).await.unwrap();
        let found = membership(&*store, user, conversation).await;
        assert_eq!((found.muted, found.archived, found.flags_at), (true, false, Timestamp(40)));
    }
}

async fn a_favourite_is_turned_by_one_of_many(store: Arc<dyn LogStore>) {
    let (conversation, user) = group(&*store).await;
    for to in [true, false, true] {
        let turned = racing(32, |_| {
            let store = Arc::clone(&store);
            async move { store.turn_favourite(user, conversation, to, Timestamp(10)).await.unwrap() }
        })
        .await;
        assert_eq!(turned.into_iter().filter(|turned| *turned).count(), 1);
        assert_eq!(membership(&*store, user, conversation).await.favourite, to);
    }
    assert!(!store.turn_favourite(UserId::fresh(), conversation, false, Timestamp(10)).await.unwrap());
}

async fn what_is_not_indexed_is_listed(store: Arc<dyn LogStore>) {
    let mut behind = Vec::new();
    for _ in 0..25 {
        let (conversation, _) = group(&*store).await;
        store.advance_heads(conversation, &head(6), &[], &[]).await.unwrap();
        behind.push(conversation);
    }
    let indexed = behind.split_off(20);
    for conversation in &indexed {
        store.mark_indexed(*conversation, 6).await.unwrap();
        store.mark_indexed(*conversation, 2).await.unwrap();
        assert_eq!(store.conversation(*conversation).await.unwrap().unwrap().indexed_seq, 6);
    }
    store.mark_indexed(behind[0], 5).await.unwrap();
    let mut listed = Vec::new();
    loop {
        let page = store.unindexed(listed.last().copied(), 7).await.unwrap();
        assert!(page.len() <= 7);
        listed.extend_from_slice(&page);
        if page.is_empty() {
            break;
        }
    }
    assert!(behind.iter().all(|conversation| listed.iter().filter(|other| *other == conversation).count() == 1));
    assert!(!indexed.iter().any(|conversation| listed.contains(conversation)));
    // A new row puts it behind again.
    store.advance_heads(indexed[0], &Head { seq: 7, ..head(6) }, &[], &[]).await.unwrap();
    assert!(store.unindexed(None, 10_000).await.unwrap().contains(&indexed[0]));
}
