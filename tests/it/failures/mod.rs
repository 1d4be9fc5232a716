//! Whatever dies: real nodes on real servers, killed, paused, cut off, with clocks that are wrong, while people write. What they sent
//! and saw is judged by [`loadtest::verify`]: nothing that was acknowledged is lost, nothing comes twice or out of order. The short
//! forms are meant to be run one after the other; `URGE_TEST_FAILURES=long` makes minutes of each, with several seeds.

mod blink;
mod clocks;
mod control;
mod killed;
mod many;
mod nats;
mod parted;
mod partition;
mod paused;
mod points;
mod receiver;
mod rolling;
mod scene;
mod store;
mod tally;
mod windows;
mod winners;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use loadtest::verify::{Options, Verdict, Verify};
use loadtest::{Rest, RestError};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Nodes, PATIENCE, faulty};

/// Until everything is acknowledged and told once nothing goes wrong any more.
const QUIET: Duration = Duration::from_secs(30);

/// How a case is run.
pub struct Form {
    /// For how long things go wrong.
    pub length: Duration,
    /// What chance is made of, once each.
    pub seeds: Vec<u64>,
}

/// Whether `URGE_TEST_FAILURES` asks for the long forms.
pub fn is_long() -> bool {
    match std::env::var("URGE_TEST_FAILURES").as_deref() {
        Ok("long") => true,
        Ok(other) => panic!("URGE_TEST_FAILURES={other} is none: leave it out, or say long"),
        Err(_) => false,
    }
}

/// The form that is asked for.
pub fn form() -> Form {
    if is_long() {
        Form { length: Duration::from_mins(2), seeds: faulty::given_seed().map_or_else(|| vec![1, 2, 3], |seed| vec![seed]) }
    } else {
        let seed = faulty::seed();
        println!("failures: URGE_TEST_SEED={seed}");
        Form { length: Duration::from_secs(15), seeds: vec![seed] }
    }
}

/// Cases of the matrix; docs/RELIABILITY.md has them by these numbers.
const CASES: RangeInclusive<u8> = 1..=13;

/// Says what a case came to, which begins with its number; `tests/failures.sh` gathers these lines and misses those that are not there.
pub fn report(case: &str, what: impl Display) {
    let number = case.split(' ').next().and_then(|word| word.parse::<u8>().ok());
    assert!(number.is_some_and(|number| CASES.contains(&number)), "not a case of the matrix: {case}");
    println!("failures: {case}: {what}");
}

/// Reports it, and fails unless the promise was kept.
fn accept(case: &str, seed: u64, verdict: &Verdict) {
    report(&format!("{case}, seed {seed}"), verdict);
    assert!(verdict.holds(), "{case}, seed {seed}: {verdict}");
    assert!(verdict.figures.acknowledged > 0 && verdict.figures.delivered > 0, "nothing was proved: {verdict}");
}

/// The answer, once it is not that it may work later.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T, RestError>) -> Result<T, RestError> {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.status() == 503 && began.elapsed() < PATIENCE => {}
            answer => return answer,
        }
        // Nobody tells when it does.
        sleep(Duration::from_millis(100)).await;
    }
}

/// The answer to what is not refused, and may be asked again.
async fn unless_busy<T>(ask: impl AsyncFn() -> Result<T, RestError>) -> T {
    patiently(ask).await.unwrap_or_else(|error| panic!("{error}"))
}

/// So many more sends are acknowledged.
async fn goes_on(verify: &Verify, count: usize) {
    let before = verify.acknowledged();
    let in_time = timeout(QUIET * 4, verify.acknowledge(count)).await.is_ok();
    assert!(in_time, "sends do not go on: of {count} after the first {before} came {}", verify.acknowledged() - before);
}

/// Lines of a node's `/metrics` that begin with this, by their label.
async fn metric(rest: &Rest, name: &str) -> BTreeMap<String, u64> {
    let text = rest.with_prefix("").send(http::Method::GET, "/metrics", &[], "").await.unwrap().text();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    let of_this_name = lines.filter(|(labels, _)| labels.is_empty() || labels.starts_with('{'));
    of_this_name.map(|(labels, value)| (labels.to_owned(), value.parse::<f64>().unwrap() as u64)).collect()
}

/// Nodes that a test harms while it goes on with something else: starting one takes its time, and blocks.
#[derive(Clone)]
struct Cluster(Arc<Mutex<Nodes>>);

impl Cluster {
    /// So many nodes on the servers of this run; none on a machine that cannot have them.
    async fn start(count: usize) -> Option<Self> {
        tokio::task::spawn_blocking(move || Nodes::start(count)).await.unwrap().map(Self::of)
    }

    fn of(nodes: Nodes) -> Self {
        Self(Arc::new(Mutex::new(nodes)))
    }

    fn urls(&self) -> Vec<String> {
        self.0.lock().urls()
    }

    /// Does this to them.
    async fn with<T: Send + 'static>(&self, harm: impl FnOnce(&mut Nodes) -> T + Send + 'static) -> T {
        let nodes = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || harm(&mut nodes.lock())).await.unwrap()
    }

    /// People who write to each other through all of them.
    async fn verify(&self, change: impl FnOnce(&mut Options)) -> Verify {
        let mut options = Options::new(self.urls());
        change(&mut options);
        Verify::start(&options).await.unwrap()
    }
}
