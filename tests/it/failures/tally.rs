//! What a test has seen, as the figures of which [`loadtest::verify`] speaks: it says what had to be there and what was, and they are
//! compared, for cases that are no matter of chance and have no [`Verify`](loadtest::verify::Verify) that writes.

use std::collections::{HashMap, HashSet};
use std::fmt::{Debug, Display};
use std::hash::Hash;

use loadtest::verify::Figures;

use super::report;

/// Facts that are told.
const FACTS: usize = 20;

/// See the module. A message is whatever tells it from others: what it says, its id, its place.
#[derive(Debug, Default)]
pub struct Tally {
    figures: Figures,
    /// What is wrong.
    facts: Vec<String>,
}

impl Tally {
    /// A log as it stands, and what was acknowledged: of each sender, in the order in which he had it acknowledged before he sent
    /// the next.
    pub fn log<K: Debug + Eq + Hash>(&mut self, acknowledged: &[&[K]], stored: &[K]) {
        self.compare("the log", acknowledged, stored);
        self.figures.acknowledged += acknowledged.iter().copied().map(<[K]>::len).sum::<usize>();
        self.figures.stored += stored.len();
    }

    /// What an open connection had to tell somebody, and what it told.
    pub fn told<K: Debug + Eq + Hash>(&mut self, who: &str, due: &[K], told: &[K]) {
        self.figures.delivered += self.compare(who, &[due], told);
    }

    /// What somebody who came back lacked, and what `resume` or `/sync` brought.
    pub fn resumed<K: Debug + Eq + Hash>(&mut self, who: &str, due: &[K], brought: &[K]) {
        self.figures.resumed += self.compare(who, &[due], brought);
    }

    /// How many came of those that were due. What came again is doubled, and so is what was not due at all; out of order is what came
    /// after a later one of the same sequence.
    fn compare<K: Debug + Eq + Hash>(&mut self, whose: &str, due: &[&[K]], came: &[K]) -> usize {
        let places = due.iter().enumerate().flat_map(|(which, keys)| keys.iter().enumerate().map(move |(at, key)| (key, (which, at))));
        let places: HashMap<_, _> = places.collect();
        let count: usize = due.iter().map(|keys| keys.len()).sum();
        assert_eq!(places.len(), count, "{whose}: a message that is due twice cannot be told from its double");
        let (mut reached, mut seen) = (vec![0; due.len()], HashSet::new());
        for key in came {
            let Some((which, at)) = places.get(key) else {
                self.figures.doubled += 1;
                self.facts.push(format!("{whose}: {key:?} is nobody's"));
                continue;
            };
            if !seen.insert(key) {
                self.figures.doubled += 1;
                self.facts.push(format!("{whose}: {key:?} again"));
            } else if *at < reached[*which] {
                self.figures.out_of_order += 1;
                self.facts.push(format!("{whose}: {key:?} after {:?}", due[*which][reached[*which]]));
            } else {
                reached[*which] = *at;
            }
        }
        for key in due.iter().copied().flatten().filter(|key| !seen.contains(key)) {
            self.figures.lost += 1;
            self.facts.push(format!("{whose}: not {key:?}"));
        }
        seen.len()
    }

    /// Reports it, with more words, and fails unless the promise was kept.
    pub fn accept(&self, case: &str, words: impl Display) {
        report(case, format!("{}; {words}", self.figures));
        assert_eq!(self.fault(), None, "{case}");
    }

    /// Nothing was proved if nothing was acknowledged; that anything was told live, or to who came back, is for the case to ask for:
    /// some have nobody who listens.
    fn fault(&self) -> Option<String> {
        if !self.figures.hold() {
            Some(format!("{}: {}", self.figures, self.facts.iter().take(FACTS).map(String::as_str).collect::<Vec<_>>().join("; ")))
        } else if self.figures.acknowledged == 0 {
            Some("nothing was proved".to_owned())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lost, doubled, out of order.
    fn faults(tally: &Tally) -> [usize; 3] {
        [tally.figures.lost, tally.figures.doubled, tally.figures.out_of_order]
    }

    fn of_a_log(acknowledged: &[&[u8]], stored: &[u8]) -> [usize; 3] {
        let mut tally = Tally::default();
        tally.log(acknowledged, stored);
        faults(&tally)
    }

    #[test]
    fn what_is_right_is_counted() {
        let mut tally = Tally::default();
        tally.log(&[&[1, 2, 3]], &[1, 2, 3]);
        tally.told("Ann", &[1, 2], &[1, 2]);
        tally.told("Ben", &["a", "b", "c"], &["a", "b", "c"]);
        tally.resumed("Cem", &[3], &[3]);
        assert!(tally.facts.is_empty(), "{tally:?}");
        assert_eq!(tally.fault(), None);
        assert_eq!(tally.figures.to_string(), "acknowledged 3, stored 3, delivered 5, resumed 1, lost 0, doubled 0, out of order 0");
    }

    #[test]
    fn what_is_wrong_in_a_log_is_found() {
        assert_eq!(of_a_log(&[&[1, 2, 3]], &[1, 3]), [1, 0, 0]);
        assert_eq!(of_a_log(&[&[1, 2, 3]], &[]), [3, 0, 0]);
        assert_eq!(of_a_log(&[&[1, 2, 3]], &[1, 2, 2, 3]), [0, 1, 0]);
        assert_eq!(of_a_log(&[&[1, 2, 3]], &[1, 2, 3, 1]), [0, 1, 0]);
        // Of nobody.
        assert_eq!(of_a_log(&[&[1, 2, 3]], &[1, 2, 9, 3]), [0, 1, 0]);
        assert_eq!(of_a_log(&[&[1, 2, 3]], &[2, 1, 3]), [0, 0, 1]);
        // Both are there after a later one.
        assert_eq!(of_a_log(&[&[1, 2, 3]], &[3, 1, 2]), [0, 0, 2]);
        // Another one stands where it was acknowledged.
        assert_eq!(of_a_log(&[&[1, 2, 3]], &[1, 9, 3]), [1, 1, 0]);
    }

    #[test]
    fn who_write_at_once_may_stand_in_any_order_and_each_in_his_own() {
        assert_eq!(of_a_log(&[&[1, 2], &[3, 4]], &[3, 1, 4, 2]), [0, 0, 0]);
        assert_eq!(of_a_log(&[&[1, 2], &[3, 4]], &[4, 1, 3, 2]), [0, 0, 1]);
    }

    #[test]
    fn what_is_wrong_in_what_was_told_is_found() {
        let tell: [fn(&mut Tally, &[u8]); 2] =
            [|tally, told| tally.told("Ben", &[1, 2, 3], told), |tally, told| tally.resumed("Ben", &[1, 2, 3], told)];
        for tell in tell {
            for (told, wrong) in [(&[1, 3][..], [1, 0, 0]), (&[1, 2, 1, 3], [0, 1, 0]), (&[1, 2, 3, 4], [0, 1, 0]), (&[1, 3, 2], [0, 0, 1])]
            {
                let mut tally = Tally::default();
                tell(&mut tally, told);
                assert_eq!(faults(&tally), wrong, "{told:?}");
                assert!(!tally.facts.is_empty());
            }
        }
    }

    #[test]
    fn what_is_wrong_is_not_accepted_and_nothing_neither() {
        let mut tally = Tally::default();
        assert_eq!(tally.fault().as_deref(), Some("nothing was proved"));
        tally.log(&[&[1, 2]], &[1]);
        assert!(tally.fault().unwrap().ends_with("lost 1, doubled 0, out of order 0: the log: not 2"), "{tally:?}");
    }
}
