//! What should have come and what did: for each receiver and stream, which numbers are there, twice there, or late.
//! Numbers are kept as ranges, so that an hour without faults is one range, and parts of many machines can be laid together.

use serde::{Deserialize, Serialize};

/// A set of numbers, as ranges in order that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Adds all from `start` to before `end`, none of which is in it or below what is.
    pub fn push(&mut self, start: u32, end: u32) {
        match self.0.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ if start < end => self.0.push((start, end)),
            _ => {}
        }
    }

    /// Takes a number out; false if it was not in.
    pub fn remove(&mut self, n: u32) -> bool {
        let at = self.0.partition_point(|(_, end)| *end <= n);
        let Some((start, end)) = self.0.get(at).copied().filter(|(start, _)| *start <= n) else { return false };
        let parts = [(start, n), (n + 1, end)];
        self.0.splice(at..=at, parts.into_iter().filter(|(start, end)| start < end));
        true
    }

    /// How many are in it.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(start, end)| u64::from(end - start)).sum()
    }

    /// How many are in both.
    pub fn shared(&self, other: &Self) -> u64 {
        let (mut own, mut others) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut count = 0;
        while let (Some((start, end)), Some((other_start, other_end))) = (own.peek(), others.peek()) {
            count += u64::from(*end.min(other_end)).saturating_sub(u64::from(*start.max(other_start)));
            if end < other_end {
                own.next()
            } else {
                others.next()
            };
        }
        count
    }

    /// How many are `from` or above.
    pub fn count_from(&self, from: u32) -> u64 {
        self.0.iter().map(|(start, end)| u64::from(end.saturating_sub(from.max(*start)))).sum()
    }
}

/// What a message is to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It came in its turn, perhaps with others missing before it.
    Next,
    /// It came after one that was sent later.
    Late,
    /// It has come before.
    Again,
}

/// What one receiver saw of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// One more than the highest number that came.
    next: u32,
    /// What has not come below that.
    missing: Ranges,
    /// How often one came that had come before.
    pub doubled: u64,
    /// How often one came out of its turn.
    pub reordered: u64,
}

impl Ledger {
    /// Takes note of a message. Whether a late one counts as reordered is for the caller to know.
    pub fn see(&mut self, n: u32) -> Sight {
        if n >= self.next {
            self.missing.push(self.next, n);
            self.next = n + 1;
            Sight::Next
        } else if self.missing.remove(n) {
            Sight::Late
        } else {
            self.doubled += 1;
            Sight::Again
        }
    }

    /// How many came, each once.
    pub fn received(&self) -> u64 {
        u64::from(self.next) - self.missing.len()
    }

    /// How many of those that the server acknowledged have not come.
    pub fn lost(&self, acknowledged: &Ranges) -> u64 {
        acknowledged.shared(&self.missing) + acknowledged.count_from(self.next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn ranges(numbers: impl IntoIterator<Item = u32>) -> Ranges {
        let mut ranges = Ranges::default();
        numbers.into_iter().for_each(|n| ranges.push(n, n + 1));
        ranges
    }

    #[test]
    fn a_ledger_tells_lost_late_and_doubled_apart() {
        let mut ledger = Ledger::default();
        let sights: Vec<Sight> = [0, 1, 4, 3, 3, 0, 6].into_iter().map(|n| ledger.see(n)).collect();
        assert_eq!(sights, [Sight::Next, Sight::Next, Sight::Next, Sight::Late, Sight::Again, Sight::Again, Sight::Next]);
        assert_eq!((ledger.received(), ledger.doubled), (5, 2));
        assert_eq!(ledger.lost(&ranges(0..9)), 4, "2, 5, 7 and 8");
        assert_eq!(ledger.lost(&ranges([0, 1, 2, 7])), 2);
        assert_eq!(ledger.lost(&Ranges::default()), 0);
    }

    #[test]
    fn ranges_agree_with_a_plain_set() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..200 {
            let pick = |random: &mut fastrand::Rng| (0..64).filter(|_| random.bool()).collect::<BTreeSet<u32>>();
            let (mut set, other) = (pick(&mut random), pick(&mut random));
            let (mut numbers, others) = (ranges(set.iter().copied()), ranges(other.iter().copied()));
            assert_eq!(numbers.len(), set.len() as u64);
            for _ in 0..32 {
                let n = random.u32(0..64);
                assert_eq!(numbers.remove(n), set.remove(&n));
            }
            assert_eq!(numbers, ranges(set.iter().copied()), "ranges do not touch");
            assert_eq!(numbers.shared(&others), set.intersection(&other).count() as u64);
            assert_eq!(numbers.count_from(20), set.range(20..).count() as u64);
        }
    }

    #[test]
    fn a_ledger_agrees_with_a_plain_count() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..200 {
            let (mut ledger, mut seen, mut doubled) = (Ledger::default(), BTreeSet::new(), 0);
            for _ in 0..60 {
                let n = random.u32(0..50);
                ledger.see(n);
                doubled += u64::from(!seen.insert(n));
            }
            let acknowledged: BTreeSet<u32> = (0..55).filter(|_| random.bool()).collect();
            assert_eq!((ledger.received(), ledger.doubled), (seen.len() as u64, doubled));
            assert_eq!(ledger.lost(&ranges(acknowledged.iter().copied())), acknowledged.difference(&seen).count() as u64);
        }
    }
}
