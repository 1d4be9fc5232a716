//! Everybody comes back at once: all are let in and brought up to date, whatever a try came to, within bounded memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use loadtest::socket::{Close, ConnectError, Ending, Event, Events};
use loadtest::{Auth, Door, Options};
use rand::RngExt as _;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use urge::id::{ConversationId, Seq};
use urge::log::ConversationKind;

use super::{Statements, TOGETHER, conversation, log, statements};
use crate::failures::tally::Tally;
use crate::failures::{is_long, metric};
use crate::support::cluster::OwnServers;
use crate::support::{Nodes, PATIENCE, Person, World};

/// Messages that each client has, and those that it has missed.
const HAD: Seq = 10;
const MISSED: Seq = 10;
/// Until the last one is back, on a machine that has much else to do.
const LONG: Duration = Duration::from_mins(2);
/// Reads of the store for one who comes back at his first try to a node that knows nobody: his login, who he is, whom he blocks and who
/// him, his conversations, what he missed in one of them, how it looks now, and what others are told of all that; and of who has waited
/// for five seconds and more his conversations once again.
const READS: f64 = 28.0;
/// How often the app tries to come back.
const APP_TRIES: usize = 5;
/// How long it waits for one of them to bring it up to date.
const APP_WAITS: Duration = Duration::from_secs(8);
/// What a node may take for each socket that comes back, in KiB: 12 for itself, and as much again for what is kept of its user, his
/// login and his conversation, with threefold slack, for the heap does not shrink between them.
const SOCKET_KIB: u64 = 72;
/// How often a node is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_millis(100);
/// What it may take beside them: buffers of requests that are under way, caches that begin to be filled.
const BESIDE_KIB: u64 = 32 << 10;

/// Somebody who was away, and what he has seen since.
struct Client {
    person: Person,
    conversation: ConversationId,
    number: usize,
}

/// How he came back.
struct Back {
    /// How long each try took, the last of which was let in and brought up to date.
    tries: Vec<Duration>,
    /// How long it took of the last one until he was let in.
    let_in: Duration,
    took: Duration,
    refusals: Vec<String>,
    /// Which rows he was told then.
    told: Vec<Seq>,
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
    /// Tries as the app does, if more often, until what was missed has been told.
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
                    let let_in = this_try.elapsed();
                    let (emitter, mut events) = socket.split();
                    match emitter.resume(&json!({self.conversation.to_string(): HAD + 1})).await {
                        Ok(answer) if answer["recovered"] == true => {
                            let told = received(&events.drain());
                            tries.push(this_try.elapsed());
                            return Back { tries, let_in, took: began.elapsed(), refusals, told, emitter, events };
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

/// The rows of these messages.
fn received(events: &[Event]) -> Vec<Seq> {
    events.iter().filter(|event| event.name == "message:received").map(|event| event.json()["seq"].as_i64().unwrap()).collect()
}

/// A figure of a process, in KiB.
fn kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What everybody's coming back came to.
struct Rush {
    back: Vec<(Client, Back)>,
    /// So many waited at most, on both nodes, until the store was read for them.
    waiting: u64,
    /// What each node had taken at most so far, in KiB.
    peaks: Vec<u64>,
}

/// The nodes, with a client of each.
struct Two {
    nodes: Nodes,
    worlds: Vec<World>,
}

impl Two {
    /// One figure of each, of all labels with this in them together.
    async fn sums(&self, name: &str, label: &str) -> Vec<u64> {
        let read = self.worlds.iter().map(async |world| {
            let found = metric(&world.rest, name).await;
            found.iter().filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum::<u64>()
        });
        join_all(read).await
    }

    async fn statements(&self) -> Statements {
        let both = join_all(self.worlds.iter().map(|world| statements(&world.rest))).await;
        Statements { reads: both.iter().map(|one| one.reads).sum(), others: both.iter().map(|one| one.others).sum() }
    }

    fn memory(&self, name: &str) -> Vec<u64> {
        self.nodes.processes.iter().map(|node| kib(node.pid(), name)).collect()
    }

    /// All of them at the same moment.
    async fn rush(&self, clients: Vec<Client>) -> Rush {
        let (go, gone) = watch::channel(false);
        let urls: Arc<[String]> = self.nodes.urls().into();
        let coming = clients.into_iter().map(|client| {
            let (urls, gone) = (Arc::clone(&urls), gone.clone());
            tokio::spawn(async move {
                let back = client.come_back(&urls, gone).await;
                (client, back)
            })
        });
        let all = join_all(coming.collect::<Vec<_>>());
        tokio::pin!(all);
        go.send_replace(true);
        let mut waiting = 0;
        let back = loop {
            tokio::select! {
                back = &mut all => break back,
                // It is looked at now and then.
                () = sleep(LOOKED_AT_EVERY) => waiting = waiting.max(self.sums("urge_gate_waiting", "\"resume\"").await.iter().sum()),
            }
        };
        Rush { back: back.into_iter().map(Result::unwrap).collect(), waiting, peaks: self.memory("VmHWM") }
    }

    /// All of them go.
    async fn leave(&self, back: Vec<(Client, Back)>) -> Vec<Client> {
        for (_, back) in &back {
            let _ = back.emitter.abort().await;
        }
        let clients = back.into_iter().map(|(client, _)| client).collect();
        let began = Instant::now();
        while self.sums("urge_sockets", "").await.iter().any(|sockets| *sockets > 0) {
            assert!(began.elapsed() < PATIENCE * 3, "sockets stay that have ended");
            // Nobody is told when a node has noticed.
            sleep(LOOKED_AT_EVERY).await;
        }
        clients
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_comes_back_at_once() {
    // One node of the store, however many there are for the others: on one machine three are not faster, but slower.
    let Some(own) = block_in_place(|| OwnServers::start("failures-returns", &["--durable"])) else { return };
    let nodes = block_in_place(|| Nodes::on(&own.servers, 2));
    let stores = &nodes.stores().await;
    let two = Two { worlds: nodes.urls().iter().map(|url| World::at(url)).collect(), nodes };
    let worlds = &two.worlds;
    let count = if is_long() { 5_000 } else { 1_000 };
    let writing = (0..10).map(async |n| worlds[0].person(&format!("Writer {n}")).await);
    let writers: &Vec<Person> = &futures_util::stream::iter(writing).buffered(TOGETHER).collect().await;
    let making = (0..count).map(async |number| {
        let person = worlds[number % 2].person(&format!("Client {number}")).await;
        let people = [&person, &writers[number % writers.len()]].map(|person| person.id().parse().unwrap());
        let conversation = conversation(stores, ConversationKind::Direct, &people, HAD + MISSED, 1_000_000).await;
        Client { person, conversation, number }
    });
    let clients: Vec<Client> = futures_util::stream::iter(making).buffered(TOGETHER).collect().await;
    let (before, so_far) = (two.memory("VmRSS"), two.statements().await);

    let Rush { back, waiting, peaks } = two.rush(clients).await;
    let since = two.statements().await;
    let each = |now: u64, before: u64| (now - before) as f64 / count as f64;
    let (reads, others) = (each(since.reads, so_far.reads), each(since.others, so_far.others));
    let (sockets, refused) = (two.sums("urge_sockets", "").await, two.sums("urge_gate_refusals_total", "").await);
    assert_eq!(sockets.iter().sum::<u64>(), count as u64);
    let most = back.iter().map(|(_, back)| back.tries.len()).max().unwrap();
    let tries = || back.iter().flat_map(|(_, back)| &back.tries).copied();
    let (longest, slow) = (tries().max().unwrap(), tries().filter(|took| *took > APP_WAITS).count());
    let let_in = back.iter().map(|(_, back)| back.let_in).max().unwrap();
    let mut took: Vec<Duration> = back.iter().map(|(_, back)| back.took).collect();
    took.sort_unstable();
    let again = back.iter().filter(|(_, back)| back.tries.len() > 1).count();
    let reasons: BTreeSet<String> = back.iter().flat_map(|(_, back)| &back.refusals).map(|why| why.chars().take(100).collect()).collect();
    let grown: Vec<u64> = before.iter().zip(&peaks).map(|(before, peak)| peak - before).collect();
    let mut tally = Tally::default();
    let had: Vec<Seq> = (2..=HAD + MISSED + 1).collect();
    let missed = &had[HAD as usize..];
    for (client, back) in &back {
        tally.resumed(&client.person.name, missed, &back.told);
    }

    // Again and again: what they took the first times is used again.
    let (mut back, mut last_peaks, mut grown_more) = (back, peaks, Vec::new());
    for _ in 0..2 {
        let clients = two.leave(back).await;
        let again = two.rush(clients).await;
        for (client, back) in &again.back {
            tally.resumed(&client.person.name, missed, &back.told);
        }
        grown_more.push(last_peaks.iter().zip(&again.peaks).map(|(before, now)| now - before).collect::<Vec<u64>>());
        (back, last_peaks) = (again.back, again.peaks);
    }
    // And they hear what comes from now on.
    let mut sent = Vec::new();
    for (n, (client, back)) in back.iter_mut().enumerate() {
        let mut acknowledged = had.clone();
        if n.is_multiple_of(count / 50) {
            let writer = &writers[client.number % writers.len()];
            let rest = worlds[client.number % 2].rest.as_account(&writer.account);
            let live = rest.send_text(&client.conversation.to_string(), "live", None).await.unwrap();
            let told = back.events.collect_until(PATIENCE, |events| !received(events).is_empty()).await.unwrap();
            assert_eq!(told.last().unwrap().json()["id"], live["id"]);
            acknowledged.push(live["seq"].as_i64().unwrap());
            tally.told(&client.person.name, &acknowledged[had.len()..], &received(&told));
        }
        sent.push((client.conversation, acknowledged));
    }
    log(&mut tally, stores, sent.into_iter()).await;
    tally.accept(
        "11 many clients",
        format!(
            "{count} back at 2 nodes; half after {:.2} s, the last after {:.2} s; let in after {:.2} s at most; {waiting} waited at \
             most; {again} tried again, at most {most} times; a try took at most {:.2} s, {slow} longer than the app waits; each took {reads:.1} reads and {others:.1} other \
             statements; gates refused {refused:?}; memory grew by {grown:?} KiB for {sockets:?} sockets from {before:?}, and the second \
             and third time by {grown_more:?}; {reasons:?}",
            took[count / 2].as_secs_f64(),
            took[count - 1].as_secs_f64(),
            let_in.as_secs_f64(),
            longest.as_secs_f64(),
        ),
    );
    assert!(most <= APP_TRIES, "the app would have stopped trying: {reasons:?}");
    assert!(let_in <= APP_WAITS * 3, "somebody was let in only after {let_in:?}");
    assert_eq!(refused.iter().sum::<u64>(), 0, "who comes back waits, and is not refused");
    assert!(waiting * 2 >= count as u64, "most of them were let in to the store at once: only {waiting} waited");
    assert!(reads <= READS * (1.0 + again as f64 / count as f64), "{reads} reads a client");
    for (grown, sockets) in grown.iter().zip(&sockets) {
        assert!(*grown <= BESIDE_KIB + SOCKET_KIB * sockets, "{grown} KiB for {sockets} sockets");
    }
    // The heap of two processors' allocators finds its size the second time; from then on there is nothing to grow for.
    for (first, (second, third)) in grown.iter().zip(grown_more[0].iter().zip(&grown_more[1])) {
        assert!(*second <= BESIDE_KIB / 4 + first / 4, "{second} KiB more the second time, {first} the first");
        assert!(*third <= BESIDE_KIB / 4 + first / 10, "{third} KiB more the third time, {first} the first");
    }
    two.leave(back).await;
}
