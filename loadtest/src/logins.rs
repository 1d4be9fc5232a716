//! Callers who log in with their passwords, again and again, beside a phase of messages.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use loadtest::Rest;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::histogram::{Latencies, Percentiles};

/// Callers under way.
#[derive(Debug)]
pub struct Logins {
    callers: JoinSet<(Latencies, BTreeMap<String, u64>)>,
    length: Duration,
}

/// What came of them.
#[derive(Clone, Debug, Serialize)]
pub struct LoggedIn {
    /// Logins a second.
    pub rate: f64,
    /// How long each took.
    pub latency: Percentiles,
    /// Refusals by code.
    pub failed: BTreeMap<String, u64>,
}

impl Logins {
    /// Starts them; what they do in the warm-up is not counted.
    pub fn start(rest: &Rest, phones: &[String], password: &'static str, callers: usize, warmup: Duration, length: Duration) -> Self {
        let start = Instant::now() + warmup;
        let mut set = JoinSet::new();
        for caller in 0..callers {
            let (rest, phones) = (rest.clone(), phones.to_vec());
            set.spawn(async move {
                let (mut latencies, mut failed, mut turn) = (Latencies::default(), BTreeMap::<String, u64>::new(), caller);
                loop {
                    let asked = Instant::now();
                    if asked >= start + length {
                        return (latencies, failed);
                    }
                    let answer = rest.login(&phones[turn % phones.len()], password).await;
                    turn += callers;
                    if asked < start || Instant::now() > start + length {
                        continue;
                    }
                    match answer {
                        Ok(_) => latencies.record_ns(asked.elapsed().as_nanos() as u64),
                        Err(error) => {
                            let code = if error.code().is_empty() { "no answer" } else { error.code() };
                            *failed.entry(code.to_owned()).or_default() += 1;
                            // A server that refuses at once is not to be flooded.
                            tokio::time::sleep(Duration::from_millis(10)).await;
                        }
                    }
                }
            });
        }
        Self { callers: set, length }
    }

    /// Waits for their end.
    pub async fn finish(mut self) -> LoggedIn {
        let (mut latencies, mut failed) = (Latencies::default(), BTreeMap::<String, u64>::new());
        while let Some(caller) = self.callers.join_next().await {
            let (own, refusals) = caller.unwrap_or_default();
            latencies.add(&own);
            for (code, count) in refusals {
                *failed.entry(code).or_default() += count;
            }
        }
        let rate = latencies.count() as f64 / self.length.as_secs_f64().max(0.001);
        LoggedIn { rate, latency: latencies.percentiles(), failed }
    }
}
