//! What a person lets others see, whom he has blocked, and which notifications he wants.
//! Views and the gateway ask here before they show presence, pictures or receipts; who people are is `users`' business.

mod api;
mod people;
mod scylla;
mod service;
mod sqlite;
mod store;

use std::collections::BTreeMap;

pub use api::SettingsApi;
pub use people::{BlockCheck, Blocks, People, Person};
use poem_openapi::Object;
pub use scylla::SettingsStatements;
use serde::{Deserialize, Serialize};
pub use service::Settings;
pub use store::SettingsStore;

use crate::clock::Timestamp;
use crate::id::UserId;

/// Most people whom one person can have blocked.
pub const MAX_BLOCKS: usize = 1_000;

/// What others may see. Everything is shown until its owner says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct Privacy {
    /// Others see whether one is online.
    pub show_online_status: bool,
    /// Others see when one was last online.
    pub show_last_seen: bool,
    /// Others see one's picture.
    pub show_profile_photo: bool,
    /// Others are told what one has read.
    pub show_read_receipts: bool,
}

impl Default for Privacy {
    fn default() -> Self {
        Self { show_online_status: true, show_last_seen: true, show_profile_photo: true, show_read_receipts: true }
    }
}

impl poem_openapi::types::Example for Privacy {
    fn example() -> Self {
        Self { show_last_seen: false, ..Self::default() }
    }
}

/// A wish to change one's privacy: what is absent stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, Object)]
#[serde(default)]
#[oai(example)]
pub struct ChangePrivacy {
    /// Others see whether one is online.
    pub show_online_status: Option<bool>,
    /// Others see when one was last online.
    pub show_last_seen: Option<bool>,
    /// Others see one's picture.
    pub show_profile_photo: Option<bool>,
    /// Others are told what one has read.
    pub show_read_receipts: Option<bool>,
}

impl poem_openapi::types::Example for ChangePrivacy {
    fn example() -> Self {
        Self { show_last_seen: Some(false), ..Self::default() }
    }
}

/// Which pushes one gets, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Object)]
pub struct NotificationSettings {
    /// Any at all.
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
}

impl Default for NotificationSettings {
    fn default() -> Self {
        Self { enabled: true, show_preview: true, sound: true, vibration: true, message_notifications: true, group_notifications: true }
    }
}

/// A wish to change one's notifications: what is absent stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, Object)]
#[serde(default)]
pub struct ChangeNotifications {
    /// Any at all.
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
}

/// Who has blocked whom, as far as one person is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Relations {
    /// Whom this person has blocked, and when.
    pub blocked: BTreeMap<UserId, Timestamp>,
    /// Who has blocked this person, and when.
    pub blocked_by: BTreeMap<UserId, Timestamp>,
}

/// Who of two people has blocked the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Relation {
    /// The one has blocked the other.
    pub blocked: bool,
    /// The other has blocked the one.
    pub blocked_by: bool,
}

impl Relation {
    /// Whether a block stands between them, whoever set it.
    pub fn is_blocked_either(self) -> bool {
        self.blocked || self.blocked_by
    }
}

impl Relations {
    /// Whether a block stands between this person and `other`, whoever set it.
    pub fn is_blocked_either(&self, other: UserId) -> bool {
        self.blocked.contains_key(&other) || self.blocked_by.contains_key(&other)
    }
}
