//! What a phase came to: the parts of all threads laid together, judged, and in figures.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    histogram::{Latencies, Percentiles, Window, Windows},
    ledger::Ranges,
    plan::Plan,
    sample::Usage,
    tally::Part,
};

/// How the harness itself did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Harness {
    /// How late messages were handed over.
    pub pacer_lag: Percentiles,
    /// How long the event loops let things wait.
    pub loop_lag: Percentiles,
    /// Processors that it kept busy.
    pub cores: f64,
    /// It was late itself: latencies are partly its own.
    #[serde(rename = "limited_by_harness")]
    pub is_limit: bool,
}

/// The histograms behind the figures.
#[derive(Clone, Debug, Serialize)]
pub struct Histograms {
    /// From the intended time to the ack.
    pub ack: Latencies,
    /// From the intended time to each delivery.
    pub receive: Latencies,
    /// From the intended time to a message's last delivery.
    pub last: Option<Latencies>,
}

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Messages a second, as intended while it was measured.
    pub intended_rate: f64,
    /// Messages a second that were acknowledged while it was measured.
    pub achieved_rate: f64,
    /// Deliveries a second while it was measured.
    pub delivery_rate: f64,
    /// How long it was measured.
    pub measured_seconds: f64,
    /// It was ended before its time, for answers no longer kept up.
    pub stopped: bool,
    /// Messages planned, the warm-up included.
    pub intended: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that could not be handed to their socket.
    pub unsent: u64,
    /// Messages that the server acknowledged.
    pub acknowledged: u64,
    /// Refusals by code.
    pub refused: BTreeMap<String, u64>,
    /// Messages without an answer.
    pub unanswered: u64,
    /// Messages received, each once a receiver.
    pub received: u64,
    /// Deliveries of acknowledged messages that did not come.
    pub lost: u64,
    /// Deliveries that came again.
    pub doubled: u64,
    /// Deliveries that came out of their turn.
    pub reordered: u64,
    /// Messages of another phase or run.
    pub strays: u64,
    /// Acks of nothing, or a second time.
    pub stray_acks: u64,
    /// Sockets that ended by themselves, by close code or way.
    pub closed: BTreeMap<String, u64>,
    /// From the intended time to the ack.
    pub ack: Percentiles,
    /// From the intended time to each delivery.
    pub receive: Percentiles,
    /// From the intended time to a message's last delivery.
    pub last: Option<Percentiles>,
    /// How the harness itself did.
    pub harness: Harness,
    /// What the server's processes cost.
    pub server: Vec<Usage>,
    /// Deliveries over time.
    pub windows: Vec<Window>,
    /// The same with all that is in them.
    #[serde(skip)]
    pub series: Windows,
    /// The histograms.
    pub histograms: Histograms,
}

impl Outcome {
    /// Judges a phase. `usage` has the harness last; `stopped` says when it was ended before its time.
    pub fn new(plan: &Plan, part: Part, mut usage: Vec<Usage>, max_lag: Duration, stopped: Option<Duration>) -> Self {
        let own = usage.pop().unwrap_or_default();
        let acknowledged = part.acknowledged.values().map(Ranges::len).sum();
        let refused: u64 = part.refused.values().sum();
        let nothing = Ranges::default();
        let lost = part.heard.iter().map(|(_, stream, ledger)| ledger.lost(part.acknowledged.get(stream).unwrap_or(&nothing))).sum();
        let start = plan.measured_ns.start;
        let end = stopped.map_or(plan.measured_ns.end, |stopped| (stopped.as_nanos() as u64).clamp(start, plan.measured_ns.end));
        let measured_seconds = (end - start).max(1) as f64 / 1e9;
        let due = plan.due_ns.iter().filter(|due| (start..end).contains(due)).count();
        let (pacer_lag, loop_lag) = (part.pacer_lag.percentiles(), part.loop_lag.percentiles());
        let harness = Harness::new(pacer_lag, loop_lag, own.cores, max_lag);
        let slowest = plan.last_deliveries();
        Self {
            intended_rate: due as f64 / measured_seconds,
            achieved_rate: part.acknowledged_in_time as f64 / measured_seconds,
            delivery_rate: part.received_in_time as f64 / measured_seconds,
            measured_seconds,
            stopped: stopped.is_some(),
            intended: plan.due_ns.len() as u64,
            sent: part.sent,
            unsent: part.unsent,
            acknowledged,
            unanswered: part.sent.saturating_sub(acknowledged + refused),
            refused: part.refused,
            received: part.heard.iter().map(|(_, _, ledger)| ledger.received()).sum(),
            lost,
            doubled: part.heard.iter().map(|(_, _, ledger)| ledger.doubled).sum(),
            reordered: part.heard.iter().map(|(_, _, ledger)| ledger.reordered).sum(),
            strays: part.strays,
            stray_acks: part.stray_acks,
            closed: part.closed,
            ack: part.ack.percentiles(),
            receive: part.receive.percentiles(),
            last: slowest.as_ref().map(Latencies::percentiles),
            harness,
            server: usage,
            windows: part.windows.rows(),
            series: part.windows,
            histograms: Histograms { ack: part.ack, receive: part.receive, last: slowest },
        }
    }

    /// Whether anything was lost, doubled or out of order.
    pub fn is_faulty(&self) -> bool {
        self.lost + self.doubled + self.reordered > 0
    }

    /// It all in one line.
    pub fn line(&self) -> String {
        let mut parts = vec![format!("{:.0}/s intended, {:.1}/s acknowledged", self.intended_rate, self.achieved_rate)];
        if self.received > self.acknowledged {
            parts.push(format!("{:.0} deliveries/s", self.delivery_rate));
        }
        parts.push(format!("ack {}", spread(&self.ack)));
        parts.push(format!("receive {}", spread(&self.receive)));
        parts.extend(self.last.iter().map(|last| format!("last delivery {}", spread(last))));
        parts.push(self.faults());
        parts.extend(usage(&self.server));
        parts.push(self.harness.line());
        parts.join("; ")
    }

    /// What went wrong, in a part of a line.
    pub fn faults(&self) -> String {
        let certain = format!("lost {}, doubled {}, reordered {}, unanswered {}", self.lost, self.doubled, self.reordered, self.unanswered);
        let mut parts = vec![certain];
        parts.extend(counts("refused", &self.refused));
        if self.unsent > 0 {
            parts.push(format!("unsent {}", self.unsent));
        }
        parts.extend(counts("sockets closed", &self.closed));
        parts.join(", ")
    }
}

impl Harness {
    /// It was the limit when the 99th percentile of one of its delays is above `max_lag`.
    pub fn new(pacer_lag: Percentiles, loop_lag: Percentiles, cores: f64, max_lag: Duration) -> Self {
        let is_limit = u128::from(pacer_lag.p99_us.max(loop_lag.p99_us)) > max_lag.as_micros();
        Self { pacer_lag, loop_lag, cores, is_limit }
    }

    /// It in a part of a line.
    pub fn line(&self) -> String {
        let (pacer, event_loop) = (ms(self.pacer_lag.p99_us), ms(self.loop_lag.p99_us));
        let warning = if self.is_limit { "; THE HARNESS WAS LATE: it was the limit, or had too little of the machine" } else { "" };
        format!("harness lag p99 {pacer} ms, loop {event_loop} ms, {:.2} cores{warning}", self.cores)
    }
}

/// Median, 99th percentile and maximum.
pub fn spread(figures: &Percentiles) -> String {
    format!("p50 {} p99 {} max {} ms", ms(figures.p50_us), ms(figures.p99_us), ms(figures.max_us))
}

/// Counts by name, if there are any.
pub fn counts(title: &str, counts: &BTreeMap<String, u64>) -> Option<String> {
    let each: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    (!each.is_empty()).then(|| format!("{title} {}", each.join(" + ")))
}

/// What each of the server's processes cost.
pub fn usage(server: &[Usage]) -> Vec<String> {
    server.iter().map(|usage| format!("server {:.2} cores, RSS {} MB", usage.cores, usage.rss_peak_kb / 1024)).collect()
}

/// Microseconds as milliseconds, to three digits or so.
pub fn ms(us: u64) -> String {
    let ms = us as f64 / 1000.0;
    match us {
        ..10_000 => format!("{ms:.2}"),
        10_000..100_000 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}
