//! The workload over whole nodes: in process on a store and a bus that go wrong, and over the real binary, killed at
//! random and started again; and through every door, with clients that hardly ever stay connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use urge::app::{Backends, Stores};
use urge::log::LogStore;

use super::village::{Village, read_store};
use super::workload::{Client as _, insist};
use super::{Operation, accept};
use crate::support::faulty::{Faults, Faulty, Odds, seed};
use crate::support::{Balanced, TestServer, World, keyspaces};

/// Kills of the crash test; `URGE_TEST_CRASH_ROUNDS` says otherwise.
const CRASH_ROUNDS: usize = 20;

async fn holds_on_faulty_backends(seed: u64) {
    println!("seed={seed}");
    let (store_faults, bus_faults) = (Faults::new(seed, Odds::STORE), Faults::new(seed, Odds::BUS));
    store_faults.calm().await;
    bus_faults.calm().await;
    let folder = Arc::new(TempDir::new().unwrap());
    let wrap = |backends: Backends| {
        let Backends { stores, bus, .. } = backends.clone();
        let log: Arc<dyn LogStore> = Arc::new(Faulty::new(stores.log, Arc::clone(&store_faults)));
        Backends { stores: Stores { log, ..stores }, bus: Arc::new(Faulty::new(bus, Arc::clone(&bus_faults))), ..backends }
    };
    let server = TestServer::on(Arc::clone(&folder), |_| {}, wrap).await;
    let (_up, up) = watch::channel(true);
    let mut village = Village::settle(&World::on(&server), seed, 2, &up).await;
    store_faults.storm();
    bus_faults.storm();
    village.live(200, &Arc::new(AtomicBool::new(true))).await;
    store_faults.calm().await;
    bus_faults.calm().await;
    let mut history = village.close().await;
    server.stop().await;
    read_store(folder.path(), &mut history).await;
    let answered = Operation::count_answered(&history.operations);
    println!("seed={seed}: {} operations, {answered} answered, {:?}", history.operations.len(), store_faults.counts());
    assert!(answered > 1_500, "too little was answered to prove anything: {answered}");
    accept(&history);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_holds_on_faulty_backends_3() {
    holds_on_faulty_backends(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_holds_on_faulty_backends_4() {
    holds_on_faulty_backends(4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_holds_on_faulty_backends_with_a_fresh_seed() {
    holds_on_faulty_backends(seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_loses_nothing() {
    let rounds = std::env::var("URGE_TEST_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(CRASH_ROUNDS);
    let seed = seed();
    println!("seed={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut nodes = tokio::task::spawn_blocking(Balanced::start).await.unwrap();
    let folder = nodes.folder();
    let (switch, up) = watch::channel(true);
    let mut village = Village::settle(&World::at(nodes.url()), seed, 2, &up).await;
    let noted = village.recorder.noted();
    let enough = Arc::new(AtomicBool::new(false));
    let crashes = tokio::spawn({
        let (enough, mut noted) = (Arc::clone(&enough), noted);
        async move {
            for _ in 0..rounds {
                let next = *noted.borrow() + rng.random_range(5..80);
                let _ = noted.wait_for(|count| *count >= next).await;
                switch.send_replace(false);
                let mut dice = StdRng::seed_from_u64(rng.random());
                nodes = tokio::task::spawn_blocking(move || {
                    nodes.crash(&mut dice);
                    nodes
                })
                .await
                .unwrap();
                switch.send_replace(true);
            }
            enough.store(true, Ordering::SeqCst);
            (nodes, switch)
        }
    });
    // Side by side: a node that does not start again fails the test, instead of letting everybody wait for it.
    let ((mut nodes, _switch), ()) = tokio::join!(async { crashes.await.unwrap() }, village.live(10, &enough));
    let mut history = village.close().await;
    let nodes = tokio::task::spawn_blocking(move || {
        nodes.terminate();
        nodes
    });
    // The folder lives as long as the nodes are held.
    let _nodes = nodes.await.unwrap();
    read_store(&folder, &mut history).await;
    println!("seed={seed}: {rounds} rounds, {} operations", history.operations.len());
    accept(&history);
}

/// How often clients drop their connection.
const BLINK: Duration = Duration::from_millis(200);
/// How often somebody writes, how many messages, and how many a second must have been answered in the end.
const PACE: Duration = Duration::from_millis(20);
const MESSAGES: u32 = 400;
const RATE: f64 = 40.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_reconnect_all_the_time_miss_nothing() {
    let server = TestServer::start().await;
    let folder = Arc::clone(&server.folder);
    let (_up, up) = watch::channel(true);
    let village = Village::settle(&World::on(&server), 5, 1, &up).await;
    let enough = Arc::new(AtomicBool::new(false));
    let mut blinkers = JoinSet::new();
    for phone in &village.phones {
        let (phone, enough) = (Arc::clone(phone), Arc::clone(&enough));
        blinkers.spawn(async move {
            let (mut ticks, mut blinks) = (interval(BLINK), 0);
            while !enough.load(Ordering::SeqCst) {
                ticks.tick().await;
                phone.blink().await;
                blinks += 1;
            }
            blinks
        });
    }
    let (group, members) = village.members.iter().max_by_key(|(_, members)| members.len()).unwrap();
    assert_eq!(members.len(), village.phones.len(), "everybody is in it");
    // Each is sent at its time, whether those before it have been answered or not.
    let (began, mut ticks, mut sends) = (Instant::now(), interval(PACE), JoinSet::new());
    for phone in village.phones.iter().cycle().take(MESSAGES as usize) {
        ticks.tick().await;
        let (phone, recorder, group) = (Arc::clone(phone), Arc::clone(&village.recorder), *group);
        sends.spawn(async move { insist(phone.user(), &*phone, &recorder, group).await });
    }
    sends.join_all().await;
    let took = began.elapsed();
    enough.store(true, Ordering::SeqCst);
    let blinks: u32 = blinkers.join_all().await.into_iter().sum();
    let in_time = village.resumed_in_time();
    let rate = f64::from(MESSAGES) / took.as_secs_f64();
    println!("{rate:.1} messages a second, {blinks} reconnects, {in_time} of them resumed in time");
    // A cluster's server that has just been started shares this machine's processors: how fast it is says nothing of the node.
    assert!(rate > RATE || keyspaces::are_wanted(), "only {rate:.1} messages a second");
    let most = took.as_millis() / BLINK.as_millis() * village.phones.len() as u128;
    assert!(u128::from(blinks) > most / 2, "they were connected for too long: {blinks} reconnects of {most}");
    assert!(in_time > 20, "the order of too little was judged: {in_time}");
    let mut history = village.close().await;
    server.stop().await;
    read_store(folder.path(), &mut history).await;
    accept(&history);
}
