//! The workload over whole nodes: in process on a store and a bus that go wrong, and over the real binary, killed at
//! random and started again, as `/sync` shows it; and through every door, with clients that hardly ever stay connected.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use loadtest::Door;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::interval;
use urge::app::{Backends, Stores};
use urge::id::{ConversationId, UserId};
use urge::log::{LogReader, LogStore};
use urge::store::{Sqlite, SqliteOptions};

use super::phone::Phone;
use super::workload::{Client as _, Plan, Worker};
use super::{FinalMark, History, Recorder, Rule, Sight, accept, expect_violation};
use crate::support::faulty::{Faults, Faulty, Odds, seed};
use crate::support::{Person, Process, TestServer, World};

/// Kills of the crash test; `URGE_TEST_CRASH_ROUNDS` says otherwise.
const CRASH_ROUNDS: usize = 20;

/// People with their phones, and where they talk.
struct Village {
    phones: Vec<Arc<Phone>>,
    workers: Vec<Worker>,
    members: BTreeMap<ConversationId, Vec<UserId>>,
    recorder: Arc<Recorder>,
}

impl Village {
    /// Five people; their phones go through these doors, one after the other, and those for whom none is left ask `/sync`.
    async fn settle(world: &World, seed: u64, doors: &[Door], up: &watch::Receiver<bool>) -> Self {
        let mut people = Vec::new();
        for name in ["Anna", "Bert", "Carl", "Dora", "Emil"] {
            people.push(world.person(name).await);
        }
        let mut members = BTreeMap::new();
        let mut add = |id: String, people: &[&Person]| {
            members.insert(id.parse().unwrap(), people.iter().map(|person| person.id().parse().unwrap()).collect::<Vec<UserId>>());
        };
        let [anna, bert, carl, dora, emil] = people.as_slice() else { unreachable!() };
        add(world.direct(anna, bert).await, &[anna, bert]);
        add(world.direct(carl, dora).await, &[carl, dora]);
        add(world.group(anna, "all", &[bert, carl, dora, emil]).await, &[anna, bert, carl, dora, emil]);
        add(world.group(emil, "three", &[anna, bert]).await, &[emil, anna, bert]);
        let recorder = Arc::<Recorder>::default();
        let (mut phones, mut workers) = (Vec::new(), Vec::new());
        for (index, person) in people.iter().enumerate() {
            let user: UserId = person.id().parse().unwrap();
            let mine = members.iter().filter(|(_, members)| members.contains(&user)).map(|(id, _)| *id);
            let door = doors.get(index).copied();
            let phone = Arc::new(Phone::new(person, door, mine, up.clone()));
            phone.reconnect().await;
            workers.push(Worker::new(user, phone.clone(), Arc::clone(&recorder), usize::MAX, seed.wrapping_add(index as u64)));
            phones.push(phone);
        }
        Self { phones, workers, members, recorder }
    }

    /// Everybody does `operations`, again and again until `enough`.
    async fn live(&mut self, operations: usize, enough: &Arc<AtomicBool>) {
        let mut tasks = Vec::new();
        for mut worker in self.workers.drain(..) {
            let mine = self.members.iter().filter(|(_, members)| members.contains(&worker.user())).map(|(id, _)| *id).collect();
            let (work, enough) = (Plan { operations, conversations: mine }, Arc::clone(enough));
            tasks.push(tokio::spawn(async move {
                loop {
                    worker.work(&work).await;
                    if enough.load(Ordering::SeqCst) {
                        return worker;
                    }
                }
            }));
        }
        for task in tasks {
            self.workers.push(task.await.unwrap());
        }
    }

    /// A last message everywhere, then everybody catches up. Nothing goes wrong any more.
    async fn close(mut self) -> History {
        for (conversation, members) in &self.members {
            let worker = self.workers.iter_mut().find(|worker| members.contains(&worker.user())).unwrap();
            worker.close(*conversation).await;
        }
        for phone in &self.phones {
            assert!(phone.sync().await, "a node where nothing goes wrong refused a sync");
        }
        drop(self.workers);
        let views = self.phones.iter().map(|phone| phone.view()).collect();
        let operations = Arc::into_inner(self.recorder).unwrap().into_operations();
        History { members: self.members, operations, views, ..History::default() }
    }
}

/// Adds what is stored in this folder, by a node that has ended.
async fn read_store(folder: &Path, history: &mut History) {
    let store = Sqlite::open(&SqliteOptions { path: folder.join("urge.db"), readers: 1, migrate: false }).unwrap();
    let reader = LogReader::new(Arc::new(store.clone()));
    for (conversation, members) in &history.members {
        history.logs.insert(*conversation, reader.after(*conversation, 0, usize::MAX >> 1).await.unwrap());
        for user in members {
            let membership = store.membership(*user, *conversation).await.unwrap().unwrap();
            let (read_seq, head_seq) = (membership.read_seq, membership.head.seq);
            history.marks.push(FinalMark { user: *user, conversation: *conversation, read_seq, head_seq });
        }
    }
}

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
    let mut village = Village::settle(&World::on(&server), seed, &Door::ALL, &up).await;
    store_faults.storm();
    bus_faults.storm();
    village.live(250, &Arc::new(AtomicBool::new(true))).await;
    store_faults.calm().await;
    bus_faults.calm().await;
    let mut history = village.close().await;
    server.stop().await;
    read_store(folder.path(), &mut history).await;
    println!("seed={seed}: {} operations, {:?}", history.operations.len(), store_faults.counts());
    accept(&history);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_holds_on_faulty_backends_3() {
    holds_on_faulty_backends(3).await;
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
    let mut process = tokio::task::spawn_blocking(Process::start).await.unwrap();
    let folder = process.folder.path().join("data");
    let (switch, up) = watch::channel(true);
    let mut village = Village::settle(&World::at(&process.url()), seed, &Door::ALL, &up).await;
    let noted = village.recorder.noted();
    let enough = Arc::new(AtomicBool::new(false));
    let crashes = tokio::spawn({
        let (enough, mut noted) = (Arc::clone(&enough), noted);
        async move {
            for _ in 0..rounds {
                let next = *noted.borrow() + rng.random_range(5..80);
                let _ = noted.wait_for(|count| *count >= next).await;
                switch.send_replace(false);
                process = tokio::task::spawn_blocking(move || {
                    process.kill();
                    process.start_again();
                    process
                })
                .await
                .unwrap();
                switch.send_replace(true);
            }
            enough.store(true, Ordering::SeqCst);
            (process, switch)
        }
    });
    village.live(10, &enough).await;
    let (mut process, _switch) = crashes.await.unwrap();
    let mut history = village.close().await;
    let process = tokio::task::spawn_blocking(move || {
        assert!(process.terminate().success(), "the node did not end well");
        process
    });
    // The folder lives as long as the process is held.
    let _process = process.await.unwrap();
    read_store(&folder, &mut history).await;
    println!("seed={seed}: {rounds} rounds, {} operations", history.operations.len());
    accept(&history);
}

/// How often clients drop their connection, and how often somebody writes.
const BLINK: Duration = Duration::from_millis(200);
const PACE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_reconnect_all_the_time_miss_nothing() {
    let server = TestServer::start().await;
    let folder = Arc::clone(&server.folder);
    let (_up, up) = watch::channel(true);
    let mut village = Village::settle(&World::on(&server), 5, &Door::ALL, &up).await;
    let enough = Arc::new(AtomicBool::new(false));
    let blinkers: Vec<_> = village
        .phones
        .iter()
        .map(|phone| {
            let (phone, enough) = (Arc::clone(phone), Arc::clone(&enough));
            tokio::spawn(async move {
                let mut ticks = interval(BLINK);
                while !enough.load(Ordering::SeqCst) {
                    ticks.tick().await;
                    phone.blink().await;
                }
            })
        })
        .collect();
    let group = *village.members.iter().max_by_key(|(_, members)| members.len()).unwrap().0;
    let mut ticks = interval(PACE);
    for n in 0..250 {
        ticks.tick().await;
        let at = n % village.workers.len();
        village.workers[at].close(group).await;
    }
    enough.store(true, Ordering::SeqCst);
    for blinker in blinkers {
        blinker.await.unwrap();
    }
    let mut history = village.close().await;
    server.stop().await;
    read_store(folder.path(), &mut history).await;
    accept(&history);
    // The same history with one event lost, and with two that changed places: what a hub must not do is noticed.
    let (view, at) = neighbours(&history).expect("nobody was told two things in a row");
    let mut lost = history.clone();
    lost.views[view].sights.remove(at);
    expect_violation(&lost, &[Rule::ToldWithoutGap]);
    history.views[view].sights.swap(at, at + 1);
    expect_violation(&history, &[Rule::ToldInOrder]);
}

/// A view, and a place in it where two messages of others in one conversation stand next to each other.
fn neighbours(history: &History) -> Option<(usize, usize)> {
    history.views.iter().enumerate().find_map(|(index, view)| {
        let others = |sight: &Sight| match sight {
            Sight::Told(told) => {
                let row = &history.logs[&told.conversation][(told.seq - 1) as usize];
                Some(told.conversation).filter(|_| row.sender_id != view.user)
            }
            _ => None,
        };
        let at = view.sights.windows(2).position(|pair| others(&pair[0]).is_some() && others(&pair[0]) == others(&pair[1]))?;
        Some((index, at))
    })
}
