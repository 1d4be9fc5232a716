//! The workload over a whole node: people with their phones, at all doors, and what is left of it in the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loadtest::Door;
use tokio::sync::watch;
use urge::id::{ConversationId, UserId};
use urge::log::LogStore;
use urge::store::{Sqlite, SqliteOptions};

use super::phone::Phone;
use super::workload::{Plan, Worker};
use super::{History, Recorder};
use crate::support::{Person, World, keyspaces};

/// People with their phones, and where they talk.
pub struct Village {
    pub phones: Vec<Arc<Phone>>,
    pub members: BTreeMap<ConversationId, Vec<UserId>>,
    pub recorder: Arc<Recorder>,
    workers: Vec<Worker>,
}

impl Village {
    /// Five people with so many phones each. Those of one person go through different doors; one in five has none, and
    /// asks `/sync`. `up`: whether there is a node to talk to.
    pub async fn settle(world: &World, seed: u64, phones_each: usize, up: &watch::Receiver<bool>) -> Self {
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
        for (index, person) in people.iter().cycle().take(people.len() * phones_each).enumerate() {
            let user: UserId = person.id().parse().unwrap();
            let mine = members.iter().filter(|(_, members)| members.contains(&user)).map(|(id, _)| *id);
            let door = Door::ALL.get((index + index / people.len()) % people.len()).copied();
            let phone = Arc::new(Phone::new(person, door, mine, up.clone()));
            phone.reconnect().await;
            workers.push(Worker::new(user, phone.clone(), Arc::clone(&recorder), usize::MAX, seed.wrapping_add(index as u64)));
            phones.push(phone);
        }
        Self { phones, members, recorder, workers }
    }

    /// Everybody does `operations` with each phone, again and again until `enough`.
    pub async fn live(&mut self, operations: usize, enough: &Arc<AtomicBool>) {
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

    /// How often phones have resumed so soon that the order of what they were told then is judged too.
    pub fn resumed_in_time(&self) -> usize {
        self.phones.iter().map(|phone| phone.resumed_in_time()).sum()
    }

    /// A last message everywhere, then everybody catches up. Nothing goes wrong any more.
    pub async fn close(mut self) -> History {
        for (conversation, members) in &self.members {
            let worker = self.workers.iter_mut().find(|worker| members.contains(&worker.user())).unwrap();
            worker.close(*conversation).await;
        }
        for phone in &self.phones {
            assert!(phone.sync().await, "a node where nothing goes wrong refused a sync");
        }
        self.end()
    }

    /// Everybody stops where he is.
    pub fn end(self) -> History {
        drop(self.workers);
        let views = self.phones.iter().map(|phone| phone.view()).collect();
        let operations = Arc::into_inner(self.recorder).unwrap().into_operations();
        History { members: self.members, operations, views, ..History::default() }
    }
}

/// The file in this folder, of a node that has ended.
pub fn open_file(folder: &Path) -> Arc<dyn LogStore> {
    Arc::new(Sqlite::open(&SqliteOptions { path: folder.join("urge.db"), readers: 1, migrate: false }).unwrap())
}

/// Adds what is stored by the node of this folder, which has ended.
pub async fn read_store(folder: &Path, history: &mut History) {
    let store = keyspaces::stores(folder).await.map_or_else(|| open_file(folder), |stores| stores.log);
    history.read(&store).await;
}
