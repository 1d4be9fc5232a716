//! How far this node's clock is from the bus's, and so from the other nodes': times of messages, of marks and of ends of logins are
//! compared between nodes. Found from this node's own words: the bus says when it took them in, and they come back a moment
//! later. Of many the one that came back fastest knows best.

use std::time::Duration;

use crate::clock::Timestamp;

/// Words from which one estimate is made: about a minute of a node to which nothing happens.
const WORDS: u32 = 20;
/// A clock that is wrong by more is an operator's business, in milliseconds.
const TOLERATED_MS: i64 = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Skew {
    words: u32,
    /// The smallest distance among them: a clock that is right and a way back of no time would be 0.
    least_ms: Option<i64>,
    is_told: bool,
}

impl Skew {
    /// Own words have come back, which the bus took in at `taken_in`, since 1970.
    pub fn note(&mut self, taken_in: Duration, now: Timestamp) {
        let distance = now.0 - taken_in.as_millis() as i64;
        self.least_ms = Some(self.least_ms.map_or(distance, |least| least.min(distance)));
        self.words += 1;
        // The first ones after a start may have waited for it.
        if self.words >= WORDS {
            let Self { least_ms: Some(skew_ms), is_told, .. } = std::mem::take(self) else { return };
            metrics::gauge!("urge_clock_skew_seconds").set(skew_ms as f64 / 1_000.0);
            let is_wrong = skew_ms.abs() > TOLERATED_MS;
            if is_wrong && !is_told {
                tracing::warn!(skew_ms, "this node's clock is not the bus's: set them by NTP, for times are compared between nodes");
            }
            self.is_told = is_wrong;
        }
    }

    /// Whether the last estimate was more than is tolerated.
    #[cfg(test)]
    fn is_wrong(&self) -> bool {
        self.is_told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN_IN: Duration = Duration::from_hours(480_000);

    /// Words that came back after these times, by a clock that is so much ahead.
    fn after(skew: &mut Skew, ahead_ms: i64, ways_ms: [i64; 3]) {
        for n in 0..WORDS as usize {
            skew.note(TAKEN_IN, Timestamp(TAKEN_IN.as_millis() as i64 + ahead_ms + ways_ms[n % 3]));
        }
    }

    #[test]
    fn the_fastest_way_back_shows_the_clock() {
        let mut skew = Skew::default();
        after(&mut skew, 0, [3, 4_000, 1]);
        assert!(!skew.is_wrong(), "the way back was slow, not the clock");
        after(&mut skew, -1_500, [400, 200, 9_000]);
        assert!(skew.is_wrong());
        after(&mut skew, 1_200, [1, 2, 3]);
        assert!(skew.is_wrong());
        after(&mut skew, 900, [1, 2, 3]);
        assert!(!skew.is_wrong());
    }
}
