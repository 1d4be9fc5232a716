//! The service on the embedded store: who may be found, seen and changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::bus::Local;
use crate::clock::{Clock as _, ShiftedClock};
use crate::config::Directory;
use crate::error::ErrorCode;
use crate::id::ConversationId;
use crate::log::{Cleared, ConversationKind, ConversationRecord, Head, LogStore, Member, MemberState, Profile, Role};
use crate::page::Page;
use crate::phone::Phone;
use crate::presence::OnlineSet;
use crate::settings::{ChangePrivacy, Settings};
use crate::store::{Sqlite, SqliteOptions};

struct World {
    users: Users,
    settings: Arc<Settings>,
    log: Arc<dyn LogStore>,
    store: Arc<dyn UserStore>,
    online: Arc<OnlineSet>,
    clock: Arc<ShiftedClock>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(directory: Directory) -> Self {
        Self::with(UsersPolicy { directory, require_verified_phone: false, default_country: None, rate_limit: true })
    }

    fn with(policy: UsersPolicy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions { path: folder.path().join("users.db"), readers: 2, migrate: true };
        let sqlite = Arc::new(Sqlite::open(&options).unwrap());
        let clock = Arc::new(ShiftedClock::default());
        let settings = Arc::new(Settings::new(sqlite.clone(), Arc::new(Local::default()), clock.clone()));
        let online = Arc::new(OnlineSet::default());
        let users = Users::new(sqlite.clone(), sqlite.clone(), settings.clone(), online.clone(), clock.clone(), policy);
        Self { users, settings, log: sqlite.clone(), store: sqlite, online, clock, _folder: folder }
    }

    fn newcomer(n: u32, name: &str) -> NewUser {
        let phone = Phone::read(&format!("+1202555{n:04}"), None).unwrap();
        NewUser { phone, display_name: Some(name.into()), email: None, password_hash: None, is_verified: true }
    }

    async fn person(&self, n: u32, name: &str) -> UserId {
        match self.users.register(Self::newcomer(n, name)).await.unwrap() {
            Registered::New(record) => record.id,
            Registered::Taken(_) => panic!("the number is taken"),
        }
    }

    async fn direct(&self, a: UserId, b: UserId) {
        let id = ConversationId::direct(a, b);
        self.members(id, ConversationKind::Direct, &[a, b]).await;
    }

    async fn members(&self, id: ConversationId, kind: ConversationKind, users: &[UserId]) {
        let now = self.clock.now();
        let record = ConversationRecord {
            kind,
            created_by: users[0],
            created_at: now,
            profile: Profile::default(),
            large: false,
            head: Head::default(),
            indexed_seq: 0,
        };
        let member = |user_id: &UserId| Member {
            user_id: *user_id,
            state: MemberState::Active,
            role: Role::Member,
            change_seq: 1,
            joined_seq: 1,
            joined_at: now,
            delivered_seq: 0,
            delivered_at: now,
            read_seq: 0,
            read_at: now,
        };
        let members: Vec<_> = users.iter().map(member).collect();
        self.log.put_members(id, &record, &members, &Cleared::default()).await.unwrap();
    }

    async fn hits(&self, caller: UserId, query: &str) -> BTreeSet<UserId> {
        let found = self.users.search(caller, query, &Page::new(None, None, None)).await.unwrap();
        found.users.into_iter().map(|user| user.id).collect()
    }

    async fn listed(&self, caller: UserId, limit: i64) -> Vec<UserId> {
        let mut ids = Vec::new();
        let mut cursor = None;
        loop {
            let found = self.users.list(caller, &Page::new(Some(limit), None, cursor)).await.unwrap();
            ids.extend(found.users.into_iter().map(|user| user.id));
            match found.next {
                Some(next) => cursor = Some(next.into_text()),
                None => return ids,
            }
        }
    }
}

#[tokio::test]
async fn a_number_has_one_account() {
    let world = World::new(Directory::Open);
    let ada = world.person(1, "Ada").await;
    let again = world.users.register(World::newcomer(1, "Eve")).await.unwrap();
    assert!(matches!(again, Registered::Taken(record) if record.id == ada && record.display_name.as_deref() == Some("Ada")));
    let phone = Phone::read("+12025550001", None).unwrap();
    assert_eq!(world.users.by_phone(&phone).await.unwrap().unwrap().id, ada);
}

#[tokio::test]
async fn of_many_at_once_one_gets_the_number() {
    let world = World::new(Directory::Open);
    let tries = (0..8).map(|_| world.users.register(World::newcomer(1, "Ada")));
    let all = futures_util::future::join_all(tries).await;
    let ids: BTreeSet<_> = all
        .iter()
        .map(|one| match one.as_ref().unwrap() {
            Registered::New(record) | Registered::Taken(record) => record.id,
        })
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(all.iter().filter(|one| matches!(one, Ok(Registered::New(_)))).count(), 1);
}

#[tokio::test]
async fn a_registration_that_broke_off_is_ended_by_the_next() {
    let world = World::new(Directory::Open);
    let lost = UserId::fresh();
    world.store.claim_phone("+12025550001", lost, world.clock.now()).await.unwrap();
    assert_eq!(world.person(1, "Ada").await, lost);
    assert_eq!(world.hits(UserId::fresh(), "ada").await, BTreeSet::from([lost]));
}

#[tokio::test]
async fn changes_at_once_all_happen() {
    let world = World::new(Directory::Open);
    let ada = world.person(1, "Ada").await;
    let add = |n: usize| {
        world.users.change(ada, move |record| {
            record.social_links.insert(format!("p{n}"), "x".into());
            Ok(())
        })
    };
    for changed in futures_util::future::join_all((0..8).map(add)).await {
        changed.unwrap();
    }
    let record = world.users.record(ada).await.unwrap();
    assert_eq!((record.social_links.len(), record.version), (8, 8));
    let same = world.users.change(ada, |_| Ok(())).await.unwrap();
    assert_eq!(same, record);
    assert_eq!(world.users.change(UserId::fresh(), |_| Ok(())).await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn cards_follow_changes_at_once() {
    let world = World::new(Directory::Open);
    let ada = world.person(1, "Ada").await;
    assert_eq!(world.users.card(ada).await.unwrap().unwrap().name(), "Ada");
    let wish: UpdateProfile = serde_json::from_str(r#"{"display_name": "Augusta", "avatar_url": "https://example.org/a.png"}"#).unwrap();
    world.users.update_profile(ada, wish).await.unwrap();
    let card = world.users.card(ada).await.unwrap().unwrap();
    assert_eq!((card.name(), card.public_avatar()), ("Augusta", Some("https://example.org/a.png")));
    world.settings.change_privacy(ada, ChangePrivacy { show_profile_photo: Some(false), ..ChangePrivacy::default() }).await.unwrap();
    assert_eq!(world.users.card(ada).await.unwrap().unwrap().public_avatar(), None);
    assert!(world.users.card(UserId::fresh()).await.unwrap().is_none());
}

#[tokio::test]
async fn search_folds_matches_beginnings_and_forgets_old_names() {
    let world = World::new(Directory::Open);
    let me = world.person(1, "Grace Hopper").await;
    let eva = world.person(2, "Éva Müller-Straße").await;
    let evan = world.person(3, "Evan Longestname").await;
    assert_eq!(world.hits(me, "eva").await, BTreeSet::from([eva, evan]));
    assert_eq!(world.hits(me, "EVA mull").await, BTreeSet::from([eva]));
    assert_eq!(world.hits(me, "strasse").await, BTreeSet::from([eva]));
    assert_eq!(world.hits(me, "longestname").await, BTreeSet::from([evan]));
    assert_eq!(world.hits(me, "longestnames").await, BTreeSet::new());
    for nothing in ["", "e", "! ?", "grace", "va", "\u{200b}\u{202e}", "\u{0}", "🦊"] {
        assert_eq!(world.hits(me, nothing).await, BTreeSet::new(), "{nothing:?}");
    }
    let wish: UpdateProfile = serde_json::from_str(r#"{"display_name": "Bob"}"#).unwrap();
    world.users.update_profile(evan, wish).await.unwrap();
    assert_eq!(world.hits(me, "eva").await, BTreeSet::from([eva]));
    assert_eq!(world.hits(me, "bo").await, BTreeSet::from([evan]));
}

#[tokio::test]
async fn search_finds_a_whole_number_only() {
    let world = World::new(Directory::Open);
    let (me, ada) = (world.person(1, "Me").await, world.person(2, "Ada").await);
    assert_eq!(world.hits(me, "+1 (202) 555-0002").await, BTreeSet::from([ada]));
    assert_eq!(world.hits(me, "12025550002").await, BTreeSet::from([ada]));
    assert_eq!(world.hits(me, "+1202555000").await, BTreeSet::new());
    let found = world.users.search(me, "+12025550002", &Page::new(None, None, None)).await.unwrap();
    assert_eq!(found.users[0].phone_number, None, "a stranger's number is not told");
}

#[tokio::test]
async fn search_pages_by_cursor_and_by_offset() {
    let world = World::new(Directory::Open);
    let me = world.person(1, "Me").await;
    let mut all = BTreeSet::new();
    for n in 10..25 {
        all.insert(world.person(n, "Clone").await);
    }
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let page = world.users.search(me, "clone", &Page::new(Some(4), None, cursor)).await.unwrap();
        assert!(page.users.len() <= 4);
        found.extend(page.users.into_iter().map(|user| user.id));
        assert_eq!(page.total, found.len(), "found so far, with the pages before");
        match page.next {
            Some(next) => cursor = Some(next.into_text()),
            None => break,
        }
    }
    assert_eq!(found.len(), 15);
    assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), all);
    let page = world.users.search(me, "clone", &Page::new(Some(4), Some(12), None)).await.unwrap();
    assert_eq!((page.users.len(), page.total, page.next), (3, 15, None));
    let bad = world.users.search(me, "clone", &Page::new(None, None, Some("x".into()))).await.unwrap_err();
    assert_eq!(bad.code, ErrorCode::Invalid);
}

#[tokio::test]
async fn who_blocked_the_caller_is_not_found_and_shows_nothing() {
    let world = World::new(Directory::Open);
    let (me, ada) = (world.person(1, "Me").await, world.person(2, "Ada").await);
    let wish: UpdateProfile = serde_json::from_str(r#"{"avatar_url": "https://example.org/a.png"}"#).unwrap();
    world.users.update_profile(ada, wish).await.unwrap();
    world.online.set(ada, true);
    world.users.mark_seen(ada, world.clock.now()).await.unwrap();
    assert!(world.users.user(me, ada).await.unwrap().is_online);
    world.settings.block(ada, me).await.unwrap();
    assert!(world.hits(me, "ada").await.is_empty());
    assert!(world.hits(me, "+12025550002").await.is_empty());
    assert!(world.listed(me, 10).await.is_empty());
    assert!(world.users.lookup(me, vec!["+12025550002".into()]).await.unwrap().is_empty());
    let seen = world.users.user(me, ada).await.unwrap();
    assert_eq!((seen.is_online, seen.last_seen, seen.avatar_url), (false, None, None));
    assert!(!world.users.seen(me, &[ada]).await.unwrap()[&ada].is_online);
    assert_eq!(world.hits(ada, "me").await, BTreeSet::from([me]), "the blocker still finds the blocked");
}

#[tokio::test]
async fn unverified_people_are_not_found_where_verification_is_required() {
    let policy = UsersPolicy { directory: Directory::Open, require_verified_phone: true, default_country: None, rate_limit: true };
    let world = World::with(policy);
    let me = world.person(1, "Me").await;
    let new = NewUser { is_verified: false, ..World::newcomer(2, "Ada") };
    let Registered::New(ada) = world.users.register(new).await.unwrap() else { panic!("taken") };
    assert!(world.hits(me, "ada").await.is_empty() && world.listed(me, 10).await.is_empty());
    let verify = |record: &mut UserRecord| {
        record.is_verified = true;
        Ok(())
    };
    world.users.change(ada.id, verify).await.unwrap();
    assert_eq!(world.hits(me, "ada").await, BTreeSet::from([ada.id]));
    assert_eq!(world.listed(me, 10).await, [ada.id]);
}

#[tokio::test]
async fn numbers_are_for_people_who_share_a_conversation() {
    let world = World::new(Directory::Open);
    let (me, ada, bob, eve) =
        (world.person(1, "Me").await, world.person(2, "Ada").await, world.person(3, "Bob").await, world.person(4, "Eve").await);
    world.direct(me, ada).await;
    world.members(ConversationId::fresh(), ConversationKind::Group, &[me, bob]).await;
    world.members(ConversationId::fresh(), ConversationKind::Group, &[bob, eve]).await;
    let users = world.users.batch(me, &[eve, bob, UserId::fresh(), ada, me]).await.unwrap();
    let numbers: Vec<_> = users.iter().map(|user| (user.id, user.phone_number.is_some())).collect();
    assert_eq!(numbers, [(eve, false), (bob, true), (ada, true), (me, true)]);
    assert!(world.users.user(bob, me).await.unwrap().phone_number.is_some());
    assert!(world.users.user(eve, me).await.unwrap().phone_number.is_none());
    let too_many = vec![eve; MAX_BATCH_IDS + 1];
    assert_eq!(world.users.batch(me, &too_many).await.unwrap_err().code, ErrorCode::Invalid);
}

#[tokio::test]
async fn the_directory_begins_with_people_who_share_a_conversation() {
    let world = World::new(Directory::Open);
    let me = world.person(1, "Me").await;
    let mut strangers = BTreeSet::new();
    for n in 10..20 {
        strangers.insert(world.person(n, "Stranger").await);
    }
    let (zoe, ada) = (world.person(2, "Zoe").await, world.person(3, "Ada").await);
    world.direct(me, zoe).await;
    world.members(ConversationId::fresh(), ConversationKind::Group, &[me, ada]).await;
    for limit in [1, 2, 3, 100] {
        let listed = world.listed(me, limit).await;
        assert_eq!(listed[..2], [ada, zoe], "by name first");
        assert_eq!(listed[2..].iter().copied().collect::<BTreeSet<_>>(), strangers);
        assert_eq!(listed.len(), 12);
    }
    let page = world.users.list(me, &Page::new(Some(100), Some(1), None)).await.unwrap();
    assert_eq!((page.users[0].id, page.users.len()), (zoe, 11));
    let closed = World::new(Directory::Contacts);
    let (me, ada) = (closed.person(1, "Me").await, closed.person(2, "Ada").await);
    closed.person(3, "Stranger").await;
    closed.direct(me, ada).await;
    assert_eq!(closed.listed(me, 100).await, [ada]);
}

#[tokio::test]
async fn the_directory_goes_on_after_the_longest_names() {
    let world = World::new(Directory::Open);
    let me = world.person(1, "Me").await;
    let mut contacts = Vec::new();
    for n in 2..7 {
        // A hundred characters of four bytes each, all of which JSON escapes or base64 lengthens; they differ at the end.
        let friend = world.person(n, &format!("{}{n}", "🦊".repeat(MAX_NAME_CHARS - 1))).await;
        world.direct(me, friend).await;
        contacts.push(friend);
    }
    let quoted = world.person(7, &"\"\\".repeat(MAX_NAME_CHARS / 2)).await;
    world.direct(me, quoted).await;
    contacts.push(quoted);
    contacts.sort_unstable();
    let mut listed = world.listed(me, 1).await;
    listed.sort_unstable();
    assert_eq!(listed, contacts);
}

#[tokio::test]
async fn lookups_find_contacts_and_are_counted() {
    let world = World::new(Directory::Contacts);
    let (me, ada) = (world.person(1, "Me").await, world.person(2, "Ada").await);
    let book = vec!["+1 202-555-0002".to_owned(), "nonsense".into(), "+12025559999".into(), "+12025550001".into()];
    let found = world.users.lookup(me, book).await.unwrap();
    assert_eq!(found.iter().map(|(number, user)| (number.as_str(), user.id)).collect::<Vec<_>>(), [("+1 202-555-0002", ada)]);
    let many = vec!["+12025550002".to_owned(); MAX_LOOKUP_NUMBERS];
    assert_eq!(world.users.lookup(me, many.iter().cloned().chain(["x".into()]).collect()).await.unwrap_err().code, ErrorCode::Invalid);
    for _ in 0..3 {
        assert_eq!(world.users.lookup(me, many.clone()).await.unwrap().len(), 1);
    }
    let refused = world.users.lookup(me, many.clone()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    assert!(refused.retry_after.is_some());
    world.clock.advance(std::time::Duration::from_hours(24));
    assert_eq!(world.users.lookup(me, many).await.unwrap().len(), 1);
}

#[tokio::test]
async fn searches_are_counted_for_each_person() {
    let world = World::new(Directory::Open);
    let (me, you) = (UserId::fresh(), UserId::fresh());
    let page = Page::new(None, None, None);
    for _ in 0..SEARCHES_A_MINUTE {
        world.users.search(me, "ada", &page).await.unwrap();
    }
    // Not one more in this minute, however slowly the others came.
    let refused = world.users.search(me, "ada", &page).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    assert!(refused.retry_after.is_some_and(|wait| wait > std::time::Duration::from_secs(30)), "{:?}", refused.retry_after);
    world.users.search(you, "ada", &page).await.unwrap();
    let long = "x".repeat(MAX_QUERY_CHARS + 1);
    assert_eq!(world.users.search(you, &long, &page).await.unwrap_err().code, ErrorCode::Invalid);
}
