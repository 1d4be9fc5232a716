//! A store that has no room: what has not begun is refused at once, what has begun goes on.

use std::sync::Arc;

use urge::clock::RealClock;
use urge::log::{Appender, Body, Change, Content, ConversationKind, LogStore};
use urge::task::Tasks;

use super::*;
use crate::support::wire::Wire;

/// An appender on a wire, with a conversation of one.
async fn wired() -> (Appender, Arc<Wire>, ConversationId, UserId, TempDir) {
    let (store, folder) = open();
    let wire = Arc::new(Wire::default());
    let log: Arc<dyn LogStore> = wire.log(Arc::new(store));
    let told = Told::open();
    let appender = Appender::new(log, Arc::new(RealClock), told, Tasks::default());
    let (id, ada) = (ConversationId::fresh(), UserId::fresh());
    appender.append(creation(id, ConversationKind::Group, &[ada])).await.unwrap();
    (appender, wire, id, ada, folder)
}

fn says(text: &str) -> Body {
    Body::Message(Content { content: text.into(), ..Content::default() })
}

#[tokio::test]
async fn what_has_not_begun_is_refused_at_once() {
    let (appender, wire, id, ada, _folder) = wired().await;
    wire.full("append_whole");
    let refused = appender.append(proposal(id, ada, says("one"))).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.retry_after.is_some());
    let posted = appender.append(proposal(id, ada, says("two"))).await.unwrap();
    assert_eq!(posted.row.seq, 2, "nothing was done");
    wire.full("rewrite_row");
    let change = Change {
        conversation_id: id,
        target_seq: 2,
        sender_id: ada,
        notice: Body::Edited,
        revise: Arc::new(|_, _| Ok(Some(Content { content: "three".into(), ..Content::default() }))),
        origin: Origin::default(),
    };
    assert_eq!(appender.change(change.clone()).await.unwrap_err().code, ErrorCode::Unavailable);
    assert!(appender.change(change).await.unwrap().fresh);
    assert!(wire.is_done());
}

#[tokio::test]
async fn everybody_who_waits_is_told_the_cause() {
    let (appender, wire, id, ada, _folder) = wired().await;
    wire.damage("append_whole");
    let one = proposal(id, ada, says("one"));
    let (first, second) = tokio::join!(appender.append(one.clone()), appender.append(one));
    for refused in [first, second] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Internal);
        let cause = refused.source.expect("the cause is lost").to_string();
        assert!(cause.contains("the test damaged it"), "{cause}");
    }
}

#[tokio::test]
async fn what_may_have_begun_goes_on() {
    let (appender, wire, id, ada, _folder) = wired().await;
    wire.fail("append_whole");
    wire.full("append_whole");
    assert_eq!(appender.append(proposal(id, ada, says("one"))).await.unwrap().row.seq, 2);
    // The row of a creation stands; its projections wait for room.
    let other = ConversationId::fresh();
    wire.full("put_conversation");
    wire.full("advance_heads");
    assert!(appender.append(creation(other, ConversationKind::Group, &[ada])).await.unwrap().fresh);
    assert!(wire.is_done());
}
