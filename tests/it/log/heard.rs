//! What a node hears of other nodes' appends: a message right behind what it knows is taken in, and nothing else is.

use urge::event::{Envelope, RowEvent, Step};

use super::*;

/// What the bus says of this row.
fn event(posted: &Posted) -> Envelope {
    let row = &posted.row;
    Envelope::Row(RowEvent {
        conversation_id: row.conversation_id,
        seq: row.seq,
        audience: [].into(),
        is_large: false,
        target_seq: None,
        introduces: [].into(),
        refreshes: false,
        event: None,
        faceless: None,
        message: None,
        step: matches!(row.body, Body::Message(_)).then_some(Step { n: row.n, total: row.total, at: row.created_at }),
        origin: Origin::default(),
        posted: false,
        again: false,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_another_node_has_appended_is_known_once_it_is_heard_of() {
    let (store, _folder) = open();
    let [here, there] = [node(&store), node(&store)];
    let (conversation, users) = group(&here, 2).await;
    let known = async || here.appender.known(conversation).await.unwrap();
    let say = async |text| append(&there, proposal(conversation, users[1], words(text))).await.unwrap();
    let (first, second, third) = (say("first").await, say("second").await, say("third").await);
    assert_eq!(known().await.head.seq, 1, "nobody has said so here");

    here.appender.note(&event(&second));
    assert_eq!(known().await.head.seq, 1, "the row before it is not known: it may change the members");
    for posted in [&first, &second, &third, &second] {
        here.appender.note(&event(posted));
    }
    let (heard, read) = (known().await, there.appender.known(conversation).await.unwrap());
    assert_eq!((heard.head, heard.last_at), (read.head, read.last_at));

    let next = append(&here, proposal(conversation, users[0], words("fourth"))).await.unwrap();
    assert_eq!((next.row.seq, next.row.n), (5, 4));
    assert_eq!(log_of(&store, conversation).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_more_than_the_end_is_learnt_from_the_log() {
    let (store, _folder) = open();
    let [here, there] = [node(&store), node(&store)];
    let (conversation, users) = group(&here, 2).await;
    let new = UserId::fresh();
    let joined = append(&there, proposal(conversation, users[0], joining([new]))).await.unwrap();
    let said = append(&there, proposal(conversation, new, words("hello"))).await.unwrap();
    for posted in [&joined, &said] {
        here.appender.note(&event(posted));
    }
    assert_eq!(here.appender.known(conversation).await.unwrap().head.seq, 1);
    let answered = append(&here, proposal(conversation, new, words("from here too"))).await.unwrap();
    assert_eq!(answered.row.seq, 4, "his membership was found in the log");
}
