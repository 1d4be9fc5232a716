//! What time it is, as the nodes agree (docs/adr/0014): each word of a node bears what its clock said, and the bus says when it took
//! that in. So all see how far each clock is from the bus's, and take the middle one of all of them for the right one; the bus's counts
//! where there would be two in the middle. Whoever is far from it goes by it: one clock that is wrong, whosever it is, puts no list out
//! of order.

use std::collections::HashMap;
use std::time::Duration;

use crate::bus::routes::SILENCE;
use crate::clock::Timestamp;
use crate::id::NodeId;

/// Words on their way to the bus make a clock seem slow: of those of so long, and of as long before, the one that took least counts.
const WINDOW: Duration = Duration::from_secs(10);
/// So many words another node must have said before its clock is asked.
const WORDS: u32 = 3;
/// Clocks of which there is a middle one: of two nobody knows which is right.
const ENOUGH: usize = 3;
/// What a clock may be wrong by without being set right, in milliseconds: people do not feel it, and words may take as long.
const FELT_MS: i64 = 250;
/// What was agreed on is changed when it has been something else for so long: a bus whose server changes may change its time, and
/// until everybody has spoken again all seem to be wrong.
const HOLDS: Duration = Duration::from_secs(10);
/// A clock that is wrong by more is an operator's business, in milliseconds.
const TOLERATED_MS: i64 = 1_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Clocks {
    own: NodeId,
    readings: HashMap<NodeId, Reading>,
    /// How far ahead this node's clock is agreed to be.
    agreed_ms: Option<i64>,
    /// What it seems to be instead, and since when.
    pending: Option<(i64, Duration)>,
    is_told: bool,
}

/// How far one clock is ahead of the bus's, in milliseconds.
#[derive(Debug)]
struct Reading {
    words: u32,
    last: Duration,
    /// Since when this window has been going on.
    since: Duration,
    most_ms: i64,
    before_ms: Option<i64>,
}

impl Reading {
    fn new(ahead_ms: i64, at: Duration) -> Self {
        Self { words: 1, last: at, since: at, most_ms: ahead_ms, before_ms: None }
    }

    fn note(&mut self, ahead_ms: i64, at: Duration) {
        if at.abs_diff(self.since) >= WINDOW * 2 {
            // It was silent, or the bus's time has changed.
            *self = Self { words: self.words + 1, ..Self::new(ahead_ms, at) };
            return;
        }
        (self.words, self.last) = (self.words + 1, at);
        if at >= self.since + WINDOW {
            (self.before_ms, self.most_ms, self.since) = (Some(self.most_ms), ahead_ms, at);
        } else {
            self.most_ms = self.most_ms.max(ahead_ms);
        }
    }

    fn ahead_ms(&self) -> i64 {
        self.before_ms.map_or(self.most_ms, |before_ms| before_ms.max(self.most_ms))
    }
}

impl Clocks {
    /// Of the nodes that this one will hear.
    pub fn of(own: NodeId) -> Self {
        Self { own, readings: HashMap::new(), agreed_ms: None, pending: None, is_told: false }
    }

    /// That node's clock said this when the bus took its words in, since 1970.
    pub fn note(&mut self, node: NodeId, said: Timestamp, at: Duration) {
        let ahead_ms = said.0 - at.as_millis() as i64;
        match self.readings.get_mut(&node) {
            Some(reading) => reading.note(ahead_ms, at),
            None => drop(self.readings.insert(node, Reading::new(ahead_ms, at))),
        }
    }

    /// Forgets the clocks of nodes that are not there.
    pub fn prune(&mut self, is_there: impl Fn(NodeId) -> bool) {
        let own = self.own;
        self.readings.retain(|node, _| *node == own || is_there(*node));
    }

    /// Own words of this moment have come back after `way`: how far ahead this node's clock is agreed to be, in milliseconds, if that
    /// is something else from now on.
    pub fn agree(&mut self, way: Duration, at: Duration) -> Option<i64> {
        let own_ms = self.readings.get(&self.own)?.ahead_ms();
        if self.agreed_ms.is_none() && way.as_millis() as i64 > FELT_MS {
            // Of the first words of a node nobody knows whether they were slow or its clock is.
            return None;
        }
        metrics::gauge!("urge_clock_skew_seconds").set(own_ms as f64 / 1_000.0);
        let lately = self.readings.iter().filter(|(_, reading)| at.abs_diff(reading.last) <= SILENCE);
        let asked = lately.filter(|(node, reading)| **node == self.own || reading.words >= WORDS);
        let mut clocks: Vec<i64> = asked.map(|(_, reading)| reading.ahead_ms()).collect();
        if clocks.len().is_multiple_of(2) {
            // The bus's own.
            clocks.push(0);
        }
        clocks.sort_unstable();
        let is_enough = clocks.len() >= ENOUGH;
        let ahead_ms = if is_enough { own_ms - clocks[clocks.len() / 2] } else { own_ms };
        self.tell(ahead_ms, is_enough);
        if is_enough { self.settle(ahead_ms, at) } else { None }
    }

    /// Changes what is agreed on, if it is the first time or this has held for long enough.
    fn settle(&mut self, ahead_ms: i64, at: Duration) -> Option<i64> {
        let wanted = if ahead_ms.abs() < FELT_MS { 0 } else { ahead_ms };
        let differs = |other: i64| (wanted - other).abs() >= FELT_MS;
        if let Some(agreed) = self.agreed_ms {
            if !differs(agreed) {
                self.pending = None;
                return None;
            }
            match self.pending {
                Some((seemed, since)) if !differs(seemed) && at.abs_diff(since) >= HOLDS => {}
                Some((seemed, _)) if !differs(seemed) => return None,
                _ => {
                    self.pending = Some((wanted, at));
                    return None;
                }
            }
        }
        (self.agreed_ms, self.pending) = (Some(wanted), None);
        metrics::gauge!("urge_clock_correction_seconds").set(wanted as f64 / 1_000.0);
        Some(wanted)
    }

    fn tell(&mut self, ahead_ms: i64, is_enough: bool) {
        let is_wrong = ahead_ms.abs() > TOLERATED_MS;
        if is_wrong && !self.is_told {
            if is_enough {
                tracing::warn!(ahead_ms, "this node's clock is not that of the others, by which it goes: set it by NTP");
            } else {
                tracing::warn!(ahead_ms, "this node's clock is not the bus's: set them by NTP, for times are compared between nodes");
            }
        }
        self.is_told = is_wrong;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(2);
    /// As often as nodes say that they live.
    const EVERY: Duration = Duration::from_secs(3);
    const NOTHING: [i64; 0] = [];

    /// What a node hears of itself and others, whose clocks are ahead by so much, from a bus whose time is `now`.
    struct Heard {
        clocks: Clocks,
        nodes: Vec<(NodeId, i64)>,
        now: Duration,
    }

    impl Heard {
        fn new<const N: usize>(ahead_ms: [i64; N]) -> Self {
            let nodes: Vec<_> = ahead_ms.into_iter().map(|ahead_ms| (NodeId::fresh(), ahead_ms)).collect();
            Self { clocks: Clocks::of(nodes[0].0), nodes, now: Duration::from_hours(480_000) }
        }

        /// All speak this often, after so much time each; what it came to.
        fn hear(&mut self, times: u32, way_ms: i64) -> Vec<i64> {
            let mut agreed = Vec::new();
            for _ in 0..times {
                self.now += EVERY;
                for (node, ahead_ms) in self.nodes.iter().rev() {
                    let said = Timestamp(self.now.as_millis() as i64 + ahead_ms - way_ms);
                    self.clocks.note(*node, said, self.now);
                }
                agreed.extend(self.clocks.agree(QUICK, self.now));
            }
            agreed
        }
    }

    #[test]
    fn two_nodes_and_the_bus_have_a_middle() {
        assert_eq!(Heard::new([30_000, -30_000]).hear(3, 0), [30_000]);
        assert_eq!(Heard::new([-30_000, 30_000]).hear(3, 0), [-30_000]);
        assert_eq!(Heard::new([30_000, 30_000]).hear(20, 0), [0], "it is the bus that is wrong");
        let mut alone = Heard::new([30_000]);
        assert_eq!(alone.hear(20, 0), NOTHING, "of two nobody knows");
    }

    #[test]
    fn one_that_is_wrong_concerns_itself_alone() {
        for wrong in [[0, 0, 3_600_000], [0, -3_600_000, 0], [100, -3_600_000, -100]] {
            assert_eq!(Heard::new(wrong).hear(20, 0), [0]);
        }
        assert_eq!(Heard::new([3_600_000, 0, 0]).hear(20, 0), [3_600_000]);
        // And four of which two are wrong go by one time.
        let (mut right, mut wrong) = (Heard::new([0, 0, 4_000, 4_000]), Heard::new([4_000, 0, 0, 4_000]));
        assert_eq!((right.hear(3, 0), wrong.hear(3, 0)), (vec![0], vec![4_000]));
    }

    #[test]
    fn words_that_are_slow_are_no_clock_that_is() {
        let mut heard = Heard::new([0, 0, 0]);
        assert_eq!(heard.hear(3, 0), [0]);
        // All but one in three take long, and then nobody's does.
        for _ in 0..10 {
            assert_eq!((heard.hear(2, 5_000), heard.hear(1, 0)), (vec![], vec![]));
        }
        let mut slow = Heard::new([0, 0, 0]);
        assert_eq!(slow.clocks.agree(QUICK, slow.now), None, "it has not heard itself");
        slow.clocks.note(slow.nodes[0].0, Timestamp(0), slow.now);
        assert_eq!(slow.clocks.agree(Duration::from_secs(1), slow.now), None);
    }

    #[test]
    fn a_bus_that_changes_its_time_changes_nobodys() {
        for by in [3_600_000, -3_600_000] {
            let mut heard = Heard::new([0, 20, 30_000]);
            assert_eq!(heard.hear(5, 0), [0]);
            for (_, ahead_ms) in &mut heard.nodes {
                *ahead_ms += by;
            }
            heard.now = Duration::from_millis((heard.now.as_millis() as i64 - by) as u64);
            // This one alone has spoken since.
            let (own, now) = (heard.nodes[0], heard.now);
            heard.clocks.note(own.0, Timestamp(now.as_millis() as i64 + own.1), now);
            assert_eq!(heard.clocks.agree(QUICK, now), None);
            assert_eq!(heard.hear(20, 0), NOTHING);
        }
    }

    #[test]
    fn a_clock_that_is_set_is_believed_again() {
        let mut heard = Heard::new([30_000, 0, 0]);
        assert_eq!(heard.hear(3, 0), [30_000]);
        heard.nodes[0].1 = 100;
        assert_eq!(heard.hear(2, 0), NOTHING, "words from before count");
        assert_eq!(heard.hear(18, 0), [0]);
        // And one that drifts is followed.
        for _ in 0..40 {
            heard.nodes[0].1 += 50;
            heard.hear(1, 0);
        }
        let off = heard.nodes[0].1 - heard.clocks.agreed_ms.unwrap_or(0);
        assert!(off.abs() < 3 * FELT_MS, "{off} ms");
    }

    #[test]
    fn who_has_gone_is_not_asked() {
        let mut heard = Heard::new([0, 30_000, 30_000, 30_000]);
        assert_eq!(heard.hear(3, 0), [-30_000], "most are ahead of it");
        let nodes = std::mem::take(&mut heard.nodes);
        heard.nodes = nodes[..1].to_vec();
        assert_eq!(heard.hear(20, 0), NOTHING, "it is not set when nobody else is there");
        let mut pruned = Heard::new([0, 0, 30_000, 30_000, 30_000]);
        pruned.hear(1, 0);
        let there: Vec<NodeId> = pruned.nodes[..2].iter().map(|(node, _)| *node).collect();
        pruned.clocks.prune(|node| there.contains(&node));
        pruned.nodes.truncate(2);
        assert_eq!(pruned.hear(5, 0), [0]);
    }
}
