//! What time it is, as the nodes agree (docs/adr/0014): each word of a node bears what its clock said, so that whoever hears it knows
//! how far the two clocks are apart. The middle one of all of them is right; the bus's counts where there would be two in the middle.
//! Whoever is far from it goes by it: one clock that is wrong, whosever it is, puts no list out of order. What is compared is compared
//! here and now: a bus that changes its time, or brings what is old, moves nobody's.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::clock::Timestamp;
use crate::id::NodeId;

/// Words take a while to come, and make a clock seem slow: of those of so long, and of as long before, the quickest one counts.
const WINDOW: Duration = Duration::from_secs(10);
/// A clock is asked whose node has been heard for so long, and was heard within this time, twice that after which each speaks: one burst
/// of slow words says nothing, and a node that ends and starts anew all the time is one at most.
const HEARD: Duration = Duration::from_secs(7);
/// Clocks of which there is a middle one: of two nobody knows which is right.
const ENOUGH: usize = 3;
/// What a clock may be wrong by without being set right, and what a word may take that is to say something of one, in milliseconds.
/// People do not feel it.
const FELT_MS: i64 = 250;
/// What was agreed on is changed when it has been something else for so long,
const HOLDS: Duration = Duration::from_secs(10);
/// or for so long when it is the bus's clock that decides, which may be that of one of the nodes' machines: longer than a node is away
/// that is started again.
const HOLDS_BY_BUS: Duration = Duration::from_mins(2);
/// A clock that is wrong by more is an operator's business, in milliseconds.
const TOLERATED_MS: i64 = 1_000;

/// A moment on this node, by the machine's clock and by one that nobody sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub machine: Timestamp,
    pub instant: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Clocks {
    own: NodeId,
    nodes: HashMap<NodeId, Reading>,
    bus: Option<Reading>,
    /// The last own words came back soon.
    is_prompt: bool,
    /// When the machine's clock was looked at last.
    last: Option<Moment>,
    /// How far ahead it is agreed to be.
    agreed_ms: Option<i64>,
    /// Since when it seems to be further ahead than that, or less far.
    pending: Option<(bool, Instant)>,
    is_told: bool,
}

/// How far another clock is ahead of this node's, in milliseconds.
#[derive(Debug)]
struct Reading {
    first: Instant,
    last: Instant,
    /// Since when this window has been going on.
    since: Instant,
    most_ms: i64,
    before_ms: Option<i64>,
}

impl Reading {
    fn new(ahead_ms: i64, now: Instant) -> Self {
        Self { first: now, last: now, since: now, most_ms: ahead_ms, before_ms: None }
    }

    fn note(&mut self, ahead_ms: i64, now: Instant) {
        let window = now.duration_since(self.since);
        if window >= WINDOW * 2 {
            *self = Self::new(ahead_ms, now);
        } else if window >= WINDOW {
            *self = Self { last: now, before_ms: Some(self.most_ms), first: self.first, ..Self::new(ahead_ms, now) };
        } else {
            (self.last, self.most_ms) = (now, self.most_ms.max(ahead_ms));
        }
    }

    fn ahead_ms(&self) -> i64 {
        self.before_ms.map_or(self.most_ms, |before_ms| before_ms.max(self.most_ms))
    }

    fn is_asked(&self, now: Instant) -> bool {
        self.last.duration_since(self.first) >= HEARD && now.duration_since(self.last) <= HEARD
    }
}

impl Clocks {
    /// Of the nodes that this one will hear.
    pub fn of(own: NodeId) -> Self {
        Self { own, nodes: HashMap::new(), bus: None, is_prompt: false, last: None, agreed_ms: None, pending: None, is_told: false }
    }

    /// Words of that node, which the bus took in `at` (since 1970) when its clock had said this, have come here: how far ahead this
    /// node's clock is agreed to be, in milliseconds, if that is something else from now on.
    pub fn note(&mut self, from: NodeId, said: Timestamp, at: Duration, here: Moment) -> Option<i64> {
        let Moment { machine, instant } = here;
        let was_set = self.was_set(here);
        let bus_ms = at.as_millis() as i64 - machine.0;
        let bus = self.bus.get_or_insert_with(|| Reading::new(bus_ms, instant));
        bus.note(bus_ms, instant);
        let bus_ms = bus.ahead_ms();
        let ahead_ms = said.0 - machine.0;
        if from == self.own {
            // Of slow words of one's own, and of a stream's past, nobody knows whether those of the others are any better.
            self.is_prompt = ahead_ms >= -FELT_MS;
            if self.is_prompt {
                return self.agree(bus_ms, instant).or(was_set.then_some(0));
            }
        } else if self.is_prompt {
            let reading = self.nodes.entry(from).or_insert_with(|| Reading::new(ahead_ms, instant));
            reading.note(ahead_ms, instant);
        }
        was_set.then_some(0)
    }

    /// Whether somebody has set the machine's clock. All that was found out was found out by the one that was; it is believed anew until
    /// the others have been heard.
    pub fn was_set(&mut self, here: Moment) -> bool {
        let Some(last) = self.last.replace(here) else { return false };
        let elapsed_ms = here.instant.duration_since(last.instant).as_millis() as i64;
        if (here.machine.0 - last.machine.0 - elapsed_ms).abs() < FELT_MS {
            return false;
        }
        *self = Self { last: self.last, is_told: self.is_told, ..Self::of(self.own) };
        metrics::gauge!("urge_clock_correction_seconds").set(0.0);
        true
    }

    /// Forgets the clocks of nodes that are not there.
    pub fn prune(&mut self, is_there: impl Fn(NodeId) -> bool) {
        self.nodes.retain(|node, _| is_there(*node));
    }

    fn agree(&mut self, bus_ms: i64, now: Instant) -> Option<i64> {
        metrics::gauge!("urge_clock_skew_seconds").set(-bus_ms as f64 / 1_000.0);
        let others = self.nodes.values().filter(|reading| reading.is_asked(now));
        let mut clocks: Vec<i64> = others.map(Reading::ahead_ms).chain([0]).collect();
        let mut hold = HOLDS;
        if clocks.len().is_multiple_of(2) {
            clocks.push(bus_ms);
            hold = HOLDS_BY_BUS;
        }
        if clocks.len() < ENOUGH {
            self.tell(-bus_ms, "the bus's");
            // Set right while nobody else was there, it is no longer set right here.
            let is_right = bus_ms.abs() < FELT_MS && self.agreed_ms.is_some();
            return if is_right { self.settle(0, HOLDS, now) } else { self.keep() };
        }
        clocks.sort_unstable();
        let ahead_ms = -clocks[clocks.len() / 2];
        self.tell(ahead_ms, "that of the others, by which it goes");
        self.settle(ahead_ms, hold, now)
    }

    /// Changes what is agreed on, if it is the first time or it has been something else for so long. That may move meanwhile: a clock that
    /// is being set right bit by bit is followed.
    fn settle(&mut self, ahead_ms: i64, hold: Duration, now: Instant) -> Option<i64> {
        let wanted = if ahead_ms.abs() < FELT_MS { 0 } else { ahead_ms };
        if let Some(agreed) = self.agreed_ms {
            if (wanted - agreed).abs() < FELT_MS {
                return self.keep();
            }
            let is_further = wanted > agreed;
            let since = self.pending.filter(|(was_further, _)| *was_further == is_further).map_or(now, |(_, since)| since);
            self.pending = Some((is_further, since));
            if now.duration_since(since) < hold {
                return None;
            }
        }
        (self.agreed_ms, self.pending) = (Some(wanted), None);
        metrics::gauge!("urge_clock_correction_seconds").set(wanted as f64 / 1_000.0);
        Some(wanted)
    }

    fn keep(&mut self) -> Option<i64> {
        self.pending = None;
        None
    }

    fn tell(&mut self, ahead_ms: i64, whose: &'static str) {
        let is_wrong = ahead_ms.abs() > TOLERATED_MS;
        if is_wrong && !self.is_told {
            tracing::warn!(
                ahead_ms,
                whose,
                "this node's clock is not that of others: set them by NTP, for times are compared between nodes"
            );
        }
        self.is_told = is_wrong;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As often as nodes say that they live.
    const EVERY: Duration = Duration::from_secs(3);
    const NOTHING: [i64; 0] = [];

    /// What a node hears of itself and others, whose clocks are ahead by so much, from a bus whose time is ahead too.
    struct Heard {
        clocks: Clocks,
        nodes: Vec<(NodeId, i64)>,
        bus_ms: i64,
        began: Instant,
        elapsed: Duration,
    }

    impl Heard {
        /// The first one is this node.
        fn new<const N: usize>(ahead_ms: [i64; N]) -> Self {
            let nodes: Vec<_> = ahead_ms.into_iter().map(|ahead_ms| (NodeId::fresh(), ahead_ms)).collect();
            Self { clocks: Clocks::of(nodes[0].0), nodes, bus_ms: 0, began: Instant::now(), elapsed: Duration::ZERO }
        }

        /// A node speaks, and is heard after so long, of which the bus had it for `late_ms`.
        fn speaks(&mut self, which: usize, way_ms: i64, late_ms: i64) -> Option<i64> {
            let (true_ms, (node, ahead_ms)) = (1_728_000_000_000 + self.elapsed.as_millis() as i64, self.nodes[which]);
            let (said, at) = (true_ms - way_ms + ahead_ms, true_ms - late_ms + self.bus_ms);
            let here = Moment { machine: Timestamp(true_ms + self.nodes[0].1), instant: self.began + self.elapsed };
            self.clocks.note(node, Timestamp(said), Duration::from_millis(at as u64), here)
        }

        /// All speak so often, and their words take so long; what it came to.
        fn hear(&mut self, times: u32, way_ms: i64) -> Vec<i64> {
            let mut agreed = Vec::new();
            for _ in 0..times {
                self.elapsed += EVERY;
                for which in (1..self.nodes.len()).rev() {
                    agreed.extend(self.speaks(which, way_ms, 0));
                }
                agreed.extend(self.speaks(0, 2, 0));
            }
            agreed
        }
    }

    #[test]
    fn two_nodes_and_the_bus_have_a_middle() {
        assert_eq!(Heard::new([30_000, -30_000]).hear(5, 0), [30_000]);
        assert_eq!(Heard::new([-30_000, 30_000]).hear(5, 0), [-30_000]);
        assert_eq!(Heard::new([30_000, 30_000]).hear(20, 0), [0], "it is the bus that is wrong");
        assert_eq!(Heard::new([30_000]).hear(20, 0), NOTHING, "of two nobody knows");
        // And four of which two are wrong go by one time.
        let (mut right, mut wrong) = (Heard::new([0, 0, 4_000, 4_000]), Heard::new([4_000, 0, 0, 4_000]));
        assert_eq!((right.hear(5, 0), wrong.hear(5, 0)), (vec![0], vec![4_000]));
    }

    #[test]
    fn one_that_is_wrong_concerns_itself_alone() {
        for wrong in [[0, 0, 3_600_000], [0, -3_600_000, 0], [100, -3_600_000, -100]] {
            assert_eq!(Heard::new(wrong).hear(20, 0), [0]);
        }
        assert_eq!(Heard::new([3_600_000, 0, 0]).hear(20, 0), [3_600_000]);
        // Also one that ends all the time, and is another one each time.
        let mut heard = Heard::new([0, 0, 30_000]);
        assert_eq!(heard.hear(5, 0), [0]);
        for lives in 1..5 {
            for _ in 0..20 {
                heard.nodes[2].0 = NodeId::fresh();
                assert_eq!(heard.hear(lives, 0), NOTHING);
            }
        }
        let mut two = Heard::new([0, 30_000]);
        for lives in 1..5 {
            for _ in 0..20 {
                two.nodes[1].0 = NodeId::fresh();
                assert!(two.hear(lives, 0).iter().all(|agreed| *agreed == 0));
            }
        }
    }

    #[test]
    fn words_that_are_slow_are_no_clock_that_is() {
        let mut heard = Heard::new([0, 0, 0]);
        assert_eq!(heard.hear(5, 0), [0]);
        // All but one in three take long.
        for _ in 0..10 {
            assert_eq!((heard.hear(2, 5_000), heard.hear(1, 0)), (vec![], vec![]));
        }
        // Own ones are as slow as all.
        for _ in 0..20 {
            heard.elapsed += EVERY;
            let words = [1, 2, 0].map(|which| heard.speaks(which, 2_000, 0));
            assert_eq!(words, [None; 3]);
        }
        // A stream's past, as a node hears it that follows it anew, or for the first time.
        assert_eq!(heard.hear(3, 0), NOTHING);
        for late_ms in (0..60_000).rev().step_by(100) {
            let words = [1, 2, 0].map(|which| heard.speaks(which, late_ms, late_ms));
            assert!(words.iter().flatten().all(|agreed| *agreed == 0), "{words:?}");
        }
        assert_eq!(heard.hear(10, 0), NOTHING);
        let mut fresh = Heard::new([0, 0, 0]);
        for late_ms in (0..60_000).rev().step_by(100) {
            assert_eq!((fresh.speaks(1, late_ms, late_ms), fresh.speaks(2, late_ms, late_ms)), (None, None));
        }
        assert_eq!(fresh.hear(10, 0), [0]);
    }

    #[test]
    fn a_bus_that_changes_its_time_changes_nobodys() {
        for by in [1_000, -1_000, 12_000, -12_000, 3_600_000, -3_600_000] {
            for others in 1..4 {
                let mut heard = Heard::new([0, 20, -40, 10]);
                heard.nodes.truncate(1 + others);
                assert_eq!(heard.hear(5, 0), [0]);
                heard.bus_ms += by;
                // One speaks all the time, the others now and then.
                for _ in 0..600 {
                    heard.elapsed += Duration::from_millis(100);
                    assert_eq!(heard.speaks(0, 2, 0), None, "{by} ms, {others} others");
                    if heard.elapsed.as_millis() % 3_000 == 100 {
                        for which in 1..=others {
                            assert_eq!(heard.speaks(which, 2, 0), None);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_is_believed_at_once() {
        let mut heard = Heard::new([30_000, 0, 0]);
        assert_eq!(heard.hear(5, 0), [30_000]);
        heard.nodes[0].1 = 100;
        assert_eq!(heard.hear(20, 0), [0, 0], "at once, and then by what the others say");
        heard.nodes[0].1 = -5_000;
        assert_eq!(heard.hear(20, 0), [0, -5_000], "set wrong it is set right");
        // And one that drifts is followed, or is set right bit by bit: so much a second.
        for by_ms in [17, 83, -83] {
            for _ in 0..100 {
                heard.nodes[0].1 += 3 * by_ms;
                heard.hear(1, 0);
                let off = heard.nodes[0].1 - heard.clocks.agreed_ms.unwrap_or(0);
                // For as long as words of before count, and it has to hold: within a minute.
                assert!(off.abs() < FELT_MS + by_ms.abs() * 60, "{off} ms");
            }
        }
    }

    #[test]
    fn who_has_gone_is_not_asked() {
        let mut heard = Heard::new([0, 30_000, 30_000, 30_000]);
        assert_eq!(heard.hear(5, 0), [-30_000], "most are ahead of it");
        heard.bus_ms = 30_000;
        let all = heard.nodes.clone();
        heard.nodes.truncate(1);
        assert_eq!(heard.hear(20, 0), NOTHING, "it keeps what was agreed on when nobody else is there");
        heard.bus_ms = 0;
        assert_eq!(heard.hear(20, 0), [0], "unless the bus agrees with the machine");
        heard.nodes = all;
        heard.clocks.prune(|_| false);
        assert_eq!(heard.hear(40, 0), NOTHING, "four and the bus, which may be one of them");
        assert_eq!(heard.hear(10, 0), [-30_000]);
    }
}
