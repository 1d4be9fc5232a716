//! What workers are told of appends: once a batch, before the answer, again by whoever tries again. Nobody is answered
//! "done" of whose row they were not told.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_are_told_once_a_batch_of_its_last_row() {
    let (store, _folder) = open();
    let node = node(&store);
    let (conversation, users) = group(&node, 2).await;
    assert_eq!(*node.told.grown.lock(), [(conversation, 1)]);
    // The next append hangs in its announcement while the others wait behind it.
    let held = node.told.gate.acquire().await.unwrap();
    let sends: Vec<_> = (0..20)
        .map(|n| {
            let (appender, proposal) = (node.appender.clone(), proposal(conversation, users[0], words(&n.to_string())));
            tokio::spawn(async move { appender.append(proposal).await })
        })
        .collect();
    while store.conversation(conversation).await.unwrap().unwrap().head.seq == 1 {
        tokio::task::yield_now().await;
    }
    drop(held);
    for send in sends {
        send.await.unwrap().unwrap();
    }
    let batches = node.told.batches.lock().clone();
    let ends = batches.iter().scan(0, |end, rows| {
        *end += *rows as Seq;
        Some((conversation, *end))
    });
    assert_eq!(*node.told.grown.lock(), ends.collect::<Vec<_>>());
    assert!(batches.len() < 21, "some went together: {batches:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_whom_nobody_was_told_perhaps_is_answered() {
    let (store, _folder) = open();
    let nodes = [node(&store), node(&store)];
    let (conversation, users) = group(&nodes[0], 2).await;
    // The other node knows the conversation as it is now, and hears of nothing later.
    append(&nodes[1], proposal(conversation, users[1], words("known"))).await.unwrap();
    append(&nodes[0], proposal(conversation, users[0], words("known here too"))).await.unwrap();
    let wanted = Proposal { may_exist: true, ..proposal(conversation, users[0], words("perhaps")) };
    nodes[0].told.refuses.store(true, Ordering::SeqCst);
    let refused = append(&nodes[0], wanted.clone()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    let row = log_of(&store, conversation).await.pop().unwrap();
    assert_eq!(row.message_id, wanted.message_id, "it is stored");
    assert_eq!(store.conversation(conversation).await.unwrap().unwrap().head.seq, row.seq, "with its heads");

    for node in nodes.iter().rev() {
        node.told.refuses.store(false, Ordering::SeqCst);
        node.told.grown.lock().clear();
        let again = append(node, wanted.clone()).await.unwrap();
        assert_eq!((again.fresh, again.row.seq), (false, row.seq));
        assert_eq!(*node.told.grown.lock(), [(conversation, row.seq)], "told before it is answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_are_told_of_what_somebody_left_behind() {
    let (store, _folder) = open();
    let nodes = [node(&store), node(&store)];
    let (conversation, users) = group(&nodes[0], 2).await;
    append(&nodes[1], proposal(conversation, users[1], words("known"))).await.unwrap();
    // A node has put its row into the log and died.
    store.insert_rows(&[row(conversation, 3, users[0], words("left behind"))]).await.unwrap();
    nodes[1].told.grown.lock().clear();
    let next = append(&nodes[1], proposal(conversation, users[1], words("next"))).await.unwrap();
    assert_eq!(next.row.seq, 4);
    assert_eq!(*nodes[1].told.grown.lock(), [(conversation, 3), (conversation, 4)]);
}
