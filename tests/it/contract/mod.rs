//! What every store and every bus promises, said once and asked of each of them: the traits' documentation as tests.
//! A promise takes `Arc<dyn Trait>` and fresh ids, so it holds on a store that others use at the same time;
//! `promises!` runs it on each backend. What only the embedded engine has is asked in `engine.rs`.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::Barrier;
use urge::store::{Sqlite, SqliteOptions};

/// A test for each promise on each store; those of the cluster take the feature's statements.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        promises!(@on_sqlite $($promise),*);
    };
    ($statements:ty; $($promise:ident),* $(,)?) => {
        promises!(@on_sqlite $($promise),*);
        mod on_the_cluster {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let Some(store) = crate::support::cluster::on_cluster::<$statements>().await else { return };
                super::$promise(std::sync::Arc::new(store)).await;
            })*
        }
    };
    (@on_sqlite $($promise:ident),*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let (store, _folder) = crate::contract::sqlite();
                super::$promise(std::sync::Arc::new(store)).await;
            })*
        }
    };
}

mod auth;
mod bus;
mod engine;
mod log;
mod messages;
mod outbox;
mod settings;
mod users;

/// An empty store; it lives as long as its folder.
fn sqlite() -> (Sqlite, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { path: folder.path().join("urge.db"), readers: 2, migrate: true };
    (Sqlite::open(&options).unwrap(), folder)
}

/// A phone number that nobody has, on a store that outlives the run neither.
fn new_phone() -> String {
    format!("+{:015}", rand::random_range(100_000_000_000_000_u64..1_000_000_000_000_000))
}

/// So many attempts at once, none before all are ready; their results in the order of their numbers.
async fn racing<T, F>(attempts: usize, attempt: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(attempts));
    let begin = |number| {
        let (start, attempt) = (Arc::clone(&start), attempt(number));
        tokio::spawn(async move {
            start.wait().await;
            attempt.await
        })
    };
    let tasks: Vec<_> = (0..attempts).map(begin).collect();
    let mut results = Vec::with_capacity(attempts);
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Every order of three writes, each of them made twice.
const ORDERS: [[usize; 6]; 6] =
    [[0, 1, 2, 0, 1, 2], [0, 2, 1, 1, 2, 0], [1, 0, 2, 0, 1, 2], [1, 2, 0, 0, 2, 1], [2, 0, 1, 1, 0, 2], [2, 1, 0, 2, 1, 0]];
