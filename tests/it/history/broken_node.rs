//! The history checker over whole nodes that are really broken: with one guarantee switched off it must find what that
//! guarantee is for, and with none, in the same run, nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use urge::app::{Backends, Stores};
use urge::clock::RealClock;
use urge::log::Appender;
use urge::task::Tasks;

use super::over_log::Silence;
use super::village::{Village, open_file, read_store};
use super::{History, Operation, Rule, accept, broken, expect_violation};
use crate::support::sabotage::{BusLie, Lie, Sabotaged, SabotagedBus};
use crate::support::{TestServer, World, files_after_a_crash};

const SEED: u64 = 6;
const PHONES_EACH: usize = 2;
const OPERATIONS: usize = 40;

/// Backends whose store and bus lie about one thing each, or nothing.
fn lying(lie: Option<Lie>, bus_lie: Option<BusLie>) -> impl FnOnce(Backends) -> Backends {
    move |backends| {
        let Backends { stores, bus, .. } = backends.clone();
        let log = Arc::new(Sabotaged::new(stores.log, lie));
        Backends { stores: Stores { log, ..stores }, bus: Arc::new(SabotagedBus::new(bus, bus_lie)), ..backends }
    }
}

/// The history of a node on these backends.
async fn run(wrap: impl FnOnce(Backends) -> Backends) -> History {
    let folder = Arc::new(TempDir::new().unwrap());
    let server = TestServer::on(Arc::clone(&folder), |_| {}, wrap).await;
    let (_up, up) = watch::channel(true);
    let mut village = Village::settle(&World::on(&server), SEED, PHONES_EACH, &up).await;
    village.live(OPERATIONS, &Arc::new(AtomicBool::new(true))).await;
    let mut history = village.close().await;
    server.stop().await;
    read_store(folder.path(), &mut history).await;
    history
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_keeps_its_promises_passes() {
    accept(&run(lying(None, None)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_loses_events_is_found() {
    expect_violation(&run(lying(None, Some(BusLie::EventsDropped))).await, Rule::ToldWithoutGap);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_changes_the_order_is_found() {
    expect_violation(&run(lying(None, Some(BusLie::RowsSwapped))).await, Rule::ToldInOrder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_skips_the_floor_is_found() {
    expect_violation(&run(lying(Some(Lie::NoLocations), None)).await, Rule::MessageOnce);
}

/// Deaths of one run: where they fall, chance decides.
const CRASHES: usize = 8;

/// So long after the answer that a death seldom falls where nothing is late.
const LATE: Duration = Duration::from_millis(500);

/// What is left of a node that died at these moments of its life, each judged as if it had been the only one.
async fn crash(wrap: impl FnOnce(Backends) -> Backends) -> Vec<History> {
    let folder = Arc::new(TempDir::new().unwrap());
    let server = TestServer::embedded(Arc::clone(&folder), wrap).await;
    let (_up, up) = watch::channel(true);
    let mut village = Village::settle(&World::on(&server), SEED, PHONES_EACH, &up).await;
    let recorder = Arc::clone(&village.recorder);
    let crashes = tokio::spawn(async move {
        let mut noted = recorder.noted();
        let mut crashed = Vec::new();
        for n in 1..=CRASHES {
            let operations = n * PHONES_EACH * OPERATIONS / 2;
            noted.wait_for(|count| *count >= operations).await.unwrap();
            let last_certain = recorder.tick();
            let folder = Arc::clone(&folder);
            let files = tokio::task::spawn_blocking(move || files_after_a_crash(folder.path())).await.unwrap();
            crashed.push((files, last_certain, recorder.tick()));
        }
        crashed
    });
    village.live(OPERATIONS, &Arc::new(AtomicBool::new(true))).await;
    let copies = crashes.await.unwrap();
    let History { members, operations, .. } = village.end();
    server.stop().await;
    let mut histories = Vec::new();
    for (files, last_certain, first_lost) in copies {
        let operations = operations.iter().filter_map(|operation| operation.cut_off(last_certain, first_lost)).collect();
        // What phones saw goes on beyond the crash: here the log alone is judged.
        let mut history = History { members: members.clone(), operations, ..History::default() };
        heal(&files, &history).await;
        history.read(&open_file(files.path())).await;
        histories.push(history);
    }
    histories
}

/// Does what the next node does before anything else: it takes in the rows whose heads the dead one did not live to write.
async fn heal(files: &TempDir, history: &History) {
    let tasks = Tasks::default();
    let appender = Appender::new(open_file(files.path()), Arc::new(RealClock), Arc::new(Silence), tasks);
    for conversation in history.members.keys() {
        appender.state(*conversation).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_leaves_everything_that_was_answered() {
    // As the store appends, in one go, and step by step, as where a lie could be told.
    for histories in [crash(|backends| backends).await, crash(lying(None, None)).await] {
        for history in histories {
            assert!(Operation::count_answered(&history.operations) > 0, "it died before anything had been answered");
            accept(&history);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_commit_is_found_in_what_a_crash_leaves() {
    let found: Vec<_> = crash(lying(Some(Lie::AnswersBeforeCommit(LATE)), None)).await.iter().map(broken).collect();
    assert!(found.iter().any(|rules| rules.contains(&Rule::AnsweredIsStored)), "found only {found:?}");
}
