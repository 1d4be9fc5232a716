//! The statements about people, shaped after ScyllaDB: one partition a method, no joins, timestamps given by the caller.
//! Conditional writes answer with facts; what follows from them is the service's business.

use async_trait::async_trait;

use super::UserRecord;
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::store::StoreResult;

/// How claiming a phone number went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The number is this user's now, or was already.
    Claimed,
    /// The number is another's. That one may lack a record: then its registration never ended, and whoever comes may end it.
    Taken(UserId),
}

/// How a conditional insert went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The record is there.
    Applied,
    /// There was one before, and it stays.
    Exists,
}

/// How a conditional change went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The record is as given.
    Applied,
    /// Another change came first, or there is no such record: nothing was done.
    Stale,
}

/// Accounts, phone numbers, and the lists by which people find each other.
///
/// An error other than `Full` of any write means: perhaps done.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Gives `phone` (E.164) to `user` unless somebody has it.
    async fn claim_phone(&self, phone: &str, user: UserId, at: Timestamp) -> StoreResult<Claim>;

    /// Who has claimed this number.
    async fn phone_owner(&self, phone: &str) -> StoreResult<Option<UserId>>;

    /// One account.
    async fn user(&self, id: UserId) -> StoreResult<Option<UserRecord>>;

    /// Those of these accounts that exist, in any order; point reads side by side, at most 100 ids a call.
    async fn users(&self, ids: &[UserId]) -> StoreResult<Vec<UserRecord>>;

    /// Writes a new account unless its id is in use.
    async fn insert_user(&self, record: &UserRecord) -> StoreResult<Inserted>;

    /// Replaces an account, `last_seen` apart, if its stored version is one less than the record's.
    async fn replace_user(&self, record: &UserRecord) -> StoreResult<Replaced>;

    /// Moves `last_seen` forward, never back; nothing happens to an unknown user.
    async fn mark_seen(&self, id: UserId, at: Timestamp) -> StoreResult<()>;

    /// Lists the user under these search prefixes, each as of the record's `version`; the latest version of a prefix wins.
    async fn put_prefixes(&self, user: UserId, prefixes: &[String], version: i64) -> StoreResult<()>;

    /// Takes the user off these search prefixes unless they were listed again at `version` or later.
    async fn remove_prefixes(&self, user: UserId, prefixes: &[String], version: i64) -> StoreResult<()>;

    /// Users under `prefix` in one of its [shards](super::SHARDS) after `after`, ascending, at most `limit`.
    async fn users_by_prefix(&self, prefix: &str, shard: u8, after: Option<UserId>, limit: usize) -> StoreResult<Vec<UserId>>;

    /// Lists the user in the directory of verified people.
    async fn list_user(&self, user: UserId) -> StoreResult<()>;

    /// Users in one of the directory's [shards](super::SHARDS) after `after`, ascending, at most `limit`.
    async fn listed_users(&self, shard: u8, after: Option<UserId>, limit: usize) -> StoreResult<Vec<UserId>>;

    /// Counts `count` looked-up numbers to the user's `day` (days since the epoch) unless the sum would pass `limit`;
    /// `false`: it would, and nothing was counted.
    async fn spend_lookups(&self, user: UserId, day: i64, count: i64, limit: i64) -> StoreResult<bool>;
}
