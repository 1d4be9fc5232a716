//! Closed loops: so many callers, each of whom asks again as soon as he is answered. They say how much a server can do, not how long people
//! wait: whoever waits asks nothing meanwhile. The open phases say that.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use loadtest::{Rest, http::Http};
use serde::Serialize;

use crate::{
    failure::{Result, Trying},
    histogram::{Latencies, Percentiles},
    outcome::{Harness, counts, spread, usage},
    plan::{Cast, Pace, Plan},
    run::{Field, PROBE_EVERY},
    sample::Usage,
};

/// How a loop is driven.
#[derive(Clone, Copy, Debug)]
pub struct Loop {
    /// Callers at once.
    pub concurrency: usize,
    /// What is left out at the start.
    pub warmup: Duration,
    /// How long it is measured.
    pub length: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Driven {
    /// Callers at once.
    pub concurrency: usize,
    /// Calls answered well, a second.
    pub rate: f64,
    /// Calls answered well.
    pub calls: u64,
    /// Others, by what was said.
    pub failed: BTreeMap<String, u64>,
    /// How long the good ones took.
    pub latency: Percentiles,
    /// The histogram.
    pub histogram: Latencies,
    /// What the server's processes cost.
    pub server: Vec<Usage>,
    /// How the harness itself did; it has no pacer here.
    pub harness: Harness,
}

impl Driven {
    /// It in one line; `what` names the calls.
    pub fn line(&self, what: &str) -> String {
        let mut parts = vec![format!("{:.0} {what}/s at concurrency {}", self.rate, self.concurrency), spread(&self.latency)];
        parts.extend(counts("failed", &self.failed));
        parts.extend(usage(&self.server));
        parts.push(self.harness.line());
        parts.join("; ")
    }
}

/// What one caller did.
#[derive(Debug, Default)]
struct Caller {
    latencies: Latencies,
    failed: BTreeMap<String, u64>,
}

/// Drives a loop. `make` makes a caller from a client of its thread; a caller's call is told which caller it is and how often it has called.
pub async fn drive<F, C>(field: &mut Field, label: &str, how: Loop, make: impl Fn(Rest) -> F) -> Result<Driven>
where
    F: Fn(usize, u64) -> C + Send + 'static,
    C: Future<Output = std::result::Result<(), String>> + Send,
{
    let nobody = Cast { streams: Vec::new(), hearing: Vec::new(), receivers: 0 };
    let pace = Pace { stretches: Vec::new(), ..field.pace(1.0) };
    field.begin(&Arc::new(Plan::new(Duration::ZERO, nobody, pace)));
    let start = Instant::now() + how.warmup;
    let end = start + how.length;
    let answered = Arc::<AtomicU64>::default();
    let rests: Vec<Rest> = field.shards.iter().map(|_| Rest::with_http(&field.settings.url, Http::new(None))).collect();
    let callers: Vec<_> = (0..how.concurrency)
        .map(|number| {
            let shard = number % field.shards.len();
            let (call, answered) = (make(rests[shard].clone()), Arc::clone(&answered));
            field.shards[shard].handle.spawn(async move {
                let (mut caller, mut turn) = (Caller::default(), 0);
                while Instant::now() < end {
                    let asked = Instant::now();
                    let answer = call(number, turn).await;
                    let now = Instant::now();
                    turn += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                    if asked >= start && now <= end {
                        match answer {
                            Ok(()) => caller.latencies.record_ns(now.duration_since(asked).as_nanos() as u64),
                            Err(error) => *caller.failed.entry(error).or_default() += 1,
                        }
                    }
                }
                caller
            })
        })
        .collect();
    let (mut first, mut before) = (None, 0);
    while Instant::now() < end {
        if first.is_none() && Instant::now() >= start {
            first = Some(field.sampler.mark());
        }
        field.probe();
        if field.progress.is_due() {
            let now = answered.load(Ordering::Relaxed);
            field.progress.show(&format!("{label}: {}/s, {:.0} s left", now - before, (end - Instant::now()).as_secs_f64()));
            before = now;
        }
        tokio::time::sleep(PROBE_EVERY).await;
    }
    let last = field.sampler.mark();
    let mut sum = Caller::default();
    for caller in callers {
        let caller = caller.await.trying("a caller ended")?;
        sum.latencies.add(&caller.latencies);
        for (error, count) in caller.failed {
            *sum.failed.entry(error).or_default() += count;
        }
    }
    let mut loop_lag = Latencies::default();
    for shard in &field.shards {
        loop_lag.add(&shard.book.end().loop_lag);
    }
    let mut server = first.map(|first| field.sampler.usage(&first, &last)).unwrap_or_default();
    let own = server.pop().unwrap_or_default();
    let harness = Harness::new(Percentiles::default(), loop_lag.percentiles(), own.cores, field.max_lag());
    Ok(Driven {
        concurrency: how.concurrency,
        rate: sum.latencies.count() as f64 / how.length.as_secs_f64().max(0.001),
        calls: sum.latencies.count(),
        failed: sum.failed,
        latency: sum.latencies.percentiles(),
        histogram: sum.latencies,
        server,
        harness,
    })
}
