//! Limits by key (address, user) in memory of this node: how fast, and how many in any stretch of time.
//! The number of keys is bounded, the one not seen for longest goes first. What must hold across nodes and
//! restarts (one-time codes per number) is counted in the store, not here.

use std::collections::VecDeque;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::error::{Error, Result};

/// Keys that are remembered at once.
const KEYS: u64 = 100_000;
/// A key is remembered at least this long, for it may owe something.
const REMEMBERED: Duration = Duration::from_mins(10);

/// A state for each key.
type States<K, S> = Cache<K, Arc<Mutex<S>>>;

fn states<K: Hash + Eq + Send + Sync + 'static, S: Send + 'static>(remembered: Duration) -> States<K, S> {
    Cache::builder().max_capacity(KEYS).time_to_idle(remembered).eviction_policy(EvictionPolicy::lru()).build()
}

/// A bucket for each key: it holds `burst`, and fills again at a steady rate.
#[derive(Clone)]
pub struct Limiter<K: Hash + Eq + Send + Sync + 'static> {
    /// When each bucket is full again; `None`: switched off.
    full_at: Option<States<K, Instant>>,
    /// How long one takes to come back.
    each: Duration,
    /// How long all but one of a full bucket take.
    tolerance: Duration,
}

impl<K: Hash + Eq + Send + Sync + 'static> Limiter<K> {
    /// Lets `count` through each `period` in the long run, and `burst` at once; everything when not `enabled`.
    pub fn new(enabled: bool, count: u32, period: Duration, burst: u32) -> Self {
        let each = period / count.max(1);
        let tolerance = each * burst.saturating_sub(1);
        Self { full_at: enabled.then(|| states((tolerance + each).max(REMEMBERED))), each, tolerance }
    }

    /// Takes one from the key's bucket; when it is empty, says how long until there is one again.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        self.take_at(key, 1, Instant::now())
    }

    fn take_at(&self, key: K, n: u32, now: Instant) -> Result<(), Duration> {
        let Some(full_at) = &self.full_at else { return Ok(()) };
        let full_at = full_at.get_with(key, || Arc::new(Mutex::new(now)));
        let mut full_at = full_at.lock();
        let at = (*full_at).max(now);
        match at.duration_since(now).checked_sub(self.tolerance) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *full_at = at + self.each * n;
                Ok(())
            }
        }
    }

    /// As [`Limiter::take`], with the error that answers the caller.
    pub fn check(&self, key: K) -> Result<()> {
        self.charge(key, 1)
    }

    /// Takes `n` when there is one at least: what is not there yet is owed, and nothing passes until it is paid.
    pub fn charge(&self, key: K, n: u32) -> Result<()> {
        self.take_at(key, n, Instant::now()).map_err(too_many)
    }

    /// Puts `n` back: what they were taken for was not done.
    pub fn give_back(&self, key: &K, n: u32) {
        if let Some(full_at) = self.full_at.as_ref().and_then(|full_at| full_at.get(key)) {
            let mut full_at = full_at.lock();
            *full_at = full_at.checked_sub(self.each * n).unwrap_or(*full_at);
        }
    }
}

/// A count for each key: no stretch of time of this length sees more than so many.
#[derive(Clone)]
pub struct Window<K: Hash + Eq + Send + Sync + 'static> {
    /// When the last ones passed, the oldest first; `None`: switched off.
    passed: Option<States<K, VecDeque<Instant>>>,
    count: usize,
    period: Duration,
}

impl<K: Hash + Eq + Send + Sync + 'static> Window<K> {
    /// Lets `count` through in any `period`; everything when not `enabled`.
    pub fn new(enabled: bool, count: usize, period: Duration) -> Self {
        Self { passed: enabled.then(|| states(period)), count, period }
    }

    /// Counts one, or refuses it when there were enough.
    pub fn check(&self, key: K) -> Result<()> {
        self.take_at(key, Instant::now()).map_err(too_many)
    }

    fn take_at(&self, key: K, now: Instant) -> Result<(), Duration> {
        let Some(passed) = &self.passed else { return Ok(()) };
        let passed = passed.get_with(key, Arc::default);
        let mut passed = passed.lock();
        while passed.front().is_some_and(|oldest| *oldest + self.period <= now) {
            passed.pop_front();
        }
        match passed.front() {
            Some(oldest) if passed.len() >= self.count => Err((*oldest + self.period).duration_since(now)),
            _ => {
                passed.push_back(now);
                Ok(())
            }
        }
    }
}

fn too_many(wait: Duration) -> Error {
    Error::rate_limited("too many requests, slow down", wait)
}

/// What one limit by address holds for: the address, or the /64 of IPv6, which one subscriber has for himself.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_and_the_next_waits() {
        let (limiter, now) = (Limiter::new(true, 60, Duration::from_mins(1), 3), Instant::now());
        for _ in 0..3 {
            assert!(limiter.take_at("a", 1, now).is_ok());
        }
        assert_eq!(limiter.take_at("a", 1, now), Err(SECOND));
        assert!(limiter.take_at("b", 1, now).is_ok());
        assert!(limiter.take_at("a", 1, now + SECOND).is_ok());
        assert_eq!(limiter.take_at("a", 1, now + SECOND * 3 / 2), Err(SECOND / 2));
        // It never holds more than the burst.
        let later = now + Duration::from_hours(1);
        assert_eq!((0..9).filter(|_| limiter.take_at("a", 1, later).is_ok()).count(), 3);
    }

    #[test]
    fn what_is_taken_beyond_the_burst_is_owed() {
        let (limiter, now) = (Limiter::new(true, 60, Duration::from_mins(1), 3), Instant::now());
        assert!(limiter.take_at("a", 10, now).is_ok());
        assert_eq!(limiter.take_at("a", 1, now), Err(SECOND * 8));
        assert_eq!(limiter.take_at("a", 1, now + SECOND * 7), Err(SECOND));
        assert!(limiter.take_at("a", 1, now + SECOND * 8).is_ok());
        assert!(limiter.take_at("a", 1, now + SECOND * 8).is_err());
    }

    #[test]
    fn what_was_not_done_is_given_back() {
        let limiter = Limiter::new(true, 1, Duration::from_hours(1), 3);
        assert!(limiter.charge("a", 100).is_ok());
        assert!(limiter.charge("a", 1).is_err());
        limiter.give_back(&"a", 100);
        limiter.give_back(&"b", 100);
        for key in ["a", "b"] {
            assert_eq!((0..9).filter(|_| limiter.charge(key, 1).is_ok()).count(), 3, "and no more");
        }
    }

    #[test]
    fn no_window_sees_more_than_its_count() {
        let (window, begin) = (Window::new(true, 3, Duration::from_mins(1)), Instant::now());
        let at = |second: u32| begin + SECOND * second;
        for second in [0, 50, 50] {
            assert!(window.take_at("a", at(second)).is_ok());
        }
        assert_eq!(window.take_at("a", at(59)), Err(SECOND));
        assert!(window.take_at("b", at(59)).is_ok());
        assert!(window.take_at("a", at(60)).is_ok());
        assert_eq!(window.take_at("a", at(60)), Err(SECOND * 50));
        assert_eq!((0..9).filter(|_| window.take_at("a", at(110)).is_ok()).count(), 2);
    }

    #[test]
    fn switched_off_lets_everything_through() {
        let limiter = Limiter::new(false, 1, Duration::from_mins(1), 1);
        assert!((0..100).all(|_| limiter.take(1).is_ok()));
        let window = Window::new(false, 1, Duration::from_mins(1));
        assert!((0..100).all(|_| window.check(1).is_ok()));
    }

    #[test]
    fn ipv6_counts_by_64() {
        let network = |text: &str| super::network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
