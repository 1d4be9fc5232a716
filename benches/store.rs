//! What the embedded store does for a messenger: a message appended with all that belongs to it, alone and with others that share
//! its commit; the newest page of a history; the list of somebody who has 1,000 conversations.
//! `cargo bench --bench store`
#![allow(clippy::expect_used)]

mod node;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use node::Node;
use tokio::runtime::Runtime;
use urge::messages::HistoryQuery;
use urge::page::Page;

/// Senders whose messages are under way together.
const TOGETHER: usize = 64;
const CONVERSATIONS: usize = 1_000;

fn append(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let node = Node::new();
    let pairs = runtime.block_on(node.pairs(TOGETHER));
    let mut group = criterion.benchmark_group("append");
    let (sender, conversation) = pairs[0];
    group.throughput(Throughput::Elements(1));
    group.bench_function("one message", |bencher| bencher.to_async(&runtime).iter(|| node.say(sender, conversation)));
    group.throughput(Throughput::Elements(TOGETHER as u64));
    group.bench_function("64 messages of 64 conversations", |bencher| {
        bencher.to_async(&runtime).iter(|| join_all(pairs.iter().map(|(sender, conversation)| node.say(*sender, *conversation))));
    });
    group.bench_function("64 messages of one conversation", |bencher| {
        bencher.to_async(&runtime).iter(|| join_all((0..TOGETHER).map(|_| node.say(sender, conversation))));
    });
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let node = Node::new();
    let (user, long) = runtime.block_on(async {
        let user = node.person(0).await.login.user_id;
        let mut long = None;
        for n in 1..=CONVERSATIONS {
            let other = node.person(n).await.login.user_id;
            let conversation = node.conversation(&[user, other]).await;
            let long = *long.get_or_insert(conversation);
            for _ in 0..if conversation == long { 200 } else { 1 } {
                node.say(other, conversation).await;
            }
        }
        (user, long.expect("a conversation"))
    });
    let first = Page::new(None, None, None);
    let services = &node.services;
    criterion.bench_function("newest page of 50", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let history = services.messages.history(user, long, &HistoryQuery::default(), &first).await.expect("a page");
            assert_eq!(history.messages.len(), 50);
        });
    });
    criterion.bench_function("list of 1,000 conversations", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let list = services.conversations.list(user, false, &first).await.expect("a list");
            assert_eq!(list.total, CONVERSATIONS);
        });
    });
}

criterion_group! {
    name = store;
    config = Criterion::default().sample_size(20);
    targets = append, read
}
criterion_main!(store);
