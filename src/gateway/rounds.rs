//! Work that is done for one key at a time: whatever is asked for meanwhile is one round more, however often it is asked
//! for. So the last thing told is what was true last, and nothing is made twice that is told once.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

/// The keys that are being worked on, each with what has been asked for meanwhile.
pub(super) struct Rounds<K, W>(Mutex<HashMap<K, Option<W>>>);

impl<K, W> Default for Rounds<K, W> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, W> Rounds<K, W> {
    /// Asks. `Some`: the caller does the work, a round for each wish that [`Round::next`] gives him. `None`: whoever is at
    /// it does one round more, for this wish and the others that wait, put together by `both`.
    pub fn ask(&self, key: K, wish: W, both: impl FnOnce(W, W) -> W) -> Option<Round<'_, K, W>> {
        let mut keys = self.0.lock();
        if let Some(waiting) = keys.get_mut(&key) {
            *waiting = Some(match waiting.take() {
                Some(other) => both(other, wish),
                None => wish,
            });
            return None;
        }
        keys.insert(key, Some(wish));
        Some(Round { rounds: self, key })
    }

    /// Whether one round more is asked for.
    pub fn is_asked(&self, key: K) -> bool {
        self.0.lock().get(&key).is_some_and(Option::is_some)
    }

    /// Whether somebody is at it.
    pub fn is_under_way(&self, key: K) -> bool {
        self.0.lock().contains_key(&key)
    }
}

/// The work on one key. Dropped early, because it panicked, it leaves the key to whoever asks next.
pub(super) struct Round<'a, K: Copy + Eq + Hash, W> {
    rounds: &'a Rounds<K, W>,
    key: K,
}

impl<K: Copy + Eq + Hash, W> Round<'_, K, W> {
    /// The wish of the next round; none when the work is over, and the caller must go.
    pub fn next(&mut self) -> Option<W> {
        let mut keys = self.rounds.0.lock();
        let wish = keys.get_mut(&self.key).and_then(Option::take);
        if wish.is_none() {
            keys.remove(&self.key);
        }
        wish
    }

    /// A wish that could not be done is done once more, together with what was asked for meanwhile, which is the later one.
    pub fn again(&mut self, wish: W, both: impl FnOnce(W, W) -> W) {
        let mut keys = self.rounds.0.lock();
        let waiting = keys.entry(self.key).or_default();
        *waiting = Some(match waiting.take() {
            Some(later) => both(wish, later),
            None => wish,
        });
    }
}

impl<K: Copy + Eq + Hash, W> Drop for Round<'_, K, W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.rounds.0.lock().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_asked_meanwhile_is_one_round_more() {
        let rounds = Rounds::default();
        let mut round = rounds.ask('a', 1, |one, other| one + other).unwrap();
        assert_eq!(round.next(), Some(1));
        for wish in [10, 20, 30] {
            assert!(rounds.ask('a', wish, |one, other| one + other).is_none());
        }
        assert!(rounds.ask('b', 1, |one, other| one + other).is_some(), "another key");
        assert_eq!(round.next(), Some(60));
        assert_eq!(round.next(), None);
        assert_eq!(rounds.ask('a', 2, |one, other| one + other).unwrap().next(), Some(2));
    }

    #[test]
    fn what_failed_is_done_again_with_what_was_asked_meanwhile() {
        let rounds = Rounds::default();
        let both = |one: String, other: String| one + &other;
        let mut round = rounds.ask('a', "first".to_owned(), both).unwrap();
        let failed = round.next().unwrap();
        round.again(failed, both);
        let failed = round.next().unwrap();
        assert_eq!(failed, "first");
        assert!(rounds.ask('a', " then".to_owned(), both).is_none());
        round.again(failed, both);
        assert_eq!((round.next().unwrap(), round.next()), ("first then".to_owned(), None));
    }

    #[test]
    fn a_panic_leaves_the_key_free() {
        let rounds = Rounds::default();
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _round = rounds.ask('a', (), |(), ()| ()).unwrap();
            panic!("at work");
        }));
        assert!(asked.is_err() && rounds.ask('a', (), |(), ()| ()).is_some());
    }
}
