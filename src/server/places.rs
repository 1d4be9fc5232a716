//! Who may have a connection: so many in all, so many for one network, and the last places for this machine alone, so
//! that its probes are answered whatever comes from outside. Whoever gets none is told so at once and may come again.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Proxies;
use crate::error::Error;
use crate::rate;

/// Places kept for this machine; fewer when there are few in all.
const KEPT: usize = 16;
/// Of so many places one is kept.
const ONE_IN: usize = 8;

/// The places of a listener.
pub struct Places {
    free: Arc<Semaphore>,
    kept: usize,
    /// `None`: one network may have all.
    networks: Option<Arc<Networks>>,
    proxies: Proxies,
}

/// How many connections each network has; those that have none are not in it.
struct Networks {
    most: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place, until it is dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// One connection of a network.
struct Share {
    networks: Arc<Networks>,
    network: IpAddr,
}

impl Places {
    /// So many in all and, if this is said, for each network; trusted proxies, who bring many, may have all.
    pub fn new(most: usize, per_network: Option<usize>, proxies: Proxies) -> Self {
        let networks = per_network.map(|most| Arc::new(Networks { most, taken: Mutex::default() }));
        Self { free: Arc::new(Semaphore::new(most)), kept: KEPT.min(most / ONE_IN), networks, proxies }
    }

    /// Waits until there is a place for somebody.
    pub async fn free(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).acquire_owned().await.ok()
    }

    /// The same, if there is one now.
    pub fn free_now(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// The place for this peer.
    ///
    /// # Errors
    /// `Unavailable`: what is left is kept for this machine. `RateLimited`: his network has as many as it may have.
    pub fn give(&self, permit: OwnedSemaphorePermit, peer: IpAddr) -> Result<Place, Error> {
        let peer = peer.to_canonical();
        if !peer.is_loopback() && self.free.available_permits() < self.kept {
            return Err(Error::unavailable("the server has as many connections as it can take, try again in a moment"));
        }
        let share = match &self.networks {
            Some(networks) if !self.proxies.trusts(peer) => Some(networks.share(rate::network(peer))?),
            _ => None,
        };
        Ok(Place { _permit: permit, _share: share })
    }
}

impl Networks {
    fn share(self: &Arc<Self>, network: IpAddr) -> Result<Share, Error> {
        let mut taken = self.taken.lock();
        let count = taken.entry(network).or_default();
        if *count >= self.most {
            let words = "there are too many connections from this network, close some";
            return Err(Error::rate_limited(words, std::time::Duration::from_secs(1)));
        }
        *count += 1;
        Ok(Share { networks: Arc::clone(self), network })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.networks.taken.lock();
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::error::ErrorCode;

    /// The place of this peer, or why there is none.
    fn ask(places: &Places, peer: &str) -> Result<Place, ErrorCode> {
        let permit = Arc::clone(&places.free).try_acquire_owned().unwrap();
        places.give(permit, peer.parse().unwrap()).map_err(|error| error.code)
    }

    #[test]
    fn a_network_has_its_share_and_gets_it_back() {
        let places = Places::new(7, Some(2), Proxies::new(vec!["10.0.0.0/8".parse().unwrap()]));
        let first = ask(&places, "2001:db8::1").unwrap();
        let _second = ask(&places, "2001:db8::2").unwrap();
        assert_eq!(ask(&places, "2001:db8::3").err(), Some(ErrorCode::RateLimited));
        let _other = ask(&places, "2001:db8:1::1").unwrap();
        let _proxied: Vec<_> = (0..3).map(|_| ask(&places, "::ffff:10.0.0.1").unwrap()).collect();
        drop(first);
        ask(&places, "2001:db8::3").unwrap();
        let Places { networks, .. } = &places;
        assert_eq!(networks.as_ref().unwrap().taken.lock().len(), 2, "those that have none are forgotten");
    }

    #[test]
    fn the_last_places_are_for_this_machine() {
        let places = Places::new(16, None, Proxies::default());
        let _remote: Vec<_> = (0..14).map(|n| ask(&places, &format!("192.0.2.{n}")).unwrap()).collect();
        assert_eq!(ask(&places, "192.0.2.99").err(), Some(ErrorCode::Unavailable));
        let _own = [ask(&places, "127.0.0.1").unwrap(), ask(&places, "::1").unwrap()];
        assert_eq!(places.free.available_permits(), 0);
    }
}
