//! A second attempt at a message whose first one died amid the heads, which are written in no order: what it is answered
//! with is in all lists.

use urge::log::Location;

use super::*;

/// A message of the first member that stands in the log and in the conversation's head, in no membership's.
async fn half_headed(store: &Sqlite, node: &Node) -> (Proposal, Seq, Vec<UserId>) {
    let (id, users) = group(node, 3).await;
    let state = node.appender.state(id).await.unwrap();
    let message = row(id, state.head.seq + 1, users[0], words("hello"));
    let location = Location { conversation_id: id, floor_seq: state.head.seq };
    store.put_locations(&[message.message_id], &location).await.unwrap();
    assert_eq!(store.insert_rows(std::slice::from_ref(&message)).await.unwrap(), Insert::Applied);
    store.advance_heads(id, &state.head.after(&message), &[], &[]).await.unwrap();
    let again = Proposal { message_id: message.message_id, may_exist: true, ..proposal(id, users[0], message.body) };
    (again, message.seq, users)
}

async fn is_in_all_lists(store: &Sqlite, node: &Node, (again, seq, users): (Proposal, Seq, Vec<UserId>)) {
    let id = again.conversation_id;
    let posted = append(node, again).await.unwrap();
    assert!(!posted.fresh && posted.row.seq == seq, "{posted:?}");
    for user in &users {
        assert_eq!(store.membership(*user, id).await.unwrap().unwrap().head.seq, seq);
    }
    assert_eq!(store.membership(users[0], id).await.unwrap().unwrap().read_seq, seq, "who wrote it has read it");
}

#[tokio::test]
async fn a_node_that_reads_what_stands_behind_the_location_writes_the_heads() {
    let (store, _folder) = open();
    let half = half_headed(&store, &node(&store)).await;
    is_in_all_lists(&store, &node(&store), half).await;
}

#[tokio::test]
async fn a_node_that_is_refused_the_place_writes_the_heads() {
    let (store, _folder) = open();
    let first = node(&store);
    let half = half_headed(&store, &first).await;
    is_in_all_lists(&store, &first, half).await;
}
