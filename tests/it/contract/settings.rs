//! The promises of `settings::SettingsStore`: what is never said is the default, what is not named stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use urge::clock::Timestamp;
use urge::id::UserId;
use urge::settings::{ChangeNotifications, ChangePrivacy, NotificationSettings, Privacy, Relation, SettingsStore};

use super::racing;

promises!(
    urge::settings::SettingsStatements;
    what_one_never_said_is_the_default,
    what_is_not_named_stays,
    racing_changes_of_different_cells_all_stand,
    a_block_keeps_its_first_time,
    blocks_and_their_mirrors_are_apart,
);

async fn what_one_never_said_is_the_default(store: Arc<dyn SettingsStore>) {
    let user = UserId::fresh();
    assert_eq!(store.privacy(user).await.unwrap(), Privacy::default());
    assert_eq!(store.notifications(user).await.unwrap(), NotificationSettings::default());
    store.put_privacy(user, &ChangePrivacy::default()).await.unwrap();
    assert_eq!(store.privacy(user).await.unwrap(), Privacy::default());
    assert_eq!(store.notifications(user).await.unwrap(), NotificationSettings::default());
}

async fn what_is_not_named_stays(store: Arc<dyn SettingsStore>) {
    let (user, other) = (UserId::fresh(), UserId::fresh());
    let change = ChangePrivacy { show_last_seen: Some(false), ..ChangePrivacy::default() };
    store.put_privacy(user, &change).await.unwrap();
    let change = ChangePrivacy { show_read_receipts: Some(false), ..ChangePrivacy::default() };
    store.put_privacy(user, &change).await.unwrap();
    let change = ChangeNotifications { sound: Some(false), ..ChangeNotifications::default() };
    store.put_notifications(user, &change).await.unwrap();
    let change = ChangeNotifications { enabled: Some(false), ..ChangeNotifications::default() };
    store.put_notifications(user, &change).await.unwrap();
    let privacy = Privacy { show_last_seen: false, show_read_receipts: false, ..Privacy::default() };
    assert_eq!(store.privacy(user).await.unwrap(), privacy);
    let notifications = NotificationSettings { sound: false, enabled: false, ..NotificationSettings::default() };
    assert_eq!(store.notifications(user).await.unwrap(), notifications);
    // In the order in which they are asked for, unknown ones and repetitions included.
    let several = store.privacies(&[other, user, other, user]).await.unwrap();
    assert_eq!(several, [Privacy::default(), privacy, Privacy::default(), privacy]);
    assert!(store.privacies(&[]).await.unwrap().is_empty());
    let change = ChangePrivacy { show_last_seen: Some(true), ..ChangePrivacy::default() };
    store.put_privacy(user, &change).await.unwrap();
    assert_eq!(store.privacy(user).await.unwrap(), Privacy { show_last_seen: true, ..privacy });
}

async fn racing_changes_of_different_cells_all_stand(store: Arc<dyn SettingsStore>) {
    let user = UserId::fresh();
    racing(32, |number| {
        let store = Arc::clone(&store);
        async move {
            let off = |cell| (number % 4 == cell).then_some(false);
            let change = ChangePrivacy {
                show_online_status: off(0),
                show_last_seen: off(1),
                show_profile_photo: off(2),
                show_read_receipts: off(3),
            };
            store.put_privacy(user, &change).await.unwrap();
        }
    })
    .await;
    let none = Privacy { show_online_status: false, show_last_seen: false, show_profile_photo: false, show_read_receipts: false };
    assert_eq!(store.privacy(user).await.unwrap(), none);
}

async fn a_block_keeps_its_first_time(store: Arc<dyn SettingsStore>) {
    let (user, other) = (UserId::fresh(), UserId::fresh());
    for at in [5, 9] {
        store.put_block(user, other, Timestamp(at)).await.unwrap();
        store.put_blocked_by(other, user, Timestamp(at)).await.unwrap();
    }
    assert_eq!(store.blocks(user, 10).await.unwrap(), BTreeMap::from([(other, Timestamp(5))]));
    assert_eq!(store.blocked_by(other).await.unwrap(), BTreeMap::from([(user, Timestamp(5))]));
    for _ in 0..2 {
        store.remove_block(user, other).await.unwrap();
        store.remove_blocked_by(other, user).await.unwrap();
    }
    assert!(store.blocks(user, 10).await.unwrap().is_empty());
    assert!(store.blocked_by(other).await.unwrap().is_empty());
    store.put_block(user, other, Timestamp(12)).await.unwrap();
    assert_eq!(store.blocks(user, 10).await.unwrap(), BTreeMap::from([(other, Timestamp(12))]));
}

async fn blocks_and_their_mirrors_are_apart(store: Arc<dyn SettingsStore>) {
    let (user, others) = (UserId::fresh(), [(); 5].map(|()| UserId::fresh()));
    for other in others {
        store.put_block(user, other, Timestamp(1)).await.unwrap();
    }
    assert!(store.blocked_by(user).await.unwrap().is_empty());
    assert!(store.blocks(others[0], 10).await.unwrap().is_empty());
    assert!(store.blocked_by(others[0]).await.unwrap().is_empty(), "the mirror is the service's to write");
    assert_eq!(store.blocks(user, 10).await.unwrap().len(), 5);
    assert_eq!(store.blocks(user, 3).await.unwrap().len(), 3);
    store.remove_block(user, others[2]).await.unwrap();
    store.put_blocked_by(user, others[1], Timestamp(2)).await.unwrap();
    store.put_blocked_by(user, others[2], Timestamp(2)).await.unwrap();
    for (other, blocked, blocked_by) in [(others[0], true, false), (others[1], true, true), (others[2], false, true)] {
        assert_eq!(store.relation(user, other).await.unwrap(), Relation { blocked, blocked_by });
        assert_eq!(store.relation(other, user).await.unwrap(), Relation::default(), "the other's partition says nothing of it");
    }
    assert_eq!(store.relation(user, user).await.unwrap(), Relation::default());
    let left = store.blocks(user, 10).await.unwrap();
    assert_eq!(left.len(), 4);
    assert!(!left.contains_key(&others[2]));
}
