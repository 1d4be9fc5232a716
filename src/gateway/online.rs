//! Who is online: here, as this node's sockets say, or on another node, as the bus says. And how the nodes agree on who
//! tells of a user with sockets on several: the one that he leaves last.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::bus::Bus;
use crate::id::UserId;
use crate::presence::{OnlineSet, Presence};

/// How long it may take until it shows that two nodes were left at the same moment.
const UNDECIDED: Duration = Duration::from_secs(30);

/// See the module.
pub struct Online {
    here: OnlineSet,
    bus: Arc<dyn Bus>,
    /// Held while somebody comes or goes: the bus is told of it in the order in which it happened.
    turn: Mutex<()>,
    /// Those who left this node while they were on another one, and when.
    handed_over: Mutex<HashMap<UserId, Instant>>,
}

impl Online {
    /// Nobody yet.
    pub fn new(bus: Arc<dyn Bus>) -> Self {
        Self { here: OnlineSet::default(), bus, turn: Mutex::default(), handed_over: Mutex::default() }
    }

    /// Whether he is online on this node.
    pub fn is_here(&self, user: UserId) -> bool {
        self.here.is_online(user)
    }

    /// Whether he is online on another one.
    pub fn is_elsewhere(&self, user: UserId) -> bool {
        self.bus.is_elsewhere(user)
    }

    /// He is online here. True when that is new.
    pub fn came(&self, user: UserId) -> bool {
        let _turn = self.turn.lock();
        let is_new = self.here.set(user, true);
        if is_new {
            self.bus.came(user);
        }
        is_new
    }

    /// He is not online here any more, unless `is_back` finds that he is. True when he was, and is on no other node: this one tells.
    pub fn left(&self, user: UserId, is_back: impl FnOnce() -> bool) -> bool {
        let _turn = self.turn.lock();
        if !self.here.set(user, false) {
            return false;
        }
        if is_back() {
            self.here.set(user, true);
            return false;
        }
        let is_last = self.bus.left(user);
        if !is_last {
            let now = Instant::now();
            let mut handed_over = self.handed_over.lock();
            handed_over.retain(|_, at| now.duration_since(*at) < UNDECIDED);
            handed_over.insert(user, now);
        }
        is_last
    }

    /// The other node has left it to this one, too, to tell of him. True when this one had left it to that one.
    pub fn was_handed_over(&self, user: UserId) -> bool {
        self.handed_over.lock().remove(&user).is_some()
    }
}

impl Presence for Online {
    fn is_online(&self, user: UserId) -> bool {
        self.is_here(user) || self.is_elsewhere(user)
    }
}
