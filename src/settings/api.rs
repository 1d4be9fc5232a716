//! `/settings` and `/notifications/settings`: privacy, blocks and notification switches.
//! The app asks for its notification switches in two forms; both are made here and nowhere else.

use std::sync::Arc;

use poem_openapi::param::{Path, Query};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi, Tags};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::{BlockCheck, Blocks, ChangeNotifications, ChangePrivacy, NotificationSettings, Person, Privacy, Settings};
use crate::auth::Caller;
use crate::id::UserId;
use crate::rest::{ApiResult, Flag, Json, Success, read_object};

#[derive(Tags)]
enum Tag {
    /// Privacy, blocks and notification switches.
    Settings,
}

/// The calls about settings.
pub struct SettingsApi {
    /// Privacy and notification switches.
    pub settings: Arc<Settings>,
    /// Blocks.
    pub blocks: Arc<Blocks>,
}

/// Whom one has blocked.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct BlockedUsers {
    /// The latest first.
    pub blocked_users: Vec<Person>,
}

impl Example for BlockedUsers {
    fn example() -> Self {
        Self { blocked_users: vec![Person::example()] }
    }
}

/// Notification switches, at the top level or under `settings`, in snake_case or camelCase. Of two that differ, a client
/// that sends back what it got has changed one: the one that is not as it was counts.
#[derive(Debug, Default, Deserialize, Object)]
#[serde(default)]
#[oai(example)]
pub struct PutNotifications {
    /// Any pushes at all.
    pub enabled: Option<bool>,
    /// With the message's words in them.
    pub show_preview: Option<bool>,
    /// With a sound.
    pub sound: Option<bool>,
    /// With vibration.
    pub vibration: Option<bool>,
    /// For messages of DIRECT conversations.
    pub message_notifications: Option<bool>,
    /// For messages of groups.
    pub group_notifications: Option<bool>,
    /// The same switches again.
    #[serde(deserialize_with = "either_spelling")]
    pub settings: Option<ChangeNotifications>,
}

impl Example for PutNotifications {
    fn example() -> Self {
        Self { show_preview: Some(false), ..Self::default() }
    }
}

/// `settings` as the top level is read: both spellings, null as absent.
fn either_spelling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ChangeNotifications>, D::Error> {
    let Some(value) = Option::<Value>::deserialize(deserializer)? else { return Ok(None) };
    read_object(value, false).map(Some).map_err(|error| D::Error::custom(error.message))
}

impl PutNotifications {
    fn change(self, stored: NotificationSettings) -> ChangeNotifications {
        let inner = self.settings.unwrap_or_default();
        ChangeNotifications {
            enabled: changed(stored.enabled, self.enabled, inner.enabled),
            show_preview: changed(stored.show_preview, self.show_preview, inner.show_preview),
            sound: changed(stored.sound, self.sound, inner.sound),
            vibration: changed(stored.vibration, self.vibration, inner.vibration),
            message_notifications: changed(stored.message_notifications, self.message_notifications, inner.message_notifications),
            group_notifications: changed(stored.group_notifications, self.group_notifications, inner.group_notifications),
        }
    }
}

/// What one switch shall be, said at two places.
fn changed(stored: bool, top: Option<bool>, inner: Option<bool>) -> Option<bool> {
    match (top, inner) {
        (Some(top), Some(inner)) if top != inner => Some(!stored),
        (top, inner) => inner.or(top),
    }
}

/// Notification switches of a person.
#[derive(Debug, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct UserNotifications {
    /// Whose.
    pub user_id: UserId,
    /// The switches.
    pub settings: NotificationSettings,
}

impl Example for UserNotifications {
    fn example() -> Self {
        Self { user_id: Person::example().id, settings: NotificationSettings::default() }
    }
}

/// Notification switches as the app reads them, and once more as the documented call spells them.
#[derive(Debug, Serialize, Deserialize, Object)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase", example)]
pub struct AppNotifications {
    /// Any pushes at all.
    pub enabled: bool,
    /// With the message's words in them.
    pub show_preview: bool,
    /// With a sound.
    pub sound: bool,
    /// With vibration.
    pub vibration: bool,
    /// For messages of DIRECT conversations.
    pub message_notifications: bool,
    /// For messages of groups.
    pub group_notifications: bool,
    /// The same, in snake_case.
    pub settings: NotificationSettings,
}

impl From<NotificationSettings> for AppNotifications {
    fn from(settings: NotificationSettings) -> Self {
        Self {
            enabled: settings.enabled,
            show_preview: settings.show_preview,
            sound: settings.sound,
            vibration: settings.vibration,
            message_notifications: settings.message_notifications,
            group_notifications: settings.group_notifications,
            settings,
        }
    }
}

impl Example for AppNotifications {
    fn example() -> Self {
        NotificationSettings::default().into()
    }
}

#[OpenApi(tag = "Tag::Settings")]
impl SettingsApi {
    /// See one's privacy settings
    ///
    /// Everything is shown until one says otherwise.
    #[oai(path = "/settings/privacy", method = "get", operation_id = "get_privacy")]
    async fn get_privacy(&self, caller: Caller) -> ApiResult<Privacy> {
        Ok(Json(self.settings.privacy(caller.user_id).await?))
    }

    /// Change one's privacy settings
    ///
    /// In the body or as query parameters (the body wins); what is absent stays.
    #[oai(path = "/settings/privacy", method = "put", operation_id = "update_privacy")]
    async fn update_privacy(
        &self,
        caller: Caller,
        /// Others see whether one is online.
        show_online_status: Query<Option<Flag>>,
        /// Others see when one was last online.
        show_last_seen: Query<Option<Flag>>,
        /// Others see one's picture.
        show_profile_photo: Query<Option<Flag>>,
        /// Others are told what one has read.
        show_read_receipts: Query<Option<Flag>>,
        body: Json<ChangePrivacy>,
    ) -> ApiResult<Privacy> {
        let change = ChangePrivacy {
            show_online_status: body.0.show_online_status.or(show_online_status.0.map(|flag| flag.0)),
            show_last_seen: body.0.show_last_seen.or(show_last_seen.0.map(|flag| flag.0)),
            show_profile_photo: body.0.show_profile_photo.or(show_profile_photo.0.map(|flag| flag.0)),
            show_read_receipts: body.0.show_read_receipts.or(show_read_receipts.0.map(|flag| flag.0)),
        };
        Ok(Json(self.settings.change_privacy(caller.user_id, change).await?))
    }

    /// Block a person
    ///
    /// From then on neither can write to the other in their DIRECT conversation, nor see whether the other is online.
    /// Blocking again is the same.
    #[oai(path = "/settings/privacy/block/:user_id", method = "post", operation_id = "block_user")]
    async fn block_user(
        &self,
        caller: Caller,
        /// Whom.
        user_id: Path<UserId>,
    ) -> ApiResult<Success> {
        self.blocks.block(caller.user_id, user_id.0).await?;
        Success::answer("blocked")
    }

    /// Unblock a person
    ///
    /// Somebody who is not blocked is 404.
    #[oai(path = "/settings/privacy/unblock/:user_id", method = "delete", operation_id = "unblock_user")]
    async fn unblock_user(
        &self,
        caller: Caller,
        /// Whom.
        user_id: Path<UserId>,
    ) -> ApiResult<Success> {
        self.blocks.unblock(caller.user_id, user_id.0).await?;
        Success::answer("unblocked")
    }

    /// List blocked people
    ///
    /// Whom the caller has blocked, the latest first; at most 1,000 can be.
    #[oai(path = "/settings/privacy/blocked", method = "get", operation_id = "list_blocked_users")]
    async fn list_blocked_users(&self, caller: Caller) -> ApiResult<BlockedUsers> {
        Ok(Json(BlockedUsers { blocked_users: self.blocks.blocked(caller.user_id).await? }))
    }

    /// Check for a block
    ///
    /// Which of the two has blocked the other.
    #[oai(path = "/settings/privacy/blocked/check/:user_id", method = "get", operation_id = "check_block")]
    async fn check_block(
        &self,
        caller: Caller,
        /// The other.
        user_id: Path<UserId>,
    ) -> ApiResult<BlockCheck> {
        Ok(Json(self.blocks.check(caller.user_id, user_id.0).await?))
    }

    /// See one's notification settings
    ///
    /// Everything is on until one says otherwise.
    #[oai(path = "/notifications/settings", method = "get", operation_id = "get_notification_settings")]
    async fn get_notification_settings(&self, caller: Caller) -> ApiResult<UserNotifications> {
        let settings = self.settings.notifications(caller.user_id).await?;
        Ok(Json(UserNotifications { user_id: caller.user_id, settings }))
    }

    /// Change one's notification settings
    ///
    /// What is absent stays.
    #[oai(path = "/notifications/settings", method = "put", operation_id = "update_notification_settings")]
    async fn update_notification_settings(&self, caller: Caller, body: Json<PutNotifications>) -> ApiResult<UserNotifications> {
        let settings = self.put_notifications(&caller, body.0).await?;
        Ok(Json(UserNotifications { user_id: caller.user_id, settings }))
    }

    /// See one's notification settings (app)
    ///
    /// The same switches in the app's spelling, and in the documented one under `settings`.
    #[oai(path = "/settings/notifications", method = "get", operation_id = "get_app_notification_settings")]
    async fn get_app_notification_settings(&self, caller: Caller) -> ApiResult<AppNotifications> {
        Ok(Json(self.settings.notifications(caller.user_id).await?.into()))
    }

    /// Change one's notification settings (app)
    ///
    /// In either spelling, at the top level or under `settings`; what is absent stays.
    #[oai(path = "/settings/notifications", method = "put", operation_id = "update_app_notification_settings")]
    async fn update_app_notification_settings(&self, caller: Caller, body: Json<PutNotifications>) -> ApiResult<AppNotifications> {
        Ok(Json(self.put_notifications(&caller, body.0).await?.into()))
    }
}

impl SettingsApi {
    async fn put_notifications(&self, caller: &Caller, put: PutNotifications) -> crate::error::Result<NotificationSettings> {
        let stored = self.settings.notifications(caller.user_id).await?;
        self.settings.change_notifications(caller.user_id, put.change(stored)).await
    }
}
