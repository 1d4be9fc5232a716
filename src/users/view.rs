//! The one wire object of a person, and the one function that makes it for somebody: what its owner hides is null or false.

use std::collections::BTreeMap;

use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};

use super::{UserRecord, UserRole};
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::settings::Privacy;

/// A person as somebody may see him.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Object)]
#[oai(example)]
pub struct User {
    /// Who.
    pub id: UserId,
    /// E.164; for oneself and people who share a conversation.
    pub phone_number: Option<String>,
    /// For oneself alone.
    pub email: Option<String>,
    /// What others call him.
    pub display_name: Option<String>,
    /// http(s) address of his picture, if he shows it.
    pub avatar_url: Option<String>,
    /// What the service thinks of him.
    pub role: UserRole,
    /// What he says of himself.
    pub bio: Option<String>,
    /// Platform → address.
    pub social_links: BTreeMap<String, String>,
    /// The number has been proven by a code.
    pub is_verified: bool,
    /// Has a live socket, and shows it.
    pub is_online: bool,
    /// When his last socket closed, if he shows it.
    pub last_seen: Option<Timestamp>,
    /// When he registered.
    pub created_at: Timestamp,
    /// When the account last changed.
    pub updated_at: Timestamp,
}

impl Example for User {
    fn example() -> Self {
        Self {
            id: UserId(uuid::Uuid::from_u128(0x0197_5a3c_77d2_7f00_8e11_3f5b_2c9d_4e10)),
            phone_number: Some("+12025550123".into()),
            email: None,
            display_name: Some("Ada Lovelace".into()),
            avatar_url: Some("https://example.org/ada.jpg".into()),
            role: UserRole::Regular,
            bio: Some("I write programs for engines.".into()),
            social_links: BTreeMap::from([("mastodon".to_owned(), "https://example.org/@ada".to_owned())]),
            is_verified: true,
            is_online: true,
            last_seen: Some(Timestamp(1_769_860_800_123)),
            created_at: Timestamp(1_767_225_600_000),
            updated_at: Timestamp(1_769_860_800_123),
        }
    }
}

/// How the caller stands to the person whom he sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sight {
    /// It is himself.
    pub own: bool,
    /// They share a conversation.
    pub shares: bool,
    /// The person has blocked the caller.
    pub shut_out: bool,
    /// A block stands between them, whoever set it.
    pub blocked: bool,
}

impl Sight {
    /// Of oneself.
    pub const OWN: Self = Self { own: true, shares: true, shut_out: false, blocked: false };

    /// Whether the picture may be shown.
    pub fn photo(self, privacy: &Privacy) -> bool {
        self.own || (privacy.show_profile_photo && !self.shut_out)
    }

    /// Whether it may be shown that the person is online.
    pub fn online(self, privacy: &Privacy) -> bool {
        self.own || (privacy.show_online_status && !self.blocked)
    }

    /// Whether it may be shown when the person was last online.
    pub fn last_seen(self, privacy: &Privacy) -> bool {
        self.own || (privacy.show_last_seen && !self.blocked)
    }
}

impl User {
    /// The person as seen so.
    pub fn of(record: UserRecord, privacy: &Privacy, sight: Sight, is_online: bool) -> Self {
        Self {
            id: record.id,
            phone_number: (sight.own || sight.shares).then_some(record.phone),
            email: record.email.filter(|_| sight.own),
            display_name: record.display_name,
            avatar_url: record.avatar_url.filter(|_| sight.photo(privacy)),
            role: record.role,
            bio: record.bio,
            social_links: record.social_links,
            is_verified: record.is_verified,
            is_online: is_online && sight.online(privacy),
            last_seen: Some(record.last_seen).filter(|at| at.0 > 0 && sight.last_seen(privacy)),
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> UserRecord {
        UserRecord {
            email: Some("ada@example.org".into()),
            avatar_url: Some("https://example.org/a.png".into()),
            last_seen: Timestamp(5),
            ..UserRecord::new(UserId::fresh(), "+12025550123".into(), Timestamp(1))
        }
    }

    #[test]
    fn the_owner_sees_everything_whatever_he_hides() {
        let hidden = Privacy { show_online_status: false, show_last_seen: false, show_profile_photo: false, show_read_receipts: false };
        let user = User::of(record(), &hidden, Sight::OWN, true);
        assert!(user.phone_number.is_some() && user.email.is_some() && user.avatar_url.is_some());
        assert!(user.is_online && user.last_seen.is_some());
    }

    #[test]
    fn a_stranger_sees_neither_number_nor_address() {
        let user = User::of(record(), &Privacy::default(), Sight::default(), true);
        assert_eq!((user.phone_number, user.email), (None, None));
        assert!(user.is_online && user.last_seen.is_some() && user.avatar_url.is_some());
        let shares = Sight { shares: true, ..Sight::default() };
        let user = User::of(record(), &Privacy::default(), shares, true);
        assert_eq!((user.phone_number.as_deref(), user.email), (Some("+12025550123"), None));
    }

    #[test]
    fn each_switch_hides_its_field() {
        let all = Privacy::default();
        let see = |privacy: Privacy| {
            let user = User::of(record(), &privacy, Sight::default(), true);
            (user.is_online, user.last_seen.is_some(), user.avatar_url.is_some())
        };
        assert_eq!(see(all), (true, true, true));
        assert_eq!(see(Privacy { show_online_status: false, ..all }), (false, true, true));
        assert_eq!(see(Privacy { show_last_seen: false, ..all }), (true, false, true));
        assert_eq!(see(Privacy { show_profile_photo: false, ..all }), (true, true, false));
    }

    #[test]
    fn blocks_hide_presence_both_ways_and_the_picture_one_way() {
        let see = |sight| {
            let user = User::of(record(), &Privacy::default(), sight, true);
            (user.is_online, user.last_seen.is_some(), user.avatar_url.is_some())
        };
        assert_eq!(see(Sight { blocked: true, shut_out: true, ..Sight::default() }), (false, false, false));
        assert_eq!(see(Sight { blocked: true, ..Sight::default() }), (false, false, true));
    }

    #[test]
    fn never_seen_is_null() {
        let user = User::of(UserRecord { last_seen: Timestamp(0), ..record() }, &Privacy::default(), Sight::OWN, false);
        assert_eq!(user.last_seen, None);
    }
}
