//! A bounded read-through cache of rows: what is asked for with every message and changes rarely.
//! A row that was read before a change is never kept after it. Other nodes' changes show when the entry's time is up.

use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;

/// The cache. Values should be cheap to clone.
pub struct Cached<K, V> {
    entries: Cache<K, V>,
    changes: Mutex<u64>,
}

/// The moment before a read: [`Cached::keep`] forgets what was read if anything has changed since.
#[derive(Clone, Copy, Debug)]
pub struct BeforeRead(u64);

impl<K, V> Cached<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// At most `capacity` entries, each at most `ttl` old.
    pub fn new(capacity: u64, ttl: Duration) -> Self {
        Self { entries: Cache::builder().max_capacity(capacity).time_to_live(ttl).build(), changes: Mutex::new(0) }
    }

    /// The kept value.
    pub fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key)
    }

    /// To be called before the store is read for [`Cached::keep`].
    pub fn before_read(&self) -> BeforeRead {
        BeforeRead(*self.changes.lock())
    }

    /// Keeps what was read, unless something has changed since `before`.
    pub fn keep(&self, before: BeforeRead, key: K, value: V) {
        let changes = self.changes.lock();
        if *changes == before.0 {
            self.entries.insert(key, value);
        }
    }

    /// The kept value, else what `read` finds, kept.
    ///
    /// # Errors
    /// Those of `read`; nothing is kept then.
    pub async fn get_or_read<E, F: Future<Output = Result<V, E>>>(&self, key: K, read: impl FnOnce() -> F) -> Result<V, E> {
        if let Some(value) = self.get(&key) {
            return Ok(value);
        }
        let before = self.before_read();
        let value = read().await?;
        self.keep(before, key, value.clone());
        Ok(value)
    }

    /// To be called after every write, also one whose outcome is unknown.
    pub fn changed(&self, key: &K) {
        let mut changes = self.changes.lock();
        *changes += 1;
        self.entries.invalidate(key);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_value_is_read_once_until_it_changes() {
        let cached = Cached::new(10, Duration::from_mins(1));
        let read = async |value: i32| cached.get_or_read("a", async || Ok::<_, Infallible>(value)).await.unwrap();
        assert_eq!(read(1).await, 1);
        assert_eq!(read(2).await, 1);
        cached.changed(&"a");
        assert_eq!(read(3).await, 3);
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let cached = Cached::new(10, Duration::from_mins(1));
        let before = cached.before_read();
        cached.changed(&"a");
        cached.keep(before, "a", 1);
        assert_eq!(cached.get(&"a"), None);
    }
}
