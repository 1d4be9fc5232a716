//! The use cases of settings and blocks, and the cached answers that every delivery asks for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{ChangeNotifications, ChangePrivacy, MAX_BLOCKS, NotificationSettings, Privacy, Relation, Relations, SettingsStore};
use crate::bus::Bus;
use crate::clock::SharedClock;
use crate::error::{Error, Result};
use crate::event::Envelope;
use crate::id::UserId;
use crate::store::Cached;

/// People whose privacy and blocks are kept in memory.
const KEPT: u64 = 100_000;
/// How old a kept answer may be: it is how soon another node's change shows, unless the bus says so at once.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// Point reads that one store call takes.
const CHUNK: usize = 100;

/// Privacy, blocks and notification settings.
pub struct Settings {
    store: Arc<dyn SettingsStore>,
    bus: Arc<dyn Bus>,
    clock: SharedClock,
    privacies: Cached<UserId, Privacy>,
    relations: Cached<UserId, Arc<Relations>>,
    pairs: Cached<(UserId, UserId), Relation>,
}

impl Settings {
    /// The service on this store; `bus` is told of what changes who sees whom online.
    pub fn new(store: Arc<dyn SettingsStore>, bus: Arc<dyn Bus>, clock: SharedClock) -> Self {
        let (privacies, relations, pairs) = (Cached::new(KEPT, KEPT_FOR), Cached::new(KEPT, KEPT_FOR), Cached::new(KEPT, KEPT_FOR));
        Self { store, bus, clock, privacies, relations, pairs }
    }

    /// What the person lets others see.
    pub async fn privacy(&self, user: UserId) -> Result<Privacy> {
        Ok(self.privacies.get_or_read(user, || self.store.privacy(user)).await?)
    }

    /// The same of many people at once.
    pub async fn privacies(&self, users: &[UserId]) -> Result<HashMap<UserId, Privacy>> {
        let mut found = HashMap::with_capacity(users.len());
        let mut missing = Vec::new();
        for user in users {
            match self.privacies.get(user) {
                Some(privacy) => drop(found.insert(*user, privacy)),
                None => missing.push(*user),
            }
        }
        for chunk in missing.chunks(CHUNK) {
            let before = self.privacies.before_read();
            for (user, privacy) in chunk.iter().zip(self.store.privacies(chunk).await?) {
                self.privacies.keep(before, *user, privacy);
                found.insert(*user, privacy);
            }
        }
        Ok(found)
    }

    /// Changes what is given and answers with all of it.
    pub async fn change_privacy(&self, user: UserId, change: ChangePrivacy) -> Result<Privacy> {
        let written = self.store.put_privacy(user, &change).await;
        self.privacies.changed(&user);
        // Told also when nothing changed or the write failed: of two calls that cross, or one that was perhaps done,
        // nobody knows here what it turned. Who is told finds out.
        self.tell(user, None).await;
        written?;
        self.privacy(user).await
    }

    /// Tells all nodes that what others are shown of this person has changed: his name, his picture.
    pub async fn tell_of_change(&self, user: UserId) {
        self.tell(user, None).await;
    }

    /// Which notifications the person wants.
    pub async fn notifications(&self, user: UserId) -> Result<NotificationSettings> {
        Ok(self.store.notifications(user).await?)
    }

    /// Changes what is given and answers with all of it.
    pub async fn change_notifications(&self, user: UserId, change: ChangeNotifications) -> Result<NotificationSettings> {
        self.store.put_notifications(user, &change).await?;
        self.notifications(user).await
    }

    /// Who has blocked whom around this person.
    pub async fn relations(&self, user: UserId) -> Result<Arc<Relations>> {
        let read = || async {
            let blocked = self.store.blocks(user, MAX_BLOCKS).await?;
            let blocked_by = self.store.blocked_by(user).await?;
            Ok::<_, Error>(Arc::new(Relations { blocked, blocked_by }))
        };
        self.relations.get_or_read(user, read).await
    }

    /// Whether a block stands between the two, whoever set it.
    pub async fn is_blocked_either(&self, a: UserId, b: UserId) -> Result<bool> {
        Ok(self.relation(a, b).await?.is_blocked_either())
    }

    /// Whether `user` has blocked `other`.
    pub async fn has_blocked(&self, user: UserId, other: UserId) -> Result<bool> {
        Ok(self.relation(user, other).await?.blocked)
    }

    /// How the two stand: asked with every message, so it must not cost more for who is blocked by many. Who is online has been
    /// looked at whole, to know whom to tell.
    async fn relation(&self, user: UserId, other: UserId) -> Result<Relation> {
        if let Some(relations) = self.relations.get(&user) {
            return Ok(Relation { blocked: relations.blocked.contains_key(&other), blocked_by: relations.blocked_by.contains_key(&other) });
        }
        Ok(self.pairs.get_or_read((user, other), || self.store.relation(user, other)).await?)
    }

    /// Blocks; again is the same. That `other` exists is for the caller to know.
    ///
    /// # Errors
    /// `BadRequest`: oneself, or more than [`MAX_BLOCKS`].
    pub async fn block(&self, user: UserId, other: UserId) -> Result<()> {
        if user == other {
            return Err(Error::bad_request("you cannot block yourself"));
        }
        let blocked = self.store.blocks(user, MAX_BLOCKS).await?;
        if blocked.len() >= MAX_BLOCKS && !blocked.contains_key(&other) {
            return Err(Error::bad_request("you have blocked as many people as one can: unblock somebody first"));
        }
        let now = self.clock.now();
        // The blocker's own row first: should the mirror fail, he sees the block, and blocking again mends it.
        let mut written = self.store.put_block(user, other, now).await;
        if written.is_ok() {
            written = self.store.put_blocked_by(other, user, now).await;
        }
        self.relations_changed(user, other);
        self.tell(user, Some(other)).await;
        Ok(written?)
    }

    /// Ends a block.
    ///
    /// # Errors
    /// `NotFound`: there is none.
    pub async fn unblock(&self, user: UserId, other: UserId) -> Result<()> {
        if !self.store.blocks(user, MAX_BLOCKS).await?.contains_key(&other) {
            return Err(Error::not_found("you have not blocked this person"));
        }
        // The mirror first: should the second removal fail, the block still shows and can be ended again.
        let mut written = self.store.remove_blocked_by(other, user).await;
        if written.is_ok() {
            written = self.store.remove_block(user, other).await;
        }
        self.relations_changed(user, other);
        self.tell(user, Some(other)).await;
        Ok(written?)
    }

    /// What a change that came over the bus means for this node: nothing that was read before it is believed.
    pub fn note(&self, envelope: &Envelope) {
        match envelope {
            Envelope::Visibility { user_id, other: Some(other) } => self.relations_changed(*user_id, *other),
            Envelope::Visibility { user_id, other: None } => self.privacies.changed(user_id),
            _ => {}
        }
    }

    async fn tell(&self, user_id: UserId, other: Option<UserId>) {
        if let Err(error) = self.bus.publish(Envelope::Visibility { user_id, other }).await {
            tracing::warn!(%error, "a change of who sees whom was not published; other nodes find it when their answers are old");
        }
    }

    fn relations_changed(&self, user: UserId, other: UserId) {
        for (one, another) in [(user, other), (other, user)] {
            self.relations.changed(&one);
            self.pairs.changed(&(one, another));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::bus::Local;
    use crate::clock::RealClock;
    use crate::error::ErrorCode;
    use crate::store::{Sqlite, SqliteOptions};

    fn settings() -> (Settings, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions { path: folder.path().join("settings.db"), readers: 1, migrate: true };
        (Settings::new(Arc::new(Sqlite::open(&options).unwrap()), Arc::new(Local::default()), Arc::new(RealClock)), folder)
    }

    #[tokio::test]
    async fn everything_is_shown_until_its_owner_says_otherwise() {
        let (settings, _folder) = settings();
        let (a, b) = (UserId::fresh(), UserId::fresh());
        assert_eq!(settings.privacy(a).await.unwrap(), Privacy::default());
        let change = ChangePrivacy { show_last_seen: Some(false), ..ChangePrivacy::default() };
        let privacy = settings.change_privacy(a, change).await.unwrap();
        assert_eq!(privacy, Privacy { show_last_seen: false, ..Privacy::default() });
        let change = ChangePrivacy { show_read_receipts: Some(false), ..ChangePrivacy::default() };
        let privacy = settings.change_privacy(a, change).await.unwrap();
        assert_eq!(privacy, Privacy { show_last_seen: false, show_read_receipts: false, ..Privacy::default() });
        let both = settings.privacies(&[a, b]).await.unwrap();
        assert_eq!(both, HashMap::from([(a, privacy), (b, Privacy::default())]));
    }

    #[tokio::test]
    async fn notifications_and_privacy_do_not_touch_each_other() {
        let (settings, _folder) = settings();
        let user = UserId::fresh();
        let change = ChangeNotifications { sound: Some(false), ..ChangeNotifications::default() };
        let changed = settings.change_notifications(user, change).await.unwrap();
        assert_eq!(changed, NotificationSettings { sound: false, ..NotificationSettings::default() });
        assert_eq!(settings.privacy(user).await.unwrap(), Privacy::default());
        settings.change_privacy(user, ChangePrivacy { show_last_seen: Some(false), ..ChangePrivacy::default() }).await.unwrap();
        assert_eq!(settings.notifications(user).await.unwrap(), changed);
    }

    #[tokio::test]
    async fn a_block_shows_from_both_sides_at_once() {
        let (settings, _folder) = settings();
        let (a, b) = (UserId::fresh(), UserId::fresh());
        assert!(!settings.is_blocked_either(a, b).await.unwrap());
        assert!(!settings.is_blocked_either(b, a).await.unwrap());
        settings.block(a, b).await.unwrap();
        settings.block(a, b).await.unwrap();
        assert!(settings.is_blocked_either(a, b).await.unwrap());
        assert!(settings.is_blocked_either(b, a).await.unwrap());
        assert!(settings.has_blocked(a, b).await.unwrap());
        assert!(!settings.has_blocked(b, a).await.unwrap());
        settings.block(b, a).await.unwrap();
        settings.unblock(a, b).await.unwrap();
        assert!(settings.is_blocked_either(a, b).await.unwrap());
        settings.unblock(b, a).await.unwrap();
        assert!(!settings.is_blocked_either(b, a).await.unwrap());
    }

    #[tokio::test]
    async fn what_cannot_be_blocked_or_unblocked_is_said() {
        let (settings, _folder) = settings();
        let (a, b) = (UserId::fresh(), UserId::fresh());
        assert_eq!(settings.block(a, a).await.unwrap_err().code, ErrorCode::BadRequest);
        assert_eq!(settings.unblock(a, b).await.unwrap_err().code, ErrorCode::NotFound);
        for _ in 0..MAX_BLOCKS {
            settings.store.put_block(a, UserId::fresh(), settings.clock.now()).await.unwrap();
        }
        assert_eq!(settings.block(a, b).await.unwrap_err().code, ErrorCode::BadRequest);
        let first = *settings.store.blocks(a, 1).await.unwrap().keys().next().unwrap();
        settings.block(a, first).await.unwrap();
    }
}
