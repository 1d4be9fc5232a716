//! What a run came to, in figures and in words, and whether it kept the promise.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::figures::Figures;
use crate::socket::Door;

/// How long acknowledgements took, of the attempt that was acknowledged.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    /// Half of them at most so long, milliseconds.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// All.
    pub max_ms: f64,
}

/// What a run came to. It holds when nothing is lost, doubled, out of order, untrue, unanswered or refused, nodes agree and can be
/// read, and every device is there.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// What became of messages.
    #[serde(flatten)]
    pub figures: Figures,
    /// Told and not stored, or stored otherwise; or a row of the log that does not stand next to the one before it.
    pub untrue: usize,
    /// Begun and neither acknowledged nor refused when all was quiet.
    pub unanswered: usize,
    /// Refused for good.
    pub refused: usize,
    /// Nodes that read another log than the first.
    pub disagreeing: usize,
    /// Nodes through which the log could not be read.
    pub unread: usize,
    /// Devices that did not get in again as often as the app tries, and stayed away.
    pub gone: usize,
    /// Answers that say that something went wrong which should not.
    pub internal_errors: usize,
    /// How often messages were tried beyond the first time.
    pub retries: u32,
    /// Sends that failed: no answer, or that it may work later.
    pub failed_calls: usize,
    /// The first reasons for which they did.
    pub why_failed: Vec<String>,
    /// The first reasons for which connections ended that devices had not dropped.
    pub why_ended: Vec<String>,
    /// Sends over a socket that ended before they were answered.
    pub cut_off: usize,
    /// Those of them that had been stored by then, if the clocks of nodes and of this machine agree.
    pub stored_unanswered: usize,
    /// How often a `resume` came in the time for which nodes hold live events back, by door: what came over those connections is judged
    /// in full.
    pub resumes_in_time: BTreeMap<Door, usize>,
    /// How often a `resume` came so late that live events may have gone first: then what a device has already is no double.
    pub late_resumes: usize,
    /// How often a device was not brought up to date when it came back, and fetched what it lacked.
    pub fetches: usize,
    /// The longest that a device was away, from the end of a connection until the next one was up to date, seconds.
    pub longest_away: f64,
    /// How often devices connected.
    pub connections: usize,
    /// How long people wrote, seconds.
    pub seconds: f64,
    /// How long acknowledgements took.
    pub latency: Latency,
    /// The first facts of each kind.
    pub facts: Vec<String>,
}

impl Verdict {
    /// Whether the promise was kept.
    pub fn holds(&self) -> bool {
        self.figures.hold() && self.faults().iter().all(|(count, _)| *count == 0)
    }

    /// Those beside the figures.
    fn faults(&self) -> [(usize, &'static str); 7] {
        [
            (self.untrue, "untrue"),
            (self.unanswered, "unanswered"),
            (self.refused, "refused"),
            (self.disagreeing, "nodes that disagree"),
            (self.unread, "nodes that cannot be read"),
            (self.gone, "devices that stayed away"),
            (self.internal_errors, "internal errors"),
        ]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.figures)?;
        for (count, what) in self.faults().into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {what} {count}")?;
        }
        let Latency { p50_ms, p99_ms, max_ms } = self.latency;
        write!(
            f,
            "; {:.0} s, {} retries, {} failed calls, {} cut off ({} stored), {} connections, ",
            self.seconds, self.retries, self.failed_calls, self.cut_off, self.stored_unanswered, self.connections
        )?;
        write!(f, "{} late resumes, {} fetches, away at most {:.1} s; ", self.late_resumes, self.fetches, self.longest_away)?;
        write!(f, "ack p50 {p50_ms:.1} p99 {p99_ms:.1} max {max_ms:.0} ms")?;
        self.why_failed.iter().try_for_each(|why| write!(f, "\n  a call failed: {why}"))?;
        self.why_ended.iter().try_for_each(|why| write!(f, "\n  a connection ended: {why}"))?;
        self.facts.iter().try_for_each(|fact| write!(f, "\n  {fact}"))
    }
}
