//! [`UserStore`] on SQLite: statements and the mapping of rows, nothing else.

use async_trait::async_trait;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use uuid::Uuid;

use super::store::{Claim, Inserted, Replaced, UserStore};
use super::{UserRecord, UserRole, shard_of};
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::store::{Sqlite, StoreResult};

const SELECT_USER: &str = "SELECT id, phone, email, display_name, avatar_url, role, bio, social_links, is_verified, password_hash, totp,
    created_at, updated_at, version, last_seen, login_epoch FROM users WHERE id = ?1";

const INSERT_USER: &str = "INSERT INTO users (id, phone, email, display_name, avatar_url, role, bio, social_links, is_verified,
    password_hash, totp, created_at, updated_at, version, login_epoch) VALUES (:id, :phone, :email, :display_name, :avatar_url, :role, :bio,
    :social_links, :is_verified, :password_hash, :totp, :created_at, :updated_at, :version, :login_epoch) ON CONFLICT DO NOTHING";

const REPLACE_USER: &str = "UPDATE users SET phone = :phone, email = :email, display_name = :display_name, avatar_url = :avatar_url,
    role = :role, bio = :bio, social_links = :social_links, is_verified = :is_verified, password_hash = :password_hash, totp = :totp,
    created_at = :created_at, updated_at = :updated_at, version = :version, login_epoch = :login_epoch WHERE id = :id AND version = :version - 1";

#[async_trait]
impl UserStore for Sqlite {
    async fn claim_phone(&self, phone: &str, user: UserId, at: Timestamp) -> StoreResult<Claim> {
        let phone = phone.to_owned();
        self.write(move |c| {
            c.prepare_cached("INSERT INTO users_by_phone (phone, user_id, claimed_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                .execute(params![phone, key(user), at.0])?;
            let owner = phone_owner(c, &phone)?;
            Ok(owner.filter(|owner| *owner != user).map_or(Claim::Claimed, Claim::Taken))
        })
        .await
    }

    async fn phone_owner(&self, phone: &str) -> StoreResult<Option<UserId>> {
        let phone = phone.to_owned();
        self.read(move |c| phone_owner(c, &phone)).await
    }

    async fn user(&self, id: UserId) -> StoreResult<Option<UserRecord>> {
        self.read(move |c| user(c, id)).await
    }

    async fn users(&self, ids: &[UserId]) -> StoreResult<Vec<UserRecord>> {
        let ids = ids.to_vec();
        self.read(move |c| ids.iter().filter_map(|id| user(c, *id).transpose()).collect()).await
    }

    async fn insert_user(&self, record: &UserRecord) -> StoreResult<Inserted> {
        let record = record.clone();
        self.write(move |c| Ok(if put(c, INSERT_USER, &record)? == 1 { Inserted::Applied } else { Inserted::Exists })).await
    }

    async fn replace_user(&self, record: &UserRecord) -> StoreResult<Replaced> {
        let record = record.clone();
        self.write(move |c| Ok(if put(c, REPLACE_USER, &record)? == 1 { Replaced::Applied } else { Replaced::Stale })).await
    }

    async fn mark_seen(&self, id: UserId, at: Timestamp) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("UPDATE users SET last_seen = max(last_seen, ?2) WHERE id = ?1")?.execute(params![key(id), at.0])?;
            Ok(())
        })
        .await
    }

    async fn put_prefixes(&self, user: UserId, prefixes: &[String], version: i64) -> StoreResult<()> {
        let prefixes = prefixes.to_vec();
        self.write(move |c| {
            let mut statement = c.prepare_cached(
                "INSERT INTO user_prefixes (prefix, shard, user_id, version) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET version = max(version, excluded.version)",
            )?;
            prefixes.iter().try_for_each(|prefix| statement.execute(params![prefix, shard_of(user), key(user), version]).map(|_| ()))
        })
        .await
    }

    async fn remove_prefixes(&self, user: UserId, prefixes: &[String], version: i64) -> StoreResult<()> {
        let prefixes = prefixes.to_vec();
        self.write(move |c| {
            let mut statement =
                c.prepare_cached("DELETE FROM user_prefixes WHERE prefix = ?1 AND shard = ?2 AND user_id = ?3 AND version < ?4")?;
            prefixes.iter().try_for_each(|prefix| statement.execute(params![prefix, shard_of(user), key(user), version]).map(|_| ()))
        })
        .await
    }

    async fn users_by_prefix(&self, prefix: &str, shard: u8, after: Option<UserId>, limit: usize) -> StoreResult<Vec<UserId>> {
        let prefix = prefix.to_owned();
        self.read(move |c| {
            c.prepare_cached(
                "SELECT user_id FROM user_prefixes WHERE prefix = ?1 AND shard = ?2 AND user_id > ?3 ORDER BY user_id LIMIT ?4",
            )?
            .query_map(params![prefix, shard, after_key(after), limit as i64], |row| id(row, 0))?
            .collect()
        })
        .await
    }

    async fn list_user(&self, user: UserId) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("INSERT INTO user_directory (shard, user_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
                .execute(params![shard_of(user), key(user)])?;
            Ok(())
        })
        .await
    }

    async fn listed_users(&self, shard: u8, after: Option<UserId>, limit: usize) -> StoreResult<Vec<UserId>> {
        self.read(move |c| {
            c.prepare_cached("SELECT user_id FROM user_directory WHERE shard = ?1 AND user_id > ?2 ORDER BY user_id LIMIT ?3")?
                .query_map(params![shard, after_key(after), limit as i64], |row| id(row, 0))?
                .collect()
        })
        .await
    }

    async fn spend_lookups(&self, user: UserId, day: i64, count: i64, limit: i64) -> StoreResult<bool> {
        self.write(move |c| {
            // Days gone by are never asked for again.
            c.prepare_cached("DELETE FROM user_lookups WHERE user_id = ?1 AND day < ?2")?.execute(params![key(user), day])?;
            c.prepare_cached("INSERT INTO user_lookups (user_id, day, spent) VALUES (?1, ?2, 0) ON CONFLICT DO NOTHING")?
                .execute(params![key(user), day])?;
            let changed = c
                .prepare_cached("UPDATE user_lookups SET spent = spent + ?3 WHERE user_id = ?1 AND day = ?2 AND spent + ?3 <= ?4")?
                .execute(params![key(user), day, count, limit])?;
            Ok(changed == 1)
        })
        .await
    }
}

fn key(user: UserId) -> [u8; 16] {
    user.0.into_bytes()
}

/// Sorts before every id when there is none to go after.
fn after_key(after: Option<UserId>) -> Vec<u8> {
    after.map_or_else(Vec::new, |user| key(user).to_vec())
}

fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<UserId> {
    row.get::<_, [u8; 16]>(column).map(|bytes| UserId(Uuid::from_bytes(bytes)))
}

fn phone_owner(c: &Connection, phone: &str) -> rusqlite::Result<Option<UserId>> {
    c.prepare_cached("SELECT user_id FROM users_by_phone WHERE phone = ?1")?.query_row(params![phone], |row| id(row, 0)).optional()
}

fn user(c: &Connection, id: UserId) -> rusqlite::Result<Option<UserRecord>> {
    c.prepare_cached(SELECT_USER)?.query_row(params![key(id)], record).optional()
}

fn put(c: &Connection, statement: &str, record: &UserRecord) -> rusqlite::Result<usize> {
    let json = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let social_links = serde_json::to_string(&record.social_links).map_err(json)?;
    let totp = record.totp.as_ref().map(serde_json::to_string).transpose().map_err(json)?;
    c.prepare_cached(statement)?.execute(named_params! {
        ":id": key(record.id),
        ":phone": record.phone,
        ":email": record.email,
        ":display_name": record.display_name,
        ":avatar_url": record.avatar_url,
        ":role": record.role.number(),
        ":bio": record.bio,
        ":social_links": social_links,
        ":is_verified": record.is_verified,
        ":password_hash": record.password_hash,
        ":totp": totp,
        ":created_at": record.created_at.0,
        ":updated_at": record.updated_at.0,
        ":version": record.version,
        ":login_epoch": record.login_epoch,
    })
}

fn record(row: &Row<'_>) -> rusqlite::Result<UserRecord> {
    let json = |column| move |error: serde_json::Error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error));
    Ok(UserRecord {
        id: id(row, 0)?,
        phone: row.get(1)?,
        email: row.get(2)?,
        display_name: row.get(3)?,
        avatar_url: row.get(4)?,
        role: UserRole::of_number(row.get(5)?),
        bio: row.get(6)?,
        social_links: serde_json::from_str(&row.get::<_, String>(7)?).map_err(json(7))?,
        is_verified: row.get(8)?,
        password_hash: row.get(9)?,
        totp: row.get::<_, Option<String>>(10)?.map(|text| serde_json::from_str(&text)).transpose().map_err(json(10))?,
        created_at: Timestamp(row.get(11)?),
        updated_at: Timestamp(row.get(12)?),
        version: row.get(13)?,
        last_seen: Timestamp(row.get(14)?),
        login_epoch: row.get(15)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::SqliteOptions;
    use crate::users::Totp;

    fn open() -> (Sqlite, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions { path: folder.path().join("users.db"), readers: 1, migrate: true };
        (Sqlite::open(&options).unwrap(), folder)
    }

    fn person(phone: &str) -> UserRecord {
        UserRecord::new(UserId::fresh(), phone.to_owned(), Timestamp(1_000))
    }

    #[tokio::test]
    async fn a_number_is_claimed_once_and_again_by_its_owner() {
        let (store, _folder) = open();
        let (a, b) = (UserId::fresh(), UserId::fresh());
        assert_eq!(store.claim_phone("+12025550123", a, Timestamp(1)).await.unwrap(), Claim::Claimed);
        assert_eq!(store.claim_phone("+12025550123", a, Timestamp(2)).await.unwrap(), Claim::Claimed);
        assert_eq!(store.claim_phone("+12025550123", b, Timestamp(3)).await.unwrap(), Claim::Taken(a));
        assert_eq!(store.phone_owner("+12025550123").await.unwrap(), Some(a));
        assert_eq!(store.phone_owner("+12025550124").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_record_comes_back_as_it_was_written() {
        let (store, _folder) = open();
        let mut user = person("+12025550123");
        user.email = Some("a@example.org".into());
        user.display_name = Some("Ada 🦊".into());
        user.avatar_url = Some("https://example.org/a.png".into());
        user.role = UserRole::CoFounder;
        user.bio = Some("writes programs".into());
        user.social_links.insert("mastodon".into(), "https://example.org/@ada".into());
        user.is_verified = true;
        user.password_hash = Some("$argon2id$x".into());
        user.totp = Some(Totp { secret: "s".into(), enabled: true, last_step: 7, backup_codes: vec!["h".into()] });
        assert_eq!(store.insert_user(&user).await.unwrap(), Inserted::Applied);
        assert_eq!(store.user(user.id).await.unwrap(), Some(user.clone()));
        assert_eq!(store.insert_user(&person("+1")).await.unwrap(), Inserted::Applied);
        let found = store.users(&[user.id, UserId::fresh()]).await.unwrap();
        assert_eq!(found, [user.clone()]);
        let other = UserRecord { display_name: None, ..user.clone() };
        assert_eq!(store.insert_user(&other).await.unwrap(), Inserted::Exists);
        assert_eq!(store.user(user.id).await.unwrap(), Some(user));
    }

    #[tokio::test]
    async fn of_two_changes_of_one_version_one_is_stale() {
        let (store, _folder) = open();
        let user = person("+12025550123");
        store.insert_user(&user).await.unwrap();
        let change = |name: &str| UserRecord { display_name: Some(name.into()), version: 1, ..user.clone() };
        assert_eq!(store.replace_user(&change("a")).await.unwrap(), Replaced::Applied);
        assert_eq!(store.replace_user(&change("b")).await.unwrap(), Replaced::Stale);
        assert_eq!(store.user(user.id).await.unwrap().unwrap().display_name.as_deref(), Some("a"));
        assert_eq!(store.replace_user(&UserRecord { version: 1, ..person("+2") }).await.unwrap(), Replaced::Stale);
    }

    #[tokio::test]
    async fn last_seen_never_goes_back_and_is_not_under_the_version() {
        let (store, _folder) = open();
        let user = person("+12025550123");
        store.insert_user(&user).await.unwrap();
        store.mark_seen(user.id, Timestamp(5_000)).await.unwrap();
        store.mark_seen(user.id, Timestamp(4_000)).await.unwrap();
        store.replace_user(&UserRecord { version: 1, ..user.clone() }).await.unwrap();
        store.mark_seen(UserId::fresh(), Timestamp(4_000)).await.unwrap();
        assert_eq!(store.user(user.id).await.unwrap().unwrap().last_seen, Timestamp(5_000));
    }

    #[tokio::test]
    async fn a_late_removal_leaves_a_prefix_that_was_listed_again() {
        let (store, _folder) = open();
        let user = UserId::fresh();
        let (ad, bo) = (vec!["ad".to_owned()], vec!["bo".to_owned()]);
        store.put_prefixes(user, &ad, 0).await.unwrap();
        store.put_prefixes(user, &bo, 1).await.unwrap();
        store.put_prefixes(user, &ad, 2).await.unwrap();
        store.remove_prefixes(user, &ad, 1).await.unwrap();
        assert_eq!(store.users_by_prefix("ad", shard_of(user), None, 10).await.unwrap(), [user]);
        store.remove_prefixes(user, &bo, 2).await.unwrap();
        assert!(store.users_by_prefix("bo", shard_of(user), None, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn lists_go_on_after_the_last_one_seen() {
        let (store, _folder) = open();
        let mut users: Vec<_> = std::iter::repeat_with(UserId::fresh).filter(|user| shard_of(*user) == 3).take(5).collect();
        for user in &users {
            store.list_user(*user).await.unwrap();
            store.list_user(*user).await.unwrap();
        }
        users.sort();
        let first = store.listed_users(3, None, 2).await.unwrap();
        assert_eq!(first, users[..2]);
        assert_eq!(store.listed_users(3, first.last().copied(), 10).await.unwrap(), users[2..]);
        assert!(store.listed_users(4, None, 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn lookups_are_counted_up_to_the_limit_of_a_day() {
        let (store, _folder) = open();
        let user = UserId::fresh();
        assert!(store.spend_lookups(user, 1, 1_500, 2_000).await.unwrap());
        assert!(!store.spend_lookups(user, 1, 501, 2_000).await.unwrap());
        assert!(store.spend_lookups(user, 1, 500, 2_000).await.unwrap());
        assert!(!store.spend_lookups(user, 1, 1, 2_000).await.unwrap());
        assert!(store.spend_lookups(user, 2, 2_000, 2_000).await.unwrap());
        assert!(store.spend_lookups(UserId::fresh(), 2, 2_000, 2_000).await.unwrap());
    }
}
