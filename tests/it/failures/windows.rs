//! Somebody is removed from a group and added again, through nodes by chance, while others write through all of them. What he is told
//! live, reads, syncs and finds is what was written while he was a member: all of it, in its order, once, and nothing else. Once he
//! has been added again he sees what came since, and no longer what was before.

mod judge;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use loadtest::socket::Events;
use loadtest::{Door, Rest, RestError, Socket};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use urge::error::ErrorCode;
use urge::event::Origin;

use self::judge::{assert_same, judge_looks, judge_syncs, part, windows};
use super::tally::Tally;
use super::{form, metric, patiently, unless_busy};
use crate::support::{Nodes, PATIENCE, Person, TestServer, World};

/// Who write, and how many messages a second all together.
const SENDERS: usize = 5;
const RATE: usize = 50;
/// Until everything has been told and can be found once nobody writes any more: two seconds, with threefold slack.
const FOUND: Duration = Duration::from_secs(6);
/// A pause before a request is made again that was answered with a 503, and between two syncs: nobody tells when.
const PAUSE: Duration = Duration::from_millis(50);

/// A message on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row {
    seq: i64,
    id: String,
    content: String,
    is_system: bool,
}

fn row(message: &Value) -> Row {
    let text = |name: &str| message[name].as_str().unwrap().to_owned();
    assert_eq!(message["changeSeq"], message["seq"], "nobody changes anything");
    Row { seq: message["seq"].as_i64().unwrap(), id: text("id"), content: text("content"), is_system: message["messageType"] == "SYSTEM" }
}

fn rows(messages: &Value) -> Vec<Row> {
    messages.as_array().unwrap().iter().map(row).collect()
}

/// An entry of a sync, and what the device had said that it knew.
struct Synced {
    known: Option<i64>,
    cleared: i64,
    up_to: i64,
    state: String,
    rows: Vec<Row>,
}

/// What the member saw while he was in: from where on everything had to be there, and what was.
struct Read {
    how: &'static str,
    acknowledged: i64,
    rows: Vec<Row>,
}

/// The cluster, its group and everything that was seen of it.
struct Scene {
    /// Real processes, and two nodes of this process that can change members.
    rests: Vec<Rest>,
    inside: Vec<TestServer>,
    founder: Person,
    roamer: Person,
    group: String,
    dice: Mutex<StdRng>,
    /// What was acknowledged to each sender, who waits for it before he sends the next.
    acknowledged: Mutex<[Vec<Row>; SENDERS]>,
}

impl Scene {
    fn any(&self, person: &Person) -> Rest {
        self.rests.choose(&mut *self.dice.lock()).unwrap().as_account(&person.account)
    }

    fn everywhere(&self, person: &Person) -> Vec<Rest> {
        self.rests.iter().map(|rest| rest.as_account(&person.account)).collect()
    }

    fn pause(&self, ms: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.dice.lock().random_range(ms))
    }

    fn last_acknowledged(&self) -> i64 {
        self.acknowledged.lock().iter().flatten().map(|row| row.seq).max().unwrap_or(0)
    }

    /// Removes him, or he leaves; adds him again.
    async fn change(&self, add: bool) {
        let parse = |person: &Person| person.id().parse().unwrap();
        let (founder, roamer, group) = (parse(&self.founder), parse(&self.roamer), self.group.parse().unwrap());
        let began = Instant::now();
        loop {
            let (node, leaves) = {
                let mut dice = self.dice.lock();
                (dice.random_range(0..self.inside.len()), dice.random_bool(0.5))
            };
            let conversations = &self.inside[node].services.conversations;
            let done = if add {
                conversations.add_members(founder, group, &[roamer], Origin::default()).await.map(drop)
            } else if leaves {
                conversations.leave(roamer, group, Origin::default()).await
            } else {
                conversations.remove_member(founder, group, roamer, Origin::default()).await
            };
            match done {
                Ok(()) => return,
                // The try before had been in time after all.
                Err(error) if matches!(error.code, ErrorCode::NotFound | ErrorCode::Forbidden) && began.elapsed() > PAUSE => return,
                Err(error) => assert!(error.code == ErrorCode::Unavailable && began.elapsed() < PATIENCE, "{error:?}"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Writes this many times a second until told to stop.
    async fn write(self: Arc<Self>, sender: usize, person: Person, stop: watch::Receiver<bool>) {
        let mut ticks = interval(Duration::from_millis((1_000 * SENDERS / RATE) as u64));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut n = 0;
        while !*stop.borrow() {
            ticks.tick().await;
            n += 1;
            let (content, began) = (format!("window {sender} {n}"), Instant::now());
            let sent = loop {
                match self.any(&person).send_text(&self.group, &content, Some(&content)).await {
                    Ok(sent) => break row(&sent),
                    Err(error) => assert!(error.status() == 503 && began.elapsed() < PATIENCE, "{error}"),
                }
                sleep(PAUSE).await;
            };
            self.acknowledged.lock()[sender].push(sent);
        }
    }

    /// Syncs all the time, through nodes by chance.
    async fn sync(self: Arc<Self>, stop: watch::Receiver<bool>) -> Vec<Synced> {
        let (mut known, mut seen) = (None::<i64>, Vec::new());
        let mut is_last = false;
        loop {
            let mut more = false;
            let body = known.map_or_else(|| json!({}), |known| json!({&self.group: known}));
            match self.any(&self.roamer).sync(&body, None).await {
                Ok(answer) => {
                    for entry in answer["conversations"].as_array().unwrap() {
                        let number = |name: &str| entry[name].as_i64().unwrap();
                        let (cleared, up_to, state) = (number("clearedSeq"), number("upTo"), entry["state"].as_str().unwrap().to_owned());
                        seen.push(Synced { known, cleared, up_to, state, rows: rows(&entry["messages"]) });
                        (known, more) = (Some(up_to), entry["more"] == true);
                    }
                    if is_last && !more {
                        return seen;
                    }
                    is_last = *stop.borrow();
                }
                Err(error) => assert_eq!(error.status(), 503, "{error}"),
            }
            if !more {
                sleep(PAUSE).await;
            }
        }
    }

    /// All that one reads of the group, ascending, and what he is told that it is in all.
    async fn history(&self, rest: &Rest) -> Result<(Vec<Row>, i64), RestError> {
        let mut all: Vec<Row> = Vec::new();
        let mut total = None;
        loop {
            let before = all.first().map_or_else(String::new, |first| format!("&before_seq={}", first.seq));
            let page = patiently(async || rest.history(&self.group, &format!("limit=100{before}")).await).await?;
            total = total.or(page["total"].as_i64());
            let mut found = rows(&page["messages"]);
            found.append(&mut all);
            all = found;
            if page["has_more"] != true {
                return Ok((all, total.unwrap()));
            }
        }
    }

    /// All that one finds by the word that everything says, ascending.
    async fn found(&self, rest: &Rest, place: &str) -> Result<Vec<Row>, RestError> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/messages/search?q=window&limit=100{place}{cursor}");
            let page = patiently(async || rest.get(&path).await).await?;
            all.extend(rows(&page["messages"]));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        all.reverse();
        Ok(all)
    }

    /// What he reads and finds while he is in.
    async fn look(&self) -> Vec<Read> {
        let (here, acknowledged) = (format!("&conversation_id={}", self.group), self.last_acknowledged());
        let [one, two, three] = std::array::from_fn(|_| self.any(&self.roamer));
        let (read, found, anywhere) = tokio::join!(self.history(&one), self.found(&two, &here), self.found(&three, ""));
        vec![
            Read { how: "history", acknowledged, rows: read.unwrap().0 },
            Read { how: "search there", acknowledged: 0, rows: found.unwrap() },
            Read { how: "search", acknowledged: 0, rows: anywhere.unwrap() },
        ]
    }

    /// He is out, whichever node he asks.
    async fn is_out(&self) {
        let (here, roamer) = (format!("&conversation_id={}", self.group), &self.roamer);
        for (node, rest) in self.everywhere(roamer).iter().enumerate() {
            let (view, history, found, anywhere, list, sent) = tokio::join!(
                patiently(async || rest.conversation(&self.group).await),
                self.history(rest),
                self.found(rest, &here),
                self.found(rest, ""),
                patiently(async || rest.conversations().await),
                patiently(async || rest.send_text(&self.group, "am I in?", None).await),
            );
            let refused = [view.err(), history.err(), found.err(), sent.err()];
            assert!(refused.iter().all(|error| error.as_ref().is_some_and(|error| error.status() == 403)), "node {node}: {refused:?}");
            assert_eq!((anywhere.unwrap(), &list.unwrap()["total"]), (Vec::new(), &json!(0)), "node {node}");
        }
    }
}

/// Notes what a socket is told of the group, until it ends.
async fn listen(mut events: Events, group: String, told: Arc<Mutex<Vec<(String, Value)>>>) {
    while let Ok(event) = events.next().await {
        let data = event.json();
        let place = if event.name.starts_with("message:received") { "conversationId" } else { "id" };
        let concerns = ["message:received", "conversation:created"].contains(&event.name.as_str()) && data[place] == *group;
        if concerns {
            told.lock().push((event.name, data));
        }
    }
}

/// A socket of his, and what it was told.
struct Live {
    socket: loadtest::socket::Emitter,
    reading: tokio::task::JoinHandle<()>,
    told: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Live {
    async fn at(rest: &Rest, person: &Person, door: Door, group: &str) -> Self {
        let socket = Socket::connect(&rest.base(), &person.account.access_token, door).await.unwrap();
        let (socket, events) = socket.split();
        let told = Arc::<Mutex<Vec<_>>>::default();
        let reading = tokio::spawn(listen(events, group.to_owned(), Arc::clone(&told)));
        Self { socket, reading, told }
    }

    fn rows(&self) -> Vec<Row> {
        self.told.lock().iter().filter(|(name, _)| name == "message:received").map(|(_, data)| row(data)).collect()
    }
}

/// People and their group, on these nodes and two more.
async fn settle(nodes: &Nodes, seed: u64) -> (Arc<Scene>, Vec<Person>) {
    let inside = vec![nodes.inside().await, nodes.inside().await];
    let rests: Vec<Rest> = nodes.urls().iter().map(|url| Rest::new(url)).chain(inside.iter().map(TestServer::rest)).collect();
    let world = World::at(&nodes.urls()[0]);
    let (founder, roamer) = (world.person("Founder").await, world.person("Roamer").await);
    let mut senders = Vec::new();
    for n in 0..SENDERS {
        senders.push(world.person(&format!("Sender {n}")).await);
    }
    let members: Vec<_> = senders.iter().chain([&roamer]).collect();
    let group = world.group(&founder, "Club", &members).await;
    let (dice, acknowledged) = (Mutex::new(StdRng::seed_from_u64(seed)), Mutex::default());
    let scene = Scene { rests, inside, founder, roamer, group, dice, acknowledged };
    (Arc::new(scene), senders)
}

async fn run(seed: u64, length: Duration) {
    let Some(nodes) = tokio::task::spawn_blocking(|| Nodes::start(3)).await.unwrap() else { return };
    let (scene, senders) = Box::pin(settle(&nodes, seed)).await;
    let mut live = Vec::new();
    for (node, door) in [Door::WebSocket, Door::SocketIo, Door::Polling].into_iter().enumerate() {
        live.push(Live::at(&scene.rests[node], &scene.roamer, door, &scene.group).await);
    }
    let ((stop, stopped), (stop_syncing, syncing)) = (watch::channel(false), watch::channel(false));
    let writing = senders.into_iter().enumerate().map(|(n, sender)| tokio::spawn(Arc::clone(&scene).write(n, sender, stopped.clone())));
    let writing: Vec<_> = writing.collect();
    let syncs = tokio::spawn(Arc::clone(&scene).sync(syncing));

    let (began, mut looks, mut times) = (Instant::now(), Vec::new(), 0);
    while began.elapsed() < length {
        sleep(scene.pause(100..=700)).await;
        looks.push((times, scene.look().await));
        scene.change(false).await;
        scene.is_out().await;
        sleep(scene.pause(0..=400)).await;
        scene.is_out().await;
        scene.change(true).await;
        times += 1;
        looks.push((times, scene.look().await));
    }
    sleep(scene.pause(300..=700)).await;
    stop.send_replace(true);
    for sender in writing {
        sender.await.unwrap();
    }

    // What stands in the log, and who may see what of it.
    let reads = join_all(scene.everywhere(&scene.founder).into_iter().map(|rest| async {
        let rest = rest;
        scene.history(&rest).await
    }));
    let logs: Vec<_> = reads.await.into_iter().map(|read| read.unwrap().0).collect();
    let log = &logs[0];
    for other in &logs[1..] {
        assert_same("another node", other, log);
    }
    assert!(log.iter().zip(2..).all(|(row, seq)| row.seq == seq), "the log has gaps");
    let mut tally = Tally::default();
    let stored: Vec<Row> = log.iter().filter(|row| !row.is_system).cloned().collect();
    tally.log(&scene.acknowledged.lock().each_ref().map(Vec::as_slice), &stored);
    let windows = windows(log);
    assert_eq!(windows.len(), times + 1);

    // Live.
    let his: Vec<Row> = windows.iter().flat_map(|window| part(log, window, true)).collect();
    let last = his.last().unwrap().seq;
    for ((live, how), rest) in live.iter().zip(["/ws", "Socket.IO", "long-polling"]).zip(&scene.rests) {
        let told = Instant::now();
        while live.rows().last().is_none_or(|row| row.seq < last) && told.elapsed() < FOUND {
            // What comes next is not an event that says so.
            sleep(PAUSE).await;
        }
        tally.told(how, &his, &live.rows());
        let news = live.told.lock().iter().filter(|(name, _)| name == "conversation:created").count();
        // A node that comes to it when he is out again shows him nothing of the group: it says so.
        let left_out = metric(rest, "urge_hub_views_left_out_total").await;
        let gone = left_out.get("{event=\"conversation:created\",reason=\"gone\"}").copied().unwrap_or(0);
        assert_eq!(news + gone as usize, times, "{how}: he was told of his group {news} times: {left_out:?}");
        assert!(news > 0, "{how}: he was never told of his group");
    }
    // By sync.
    stop_syncing.send_replace(true);
    let syncs = syncs.await.unwrap();
    judge_syncs(&syncs, log, &windows, &mut tally);
    assert_eq!(syncs.last().map(|last| last.up_to), Some(last));
    judge_looks(&looks, log, &windows);
    at_the_end(&scene, log, &windows).await;
    let rows = format!("{} rows, {} of them his at each of 3 doors", log.len(), his.len());
    tally.accept(&format!("9 out and in again, seed {seed}"), format!("{times} times; {rows}; {} syncs", syncs.len()));
    for live in live {
        let _ = live.socket.abort().await;
        live.reading.await.unwrap();
    }
    let scene = Arc::into_inner(scene).unwrap();
    for node in scene.inside {
        node.stop().await;
    }
}

/// At the end he sees the same through every node: his last window, and nothing that was never his.
async fn at_the_end(scene: &Scene, log: &[Row], windows: &[RangeInclusive<i64>]) {
    let window = windows.last().unwrap();
    for rest in scene.everywhere(&scene.roamer) {
        let expected = part(log, window, true);
        let (rows, total) = scene.history(&rest).await.unwrap();
        assert_same("history at the end", &rows, &expected);
        assert_eq!(total as usize, expected.len());
        let anew = unless_busy(async || rest.sync(&json!({}), None).await).await;
        assert_same("a new device", &rows_of(&anew), &expected[expected.len().saturating_sub(50)..]);
        let (expected, written) = (part(log, window, false), Instant::now());
        for place in [format!("&conversation_id={}", scene.group), String::new()] {
            let mut found = scene.found(&rest, &place).await.unwrap();
            while found != expected && written.elapsed() < FOUND {
                sleep(PAUSE).await;
                found = scene.found(&rest, &place).await.unwrap();
            }
            assert_same("found at the end", &found, &expected);
        }
        let outside: Vec<_> = log.iter().filter(|row| windows.iter().all(|window| !window.contains(&row.seq))).collect();
        assert!(!outside.is_empty(), "nothing was written while he was away");
        for row in outside.iter().step_by(outside.len().div_ceil(5).max(1)) {
            let status = patiently(async || rest.message(&row.id).await).await.map_or_else(|error| error.status(), |_| 200);
            assert!([403, 404].contains(&status), "row {} was never his: {status}", row.seq);
        }
    }
}

fn rows_of(synced: &Value) -> Vec<Row> {
    rows(&synced["conversations"][0]["messages"])
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_and_goes_sees_what_was_written_while_he_was_there() {
    let form = form();
    for seed in form.seeds {
        Box::pin(run(seed, form.length.min(Duration::from_secs(if super::is_long() { 60 } else { 6 })))).await;
    }
}
