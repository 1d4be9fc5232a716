//! Where everything is kept, and as whom: `store` names the place, `store_scylla.user` and its password the login.

use super::{Reader, secrecy, value};

/// Where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreSettings {
    /// One file in the data folder.
    Embedded,
    /// ScyllaDB or Cassandra.
    Cluster {
        /// `host:port` of some of its nodes.
        nodes: Vec<String>,
        /// The keyspace.
        keyspace: String,
        /// Name and password, where the servers ask for them.
        login: Option<(String, secrecy::Hidden)>,
        /// Replicas of everything, if the keyspace has to be made.
        replicas: usize,
    },
}

/// Replicas are at most so many.
const MAX_REPLICAS: usize = 9;
/// Threads that read the embedded store, each with a cache of 16 MiB.
const MAX_READERS: usize = 64;

/// The store that the settings name; what is wrong with them is noted in `read`.
pub(super) fn store(read: &Reader<'_>) -> StoreSettings {
    let mut store = read.need("store", value::store, StoreSettings::Embedded);
    let found = read.login("store_scylla.user", "store_scylla.password");
    let wanted = read.need("store_scylla.replicas", value::count_to(MAX_REPLICAS), 3);
    if let StoreSettings::Cluster { login, replicas, .. } = &mut store {
        (*login, *replicas) = (found, wanted);
    }
    store
}

/// Threads that read the embedded store.
pub(super) fn readers(read: &Reader<'_>) -> usize {
    read.need("store_sqlite.readers", value::count_to(MAX_READERS), 1)
}
