//! NATS that is killed with all that it knew, and that is away for long: sends go on, and who is connected has everything soon after
//! it answers again, without connecting again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use loadtest::Rest;
use loadtest::verify::Verify;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use urge::app::Stores;

use super::{Cluster, QUIET, accept, form, goes_on, is_long, metric, report};
use crate::support::cluster::OwnServers;
use crate::support::{Nodes, PATIENCE, growths};

/// What the contract gives after it answers again; with threefold slack in the short form, which runs on machines that have much else
/// to do.
fn soon() -> Duration {
    Duration::from_secs(if is_long() { 2 } else { 6 })
}

/// Sends that are timed side by side while there is no NATS, and the pause until the next ones.
const PROBES: usize = 4;
const PROBED_EVERY: Duration = Duration::from_millis(100);
/// The metric that counts events which the bus did not take.
const KEPT: &str = "urge_outbox_written_total";

/// A NATS of its own, and two nodes on it.
async fn on_own_nats(name: &'static str) -> Option<(Arc<OwnServers>, Cluster)> {
    tokio::task::spawn_blocking(move || {
        let (own, both) = OwnServers::nats_beside(name)?;
        Some((Arc::new(own), Cluster::of(Nodes::on(&both, 2))))
    })
    .await
    .unwrap()
}

/// Does this to it.
async fn tell(nats: &Arc<OwnServers>, verb: &'static str) {
    let nats = Arc::clone(nats);
    tokio::task::spawn_blocking(move || nats.tell(verb, "nats-1")).await.unwrap();
}

/// The sum of this metric over the nodes.
async fn sum(cluster: &Cluster, name: &str) -> u64 {
    let mut sum = 0;
    for url in cluster.urls() {
        sum += metric(&Rest::new(&url), name).await.values().sum::<u64>();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_killed_and_wiped_costs_nothing() {
    let form = form();
    let Some((nats, cluster)) = on_own_nats("failures-wiped").await else { return };
    let outbox = Outbox::of(&cluster).await;
    for seed in form.seeds {
        let verify = cluster.verify(|options| options.seed = seed).await;
        goes_on(&verify, 100).await;
        assert!(verify.all_connected(QUIET).await, "somebody has never connected");
        let (connections, kept_before) = (verify.connections(), sum(&cluster, KEPT).await);
        let (began, mut worst, mut wipes, mut meanwhile) = (Instant::now(), Duration::ZERO, 0, 0);
        while began.elapsed() < form.length {
            let before = verify.acknowledged();
            tell(&nats, "wipe").await;
            // It answers again by now, with nothing of what it knew.
            let back = Instant::now();
            meanwhile += verify.acknowledged() - before;
            wipes += 1;
            goes_on(&verify, 1).await;
            verify.all_told(PATIENCE).await.expect("not everybody was told");
            let took = back.elapsed();
            assert!(took < soon(), "told only {took:?} after it answered again");
            worst = worst.max(took);
            // It is there for a while: what is killed next is one that people use.
            sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(verify.connections(), connections, "somebody had to connect again");
        let kept = sum(&cluster, KEPT).await - kept_before;
        let conversation = verify.conversation().to_owned();
        let verdict = verify.judge(QUIET).await.unwrap();
        let case = format!(
            "5 nats-server killed and wiped {wipes} times, {meanwhile} sends acknowledged until it was back, events kept in the outbox {kept} times, all \
             told at most {} ms after it answered",
            worst.as_millis()
        );
        accept(&case, seed, &verdict);
        assert!(kept > 0, "nothing was sent while it was gone");
        outbox.drains_after_a_wipe(&nats, &cluster, &conversation, verdict.figures.stored).await;
    }
}

/// What sends come to for so long: how long those took that were acknowledged, ascending, and how many were not.
async fn probe(verify: &Verify, length: Duration) -> (Vec<Duration>, usize) {
    let (began, mut took, mut refused) = (Instant::now(), Vec::new(), 0);
    for round in 0.. {
        if began.elapsed() >= length {
            break;
        }
        let sends = (0..PROBES).map(async |n| {
            let send = Instant::now();
            verify.try_once(&format!("probe {n} of round {round}")).await.map(|()| send.elapsed())
        });
        for answer in join_all(sends).await {
            match answer {
                Ok(one) => took.push(one),
                Err(error) => {
                    assert_eq!(error.status(), 503, "{error}");
                    refused += 1;
                }
            }
        }
        sleep(PROBED_EVERY).await;
    }
    took.sort_unstable();
    (took, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_go_on_while_nats_is_away() {
    // Half a minute of nothing else: the first seed alone has it.
    let seed = form().seeds[0];
    let Some((nats, cluster)) = on_own_nats("failures-away").await else { return };
    let verify = cluster.verify(|options| options.seed = seed).await;
    goes_on(&verify, 100).await;
    assert!(verify.all_connected(QUIET).await, "somebody has never connected");
    let connections = verify.connections();
    tell(&nats, "kill").await;
    let (before, away) = (verify.acknowledged(), Duration::from_secs(if is_long() { 30 } else { 8 }));
    let (took, refused) = probe(&verify, away).await;
    let meanwhile = verify.acknowledged() - before;
    let outbox = Outbox::of(&cluster).await;
    let kept = outbox.events().await;
    tell(&nats, "restart").await;
    let back = Instant::now();
    goes_on(&verify, 1).await;
    verify.all_told(PATIENCE).await.expect("not everybody was told");
    let told = back.elapsed();
    assert!(told < soon(), "told only {told:?} after it answered again");
    assert_eq!(verify.connections(), connections, "somebody had to connect again");
    assert!(!took.is_empty(), "no send was acknowledged, {refused} were refused");
    let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1_000.0;
    // Some 0.2 s are usual: nobody waits for the bus.
    assert!(at(50) < if is_long() { 1_000.0 } else { 3_000.0 }, "sends wait: half of them took {:.0} ms", at(50));
    report(
        "5 no nats-server",
        format!(
            "{meanwhile} sends acknowledged in {} s without; of {} that were timed half took {:.1} ms, 99 of 100 {:.1} ms, the longest {:.1} \
             ms, {refused} were answered 503",
            away.as_secs(),
            took.len() + refused,
            at(50),
            at(99),
            at(100)
        ),
    );
    let verdict = verify.judge(QUIET).await.unwrap();
    let case = format!("5 no nats-server for {} s, all told {} ms after it answered, one seed of all", away.as_secs(), told.as_millis());
    accept(&case, seed, &verdict);
    let least = if is_long() { 10.0 } else { 3.0 };
    assert!(meanwhile as f64 > away.as_secs_f64() * least, "sends hardly went on: {meanwhile}");
    // A machine that has much else to do stalls for longer than a send may take, once or twice.
    assert!(refused * if is_long() { 20 } else { 5 } <= took.len(), "{refused} sends were refused, {} acknowledged", took.len());
    outbox.drains_once(&nats, &cluster, &kept, verdict.figures.stored).await;
}

/// The events of a cluster that workers are told.
struct Outbox {
    stores: Stores,
    /// The bus's.
    name: String,
}

impl Outbox {
    async fn of(cluster: &Cluster) -> Self {
        let look = |nodes: &mut Nodes| (Handle::current().block_on(nodes.stores()), nodes.setting("URGE_BUS_NATS_NAME").to_owned());
        let (stores, name) = cluster.with(look).await;
        Self { stores, name }
    }

    /// Those that wait for the bus, as the stream names them.
    async fn events(&self) -> Vec<String> {
        let kept = growths::in_outbox(self.stores.outbox.as_ref()).await;
        kept.iter().map(|growth| format!("{}:{}", growth.conversation_id, growth.seq)).collect()
    }

    /// It is drained, and of what the stream has then nothing is there twice: those events, and how often each is there.
    async fn drains(&self, nats: &OwnServers, cluster: &Cluster) -> BTreeMap<String, usize> {
        let drained = async {
            while !self.events().await.is_empty() || sum(cluster, "urge_outbox_depth").await > 0 {
                // A node tells nobody what it has drained.
                sleep(Duration::from_millis(200)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE * 3, drained).await.is_ok(), "the outbox is not drained");
        let events = growths::in_stream(&nats.servers.nats[0], &self.name).await;
        let doubled: Vec<_> = events.iter().filter(|(_, count)| **count != 1).collect();
        assert!(doubled.is_empty(), "workers are told twice: {doubled:?}");
        events
    }

    /// After its server was wiped the stream has what came since, each event once. How far the log goes it knows, of which this was the
    /// last part. What became of the events that were wiped no stream says: that they are found is shown where workers are tested,
    /// `a_server_that_has_forgotten_its_events_costs_no_index` in cluster/events.rs.
    async fn drains_after_a_wipe(&self, nats: &OwnServers, cluster: &Cluster, conversation: &str, stored: usize) {
        let events = self.drains(nats, cluster).await;
        let seqs = events.keys().filter_map(|id| id.strip_prefix(conversation)?.strip_prefix(':')?.parse::<usize>().ok());
        assert_eq!(seqs.max(), Some(stored + 1), "workers are not told of the last row: {events:?}");
    }

    /// What the bus did not take it takes once it is back, each event once, and only then is it forgotten.
    async fn drains_once(&self, nats: &OwnServers, cluster: &Cluster, kept: &[String], stored: usize) {
        assert!(!kept.is_empty(), "nothing was kept for the bus");
        let events = self.drains(nats, cluster).await;
        let missing: Vec<_> = kept.iter().filter(|id| !events.contains_key(*id)).collect();
        assert!(missing.is_empty(), "of {} that were kept the stream lacks {missing:?}", kept.len());
        // Of rows that were written together they are told the last; so they know how far the one log goes, whose first row is its making.
        let seqs: BTreeSet<usize> = events.keys().map(|id| id.rsplit_once(':').unwrap().1.parse().unwrap()).collect();
        assert_eq!((seqs.len(), seqs.last()), (events.len(), Some(&(stored + 1))), "there is one conversation, told to its end");
        let [written, drained] = [sum(cluster, KEPT).await, sum(cluster, "urge_outbox_drained_total").await];
        report(
            "5 no nats-server",
            format!(
                "{} events were in the outbox when it came back, {written} in all, drained {drained} times by both nodes; each of them, and of all {}, \
                 is in the stream once",
                kept.len(),
                events.len()
            ),
        );
    }
}
