//! The promises of `users::UserStore`: a number is claimed once, an account changes under its version.

use std::collections::BTreeSet;
use std::sync::Arc;

use urge::clock::Timestamp;
use urge::id::UserId;
use urge::users::{Claim, Inserted, Replaced, SHARDS, Totp, UserRecord, UserRole, UserStore, shard_of};

use super::{ORDERS, new_phone, racing};

promises!(
    urge::users::UserStatements;
    a_number_has_one_owner,
    an_account_comes_back_as_it_was_written,
    an_account_is_inserted_once,
    a_change_empties_what_is_absent,
    of_racing_changes_of_one_version_one_is_applied,
    last_seen_goes_forward_only,
    the_latest_version_of_a_prefix_stands,
    people_under_a_prefix_are_paged,
    the_directory_is_paged,
    lookups_are_counted_up_to_their_limit,
);

fn account() -> UserRecord {
    UserRecord::new(UserId::fresh(), new_phone(), Timestamp(1_000))
}

async fn a_number_has_one_owner(store: Arc<dyn UserStore>) {
    let phone = new_phone();
    assert_eq!(store.phone_owner(&phone).await.unwrap(), None);
    let claims = racing(64, |_| {
        let (store, phone, user) = (Arc::clone(&store), phone.clone(), UserId::fresh());
        async move { (user, store.claim_phone(&phone, user, Timestamp(1)).await.unwrap()) }
    })
    .await;
    let owners: Vec<_> = claims.iter().filter(|(_, claim)| *claim == Claim::Claimed).map(|(user, _)| *user).collect();
    assert_eq!(owners.len(), 1, "a number was given to several or none");
    let taken = Claim::Taken(owners[0]);
    assert!(claims.iter().all(|(user, claim)| *user == owners[0] || *claim == taken));
    assert_eq!(store.phone_owner(&phone).await.unwrap(), Some(owners[0]));
    assert_eq!(store.claim_phone(&phone, owners[0], Timestamp(2)).await.unwrap(), Claim::Claimed, "again is the same");
}

async fn an_account_comes_back_as_it_was_written(store: Arc<dyn UserStore>) {
    let mut user = account();
    user.email = Some("a@example.org".into());
    user.display_name = Some("Ada 🦊".into());
    user.avatar_url = Some("https://example.org/a.png".into());
    user.bio = Some("writes 'programs'".into());
    user.social_links.insert("mastodon".into(), "https://example.org/@ada".into());
    user.is_verified = true;
    user.password_hash = Some("$argon2id$x".into());
    user.totp = Some(Totp { secret: "s".into(), enabled: true, last_step: 7, backup_codes: vec!["h".into()] });
    (user.updated_at, user.version, user.login_epoch) = (Timestamp(2_000), 3, 2);
    store.insert_user(&user).await.unwrap();
    assert_eq!(store.user(user.id).await.unwrap(), Some(user.clone()));
    let mut written = vec![user];
    for role in [UserRole::Regular, UserRole::Verified, UserRole::CoFounder, UserRole::Founder] {
        let plain = UserRecord { role, ..account() };
        store.insert_user(&plain).await.unwrap();
        assert_eq!(store.user(plain.id).await.unwrap(), Some(plain.clone()));
        written.push(plain);
    }
    let mut ids: Vec<_> = written.iter().map(|user| user.id).collect();
    ids.push(UserId::fresh());
    let mut found = store.users(&ids).await.unwrap();
    found.sort_by_key(|user| user.id);
    written.sort_by_key(|user| user.id);
    assert_eq!(found, written);
    assert_eq!(store.user(UserId::fresh()).await.unwrap(), None);
}

async fn an_account_is_inserted_once(store: Arc<dyn UserStore>) {
    let id = UserId::fresh();
    let inserted = racing(32, |_| {
        let (store, user) = (Arc::clone(&store), UserRecord { id, ..account() });
        async move { (store.insert_user(&user).await.unwrap(), user) }
    })
    .await;
    let applied: Vec<_> = inserted.into_iter().filter(|(result, _)| *result == Inserted::Applied).map(|(_, user)| user).collect();
    assert_eq!(applied.len(), 1);
    assert_eq!(store.user(id).await.unwrap().as_ref(), Some(&applied[0]));
}

async fn a_change_empties_what_is_absent(store: Arc<dyn UserStore>) {
    let plain = account();
    let full = UserRecord {
        email: Some("a@example.org".into()),
        display_name: Some("Ada".into()),
        avatar_url: Some("https://example.org/a.png".into()),
        bio: Some("writes programs".into()),
        social_links: [("mastodon".to_owned(), "https://example.org/@ada".to_owned())].into(),
        is_verified: true,
        password_hash: Some("$argon2id$x".into()),
        totp: Some(Totp::default()),
        login_epoch: 1,
        ..plain.clone()
    };
    store.insert_user(&full).await.unwrap();
    for (version, record) in [(1, plain), (2, full)] {
        let record = UserRecord { version, ..record };
        assert_eq!(store.replace_user(&record).await.unwrap(), Replaced::Applied);
        assert_eq!(store.user(record.id).await.unwrap(), Some(record));
    }
}

async fn of_racing_changes_of_one_version_one_is_applied(store: Arc<dyn UserStore>) {
    let user = account();
    assert_eq!(store.replace_user(&UserRecord { version: 1, ..user.clone() }).await.unwrap(), Replaced::Stale, "nobody to change");
    assert_eq!(store.user(user.id).await.unwrap(), None);
    store.insert_user(&user).await.unwrap();
    for version in 1..=3 {
        let results = racing(32, |number| {
            let store = Arc::clone(&store);
            let change = UserRecord { display_name: Some(format!("name {number}")), version, ..user.clone() };
            async move { (store.replace_user(&change).await.unwrap(), change) }
        })
        .await;
        let applied: Vec<_> = results.into_iter().filter(|(result, _)| *result == Replaced::Applied).map(|(_, user)| user).collect();
        assert_eq!(applied.len(), 1);
        assert_eq!(store.user(user.id).await.unwrap().as_ref(), Some(&applied[0]));
    }
    assert_eq!(store.replace_user(&UserRecord { version: 5, ..user }).await.unwrap(), Replaced::Stale, "a version was left out");
}

async fn last_seen_goes_forward_only(store: Arc<dyn UserStore>) {
    for order in ORDERS {
        let user = account();
        store.insert_user(&user).await.unwrap();
        let mut last = 0;
        for at in order {
            let seen = [4_000, 5_000, 9_000][at];
            last = last.max(seen);
            store.mark_seen(user.id, Timestamp(seen)).await.unwrap();
            assert_eq!(store.user(user.id).await.unwrap().unwrap().last_seen, Timestamp(last));
        }
        // It is under no version, and no change takes it back.
        assert_eq!(store.replace_user(&UserRecord { version: 1, ..user.clone() }).await.unwrap(), Replaced::Applied);
        assert_eq!(store.user(user.id).await.unwrap().unwrap().last_seen, Timestamp(9_000));
    }
    let nobody = account();
    store.mark_seen(nobody.id, Timestamp(1)).await.unwrap();
    assert_eq!(store.user(nobody.id).await.unwrap(), None);
    assert_eq!(store.replace_user(&UserRecord { version: 1, ..nobody.clone() }).await.unwrap(), Replaced::Stale);
    assert_eq!(store.insert_user(&nobody).await.unwrap(), Inserted::Applied, "having been seen makes nobody an account");
}

/// A prefix that no other test uses.
fn prefix() -> String {
    UserId::fresh().to_string()
}

async fn the_latest_version_of_a_prefix_stands(store: Arc<dyn UserStore>) {
    let (user, old, new) = (UserId::fresh(), vec![prefix()], vec![prefix()]);
    let listed = async |prefix: &str| store.users_by_prefix(prefix, shard_of(user), None, 10).await.unwrap() == [user];
    store.put_prefixes(user, &old, 0).await.unwrap();
    store.put_prefixes(user, &new, 1).await.unwrap();
    store.put_prefixes(user, &old, 2).await.unwrap();
    store.put_prefixes(user, &old, 0).await.unwrap();
    store.remove_prefixes(user, &old, 1).await.unwrap();
    assert!(listed(&old[0]).await, "a late removal took away what was listed again");
    for _ in 0..2 {
        store.remove_prefixes(user, &new, 2).await.unwrap();
        assert!(!listed(&new[0]).await);
    }
    store.remove_prefixes(user, &[prefix()], 9).await.unwrap();
}

async fn people_under_a_prefix_are_paged(store: Arc<dyn UserStore>) {
    let (wanted, another) = (prefix(), prefix());
    let users: BTreeSet<_> = (0..200).map(|_| UserId::fresh()).collect();
    for user in &users {
        store.put_prefixes(*user, &[wanted.clone(), another.clone()], 0).await.unwrap();
    }
    let mut found = Vec::new();
    for shard in 0..SHARDS {
        let mut paged: Vec<UserId> = Vec::new();
        loop {
            let page = store.users_by_prefix(&wanted, shard, paged.last().copied(), 7).await.unwrap();
            assert!(page.len() <= 7);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert!(paged.is_sorted());
        assert!(paged.iter().all(|user| shard_of(*user) == shard));
        found.extend(paged);
    }
    assert_eq!(found.len(), users.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), users);
}

async fn the_directory_is_paged(store: Arc<dyn UserStore>) {
    let mut users: Vec<_> = std::iter::repeat_with(UserId::fresh).filter(|user| shard_of(*user) == 3).take(20).collect();
    for user in users.iter().chain(&users) {
        store.list_user(*user).await.unwrap();
    }
    users.sort();
    let mut paged: Vec<UserId> = Vec::new();
    loop {
        let page = store.listed_users(3, paged.last().copied(), 6).await.unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert!(paged.is_sorted());
    paged.retain(|user| users.contains(user));
    assert_eq!(paged, users, "each once");
}

async fn lookups_are_counted_up_to_their_limit(store: Arc<dyn UserStore>) {
    let user = UserId::fresh();
    let spent = racing(64, |_| {
        let store = Arc::clone(&store);
        async move { store.spend_lookups(user, 1, 100, 2_000).await.unwrap() }
    })
    .await;
    assert_eq!(spent.into_iter().filter(|granted| *granted).count(), 20);
    assert!(!store.spend_lookups(user, 1, 1, 2_000).await.unwrap());
    assert!(!store.spend_lookups(user, 2, 2_001, 2_000).await.unwrap(), "more than a day has");
    assert!(store.spend_lookups(user, 2, 2_000, 2_000).await.unwrap());
    assert!(store.spend_lookups(UserId::fresh(), 2, 2_000, 2_000).await.unwrap());
}
