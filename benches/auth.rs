//! What every request pays before anything else: its access token checked, the login behind it looked up in memory.
//! `cargo bench --bench auth`
#![allow(clippy::expect_used)]

mod node;

use criterion::{Criterion, criterion_group, criterion_main};
use node::Node;
use tokio::runtime::Runtime;

fn token(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let node = Node::new();
    let person = runtime.block_on(node.person(0));
    criterion.bench_function("access token", |bencher| {
        bencher.to_async(&runtime).iter(async || node.services.auth.authenticate(&person.token).await.expect("a good token"));
    });
    let broken = format!("{}x", person.token);
    criterion.bench_function("access token with a wrong signature", |bencher| {
        bencher.to_async(&runtime).iter(async || node.services.auth.authenticate(&broken).await.expect_err("a bad token"));
    });
}

criterion_group!(auth, token);
criterion_main!(auth);
