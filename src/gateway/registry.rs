//! This node's sockets by user. Sharded, so that connecting and delivering seldom meet; nothing in here waits.

use std::sync::Arc;

use parking_lot::RwLock;

use super::seat::{Place, Seat};
use super::socket::{CloseReason, Outgoing, Socket};
use crate::event::Origin;
use crate::id::{IdMap, UserId};

/// Parts that are locked apart.
pub(super) const SHARDS: usize = 32;

/// The part that an id belongs to.
pub(super) fn shard(id: uuid::Uuid) -> usize {
    id.as_bytes()[15] as usize % SHARDS
}

type Seats = IdMap<UserId, Vec<Arc<Seat>>>;

/// See the module.
pub(super) struct Registry {
    shards: Vec<RwLock<Seats>>,
    per_user: usize,
}

impl Registry {
    /// Nobody; at most `per_user` sockets a user.
    pub fn new(per_user: usize) -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), per_user }
    }

    /// Seats a socket, held. One too many of a user closes the oldest.
    pub fn seat(&self, socket: Arc<Socket>) -> Arc<Seat> {
        let user = socket.user_id;
        let seat = Seat::held(socket);
        let mut users = self.shards[shard(user.0)].write();
        let seats = users.entry(user).or_default();
        if seats.len() >= self.per_user {
            seats.remove(0).socket.close(CloseReason::Replaced);
        }
        seats.push(Arc::clone(&seat));
        seat
    }

    /// A socket has gone. True when it was the user's last.
    pub fn unseat(&self, socket: &Socket) -> bool {
        let mut users = self.shards[shard(socket.user_id.0)].write();
        let Some(seats) = users.get_mut(&socket.user_id) else { return false };
        seats.retain(|seat| seat.socket.id != socket.id);
        let is_last = seats.is_empty();
        if is_last {
            users.remove(&socket.user_id);
        }
        is_last
    }

    /// The seat of a socket.
    pub fn seat_of(&self, socket: &Socket) -> Option<Arc<Seat>> {
        let users = self.shards[shard(socket.user_id.0)].read();
        users.get(&socket.user_id)?.iter().find(|seat| seat.socket.id == socket.id).map(Arc::clone)
    }

    /// Whether the user has a socket here.
    pub fn has(&self, user: UserId) -> bool {
        self.shards[shard(user.0)].read().contains_key(&user)
    }

    /// Everybody who has a socket here.
    pub fn users(&self) -> Vec<UserId> {
        self.shards.iter().flat_map(|shard| shard.read().keys().copied().collect::<Vec<_>>()).collect()
    }

    /// A user's seats.
    pub fn of(&self, user: UserId) -> Vec<Arc<Seat>> {
        self.shards[shard(user.0)].read().get(&user).cloned().unwrap_or_default()
    }

    /// Sends to a user's sockets, except where it came from.
    pub fn send(&self, user: UserId, place: Option<Place>, outgoing: &Arc<Outgoing>, origin: Origin) {
        let users = self.shards[shard(user.0)].read();
        for seat in users.get(&user).into_iter().flatten() {
            if origin.socket_id != Some(seat.socket.id) && origin.session_id != Some(seat.socket.session_id) {
                seat.send(place, outgoing);
            }
        }
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().values().map(Vec::len).sum::<usize>()).sum()
    }
}
