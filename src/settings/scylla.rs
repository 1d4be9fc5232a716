//! [`SettingsStore`] on ScyllaDB or Cassandra: statements and the mapping of rows, nothing else. Cells of the settings are
//! written plainly, each by itself, and after what a node with a fast clock has written; blocks come and go under conditions alone, so that the first time stays.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::future::{try_join, try_join_all};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::MaybeUnset;
use uuid::Uuid;

use super::store::SettingsStore;
use super::{ChangeNotifications, ChangePrivacy, NotificationSettings, Privacy, Relation};
use crate::clock::{Clock as _, RealClock, Timestamp};
use crate::id::UserId;
use crate::store::{Prepared, StoreResult, limit, statements};

statements! {
    /// What [`SettingsStore`] is made of on the cluster.
    pub struct SettingsStatements {
        privacy: Read "SELECT show_online_status, show_last_seen, show_profile_photo, show_read_receipts FROM settings WHERE user_id = ?";
        put_privacy: Write "INSERT INTO settings (user_id, show_online_status, show_last_seen, show_profile_photo, show_read_receipts)
            VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?";
        notifications: Read "SELECT push_enabled, push_preview, push_sound, push_vibration, push_messages, push_groups
            FROM settings WHERE user_id = ?";
        put_notifications: Write "INSERT INTO settings (user_id, push_enabled, push_preview, push_sound, push_vibration, push_messages,
            push_groups) VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?";
        written: Read "SELECT WRITETIME(show_online_status), WRITETIME(show_last_seen), WRITETIME(show_profile_photo),
            WRITETIME(show_read_receipts), WRITETIME(push_enabled), WRITETIME(push_preview), WRITETIME(push_sound),
            WRITETIME(push_vibration), WRITETIME(push_messages), WRITETIME(push_groups) FROM settings WHERE user_id = ?";
        blocks: Read "SELECT blocked_id, blocked_at FROM blocks WHERE user_id = ? LIMIT ?";
        block: Read "SELECT blocked_id FROM blocks WHERE user_id = ? AND blocked_id = ?";
        put_block: Conditional "INSERT INTO blocks (user_id, blocked_id, blocked_at) VALUES (?, ?, ?) IF NOT EXISTS";
        remove_block: Conditional "DELETE FROM blocks WHERE user_id = ? AND blocked_id = ? IF EXISTS";
        blocked_by: Read "SELECT blocker_id, blocked_at FROM blocked_by WHERE user_id = ?";
        blocker: Read "SELECT blocker_id FROM blocked_by WHERE user_id = ? AND blocker_id = ?";
        put_blocked_by: Conditional "INSERT INTO blocked_by (user_id, blocker_id, blocked_at) VALUES (?, ?, ?) IF NOT EXISTS";
        remove_blocked_by: Conditional "DELETE FROM blocked_by WHERE user_id = ? AND blocker_id = ? IF EXISTS";
    }
}

impl Prepared<SettingsStatements> {
    /// Microseconds: now, or after all that was written for this user, should this machine's clock be behind another's.
    async fn stamp(&self, user: UserId) -> StoreResult<i64> {
        type Us = Option<i64>;
        type Written = (Us, Us, Us, Us, Us, Us, Us, Us, Us, Us);
        let now = RealClock.now().0.saturating_mul(1_000);
        let Some(cells) = self.row::<Written>(&self.statements.written, (user.0,)).await? else { return Ok(now) };
        let privacy = [cells.0, cells.1, cells.2, cells.3];
        let written = privacy.into_iter().chain([cells.4, cells.5, cells.6, cells.7, cells.8, cells.9]).flatten().max();
        Ok(written.map_or(now, |written| now.max(written + 1)))
    }
}

#[async_trait]
impl SettingsStore for Prepared<SettingsStatements> {
    async fn privacy(&self, user: UserId) -> StoreResult<Privacy> {
        type Cells = (Option<bool>, Option<bool>, Option<bool>, Option<bool>);
        let all = Privacy::default();
        let found: Option<Cells> = self.row(&self.statements.privacy, (user.0,)).await?;
        Ok(found.map_or(all, |(online, seen, photo, receipts)| Privacy {
            show_online_status: online.unwrap_or(all.show_online_status),
            show_last_seen: seen.unwrap_or(all.show_last_seen),
            show_profile_photo: photo.unwrap_or(all.show_profile_photo),
            show_read_receipts: receipts.unwrap_or(all.show_read_receipts),
        }))
    }

    async fn privacies(&self, users: &[UserId]) -> StoreResult<Vec<Privacy>> {
        try_join_all(users.iter().map(|user| self.privacy(*user))).await
    }

    async fn put_privacy(&self, user: UserId, change: &ChangePrivacy) -> StoreResult<()> {
        let values = (
            user.0,
            given(change.show_online_status),
            given(change.show_last_seen),
            given(change.show_profile_photo),
            given(change.show_read_receipts),
            self.stamp(user).await?,
        );
        self.write(&self.statements.put_privacy, values).await
    }

    async fn notifications(&self, user: UserId) -> StoreResult<NotificationSettings> {
        type Cells = (Option<bool>, Option<bool>, Option<bool>, Option<bool>, Option<bool>, Option<bool>);
        let all = NotificationSettings::default();
        let found: Option<Cells> = self.row(&self.statements.notifications, (user.0,)).await?;
        Ok(found.map_or(all, |(enabled, preview, sound, vibration, messages, groups)| NotificationSettings {
            enabled: enabled.unwrap_or(all.enabled),
            show_preview: preview.unwrap_or(all.show_preview),
            sound: sound.unwrap_or(all.sound),
            vibration: vibration.unwrap_or(all.vibration),
            message_notifications: messages.unwrap_or(all.message_notifications),
            group_notifications: groups.unwrap_or(all.group_notifications),
        }))
    }

    async fn put_notifications(&self, user: UserId, change: &ChangeNotifications) -> StoreResult<()> {
        let values = (
            user.0,
            given(change.enabled),
            given(change.show_preview),
            given(change.sound),
            given(change.vibration),
            given(change.message_notifications),
            given(change.group_notifications),
            self.stamp(user).await?,
        );
        self.write(&self.statements.put_notifications, values).await
    }

    async fn blocks(&self, user: UserId, most: usize) -> StoreResult<BTreeMap<UserId, Timestamp>> {
        Ok(people(self.rows(&self.statements.blocks, (user.0, limit(most))).await?))
    }

    async fn relation(&self, user: UserId, other: UserId) -> StoreResult<Relation> {
        let is_there = async |statement: &PreparedStatement| Ok(self.row::<(Uuid,)>(statement, (user.0, other.0)).await?.is_some());
        let (blocked, blocked_by) = try_join(is_there(&self.statements.block), is_there(&self.statements.blocker)).await?;
        Ok(Relation { blocked, blocked_by })
    }

    async fn blocked_by(&self, user: UserId) -> StoreResult<BTreeMap<UserId, Timestamp>> {
        Ok(people(self.rows(&self.statements.blocked_by, (user.0,)).await?))
    }

    async fn put_block(&self, user: UserId, other: UserId, at: Timestamp) -> StoreResult<()> {
        self.apply(&self.statements.put_block, (user.0, other.0, at.0)).await.map(drop)
    }

    async fn put_blocked_by(&self, user: UserId, other: UserId, at: Timestamp) -> StoreResult<()> {
        self.apply(&self.statements.put_blocked_by, (user.0, other.0, at.0)).await.map(drop)
    }

    async fn remove_block(&self, user: UserId, other: UserId) -> StoreResult<()> {
        self.apply(&self.statements.remove_block, (user.0, other.0)).await.map(drop)
    }

    async fn remove_blocked_by(&self, user: UserId, other: UserId) -> StoreResult<()> {
        self.apply(&self.statements.remove_blocked_by, (user.0, other.0)).await.map(drop)
    }
}

/// A cell that is written only if it is given.
fn given(cell: Option<bool>) -> MaybeUnset<bool> {
    MaybeUnset::from_option(cell)
}

/// A block holds, whenever it was set.
fn people(rows: Vec<(Uuid, Option<i64>)>) -> BTreeMap<UserId, Timestamp> {
    rows.into_iter().map(|(user, at)| (UserId(user), Timestamp(at.unwrap_or_default()))).collect()
}
