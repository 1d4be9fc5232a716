//! Three nodes of the store that keep everything three times. One of them may die or stand still; of two nobody is told more than
//! that it did not work, and afterwards nothing is there twice.

use std::sync::Arc;
use std::time::Duration;

use loadtest::verify::Verify;
use tokio::time::{Instant, interval, sleep};

use super::{Cluster, QUIET, accept, form, goes_on, is_long, report};
use crate::support::Nodes;
use crate::support::cluster::OwnServers;

/// What three of them and two nodes bear on two processors, messages a second.
const RATE: f64 = 15.0;
/// All of it; the first is also the one that the others began with, and that URGE's nodes ask first.
const STORE: [&str; 3] = ["cassandra-1", "cassandra-2", "cassandra-3"];
/// Those of which two go at once, and one in the short form.
const GONE: [&str; 2] = ["cassandra-2", "cassandra-3"];

/// A way to go, and the way back.
struct Harm {
    verb: &'static str,
    back: &'static str,
    how: &'static str,
}

const HARMS: [Harm; 2] = [Harm { verb: "kill", back: "restart", how: "killed" }, Harm { verb: "pause", back: "resume", how: "paused" }];

/// The part of the sends that goes on without one of three: of all, of which the first seconds may pass until the others ask it no more,
/// and of the second half. In the short form, whose halves are five seconds on machines that have much else to do, with threefold slack.
fn least() -> (f64, f64) {
    if is_long() { (0.8, 0.9) } else { (1.0 / 3.0, 1.0 / 3.0) }
}

/// When who is refused has been told so: the node's own deadline of 3 s, with what a call takes beside it as the client measures it, and
/// with threefold slack in the short form, which runs on machines that have much else to do.
fn refused_by() -> Duration {
    Duration::from_millis(if is_long() { 3_500 } else { 9_000 })
}

/// The deadline, and what an answer may take beside it.
const UNDER_WAY: Duration = Duration::from_millis(3_500);

/// For how long nothing may be acknowledged without a majority.
fn window() -> Duration {
    Duration::from_secs(if is_long() { 20 } else { 5 })
}

async fn tell(own: &Arc<OwnServers>, verb: &'static str, server: &'static str) {
    let own = Arc::clone(own);
    tokio::task::spawn_blocking(move || own.tell(verb, server)).await.unwrap();
}

/// Sends that were acknowledged in each of so many seconds.
async fn pace(verify: &Verify, seconds: usize) -> Vec<usize> {
    let (mut ticks, mut counts) = (interval(Duration::from_secs(1)), vec![verify.acknowledged()]);
    ticks.tick().await;
    for _ in 0..seconds {
        ticks.tick().await;
        counts.push(verify.acknowledged());
    }
    counts.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Without this one of three, sends go on.
async fn one_is_gone(own: &Arc<OwnServers>, verify: &Verify, server: &'static str, harm: &Harm) {
    let (whole, gone) = if is_long() { (20, 60) } else { (5, 10) };
    // What is offered, or less where this machine bears less at the moment.
    let before = pace(verify, whole).await.iter().sum::<usize>() as f64 / whole as f64;
    assert!(before >= RATE / 5.0, "this machine does not bear what is to go on: {before} a second");
    tell(own, harm.verb, server).await;
    let paces = pace(verify, gone).await;
    let (count, lately): (usize, usize) = (paces.iter().sum(), paces[gone / 2..].iter().sum());
    let back = Instant::now();
    tell(own, harm.back, server).await;
    goes_on(verify, 10).await;
    let expected = before.min(RATE) * gone as f64;
    report(
        &format!("6 {server} of three {}", harm.how),
        format!(
            "{count} sends acknowledged in {gone} s, of {expected:.0} at the pace before; a second {paces:?}; back after {:.1} s",
            back.elapsed().as_secs_f64()
        ),
    );
    let (all, second_half) = least();
    assert!(count as f64 >= expected * all, "{server} {}: sends hardly went on: {count} of {expected:.0}", harm.how);
    assert!(lately as f64 >= expected / 2.0 * second_half, "{server} {}: it gets worse with time: {paces:?}", harm.how);
}

/// Without two of three, each send is answered that it did not work, soon, and none that it did.
async fn two_are_gone(own: &Arc<OwnServers>, verify: &Verify, harm: &Harm) {
    for server in GONE {
        tell(own, harm.verb, server).await;
    }
    // What was under way when the second one went may have been stored, until the deadline of its node.
    sleep(UNDER_WAY).await;
    let (before, began) = (verify.acknowledged(), Instant::now());
    let (mut worst, mut probes) = (Duration::ZERO, 0);
    while began.elapsed() < window() || probes < 3 {
        let send = Instant::now();
        let answer = verify.try_once(&format!("written to one of three, {}, {probes}", harm.how)).await;
        let took = send.elapsed();
        assert_eq!(answer.unwrap_err().status(), 503, "probe {probes}");
        assert!(took < refused_by(), "probe {probes} was refused only after {took:?}");
        (worst, probes) = (worst.max(took), probes + 1);
        // Those who write are not to be crowded out by who probes.
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(verify.acknowledged(), before, "acknowledged by one of three");
    let (without, back) = (began.elapsed(), Instant::now());
    for server in GONE {
        tell(own, harm.back, server).await;
    }
    goes_on(verify, 30).await;
    report(
        &format!("6 two store nodes of three {}", harm.how),
        format!(
            "nothing acknowledged in {:.1} s, {probes} of {probes} probes answered 503, the slowest after {} ms; sends go on {:.1} s after",
            without.as_secs_f64(),
            worst.as_millis(),
            back.elapsed().as_secs_f64()
        ),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_may_die_and_of_two_nothing_is_made_up() {
    let started = tokio::task::spawn_blocking(|| {
        let own = OwnServers::start("failures-store", &["--count", "3", "--nats", "1"])?;
        let cluster = Cluster::of(Nodes::on(&own.servers, 2));
        Some((Arc::new(own), cluster))
    });
    let Some((own, cluster)) = started.await.unwrap() else { return };
    // It takes many minutes: the first seed alone has it.
    let seed = form().seeds[0];
    let verify = cluster.verify(|options| (options.seed, options.rate) = (seed, RATE)).await;
    goes_on(&verify, 30).await;
    for server in if is_long() { &STORE[..] } else { &GONE[..1] } {
        for harm in &HARMS {
            one_is_gone(&own, &verify, server, harm).await;
        }
    }
    for harm in HARMS.iter().rev() {
        two_are_gone(&own, &verify, harm).await;
    }
    let verdict = verify.judge(QUIET * 2).await.unwrap();
    accept("6 of three store nodes one and two paused and killed, one seed of all", seed, &verdict);
}
