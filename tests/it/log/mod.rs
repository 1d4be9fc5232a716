//! `log::Appender` where its edges are: several nodes on one store, long logs, large groups, crashes between two steps.
//! Chance finds the rest (`history::over_log`); each of these is made to happen.

mod again;
mod events;
mod full;
mod heard;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use urge::clock::RealClock;
use urge::error::{Error, ErrorCode};
use urge::event::Origin;
use urge::id::{ConversationId, MessageId, Seq, UserId};
use urge::log::{
    Announce, Announcement, Appender, BUCKET_ROWS, Body, Change, Content, ConversationKind, Creation, Insert, LARGE_ABOVE, LogReader,
    LogStore, MemberState, MembersChange, Posted, Profile, Proposal, Role,
};
use urge::store::{Sqlite, SqliteOptions, StoreError, StoreResult};
use urge::task::Tasks;

use crate::support::rows::{row, seed, words};

/// What an append may take before a test is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// Notes what would be told; a test may hold it back, and with it the append.
struct Told {
    rows: Mutex<Vec<Announcement>>,
    batches: Mutex<Vec<usize>>,
    gate: Semaphore,
    /// What workers were told; not while the test has them refuse it.
    grown: Mutex<Vec<(ConversationId, Seq)>>,
    refuses: AtomicBool,
}

impl Told {
    fn open() -> Arc<Self> {
        Arc::new(Self {
            rows: Mutex::default(),
            batches: Mutex::default(),
            gate: Semaphore::new(1),
            grown: Mutex::default(),
            refuses: AtomicBool::new(false),
        })
    }

    fn seqs(&self) -> Vec<Seq> {
        self.rows.lock().iter().map(|announcement| announcement.row.seq).collect()
    }
}

#[async_trait]
impl Announce for Told {
    async fn announce(&self, announcements: Vec<Announcement>) {
        let _open = self.gate.acquire().await.unwrap();
        self.batches.lock().push(announcements.len());
        self.rows.lock().extend(announcements);
    }

    async fn enqueue(&self, id: ConversationId, seq: Seq) -> StoreResult<()> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("the test refuses it".into()));
        }
        self.grown.lock().push((id, seq));
        Ok(())
    }
}

struct Node {
    appender: Appender,
    told: Arc<Told>,
}

fn node(store: &Sqlite) -> Node {
    let told = Told::open();
    let appender = Appender::new(Arc::new(store.clone()), Arc::new(RealClock), Arc::clone(&told) as _, Tasks::default());
    Node { appender, told }
}

fn open() -> (Sqlite, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions { path: folder.path().join("urge.db"), readers: 2, migrate: true };
    (Sqlite::open(&options).unwrap(), folder)
}

fn proposal(conversation_id: ConversationId, sender_id: UserId, body: Body) -> Proposal {
    Proposal {
        conversation_id,
        message_id: MessageId::fresh(),
        may_exist: false,
        sender_id,
        body,
        permit: Arc::new(move |state| state.member(sender_id).map(drop)),
        origin: Origin::default(),
        posted: false,
    }
}

fn creation(conversation_id: ConversationId, kind: ConversationKind, members: &[UserId]) -> Proposal {
    let members: Vec<_> = members.iter().map(|user| (*user, Role::Member)).collect();
    let founder = members[0].0;
    let body = Body::Created(Creation { kind, profile: Profile::default(), members });
    Proposal { permit: Arc::new(|_| Ok(())), ..proposal(conversation_id, founder, body) }
}

fn joining(users: impl IntoIterator<Item = UserId>) -> Body {
    let members = users.into_iter().map(|user| (user, MemberState::Active, Role::Member)).collect();
    Body::Members(MembersChange { members, text: "joined".into() })
}

async fn append(node: &Node, proposal: Proposal) -> Result<Posted, Error> {
    tokio::time::timeout(PATIENCE, node.appender.append(proposal)).await.expect("an append did not end")
}

async fn group(node: &Node, members: usize) -> (ConversationId, Vec<UserId>) {
    let (conversation, users) = (ConversationId::fresh(), (0..members).map(|_| UserId::fresh()).collect::<Vec<_>>());
    append(node, creation(conversation, ConversationKind::Group, &users)).await.unwrap();
    (conversation, users)
}

async fn log_of(store: &Sqlite, conversation: ConversationId) -> Vec<urge::log::LogRow> {
    let rows = LogReader::new(Arc::new(store.clone())).after(conversation, 0, usize::MAX >> 1).await.unwrap();
    assert!(rows.iter().zip(1..).all(|(row, seq)| row.seq == seq), "the log has a gap");
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_conversation_made_on_two_nodes_is_one() {
    let (store, _folder) = open();
    let nodes = [node(&store), node(&store)];
    for _ in 0..20 {
        let (a, b) = (UserId::fresh(), UserId::fresh());
        let id = ConversationId::direct(a, b);
        let (one, other) = tokio::join!(
            append(&nodes[0], creation(id, ConversationKind::Direct, &[a, b])),
            append(&nodes[1], creation(id, ConversationKind::Direct, &[b, a])),
        );
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.row, other.row, "both are told of the one that there is");
        assert_ne!(one.fresh, other.fresh, "one of them made it");
        assert_eq!(log_of(&store, id).await, [one.row]);
        assert_eq!(store.membership(a, id).await.unwrap().unwrap().peer_id, Some(b));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_goes_together_and_too_much_is_refused_at_once() {
    let (store, _folder) = open();
    let node = node(&store);
    let (conversation, users) = group(&node, 2).await;
    let user = users[0];
    // The next append hangs in its announcement while the others wait behind it.
    let held = node.told.gate.acquire().await.unwrap();
    let send = |number: usize| {
        let appender = node.appender.clone();
        let proposal = proposal(conversation, user, words(&format!("message {number}")));
        async move { appender.append(proposal).await }
    };
    let first = tokio::spawn(send(0));
    while store.row(conversation, 2).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let mut waiting: Vec<_> = (1..=1_024).map(|number| Box::pin(send(number))).collect();
    for send in &mut waiting {
        assert!(futures_util::poll!(send).is_pending());
    }
    match futures_util::poll!(Box::pin(send(1_025))) {
        std::task::Poll::Ready(Err(error)) => {
            assert_eq!(error.code, ErrorCode::Unavailable);
            assert!(error.retry_after.is_some());
        }
        _ => panic!("one too many waits"),
    }
    drop(held);
    first.await.unwrap().unwrap();
    let mut seqs = Vec::new();
    for send in waiting {
        seqs.push(tokio::time::timeout(PATIENCE, send).await.unwrap().unwrap().row.seq);
    }
    assert_eq!(seqs, (3..=1_026).collect::<Vec<_>>(), "in the order in which they came");
    let rows = log_of(&store, conversation).await;
    assert_eq!(rows.len(), 1_026);
    // The first row and the first message went alone, all that waited behind them in the fewest inserts.
    let batches: Vec<_> = [1, 1].into_iter().chain([64; 16]).collect();
    assert_eq!(*node.told.batches.lock(), batches);
    assert_eq!(node.told.seqs(), (1..=1_026).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_messages_that_wait_go_in_several_inserts() {
    let (store, _folder) = open();
    let node = node(&store);
    let (conversation, users) = group(&node, 2).await;
    let held = node.told.gate.acquire().await.unwrap();
    let long = "x".repeat(16 << 10);
    let send = || {
        let (appender, proposal) = (node.appender.clone(), proposal(conversation, users[0], words(&long)));
        async move { appender.append(proposal).await }
    };
    let first = tokio::spawn(send());
    while store.row(conversation, 2).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let mut waiting: Vec<_> = (0..40).map(|_| Box::pin(send())).collect();
    for send in &mut waiting {
        assert!(futures_util::poll!(send).is_pending());
    }
    drop(held);
    first.await.unwrap().unwrap();
    for send in waiting {
        tokio::time::timeout(PATIENCE, send).await.unwrap().unwrap();
    }
    assert_eq!(*node.told.batches.lock(), [1, 1, 16, 16, 8], "256 KiB of content each");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_reaches_back_across_buckets() {
    let (store, _folder) = open();
    let first = node(&store);
    let (conversation, users) = group(&first, 2).await;
    seed(&store, conversation, users[0], 2, BUCKET_ROWS + 10).await;
    // A node that knows nothing rolls the heads forward, then changes row 7 in a bucket that has ended.
    let node = node(&store);
    let change = |text: &str, notice| {
        let text = text.to_owned();
        let revise = Arc::new(move |_: &_, _: &_| Ok(Some(Content { content: text.clone(), is_edited: true, ..Content::default() })));
        Change { conversation_id: conversation, target_seq: 7, sender_id: users[0], notice, revise, origin: Origin::default() }
    };
    let edited = node.appender.change(change("edited", Body::Edited)).await.unwrap();
    assert_eq!((edited.row.seq, edited.row.version, edited.row.change_seq), (7, 1, BUCKET_ROWS + 11));
    let deleted = node.appender.change(change("deleted", Body::Deleted)).await.unwrap();
    assert_eq!((deleted.row.version, deleted.row.change_seq), (2, BUCKET_ROWS + 12));
    assert_eq!(store.row(conversation, 7).await.unwrap(), Some(deleted.row));
    let rows = log_of(&store, conversation).await;
    let notices: Vec<_> = rows.iter().rev().take(2).map(|row| (row.body.clone(), row.target_seq, row.n)).collect();
    assert_eq!(notices, [(Body::Deleted, Some(7), BUCKET_ROWS + 9), (Body::Edited, Some(7), BUCKET_ROWS + 9)]);
    let told = node.told.rows.lock().last().cloned().unwrap();
    assert_eq!((told.row.seq, told.target.map(|row| row.seq)), (BUCKET_ROWS + 12, Some(7)));
    assert_eq!(store.membership(users[1], conversation).await.unwrap().unwrap().head.seq, BUCKET_ROWS + 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_outgrows_its_heads_says_so_on_every_node() {
    let (store, _folder) = open();
    let (one, other) = (node(&store), node(&store));
    let (conversation, users) = group(&one, LARGE_ABOVE).await;
    // A change of office is no growth.
    let office = MembersChange { members: vec![(users[1], MemberState::Active, Role::Moderator)], text: "promoted".into() };
    append(&one, proposal(conversation, users[0], Body::Members(office))).await.unwrap();
    assert!(!store.conversation(conversation).await.unwrap().unwrap().large);
    // The other node knows the small group, and then only what the log tells.
    append(&other, proposal(conversation, users[1], words("hello"))).await.unwrap();
    let joined = UserId::fresh();
    append(&one, proposal(conversation, users[0], joining([joined]))).await.unwrap();
    assert!(store.conversation(conversation).await.unwrap().unwrap().large);
    for user in users.iter().chain([&joined]) {
        assert!(store.membership(*user, conversation).await.unwrap().unwrap().large);
    }
    let before = store.membership(users[5], conversation).await.unwrap().unwrap().head;
    let posted = append(&other, proposal(conversation, joined, words("thanks"))).await.unwrap();
    assert!(other.appender.state(conversation).await.unwrap().is_large(), "the other node did not notice");
    assert_eq!(store.conversation(conversation).await.unwrap().unwrap().head.seq, posted.row.seq);
    assert_eq!(store.membership(users[5], conversation).await.unwrap().unwrap().head, before, "no head of a large group is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permission_is_asked_again_after_a_removal_that_came_first() {
    let (store, _folder) = open();
    let (one, other) = (node(&store), node(&store));
    let (conversation, users) = group(&one, 3).await;
    // The other node still believes that he is a member.
    append(&other, proposal(conversation, users[2], words("still here"))).await.unwrap();
    let removal = MembersChange { members: vec![(users[2], MemberState::Removed, Role::Member)], text: "removed".into() };
    append(&one, proposal(conversation, users[0], Body::Members(removal))).await.unwrap();
    let refused = append(&other, proposal(conversation, users[2], words("too late"))).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    assert_eq!(log_of(&store, conversation).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_node_inserted_is_taken_up_by_the_next() {
    let (store, _folder) = open();
    let (conversation, users) = group(&node(&store), 3).await;
    // It died between the insert and the heads: a message, somebody new, a message of his.
    let joined = UserId::fresh();
    let bodies = [(users[1], words("last words")), (users[0], joining([joined])), (joined, words("hello"))];
    for ((sender, body), seq) in bodies.into_iter().zip(2..) {
        let mut row = row(conversation, seq, sender, body);
        (row.n, row.total) = ([1, 1, 2][seq as usize - 2], seq - 1);
        assert_eq!(store.insert_rows(&[row]).await.unwrap(), Insert::Applied);
    }
    assert_eq!(store.conversation(conversation).await.unwrap().unwrap().head.seq, 1);
    let next = node(&store);
    let state = next.appender.state(conversation).await.unwrap();
    assert_eq!((state.head.seq, state.head.n, state.head.total), (4, 2, 3));
    assert_eq!(store.conversation(conversation).await.unwrap().unwrap().head, state.head);
    for user in users.iter().chain([&joined]) {
        assert_eq!(store.membership(*user, conversation).await.unwrap().unwrap().head, state.head);
    }
    let found = store.membership(joined, conversation).await.unwrap().unwrap();
    assert_eq!((found.cleared_seq, found.read_seq, found.unread()), (2, 4, 0));
    assert_eq!(store.membership(users[1], conversation).await.unwrap().unwrap().read_seq, 2);
    assert_eq!(next.told.seqs(), [2, 3, 4]);
    let told = next.told.rows.lock();
    assert_eq!(told[1].introduces.as_ref(), [joined]);
    assert!(!told[0].audience.contains(&joined), "what was before him is not told to him");
    assert!(told[2].audience.contains(&joined));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_finds_its_first_attempt() {
    let (store, _folder) = open();
    let (one, other) = (node(&store), node(&store));
    let (conversation, users) = group(&one, 2).await;
    let message_id = MessageId::derived(users[0], conversation, "client-1");
    let sent = Proposal { message_id, may_exist: true, ..proposal(conversation, users[0], words("once")) };
    // Its caller goes away before the answer, which cancels nothing.
    drop(tokio::time::timeout(Duration::ZERO, one.appender.append(sent.clone())).await);
    let mut results = Vec::new();
    for node in [&one, &other, &one, &node(&store)] {
        results.push(append(node, sent.clone()).await.unwrap());
        append(node, proposal(conversation, users[1], words("something else"))).await.unwrap();
    }
    assert!(results[1..].iter().all(|posted| posted.row == results[0].row && !posted.fresh));
    // All at once, on both nodes, in one queue and in two.
    let message_id = MessageId::derived(users[0], conversation, "client-2");
    let again = Proposal { message_id, ..sent };
    let attempts = (0..40).map(|number| append(if number % 2 == 0 { &one } else { &other }, again.clone()));
    let places: BTreeSet<_> = futures_util::future::join_all(attempts).await.into_iter().map(|posted| posted.unwrap().row.seq).collect();
    assert_eq!(places.len(), 1);
    let rows = log_of(&store, conversation).await;
    let ids: BTreeSet<_> = rows.iter().map(|row| row.message_id).collect();
    assert_eq!(ids.len(), rows.len(), "a message stands twice");
}

#[tokio::test]
async fn a_panic_costs_its_own_append_and_no_later_one() {
    let (store, _folder) = open();
    let node = node(&store);
    let (id, members) = group(&node, 3).await;
    let broken = Proposal { permit: Arc::new(|_| panic!("a permit")), ..proposal(id, members[0], words("one")) };
    assert_eq!(append(&node, broken).await.unwrap_err().code, ErrorCode::Unavailable);
    append(&node, proposal(id, members[0], words("two"))).await.unwrap();
}

/// A writer that died between the row and its notice, which stand in different buckets: who repeats the change tells of it.
#[tokio::test]
async fn a_change_that_nobody_was_told_of_is_told_when_it_is_repeated() {
    let (store, _folder) = open();
    let node = node(&store);
    let (id, members) = group(&node, 2).await;
    let posted = append(&node, proposal(id, members[0], words("one"))).await.unwrap();
    seed(&store, id, members[0], posted.row.seq + 1, BUCKET_ROWS + 10).await;
    let (head, change_id) = (BUCKET_ROWS + 10, MessageId::fresh());
    let deleted =
        urge::log::LogRow { version: 1, change_seq: head + 1, change_id, deleted_at: Some(posted.row.created_at), ..posted.row.clone() };
    store.rewrite_row(&urge::log::Rewrite { target: deleted, notice: None }).await.unwrap();
    let other = self::node(&store);
    let change = Change {
        conversation_id: id,
        target_seq: posted.row.seq,
        sender_id: members[0],
        notice: Body::Deleted,
        revise: Arc::new(|_, row| Ok(row.deleted_at.is_none().then(Content::default))),
        origin: Origin::default(),
    };
    for _ in 0..2 {
        other.appender.change(change.clone()).await.unwrap();
    }
    let log = log_of(&store, id).await;
    let notices: Vec<_> = log.iter().filter(|row| row.message_id == change_id).map(|row| (row.seq, row.target_seq)).collect();
    assert_eq!(notices, [(head + 1, Some(posted.row.seq))]);
    assert!(other.told.seqs().contains(&(head + 1)), "and clients are told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_know_of_a_row_on_its_way_is_told_by_the_row() {
    let (store, _folder) = open();
    let node = node(&store);
    let (id, members) = group(&node, 3).await;
    let joiner = UserId::fresh();
    // It hangs in its announcement: stored, with its head, and not among what the node remembers.
    let held = node.told.gate.acquire().await.unwrap();
    let adding = tokio::spawn({
        let (appender, proposal) = (node.appender.clone(), proposal(id, members[0], joining([joiner])));
        async move { appender.append(proposal).await }
    });
    while store.membership(joiner, id).await.unwrap().is_none_or(|membership| membership.head.seq < 2) {
        tokio::task::yield_now().await;
    }
    let told = node.appender.announcements(id, 1, 10).await.unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].audience.contains(&joiner) && told[0].audience.len() == 4, "{:?}", told[0].audience);
    assert_eq!(told[0].introduces.as_ref(), [joiner]);
    drop(held);
    adding.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_conversation_that_many_ask_for_at_once_is_read_and_rolled_forward_once() {
    let (store, _folder) = open();
    let (id, members) = group(&node(&store), 3).await;
    seed(&store, id, members[0], 2, 4).await;
    let node = node(&store);
    let states = futures_util::future::join_all((0..20).map(|_| node.appender.state(id))).await;
    assert!(states.into_iter().all(|state| state.unwrap().head.seq == 4));
    assert_eq!(node.told.seqs(), [2, 3, 4]);
}

#[tokio::test]
async fn a_message_told_again_says_so() {
    let (store, _folder) = open();
    let node = node(&store);
    let (id, members) = group(&node, 2).await;
    let message_id = MessageId::derived(members[0], id, "client-1");
    let sent = Proposal { message_id, may_exist: true, ..proposal(id, members[0], words("once")) };
    for _ in 0..2 {
        append(&node, sent.clone()).await.unwrap();
    }
    let told: Vec<_> = node.told.rows.lock().iter().map(|announcement| (announcement.row.seq, announcement.again)).collect();
    assert_eq!(told, [(1, false), (2, false), (2, true)]);
}
