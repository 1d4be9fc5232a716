//! Limits in time by key (address, user, phone number): a token bucket for each key, in memory of this node.
//! The number of keys is bounded, the one not seen for longest goes first. What must hold across nodes and
//! restarts (one-time codes per number) is counted in the store, not here.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::error::{Error, Result};

/// Keys that are remembered at once.
const KEYS: u64 = 100_000;

/// A limit of each key of its kind.
#[derive(Clone)]
pub struct Limiter<K: Hash + Eq + Send + Sync + 'static> {
    /// `None`: switched off.
    buckets: Option<Cache<K, Arc<DefaultDirectRateLimiter>>>,
    quota: Quota,
    clock: DefaultClock,
}

impl<K: Hash + Eq + Send + Sync + 'static> Limiter<K> {
    /// Lets `count` through each `period` in the long run, and `burst` at once; everything when not `enabled`.
    pub fn new(enabled: bool, count: u32, period: Duration, burst: u32) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let each = period / count.max(1);
        let quota = Quota::with_period(each).unwrap_or(Quota::per_second(burst)).allow_burst(burst);
        let full_again = each * burst.get() + Duration::from_secs(1);
        let buckets =
            enabled.then(|| Cache::builder().max_capacity(KEYS).time_to_idle(full_again).eviction_policy(EvictionPolicy::lru()).build());
        Self { buckets, quota, clock: DefaultClock::default() }
    }

    /// Takes one from the key's bucket; when it is empty, says how long until there is one again.
    pub fn take(&self, key: K) -> Result<(), Duration> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        let bucket = buckets.get_with(key, || Arc::new(RateLimiter::direct(self.quota)));
        bucket.check().map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Takes `n` at once; a wish for more than the burst is never granted.
    pub fn take_many(&self, key: K, n: u32) -> Result<(), Duration> {
        let (Some(buckets), Some(n)) = (&self.buckets, NonZeroU32::new(n)) else { return Ok(()) };
        let bucket = buckets.get_with(key, || Arc::new(RateLimiter::direct(self.quota)));
        match bucket.check_n(n) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(until.wait_time_from(self.clock.now())),
            Err(_) => Err(self.quota.replenish_interval() * n.get()),
        }
    }

    /// As [`Limiter::take`], with the error that answers the caller.
    pub fn check(&self, key: K) -> Result<()> {
        self.take(key).map_err(|wait| Error::rate_limited("too many requests, slow down", wait))
    }
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

    #[test]
    fn a_burst_passes_and_the_next_waits() {
        let limiter = Limiter::new(true, 60, Duration::from_mins(1), 3);
        for _ in 0..3 {
            assert!(limiter.take("a").is_ok());
        }
        let wait = limiter.take("a").unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(limiter.take("b").is_ok());
        assert!(limiter.take_many("b", 3).is_err());
        assert!(limiter.take_many("c", 4).is_err());
    }

    #[test]
    fn switched_off_lets_everything_through() {
        let limiter = Limiter::new(false, 1, Duration::from_mins(1), 1);
        assert!((0..100).all(|_| limiter.take(1).is_ok()));
    }

    #[test]
    fn ipv6_counts_by_64() {
        let network = |text: &str| super::network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
