//! Who is online now, as the views ask it. The gateway's hub knows and answers;
//! the question stands up here so that nothing that shows people has to import sockets.

use std::collections::HashSet;

use parking_lot::RwLock;

use crate::id::UserId;

/// The question that views ask; cheap, answered from memory.
pub trait Presence: Send + Sync + 'static {
    /// Whether the user has a live socket on any node. Privacy settings and blocks are the asker's business.
    fn is_online(&self, user: UserId) -> bool;
}

/// A set of people who are online, kept by whoever holds it.
#[derive(Debug, Default)]
pub struct OnlineSet(RwLock<HashSet<UserId>>);

impl OnlineSet {
    /// Notes that the user is online, or is not. True when that is new.
    pub fn set(&self, user: UserId, online: bool) -> bool {
        let mut users = self.0.write();
        if online { users.insert(user) } else { users.remove(&user) }
    }
}

impl Presence for OnlineSet {
    fn is_online(&self, user: UserId) -> bool {
        self.0.read().contains(&user)
    }
}
