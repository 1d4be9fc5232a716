//! [`SettingsStore`] on SQLite: statements and the mapping of rows, nothing else.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::store::SettingsStore;
use super::{ChangeNotifications, ChangePrivacy, NotificationSettings, Privacy, Relation};
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::store::{Sqlite, StoreResult};

#[async_trait]
impl SettingsStore for Sqlite {
    async fn privacy(&self, user: UserId) -> StoreResult<Privacy> {
        self.read(move |c| privacy(c, user)).await
    }

    async fn privacies(&self, users: &[UserId]) -> StoreResult<Vec<Privacy>> {
        let users = users.to_vec();
        self.read(move |c| users.iter().map(|user| privacy(c, *user)).collect()).await
    }

    async fn put_privacy(&self, user: UserId, change: &ChangePrivacy) -> StoreResult<()> {
        let change = *change;
        self.write(move |c| {
            c.prepare_cached(
                "INSERT INTO settings (user_id, show_online_status, show_last_seen, show_profile_photo, show_read_receipts)
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET
                 show_online_status = coalesce(excluded.show_online_status, show_online_status),
                 show_last_seen = coalesce(excluded.show_last_seen, show_last_seen),
                 show_profile_photo = coalesce(excluded.show_profile_photo, show_profile_photo),
                 show_read_receipts = coalesce(excluded.show_read_receipts, show_read_receipts)",
            )?
            .execute(params![
                key(user),
                change.show_online_status,
                change.show_last_seen,
                change.show_profile_photo,
                change.show_read_receipts
            ])?;
            Ok(())
        })
        .await
    }

    async fn notifications(&self, user: UserId) -> StoreResult<NotificationSettings> {
        self.read(move |c| {
            let all = NotificationSettings::default();
            let found = c
                .prepare_cached(
                    "SELECT push_enabled, push_preview, push_sound, push_vibration, push_messages, push_groups
                     FROM settings WHERE user_id = ?1",
                )?
                .query_row(params![key(user)], |row| {
                    Ok(NotificationSettings {
                        enabled: row.get::<_, Option<bool>>(0)?.unwrap_or(all.enabled),
                        show_preview: row.get::<_, Option<bool>>(1)?.unwrap_or(all.show_preview),
                        sound: row.get::<_, Option<bool>>(2)?.unwrap_or(all.sound),
                        vibration: row.get::<_, Option<bool>>(3)?.unwrap_or(all.vibration),
                        message_notifications: row.get::<_, Option<bool>>(4)?.unwrap_or(all.message_notifications),
                        group_notifications: row.get::<_, Option<bool>>(5)?.unwrap_or(all.group_notifications),
                    })
                })
                .optional()?;
            Ok(found.unwrap_or(all))
        })
        .await
    }

    async fn put_notifications(&self, user: UserId, change: &ChangeNotifications) -> StoreResult<()> {
        let change = *change;
        self.write(move |c| {
            c.prepare_cached(
                "INSERT INTO settings (user_id, push_enabled, push_preview, push_sound, push_vibration, push_messages, push_groups)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET
                 push_enabled = coalesce(excluded.push_enabled, push_enabled),
                 push_preview = coalesce(excluded.push_preview, push_preview),
                 push_sound = coalesce(excluded.push_sound, push_sound),
                 push_vibration = coalesce(excluded.push_vibration, push_vibration),
                 push_messages = coalesce(excluded.push_messages, push_messages),
                 push_groups = coalesce(excluded.push_groups, push_groups)",
            )?
            .execute(params![
                key(user),
                change.enabled,
                change.show_preview,
                change.sound,
                change.vibration,
                change.message_notifications,
                change.group_notifications
            ])?;
            Ok(())
        })
        .await
    }

    async fn blocks(&self, user: UserId, limit: usize) -> StoreResult<BTreeMap<UserId, Timestamp>> {
        self.read(move |c| {
            pairs(c, "SELECT blocked_id, blocked_at FROM blocks WHERE user_id = ?1 ORDER BY blocked_id LIMIT ?2", user, limit as i64)
        })
        .await
    }

    async fn relation(&self, user: UserId, other: UserId) -> StoreResult<Relation> {
        self.read(move |c| {
            c.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM blocks WHERE user_id = ?1 AND blocked_id = ?2),
                        EXISTS (SELECT 1 FROM blocked_by WHERE user_id = ?1 AND blocker_id = ?2)",
            )?
            .query_row(params![key(user), key(other)], |row| Ok(Relation { blocked: row.get(0)?, blocked_by: row.get(1)? }))
        })
        .await
    }

    async fn blocked_by(&self, user: UserId) -> StoreResult<BTreeMap<UserId, Timestamp>> {
        self.read(move |c| pairs(c, "SELECT blocker_id, blocked_at FROM blocked_by WHERE user_id = ?1 LIMIT ?2", user, -1)).await
    }

    async fn put_block(&self, user: UserId, other: UserId, at: Timestamp) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("INSERT INTO blocks (user_id, blocked_id, blocked_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                .execute(params![key(user), key(other), at.0])?;
            Ok(())
        })
        .await
    }

    async fn put_blocked_by(&self, user: UserId, other: UserId, at: Timestamp) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("INSERT INTO blocked_by (user_id, blocker_id, blocked_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
                .execute(params![key(user), key(other), at.0])?;
            Ok(())
        })
        .await
    }

    async fn remove_block(&self, user: UserId, other: UserId) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("DELETE FROM blocks WHERE user_id = ?1 AND blocked_id = ?2")?.execute(params![key(user), key(other)])?;
            Ok(())
        })
        .await
    }

    async fn remove_blocked_by(&self, user: UserId, other: UserId) -> StoreResult<()> {
        self.write(move |c| {
            c.prepare_cached("DELETE FROM blocked_by WHERE user_id = ?1 AND blocker_id = ?2")?.execute(params![key(user), key(other)])?;
            Ok(())
        })
        .await
    }
}

fn key(user: UserId) -> [u8; 16] {
    user.0.into_bytes()
}

fn privacy(c: &Connection, user: UserId) -> rusqlite::Result<Privacy> {
    let all = Privacy::default();
    let found = c
        .prepare_cached(
            "SELECT show_online_status, show_last_seen, show_profile_photo, show_read_receipts FROM settings WHERE user_id = ?1",
        )?
        .query_row(params![key(user)], |row| {
            Ok(Privacy {
                show_online_status: row.get::<_, Option<bool>>(0)?.unwrap_or(all.show_online_status),
                show_last_seen: row.get::<_, Option<bool>>(1)?.unwrap_or(all.show_last_seen),
                show_profile_photo: row.get::<_, Option<bool>>(2)?.unwrap_or(all.show_profile_photo),
                show_read_receipts: row.get::<_, Option<bool>>(3)?.unwrap_or(all.show_read_receipts),
            })
        })
        .optional()?;
    Ok(found.unwrap_or(all))
}

fn pairs(c: &Connection, statement: &str, user: UserId, limit: i64) -> rusqlite::Result<BTreeMap<UserId, Timestamp>> {
    c.prepare_cached(statement)?
        .query_map(params![key(user), limit], |row| Ok((UserId(Uuid::from_bytes(row.get::<_, [u8; 16]>(0)?)), Timestamp(row.get(1)?))))?
        .collect()
}
