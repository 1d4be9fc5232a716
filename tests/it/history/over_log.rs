//! The workload over `log::Appender` itself: several nodes on one store that goes wrong, without sockets or services.
//! What holds here holds for everything that is built on it; the same test with one guarantee switched off must fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use urge::clock::RealClock;
use urge::error::{Error, ErrorCode};
use urge::event::Origin;
use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{
    Announce, Announcement, Appender, Body, Change, Content, ConversationKind, Creation, LogRow, LogStore, Posted, Profile, Proposal, Role,
};
use urge::store::{Sqlite, SqliteOptions};
use urge::task::Tasks;

use super::workload::{Client, Plan, Worker};
use super::{History, Operation, Outcome, Recorder, Rule, accept, broken, expect_violation};
use crate::support::faulty::{Faults, Faulty, Odds, seed};
use crate::support::keyspaces;
use crate::support::sabotage::{Lie, Sabotaged};

/// A caller that has waited this long goes away.
const PATIENCE: Duration = Duration::from_secs(4);
const NODES: usize = 3;

/// Nobody is connected.
pub struct Silence;

#[async_trait]
impl Announce for Silence {
    async fn announce(&self, _: Vec<Announcement>) {}
}

/// Several nodes on one store.
struct Nodes {
    store: Arc<dyn LogStore>,
    faults: Arc<Faults>,
    running: RwLock<Vec<Node>>,
    rng: Mutex<StdRng>,
    tasks: Tasks,
}

#[derive(Clone)]
struct Node {
    appender: Appender,
    store: Arc<dyn LogStore>,
}

impl Nodes {
    fn new(store: Arc<dyn LogStore>, faults: Arc<Faults>, seed: u64) -> Arc<Self> {
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        let nodes = Self { store, faults, running: RwLock::default(), rng, tasks: Tasks::default() };
        let started = (0..NODES).map(|_| nodes.start()).collect();
        *nodes.running.write() = started;
        Arc::new(nodes)
    }

    fn start(&self) -> Node {
        let store: Arc<dyn LogStore> = Arc::new(Faulty::new(Arc::clone(&self.store), Arc::clone(&self.faults)));
        let appender = Appender::new(Arc::clone(&store), Arc::new(RealClock), Arc::new(Silence), self.tasks.clone());
        Node { appender, store }
    }

    fn any(&self) -> Node {
        let at = self.rng.lock().random_range(0..NODES);
        self.running.read()[at].clone()
    }

    /// A node loses all that it knew; what it had begun goes on, as it may.
    fn restart_one(&self) {
        let node = self.start();
        let at = self.rng.lock().random_range(0..NODES);
        self.running.write()[at] = node;
    }
}

/// A person at these nodes, at another one with each call.
struct AtNodes {
    user: UserId,
    nodes: Arc<Nodes>,
}

impl AtNodes {
    async fn patiently(call: impl Future<Output = Result<Posted, Error>>) -> Outcome {
        match tokio::time::timeout(PATIENCE, call).await {
            Ok(Ok(posted)) => Outcome::Answered { message: posted.row.message_id, seq: posted.row.seq },
            Ok(Err(error)) if error.code == ErrorCode::Unavailable => Outcome::Unknown,
            Ok(Err(_)) => Outcome::Refused,
            Err(_) => Outcome::Unknown,
        }
    }

    async fn change(&self, conversation_id: ConversationId, target_seq: Seq, notice: Body, content: String) -> Outcome {
        let user = self.user;
        let revise = Arc::new(move |_: &_, row: &LogRow| match &row.body {
            _ if row.sender_id != user || row.deleted_at.is_some() => Err(Error::forbidden("not to be changed")),
            Body::Message(old) => Ok(Some(Content { content: content.clone(), is_edited: true, ..old.clone() })),
            _ => Err(Error::not_found("no message")),
        });
        let change = Change { conversation_id, target_seq, sender_id: user, notice, revise, origin: Origin::default() };
        Self::patiently(self.nodes.any().appender.change(change)).await
    }
}

#[async_trait]
impl Client for AtNodes {
    async fn send(&self, conversation: ConversationId, content: &str, client_message_id: Option<&str>) -> Outcome {
        let user = self.user;
        let message_id = client_message_id.map_or_else(MessageId::fresh, |name| MessageId::derived(user, conversation, name));
        let body = Body::Message(Content {
            content: content.to_owned(),
            client_message_id: client_message_id.map(str::to_owned),
            ..Content::default()
        });
        let proposal = Proposal {
            conversation_id: conversation,
            message_id,
            may_exist: client_message_id.is_some(),
            sender_id: user,
            body,
            permit: Arc::new(move |state| state.member(user).map(drop)),
            origin: Origin::default(),
            posted: false,
        };
        Self::patiently(self.nodes.any().appender.append(proposal)).await
    }

    async fn edit(&self, conversation: ConversationId, _: MessageId, seq: Seq, content: &str) -> Outcome {
        self.change(conversation, seq, Body::Edited, content.to_owned()).await
    }

    async fn delete(&self, conversation: ConversationId, _: MessageId, seq: Seq) -> Outcome {
        self.change(conversation, seq, Body::Deleted, "This message was deleted".to_owned()).await
    }

    async fn mark(&self, conversation: ConversationId, message: MessageId, seq: Seq) -> Outcome {
        let store = self.nodes.any().store;
        let mark = async {
            let row = store.row(conversation, seq).await?.ok_or_else(|| Error::not_found("no row"))?;
            store.mark_read(self.user, conversation, seq, row.n).await?;
            Ok(Posted { row, fresh: true })
        };
        let outcome = Self::patiently(mark).await;
        if matches!(outcome, Outcome::Answered { .. }) { Outcome::Answered { message, seq } } else { outcome }
    }

    async fn look_at_mark(&self, conversation: ConversationId) -> Outcome {
        match self.nodes.any().store.membership(self.user, conversation).await {
            Ok(Some(membership)) => Outcome::Answered { message: MessageId::fresh(), seq: membership.read_seq },
            _ => Outcome::Unknown,
        }
    }

    async fn blink(&self) {
        self.nodes.restart_one();
    }
}

/// Runs the workload on several nodes over this store and returns the history that it left in `truth`.
async fn run(seed: u64, operations: usize, tries: usize, truth: &Arc<dyn LogStore>, store: Arc<dyn LogStore>) -> History {
    let faults = Faults::new(seed, Odds::STORE);
    let nodes = Nodes::new(store, Arc::clone(&faults), seed);
    let users: Vec<_> = (0..6).map(|_| UserId::fresh()).collect();
    let mut members = BTreeMap::new();
    members.insert(ConversationId::direct(users[0], users[1]), vec![users[0], users[1]]);
    members.insert(ConversationId::direct(users[2], users[3]), vec![users[2], users[3]]);
    members.insert(ConversationId::fresh(), users[..4].to_vec());
    members.insert(ConversationId::fresh(), users.clone());
    for (conversation, members) in &members {
        create(&nodes, *conversation, members).await;
    }
    let recorder = Arc::new(Recorder::default());
    let mut workers = Vec::new();
    // Two devices a person.
    for (index, user) in users.iter().chain(&users).enumerate() {
        let client = Arc::new(AtNodes { user: *user, nodes: Arc::clone(&nodes) });
        let mut worker = Worker::new(*user, client, Arc::clone(&recorder), tries, seed.wrapping_add(index as u64));
        let mine = members.iter().filter(|(_, members)| members.contains(user)).map(|(id, _)| *id).collect();
        let work = Plan { operations, conversations: mine };
        workers.push(tokio::spawn(async move {
            worker.work(&work).await;
            worker
        }));
    }
    let mut done = Vec::new();
    for worker in workers {
        done.push(worker.await.unwrap());
    }
    faults.calm().await;
    println!("seed={seed}: {:?}", faults.counts());
    for conversation in members.keys() {
        let worker = done.iter_mut().find(|worker| members[conversation].contains(&worker.user())).unwrap();
        worker.close(*conversation).await;
    }
    drop(done);
    assert!(nodes.tasks.finish(2 * PATIENCE).await, "an append did not end");
    let operations = Arc::into_inner(recorder).unwrap().into_operations();
    let mut history = History { members, operations, ..History::default() };
    history.read(truth).await;
    history
}

async fn create(nodes: &Nodes, conversation: ConversationId, members: &[UserId]) {
    let kind = if members.len() == 2 { ConversationKind::Direct } else { ConversationKind::Group };
    let members: Vec<_> = members.iter().map(|user| (*user, Role::Member)).collect();
    let founder = members[0].0;
    let proposal = Proposal {
        conversation_id: conversation,
        message_id: MessageId::derived(founder, conversation, "created"),
        may_exist: true,
        sender_id: founder,
        body: Body::Created(Creation { kind, profile: Profile::default(), members }),
        permit: Arc::new(|_| Ok(())),
        origin: Origin::default(),
        posted: false,
    };
    while AtNodes::patiently(nodes.any().appender.append(proposal.clone())).await == Outcome::Unknown {}
}

async fn open(folder: &tempfile::TempDir) -> Arc<dyn LogStore> {
    if let Some(stores) = keyspaces::stores(folder.path()).await {
        return stores.log;
    }
    Arc::new(Sqlite::open(&SqliteOptions { path: folder.path().join("urge.db"), readers: 2, migrate: true }).unwrap())
}

async fn holds(seed: u64) {
    println!("seed={seed}");
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let history = run(seed, 250, usize::MAX, &store, Arc::clone(&store)).await;
    let answered = Operation::count_answered(&history.operations);
    println!("seed={seed}: {} operations, {answered} answered", history.operations.len());
    assert!(answered > 1_500, "too little was answered to prove anything: {answered}");
    accept(&history);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_holds_on_a_faulty_store_1() {
    holds(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_holds_on_a_faulty_store_2() {
    holds(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_holds_on_a_faulty_store_with_a_fresh_seed() {
    holds(seed()).await;
}

/// The seed decides what is done, the scheduler what meets what: a lie that no run has met yet gets another.
const SEEDS_OF_LIES: std::ops::Range<u64> = 7..12;

/// A smaller run, over a store that lies about one thing or nothing.
async fn run_with(lie: Option<Lie>, seed: u64) -> History {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let sabotaged = Arc::new(Sabotaged::new(Arc::clone(&store), lie));
    run(seed, 80, 3, &store, sabotaged).await
}

/// The checker must say so.
async fn fails(lie: Lie, rule: Rule) {
    let mut history = History::default();
    for seed in SEEDS_OF_LIES {
        history = run_with(Some(lie), seed).await;
        if broken(&history).contains(&rule) {
            return;
        }
    }
    expect_violation(&history, rule);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lie_nothing_is_found() {
    for seed in SEEDS_OF_LIES {
        accept(&run_with(None, seed).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_floor_a_message_is_found_twice() {
    fails(Lie::NoLocations, Rule::MessageOnce).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_before_the_commit_is_found() {
    fails(Lie::AnswersBeforeCommit(Duration::from_millis(20)), Rule::AnsweredIsStored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_insert_that_counts_is_found() {
    fails(Lie::RefusalsUntold, Rule::AnsweredIsStored).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_edit_that_counts_is_found() {
    fails(Lie::ChangesUntold, Rule::LastChangeStands).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mark_that_goes_back_is_found() {
    fails(Lie::MarksForgotten, Rule::MarksStand).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_not_written_is_found() {
    fails(Lie::HeadsForgotten, Rule::HeadsReachTheEnd).await;
}
