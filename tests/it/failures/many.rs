//! Much at once. Somebody with a thousand conversations lists and syncs them at the price of one partition read and some point reads
//! for each conversation that is shown, however many messages there are. And everybody comes back at once: all are let in and brought
//! up to date, whatever a try came to, within bounded memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use loadtest::socket::{Close, ConnectError, Ending, Events};
use loadtest::{Auth, Door, Options, Rest, RestError};
use rand::RngExt as _;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use urge::app::Stores;
use urge::clock::Timestamp;
use urge::id::{ConversationId, Seq, UserId};
use urge::log::{Body, Cleared, ConversationKind, ConversationRecord, Creation, Head, Member, MemberState, Profile, Role};
use urge::users::UserRecord;

use super::{is_long, metric, report};
use crate::support::{Nodes, PATIENCE, Person, Process, World, rows};

/// Conversations of one person.
const CONVERSATIONS: usize = 1_000;
/// People in them.
const PEERS: usize = 500;
/// What is made side by side.
const TOGETHER: usize = 32;
/// Conversations of a page.
const PAGE: usize = 50;

/// Reads that a page may take beside those for what it shows: the login, the person, blocks, and the partition of memberships.
const OF_A_PAGE: u64 = 10;
/// Reads for a conversation that is listed by a node that knows it: its head, the last message, what of it was hidden or starred, what
/// is hidden of the unread ones, in a group the members' marks.
const KNOWN: u64 = 8;
/// The same of one that it has not met, with members, the rows behind the head, and people who are mostly new too.
const UNKNOWN: u64 = 16;
/// Reads for one that is synced anew: its newest page besides, and the marks that show what has been delivered.
const SYNCED: u64 = 24;
/// Statements that are no reads, for one that is synced anew: what it brings counts as delivered.
const MARKS: u64 = 2;

/// Messages that each client has, and those that it has missed.
const HAD: Seq = 10;
const MISSED: Seq = 10;
/// Until the last one is back, on a machine that has much else to do.
const LONG: Duration = Duration::from_mins(2);
/// How often the app tries to come back.
const APP_TRIES: usize = 5;
/// How long it waits for one of them to bring it up to date.
const APP_WAITS: Duration = Duration::from_secs(8);
/// What a node may take for each socket that comes back, in KiB: 12 for itself, and as much again for what is kept of its user, his
/// login and his conversation, with threefold slack, for the heap does not shrink between them.
const SOCKET_KIB: u64 = 72;
/// What it may take beside them: buffers of requests that are under way, caches that begin to be filled.
const BESIDE_KIB: u64 = 32 << 10;

/// A conversation as if it had been written: these people, this many messages of the second one, indexed.
async fn conversation(stores: &Stores, kind: ConversationKind, people: &[UserId], messages: Seq, at: i64) -> ConversationId {
    let log = stores.log.as_ref();
    let (founder, writer) = (people[0], people[1]);
    let id = if kind == ConversationKind::Direct { ConversationId::direct(founder, writer) } else { ConversationId::fresh() };
    let name = (kind == ConversationKind::Group).then(|| format!("Group {at}"));
    let profile = Profile { name, ..Profile::default() };
    let created_at = Timestamp(at);
    let record = ConversationRecord {
        kind,
        created_by: founder,
        created_at,
        profile: profile.clone(),
        large: false,
        head: Head::default(),
        indexed_seq: 0,
    };
    let role = |user: UserId| if kind == ConversationKind::Group && user == founder { Role::Founder } else { Role::Member };
    let creation = Creation { kind, profile, members: people.iter().map(|user| (*user, role(*user))).collect() };
    let member = |user: &UserId| Member {
        user_id: *user,
        state: MemberState::Active,
        role: role(*user),
        change_seq: 1,
        joined_seq: 1,
        joined_at: created_at,
        delivered_seq: 0,
        delivered_at: Timestamp(0),
        read_seq: 0,
        read_at: Timestamp(0),
    };
    let members: Vec<_> = people.iter().map(member).collect();
    let seq = messages + 1;
    log.insert_rows(&[rows::row(id, 1, founder, Body::Created(creation))]).await.unwrap();
    rows::seed(log, id, writer, 2, seq).await;
    log.put_conversation(id, &record, 1).await.unwrap();
    log.put_members(id, &record, &members, &Cleared::default()).await.unwrap();
    log.mark_indexed(id, seq).await.unwrap();
    let head = Head { seq, n: messages, total: messages, message_seq: seq, at: Timestamp(at) };
    log.advance_heads(id, &head, people, &[]).await.unwrap();
    id
}

/// People who never logged in.
async fn strangers(stores: &Stores, count: usize) -> Vec<UserId> {
    let making = (0..count).map(async |n| {
        let id = UserId::fresh();
        let record = UserRecord { display_name: Some(format!("Peer {n}")), ..UserRecord::new(id, format!("+49153{n:08}"), Timestamp(1)) };
        stores.users.insert_user(&record).await.unwrap();
        id
    });
    futures_util::stream::iter(making).buffered(TOGETHER).collect().await
}

/// What a node has asked its store for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Statements {
    reads: u64,
    others: u64,
}

/// The statements so far, once a node is quiet: what follows an answer, marks and the like, is done and counted.
async fn statements(rest: &Rest) -> Statements {
    let read = async || {
        let mut statements = Statements::default();
        for (labels, count) in metric(rest, "urge_store_statements_total").await {
            *(if labels.contains("\"read\"") { &mut statements.reads } else { &mut statements.others }) += count;
        }
        statements
    };
    let (mut before, began) = (read().await, Instant::now());
    loop {
        // Nobody tells that nothing more comes.
        sleep(Duration::from_millis(300)).await;
        let now = read().await;
        if now == before || began.elapsed() > PATIENCE {
            return now;
        }
        before = now;
    }
}

/// What this took of the node's store.
async fn cost<T>(rest: &Rest, work: impl Future<Output = T>) -> (T, Statements) {
    let before = statements(rest).await;
    let done = work.await;
    let after = statements(rest).await;
    (done, Statements { reads: after.reads - before.reads, others: after.others - before.others })
}

/// A page, and how often it was asked for: a machine that has much else to do may answer that it took too long.
async fn page(ask: impl AsyncFn() -> Result<Value, RestError>) -> (Value, u64) {
    for tries in 1..10 {
        match ask().await {
            Ok(page) => return (page, tries),
            Err(error) => assert_eq!(error.status(), 503, "{error}"),
        }
    }
    panic!("a page cannot be had");
}

/// The ids of all that is listed, page by page, and how many pages were asked for.
async fn list(rest: &Rest) -> (Vec<String>, u64) {
    let (mut ids, mut asked, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let (page, tries) = page(async || rest.get(&format!("/conversations?limit={PAGE}{cursor}")).await).await;
        assert_eq!(page["total"], CONVERSATIONS);
        for one in page["conversations"].as_array().unwrap() {
            assert!(one["lastMessage"]["content"].is_string() && one["unreadCount"].as_i64() > Some(0), "{one}");
            ids.push(one["id"].as_str().unwrap().to_owned());
        }
        asked += tries;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (ids, asked),
        }
    }
}

/// What a sync brings, page by page: conversations, messages, pages that were asked for.
async fn sync(rest: &Rest, known: &Value) -> (Vec<String>, usize, u64) {
    let (mut ids, mut messages, mut asked, mut cursor) = (Vec::new(), 0, 0, Value::Null);
    loop {
        let body = json!({"known": known, "limit": PAGE, "cursor": cursor});
        let (page, tries) = page(async || rest.post("/sync", &body).await).await;
        asked += tries;
        for one in page["conversations"].as_array().unwrap() {
            assert_eq!(one["more"], false);
            messages += one["messages"].as_array().unwrap().len();
            ids.push(one["id"].as_str().unwrap().to_owned());
        }
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return (ids, messages, asked);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_conversations_cost_what_is_shown_of_them() {
    let Some(nodes) = tokio::task::spawn_blocking(|| Nodes::start_apart(2)).await.unwrap() else { return };
    let (stores, urls) = (nodes.stores().await, nodes.urls());
    let each: Seq = if is_long() { 500 } else { 20 };
    let person = World::at(&urls[0]).person("Popular").await;
    let user: UserId = person.id().parse().unwrap();
    let peers = strangers(&stores, PEERS).await;
    let made = (0..CONVERSATIONS).map(async |n| {
        let peer = |further: usize| peers[(n / 2 + further) % PEERS];
        let at = 1_000_000 + n as i64;
        if n % 2 == 0 {
            conversation(&stores, ConversationKind::Direct, &[user, peer(0)], each, at).await
        } else {
            let people: Vec<_> = std::iter::once(user).chain((0..4).map(peer)).collect();
            conversation(&stores, ConversationKind::Group, &people, each, at).await
        }
    });
    let made: Vec<ConversationId> = futures_util::stream::iter(made).buffered(TOGETHER).collect().await;
    let newest_first: Vec<_> = made.iter().rev().map(ToString::to_string).collect();
    let by_id: Vec<_> = made.iter().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect();
    let known: BTreeMap<String, Seq> = made.iter().map(|id| (id.to_string(), each + 1)).collect();
    let [one, other] = [0, 1].map(|node: usize| Rest::new(&urls[node]).as_account(&person.account));
    let pages = (CONVERSATIONS / PAGE) as u64;
    let most = |pages: u64, each: u64| pages * (OF_A_PAGE + PAGE as u64 * each);

    // Of nodes that have met none of them.
    let ((ids, first), cold) = cost(&one, list(&one)).await;
    assert_eq!(ids, newest_first);
    let ((ids, second), warm) = cost(&one, list(&one)).await;
    assert_eq!(ids, newest_first);
    let few = page(async || other.get("/conversations?limit=10").await);
    let ((shown, tries), ten) = cost(&other, few).await;
    assert_eq!(shown["conversations"].as_array().unwrap().len(), 10);
    let (nothing, idle) = cost(&other, sync(&other, &json!(known))).await;
    assert_eq!((&nothing.0, nothing.1), (&Vec::new(), 0));
    let ((ids, messages, synced), anew) = cost(&other, sync(&other, &json!({}))).await;
    assert_eq!((ids, messages, synced >= pages), (by_id, CONVERSATIONS * each.min(50) as usize, true));
    report(
        "11 many conversations",
        format!(
            "{CONVERSATIONS} with {} messages; reads: list cold {}, warm {}, ten {}; sync all known {}, none {} in {synced} pages; \
             other statements: {} {} {} {} {}",
            CONVERSATIONS as Seq * each,
            cold.reads,
            warm.reads,
            ten.reads,
            idle.reads,
            anew.reads,
            cold.others,
            warm.others,
            ten.others,
            idle.others,
            anew.others
        ),
    );
    assert!(cold.reads <= most(first, UNKNOWN), "{cold:?}");
    assert!(warm.reads <= most(second, KNOWN), "{warm:?}");
    assert!(ten.reads <= tries * (OF_A_PAGE + 10 * UNKNOWN), "ten of a thousand: {ten:?}");
    assert!(idle.reads <= nothing.2 * OF_A_PAGE, "nothing new: {idle:?}");
    assert!(anew.reads <= most(synced, SYNCED), "{anew:?}");
    assert!(
        [cold, warm, ten, idle].iter().all(|cost| cost.others <= OF_A_PAGE),
        "looking writes nothing: {cold:?} {warm:?} {ten:?} {idle:?}"
    );
    assert!(anew.others <= most(synced, MARKS), "{anew:?}");
}

/// Somebody who was away, and what he has seen since.
struct Client {
    person: Person,
    conversation: String,
    number: usize,
}

/// How he came back.
struct Back {
    /// How long each try took, the last of which was let in and brought up to date.
    tries: Vec<Duration>,
    took: Duration,
    refusals: Vec<String>,
    emitter: loadtest::socket::Emitter,
    events: Events,
}

/// Whether one who was sent away like this may come again, as the official clients see it.
fn is_passing(error: &ConnectError) -> bool {
    match error {
        ConnectError::Refused(_) | ConnectError::Protocol(_) => false,
        ConnectError::Http { status, .. } => [429, 503].contains(status),
        ConnectError::Closed(Close { ending, code, .. }) => {
            !matches!(ending, Ending::Disconnect | Ending::ConnectError) && !code.is_some_and(|code| [4401, 4403, 4409].contains(&code))
        }
        ConnectError::Io(_) | ConnectError::Timeout(_) => true,
    }
}

impl Client {
    /// Tries as the app does, if more often, until everything that was missed has been told, in order and once.
    async fn come_back(&self, urls: &[String], mut go: watch::Receiver<bool>) -> Back {
        go.wait_for(|go| *go).await.unwrap();
        let (began, mut refusals, mut pause) = (Instant::now(), Vec::new(), Duration::from_secs(1));
        let mut tries = Vec::new();
        loop {
            let door = if self.number.is_multiple_of(3) { Door::WebSocket } else { Door::SocketIo };
            let url = &urls[(self.number + tries.len()) % urls.len()];
            let this_try = Instant::now();
            let token = Auth::Token(self.person.account.access_token.clone());
            // Longer than the app would: what is too slow is to be seen, not to be tried again.
            let refused = match (Options { timeout: LONG, ..Options::new(url, door, token) }).connect().await {
                Ok(socket) => {
                    let (emitter, mut events) = socket.split();
                    match emitter.resume(&json!({&self.conversation: HAD + 1})).await {
                        Ok(answer) if answer["recovered"] == true => {
                            let told: Vec<_> = events.drain().iter().filter(|event| event.name == "message:received").map(seq).collect();
                            assert!(told.iter().copied().eq(HAD + 2..=HAD + MISSED + 1), "{told:?}");
                            tries.push(this_try.elapsed());
                            return Back { tries, took: began.elapsed(), refusals, emitter, events };
                        }
                        other => format!("{other:?}"),
                    }
                }
                Err(error) => {
                    assert!(is_passing(&error), "refused for good: {error}");
                    error.to_string()
                }
            };
            refusals.push(refused);
            tries.push(this_try.elapsed());
            assert!(began.elapsed() < LONG, "not let in: {refusals:?}");
            // As socket.io-client does.
            let jitter = rand::rng().random_range(0.5..1.5);
            sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

fn seq(event: &loadtest::socket::Event) -> Seq {
    event.json()["seq"].as_i64().unwrap()
}

/// A figure of a process, in KiB.
fn kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_comes_back_at_once() {
    let Some(nodes) = tokio::task::spawn_blocking(|| Nodes::start_apart(2)).await.unwrap() else { return };
    let (stores, urls) = (nodes.stores().await, nodes.urls());
    let count = if is_long() { 5_000 } else { 1_000 };
    let worlds: Vec<_> = urls.iter().map(|url| World::at(url)).collect();
    let (stores, worlds) = (&stores, &worlds);
    let writing = (0..10).map(async |n| worlds[0].person(&format!("Writer {n}")).await);
    let writers: &Vec<Person> = &futures_util::stream::iter(writing).buffered(TOGETHER).collect().await;
    let making = (0..count).map(async |number| {
        let person = worlds[number % 2].person(&format!("Client {number}")).await;
        let people = [&person, &writers[number % writers.len()]].map(|person| person.id().parse().unwrap());
        let conversation = conversation(stores, ConversationKind::Direct, &people, HAD + MISSED, 1_000_000).await.to_string();
        Client { person, conversation, number }
    });
    let clients: Vec<Client> = futures_util::stream::iter(making).buffered(TOGETHER).collect().await;
    let pids: Vec<u32> = nodes.processes.iter().map(Process::pid).collect();
    let before: Vec<u64> = pids.iter().map(|pid| kib(*pid, "VmRSS")).collect();

    let (go, gone) = watch::channel(false);
    let urls: Arc<[String]> = urls.into();
    let coming: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let (urls, gone) = (Arc::clone(&urls), gone.clone());
            tokio::spawn(async move {
                let back = client.come_back(&urls, gone).await;
                (client, back)
            })
        })
        .collect();
    go.send_replace(true);
    let mut back: Vec<(Client, Back)> = join_all(coming).await.into_iter().map(Result::unwrap).collect();
    let peaks: Vec<u64> = pids.iter().map(|pid| kib(*pid, "VmHWM")).collect();

    let sum = async |name| join_all(worlds.iter().map(async |world| metric(&world.rest, name).await.values().sum::<u64>())).await;
    let (sockets, refused) = (sum("urge_sockets").await, sum("urge_gate_refusals_total").await);
    assert_eq!(sockets.iter().sum::<u64>(), count as u64);
    let most = back.iter().map(|(_, back)| back.tries.len()).max().unwrap();
    let tries = || back.iter().flat_map(|(_, back)| &back.tries).copied();
    let (longest, slow) = (tries().max().unwrap(), tries().filter(|took| *took > APP_WAITS).count());
    let mut took: Vec<Duration> = back.iter().map(|(_, back)| back.took).collect();
    took.sort_unstable();
    let again = back.iter().filter(|(_, back)| back.tries.len() > 1).count();
    let reasons: BTreeSet<&str> = back.iter().flat_map(|(_, back)| &back.refusals).map(|why| &why[..why.len().min(100)]).collect();
    let grown: Vec<u64> = before.iter().zip(&peaks).map(|(before, peak)| peak - before).collect();
    report(
        "11 many clients",
        format!(
            "{count} back at 2 nodes; half after {:.2} s, the last after {:.2} s; {again} tried again, at most {most} times; a try took \
             at most {:.2} s, {slow} longer than the app waits; gates refused {refused:?}; memory grew by {grown:?} KiB for \
             {sockets:?} sockets from {before:?}; {reasons:?}",
            took[count / 2].as_secs_f64(),
            took[count - 1].as_secs_f64(),
            longest.as_secs_f64(),
        ),
    );
    assert!(most <= APP_TRIES, "the app would have stopped trying: {reasons:?}");
    for (grown, sockets) in grown.iter().zip(&sockets) {
        assert!(*grown <= BESIDE_KIB + SOCKET_KIB * sockets, "{grown} KiB for {sockets} sockets");
    }
    // And they hear what comes from now on.
    for (client, back) in back.iter_mut().step_by(count / 50) {
        let writer = &writers[client.number % writers.len()];
        let rest = worlds[client.number % 2].rest.as_account(&writer.account);
        let sent = rest.send_text(&client.conversation, "live", None).await.unwrap();
        let told = back.events.next_event("message:received", PATIENCE).await.unwrap();
        assert_eq!((&told["id"], &told["seq"]), (&sent["id"], &json!(HAD + MISSED + 2)));
    }
    for (_, back) in &back {
        let _ = back.emitter.abort().await;
    }
}
