//! The statements about settings and blocks, one partition a method.
//! A block is two rows: `blocks` is what the blocker said, `blocked_by` is its mirror in the other's partition.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{ChangeNotifications, ChangePrivacy, NotificationSettings, Privacy, Relation};
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::store::StoreResult;

/// Settings and blocks. Every write may be repeated; an error other than `Full` of a write means: perhaps done.
#[async_trait]
pub trait SettingsStore: Send + Sync + 'static {
    /// What the person shows; the defaults when he never said.
    async fn privacy(&self, user: UserId) -> StoreResult<Privacy>;

    /// The same of several people, in their order; point reads side by side, at most 100 ids a call.
    async fn privacies(&self, users: &[UserId]) -> StoreResult<Vec<Privacy>>;

    /// Writes the cells that are given.
    async fn put_privacy(&self, user: UserId, change: &ChangePrivacy) -> StoreResult<()>;

    /// Which notifications the person wants; the defaults when he never said.
    async fn notifications(&self, user: UserId) -> StoreResult<NotificationSettings>;

    /// Writes the cells that are given.
    async fn put_notifications(&self, user: UserId, change: &ChangeNotifications) -> StoreResult<()>;

    /// Whom the person has blocked; at most `limit`.
    async fn blocks(&self, user: UserId, limit: usize) -> StoreResult<BTreeMap<UserId, Timestamp>>;

    /// How the person stands to one other: two point reads in his partitions.
    async fn relation(&self, user: UserId, other: UserId) -> StoreResult<Relation>;

    /// Who has blocked the person.
    async fn blocked_by(&self, user: UserId) -> StoreResult<BTreeMap<UserId, Timestamp>>;

    /// Notes that `user` blocks `other`; the first time stays.
    async fn put_block(&self, user: UserId, other: UserId, at: Timestamp) -> StoreResult<()>;

    /// Notes that `user` is blocked by `other`; the first time stays.
    async fn put_blocked_by(&self, user: UserId, other: UserId, at: Timestamp) -> StoreResult<()>;

    /// Takes the block away.
    async fn remove_block(&self, user: UserId, other: UserId) -> StoreResult<()>;

    /// Takes its mirror away.
    async fn remove_blocked_by(&self, user: UserId, other: UserId) -> StoreResult<()>;
}
