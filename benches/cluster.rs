//! What appending costs on the cluster's store, beside a bare loop of the driver that claims rows by conditional inserts alone,
//! on the same server and in the same run. Whoever wants it starts the server: `tests/servers/servers.py start`, then
//! `URGE_TEST_SCYLLA=127.0.0.1:… cargo bench --bench cluster`. Without that it measures nothing, and says so.
#![allow(clippy::expect_used, clippy::print_stdout)]

mod node;

use std::sync::atomic::{AtomicI64, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use node::Node;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::prepared::PreparedStatement;
use tokio::runtime::Runtime;
use urge::app::{Backends, Stores};
use urge::store::{Scylla, ScyllaOptions};
use uuid::Uuid;

/// Appends that are under way together.
const TOGETHER: usize = 64;
/// Bytes of a row's body: about what a message of 64 bytes takes.
const BODY: usize = 120;

/// The least that claims a row, in a table like that of the log.
struct Bare {
    session: Session,
    insert: PreparedStatement,
    next: AtomicI64,
}

impl Bare {
    async fn new(nodes: &[String], keyspace: &str) -> Self {
        let session = SessionBuilder::new().known_nodes(nodes).use_keyspace(keyspace, true).build().await.expect("a session");
        let table = "CREATE TABLE IF NOT EXISTS bare (conversation_id uuid, bucket bigint, seq bigint, message_id uuid, body blob, \
                     PRIMARY KEY ((conversation_id, bucket), seq)) WITH CLUSTERING ORDER BY (seq DESC)";
        session.query_unpaged(table, ()).await.expect("a table");
        session.await_schema_agreement().await.expect("one schema");
        let insert = "INSERT INTO bare (conversation_id, bucket, seq, message_id, body) VALUES (?, 0, ?, ?, ?) IF NOT EXISTS";
        let insert = session.prepare(insert).await.expect("a statement");
        Self { session, insert, next: AtomicI64::new(1) }
    }

    async fn append(&self, conversation: Uuid) {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let values = (conversation, seq, Uuid::new_v4(), vec![b'x'; BODY]);
        self.session.execute_unpaged(&self.insert, values).await.expect("a claimed row");
    }
}

fn append(criterion: &mut Criterion) {
    let Ok(nodes) = std::env::var("URGE_TEST_SCYLLA") else {
        println!("NOTHING WAS MEASURED: set URGE_TEST_SCYLLA to the address of a server");
        return;
    };
    let nodes: Vec<String> = nodes.split(',').map(str::to_owned).collect();
    let keyspace = format!("urge_bench_{}", Uuid::now_v7().simple());
    let runtime = Runtime::new().expect("a runtime");
    let options = ScyllaOptions { nodes: nodes.clone(), keyspace: keyspace.clone(), login: None, migrate: Some(1) };
    let stores = runtime.block_on(async { Stores::scylla(&Scylla::connect(&options).await.expect("a keyspace")).await.expect("stores") });
    let bare = runtime.block_on(Bare::new(&nodes, &keyspace));
    let node = Node::on(|backends| Backends { stores, ..backends });
    let pairs = runtime.block_on(node.pairs(TOGETHER));
    let mut group = criterion.benchmark_group("cluster");
    group.throughput(Throughput::Elements(TOGETHER as u64));
    let places: Vec<Uuid> = pairs.iter().map(|_| Uuid::new_v4()).collect();
    group.bench_function("bare: 64 rows of 64 partitions, together", |bencher| {
        bencher.to_async(&runtime).iter(|| join_all(places.iter().map(|place| bare.append(*place))));
    });
    group.bench_function("64 messages of 64 conversations, together", |bencher| {
        bencher.to_async(&runtime).iter(|| join_all(pairs.iter().map(|(sender, conversation)| node.say(*sender, *conversation))));
    });
    group.bench_function("bare: 64 rows of one partition, one after the other", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            for _ in 0..TOGETHER {
                bare.append(places[0]).await;
            }
        });
    });
    let (sender, conversation) = pairs[0];
    group.bench_function("64 messages of one conversation, together", |bencher| {
        bencher.to_async(&runtime).iter(|| join_all((0..TOGETHER).map(|_| node.say(sender, conversation))));
    });
    group.finish();
    runtime.block_on(async {
        bare.session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ()).await.expect("the keyspace is gone");
    });
}

criterion_group! {
    name = cluster;
    config = Criterion::default().sample_size(20);
    targets = append
}
criterion_main!(cluster);
