//! Members and memberships: projections of rows that may be projected again, late and out of order.

use std::collections::BTreeSet;
use std::sync::Arc;

use urge::clock::Timestamp;
use urge::id::{ConversationId, UserId};
use urge::log::{Cleared, ConversationKind, LogStore, Member, MemberMark, MemberState, Role};

use super::{joiner, record};
use crate::contract::{ORDERS, racing};

promises!(
    urge::log::LogStatements;
    the_latest_change_of_a_member_stands,
    racing_changes_end_at_the_latest,
    joiners_see_nothing_from_before,
    who_comes_back_sees_nothing_from_in_between,
    a_joiners_marks_take_nothing_back,
    peers_know_each_other,
    members_are_paged_by_id,
    memberships_are_one_persons,
);

const CLEARED: Cleared = Cleared { seq: 11, n: 7, total: 9 };

/// A joiner, his change of office and his going.
fn career(user: UserId) -> [Member; 3] {
    let joined = joiner(user, 12);
    let promoted = Member { role: Role::Moderator, change_seq: 15, ..joined };
    let gone = Member { state: MemberState::Left, change_seq: 20, ..promoted };
    [joined, promoted, gone]
}

async fn the_latest_change_of_a_member_stands(store: Arc<dyn LogStore>) {
    let record = record(ConversationKind::Group, false);
    for order in ORDERS {
        let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
        let career = career(user);
        let mut last = career[order[0]];
        for at in order {
            let change = career[at];
            if change.change_seq > last.change_seq {
                last = change;
            }
            store.put_members(conversation, &record, &[change], &CLEARED).await.unwrap();
            let member = store.member(conversation, user).await.unwrap().unwrap();
            assert_eq!((member.state, member.role, member.change_seq), (last.state, last.role, last.change_seq));
            assert_eq!((member.joined_seq, member.joined_at), (12, Timestamp(1_012)));
            let found = store.membership(user, conversation).await.unwrap().unwrap();
            assert_eq!((found.state, found.role, found.change_seq), (last.state, last.role, last.change_seq));
            assert_eq!((found.joined_seq, found.kind, found.peer_id), (12, ConversationKind::Group, None));
        }
    }
}

async fn racing_changes_end_at_the_latest(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    racing(48, |number| {
        let store = Arc::clone(&store);
        async move {
            let record = record(ConversationKind::Group, false);
            store.put_members(conversation, &record, &[career(user)[number % 3]], &CLEARED).await.unwrap();
        }
    })
    .await;
    let member = store.member(conversation, user).await.unwrap().unwrap();
    assert_eq!((member.state, member.change_seq), (MemberState::Left, 20));
    let found = store.membership(user, conversation).await.unwrap().unwrap();
    assert_eq!((found.state, found.change_seq, found.cleared_seq), (MemberState::Left, 20, CLEARED.seq));
}

async fn joiners_see_nothing_from_before(store: Arc<dyn LogStore>) {
    let (conversation, old, new) = (ConversationId::fresh(), UserId::fresh(), UserId::fresh());
    let record = record(ConversationKind::Group, false);
    store.put_members(conversation, &record, &[joiner(old, 1)], &Cleared::default()).await.unwrap();
    // One row: somebody joins, somebody else changes office.
    let promoted = Member { role: Role::Support, change_seq: 12, ..joiner(old, 1) };
    store.put_members(conversation, &record, &[promoted, joiner(new, 12)], &CLEARED).await.unwrap();
    let found = store.membership(new, conversation).await.unwrap().unwrap();
    assert_eq!((found.cleared_seq, found.cleared_n, found.cleared_total), (11, 7, 9));
    assert_eq!((found.read_seq, found.read_n), (11, 7), "nothing from before counts as unread");
    let found = store.membership(old, conversation).await.unwrap().unwrap();
    assert_eq!((found.cleared_seq, found.read_seq), (0, 0), "a change of office hides nothing");
}

async fn who_comes_back_sees_nothing_from_in_between(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    let record = record(ConversationKind::Group, false);
    let [joined, _, gone] = career(user);
    let back = joiner(user, 40);
    let later = Cleared { seq: 39, n: 21, total: 25 };
    store.put_members(conversation, &record, &[joined], &CLEARED).await.unwrap();
    store.put_members(conversation, &record, &[gone], &Cleared { seq: 19, n: 12, total: 14 }).await.unwrap();
    store.put_members(conversation, &record, &[back], &later).await.unwrap();
    // The first joining is projected again, late.
    store.put_members(conversation, &record, &[joined], &CLEARED).await.unwrap();
    let found = store.membership(user, conversation).await.unwrap().unwrap();
    assert_eq!((found.state, found.joined_seq, found.change_seq), (MemberState::Active, 40, 40));
    assert_eq!((found.cleared_seq, found.cleared_n, found.cleared_total), (39, 21, 25));
    assert_eq!((found.read_seq, found.read_n), (39, 21));
}

async fn a_joiners_marks_take_nothing_back(store: Arc<dyn LogStore>) {
    let (conversation, user) = (ConversationId::fresh(), UserId::fresh());
    let record = record(ConversationKind::Group, false);
    // His device was faster than the projection.
    store
        .mark_members(conversation, &[MemberMark { user_id: user, delivered_seq: 30, read_seq: 25, peer: None }], Timestamp(500))
        .await
        .unwrap();
    store.mark_read(user, conversation, 25, 14).await.unwrap();
    store.clear(user, conversation, &Cleared { seq: 22, n: 12, total: 15 }).await.unwrap();
    store.put_members(conversation, &record, &[joiner(user, 12)], &CLEARED).await.unwrap();
    let member = store.member(conversation, user).await.unwrap().unwrap();
    assert_eq!((member.delivered_seq, member.read_seq), (30, 25));
    let found = store.membership(user, conversation).await.unwrap().unwrap();
    assert_eq!((found.read_seq, found.read_n), (25, 14));
    assert_eq!((found.cleared_seq, found.cleared_n, found.cleared_total), (22, 12, 15));
}

async fn peers_know_each_other(store: Arc<dyn LogStore>) {
    let (a, b) = (UserId::fresh(), UserId::fresh());
    let conversation = ConversationId::direct(a, b);
    let record = record(ConversationKind::Direct, false);
    for _ in 0..2 {
        store.put_members(conversation, &record, &[joiner(a, 1), joiner(b, 1)], &Cleared::default()).await.unwrap();
    }
    for (user, peer) in [(a, b), (b, a)] {
        let found = store.membership(user, conversation).await.unwrap().unwrap();
        assert_eq!((found.kind, found.peer_id), (ConversationKind::Direct, Some(peer)));
    }
}

async fn members_are_paged_by_id(store: Arc<dyn LogStore>) {
    let conversation = ConversationId::fresh();
    let record = record(ConversationKind::Group, true);
    let mut everybody: Vec<_> = (0..230).map(|_| joiner(UserId::fresh(), 1)).collect();
    for member in everybody.iter_mut().step_by(7) {
        *member = Member { state: MemberState::Removed, change_seq: 2, ..*member };
    }
    store.put_members(conversation, &record, &everybody, &Cleared::default()).await.unwrap();
    store.put_members(ConversationId::fresh(), &record, &[joiner(UserId::fresh(), 1)], &Cleared::default()).await.unwrap();
    let mut paged = Vec::new();
    loop {
        let page = store.members(conversation, paged.last().map(|member: &Member| member.user_id), 100).await.unwrap();
        let sizes = [100, 100, 30, 0];
        assert_eq!(page.len(), sizes[paged.len().div_ceil(100)]);
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    everybody.sort_by_key(|member| member.user_id);
    assert_eq!(paged, everybody, "gone ones included, each once, by id");
}

async fn memberships_are_one_persons(store: Arc<dyn LogStore>) {
    let (user, other) = (UserId::fresh(), UserId::fresh());
    let record = record(ConversationKind::Group, false);
    let mut expected = BTreeSet::new();
    for number in 0..30 {
        let conversation = ConversationId::fresh();
        let members = if number % 3 == 0 { vec![joiner(other, 1)] } else { vec![joiner(user, 1), joiner(other, 1)] };
        if number % 3 != 0 {
            expected.insert(conversation);
        }
        store.put_members(conversation, &record, &members, &Cleared::default()).await.unwrap();
    }
    // Marks alone are no membership.
    store.mark_read(user, ConversationId::fresh(), 3, 1).await.unwrap();
    store.hide(user, ConversationId::fresh(), 3).await.unwrap();
    let found = store.memberships(user).await.unwrap();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found.iter().map(|membership| membership.conversation_id).collect::<BTreeSet<_>>(), expected);
    for membership in found {
        let alone = store.membership(user, membership.conversation_id).await.unwrap();
        assert_eq!(alone, Some(membership));
    }
    assert!(store.memberships(UserId::fresh()).await.unwrap().is_empty());
}
