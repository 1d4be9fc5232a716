//! [`UserStore`] on ScyllaDB or Cassandra: statements and the mapping of rows, nothing else. An account changes under conditions
//! alone, `last_seen` apart: a cell of its own, whose timestamp is the time it says, as that of a prefix is the record's version.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use scylla::value::MaybeUnset;
use scylla::{DeserializeRow, SerializeRow};
use tokio::time::Instant;
use uuid::Uuid;

use super::store::{Claim, Inserted, Replaced, UserStore};
use super::{UserRecord, UserRole, shard_of};
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::store::{Prepared, StoreError, StoreResult, corrupt, limit, statements};

/// How long a count that others change at the same time is tried to be changed.
const SPEND_PATIENCE: Duration = Duration::from_secs(3);
/// The longest pause between two tries, at first; it doubles with each.
const SPEND_PAUSE_MS: u64 = 4;
/// What it doubles up to.
const MAX_SPEND_PAUSE_MS: u64 = 128;

/// Writes all cells of an account but `last_seen`.
macro_rules! put_user {
    ($condition:literal) => {
        concat!(
            "UPDATE users SET phone = :phone, email = :email, display_name = :display_name, avatar_url = :avatar_url, role = :role, ",
            "bio = :bio, social_links = :social_links, is_verified = :is_verified, password_hash = :password_hash, totp = :totp, ",
            "created_at = :created_at, updated_at = :updated_at, version = :version, login_epoch = :login_epoch WHERE id = :id IF ",
            $condition
        )
    };
}

statements! {
    /// What [`UserStore`] is made of on the cluster.
    pub struct UserStatements {
        claim: Conditional "INSERT INTO users_by_phone (phone, user_id, claimed_at) VALUES (?, ?, ?) IF NOT EXISTS";
        owner: Read "SELECT user_id FROM users_by_phone WHERE phone = ?";
        settled_owner: Serial "SELECT user_id FROM users_by_phone WHERE phone = ?";
        user: Read "SELECT id, phone, email, display_name, avatar_url, role, bio, social_links, is_verified, password_hash, totp,
            created_at, updated_at, version, last_seen, login_epoch FROM users WHERE id = ?";
        insert: Conditional put_user!("version = null");
        replace: Conditional put_user!("version = :before");
        mark_seen: Write "UPDATE users USING TIMESTAMP ? SET last_seen = ? WHERE id = ?";
        put_prefix: Write "INSERT INTO user_prefixes (prefix, shard, user_id) VALUES (?, ?, ?) USING TIMESTAMP ?";
        remove_prefix: Write "DELETE FROM user_prefixes USING TIMESTAMP ? WHERE prefix = ? AND shard = ? AND user_id = ?";
        by_prefix: Read "SELECT user_id FROM user_prefixes WHERE prefix = ? AND shard = ? AND user_id > ? LIMIT ?";
        list: Write "INSERT INTO user_directory (shard, user_id) VALUES (?, ?)";
        listed: Read "SELECT user_id FROM user_directory WHERE shard = ? AND user_id > ? LIMIT ?";
        spent: Serial "SELECT spent FROM user_lookups WHERE user_id = ? AND day = ?";
        spend_first: Conditional "INSERT INTO user_lookups (user_id, day, spent) VALUES (?, ?, ?) IF NOT EXISTS";
        spend: Conditional "UPDATE user_lookups SET spent = ? WHERE user_id = ? AND day = ? IF spent = ?";
    }
}

#[async_trait]
impl UserStore for Prepared<UserStatements> {
    async fn claim_phone(&self, phone: &str, user: UserId, at: Timestamp) -> StoreResult<Claim> {
        if self.apply(&self.statements.claim, (phone, user.0, at.0)).await? {
            return Ok(Claim::Claimed);
        }
        let owner: Option<(Uuid,)> = self.row(&self.statements.settled_owner, (phone,)).await?;
        let (owner,) = owner.ok_or_else(|| corrupt("a claimed number has no owner"))?;
        Ok(if owner == user.0 { Claim::Claimed } else { Claim::Taken(UserId(owner)) })
    }

    async fn phone_owner(&self, phone: &str) -> StoreResult<Option<UserId>> {
        let owner: Option<(Uuid,)> = self.row(&self.statements.owner, (phone,)).await?;
        Ok(owner.map(|(owner,)| UserId(owner)))
    }

    async fn user(&self, id: UserId) -> StoreResult<Option<UserRecord>> {
        let stored: Option<Stored> = self.row(&self.statements.user, (id.0,)).await?;
        stored.map_or(Ok(None), Stored::record)
    }

    async fn users(&self, ids: &[UserId]) -> StoreResult<Vec<UserRecord>> {
        let found = try_join_all(ids.iter().map(|id| self.user(*id))).await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn insert_user(&self, record: &UserRecord) -> StoreResult<Inserted> {
        let social_links = social_links(record)?;
        let totp = totp(record)?;
        // There is nothing before that an absent cell would have to take away.
        let cells =
            Cells::new(record, &social_links, totp.as_deref(), |cell| cell.map_or(MaybeUnset::Unset, |text| MaybeUnset::Set(Some(text))));
        Ok(if self.apply(&self.statements.insert, cells).await? { Inserted::Applied } else { Inserted::Exists })
    }

    async fn replace_user(&self, record: &UserRecord) -> StoreResult<Replaced> {
        let social_links = social_links(record)?;
        let totp = totp(record)?;
        let cells = Cells::new(record, &social_links, totp.as_deref(), MaybeUnset::Set);
        let replacement = Replacement { cells, before: record.version - 1 };
        Ok(if self.apply(&self.statements.replace, replacement).await? { Replaced::Applied } else { Replaced::Stale })
    }

    async fn mark_seen(&self, id: UserId, at: Timestamp) -> StoreResult<()> {
        // In microseconds, as timestamps are: the store refuses one of days to come.
        self.write(&self.statements.mark_seen, (at.0.saturating_mul(1_000), at.0, id.0)).await
    }

    async fn put_prefixes(&self, user: UserId, prefixes: &[String], version: i64) -> StoreResult<()> {
        let values: Vec<_> = prefixes.iter().map(|prefix| (prefix, shard(user), user.0, 2 * version + 1)).collect();
        self.write_all(&self.statements.put_prefix, &values).await
    }

    async fn remove_prefixes(&self, user: UserId, prefixes: &[String], version: i64) -> StoreResult<()> {
        // After what was listed at earlier versions, before what was at this one.
        let values: Vec<_> = prefixes.iter().map(|prefix| (2 * version, prefix, shard(user), user.0)).collect();
        self.write_all(&self.statements.remove_prefix, &values).await
    }

    async fn users_by_prefix(&self, prefix: &str, shard: u8, after: Option<UserId>, most: usize) -> StoreResult<Vec<UserId>> {
        let values = (prefix, i32::from(shard), after_key(after), limit(most));
        Ok(ids(self.rows(&self.statements.by_prefix, values).await?))
    }

    async fn list_user(&self, user: UserId) -> StoreResult<()> {
        self.write(&self.statements.list, (shard(user), user.0)).await
    }

    async fn listed_users(&self, shard: u8, after: Option<UserId>, most: usize) -> StoreResult<Vec<UserId>> {
        Ok(ids(self.rows(&self.statements.listed, (i32::from(shard), after_key(after), limit(most))).await?))
    }

    async fn spend_lookups(&self, user: UserId, day: i64, count: i64, limit: i64) -> StoreResult<bool> {
        let until = Instant::now() + SPEND_PATIENCE;
        let mut pause = SPEND_PAUSE_MS;
        loop {
            let spent: Option<(i64,)> = self.row(&self.statements.spent, (user.0, day)).await?;
            let sum = spent.map_or(0, |(spent,)| spent) + count;
            if sum > limit {
                return Ok(false);
            }
            let is_applied = match spent {
                Some((spent,)) => self.apply(&self.statements.spend, (sum, user.0, day, spent)).await?,
                None => self.apply(&self.statements.spend_first, (user.0, day, sum)).await?,
            };
            if is_applied {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Err(StoreError::Unavailable("too many lookups of one person at the same time".into()));
            }
            // Those who were refused together do not come again together.
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..=pause))).await;
            pause = (pause * 2).min(MAX_SPEND_PAUSE_MS);
        }
    }
}

/// What an optional cell becomes: nothing is done to it, it is written, or emptied.
type Cell<'a> = MaybeUnset<Option<&'a str>>;

/// An account as it is written.
#[derive(SerializeRow)]
struct Cells<'a> {
    id: Uuid,
    phone: &'a str,
    email: Cell<'a>,
    display_name: Cell<'a>,
    avatar_url: Cell<'a>,
    role: i32,
    bio: Cell<'a>,
    social_links: &'a str,
    is_verified: bool,
    password_hash: Cell<'a>,
    totp: Cell<'a>,
    created_at: i64,
    updated_at: i64,
    version: i64,
    login_epoch: i64,
}

impl<'a> Cells<'a> {
    fn new(record: &'a UserRecord, social_links: &'a str, totp: Option<&'a str>, cell: impl Fn(Option<&'a str>) -> Cell<'a>) -> Self {
        Self {
            id: record.id.0,
            phone: &record.phone,
            email: cell(record.email.as_deref()),
            display_name: cell(record.display_name.as_deref()),
            avatar_url: cell(record.avatar_url.as_deref()),
            role: record.role.number().into(),
            bio: cell(record.bio.as_deref()),
            social_links,
            is_verified: record.is_verified,
            password_hash: cell(record.password_hash.as_deref()),
            totp: cell(totp),
            created_at: record.created_at.0,
            updated_at: record.updated_at.0,
            version: record.version,
            login_epoch: record.login_epoch,
        }
    }
}

/// An account in the place of its version before.
#[derive(SerializeRow)]
struct Replacement<'a> {
    #[scylla(flatten)]
    cells: Cells<'a>,
    before: i64,
}

/// An account as it is read; without a version it is none, and everything but `last_seen` is missing.
#[derive(DeserializeRow)]
struct Stored {
    id: Uuid,
    #[scylla(default_when_null)]
    phone: String,
    email: Option<String>,
    display_name: Option<String>,
    avatar_url: Option<String>,
    #[scylla(default_when_null)]
    role: i32,
    bio: Option<String>,
    #[scylla(default_when_null)]
    social_links: String,
    #[scylla(default_when_null)]
    is_verified: bool,
    password_hash: Option<String>,
    totp: Option<String>,
    #[scylla(default_when_null)]
    created_at: i64,
    #[scylla(default_when_null)]
    updated_at: i64,
    version: Option<i64>,
    #[scylla(default_when_null)]
    last_seen: i64,
    #[scylla(default_when_null)]
    login_epoch: i64,
}

impl Stored {
    fn record(self) -> StoreResult<Option<UserRecord>> {
        let Some(version) = self.version else { return Ok(None) };
        Ok(Some(UserRecord {
            id: UserId(self.id),
            phone: self.phone,
            email: self.email,
            display_name: self.display_name,
            avatar_url: self.avatar_url,
            role: UserRole::of_number(u8::try_from(self.role).unwrap_or_default()),
            bio: self.bio,
            social_links: serde_json::from_str(&self.social_links).map_err(corrupt)?,
            is_verified: self.is_verified,
            password_hash: self.password_hash,
            totp: self.totp.map(|text| serde_json::from_str(&text)).transpose().map_err(corrupt)?,
            login_epoch: self.login_epoch,
            created_at: Timestamp(self.created_at),
            updated_at: Timestamp(self.updated_at),
            version,
            last_seen: Timestamp(self.last_seen),
        }))
    }
}

fn social_links(record: &UserRecord) -> StoreResult<String> {
    serde_json::to_string(&record.social_links).map_err(unwritable)
}

fn totp(record: &UserRecord) -> StoreResult<Option<String>> {
    record.totp.as_ref().map(serde_json::to_string).transpose().map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Statement(Box::new(error))
}

fn shard(user: UserId) -> i32 {
    shard_of(user).into()
}

/// What sorts before every id when there is none to go after: ids are of version 7, which is compared first, and this one of none.
fn after_key(after: Option<UserId>) -> Uuid {
    after.map_or(Uuid::nil(), |user| user.0)
}

fn ids(rows: Vec<(Uuid,)>) -> Vec<UserId> {
    rows.into_iter().map(|(id,)| UserId(id)).collect()
}
