//! A store that can be taken away and given back while a node runs on it. Away, every call of every feature's store is
//! refused as unavailable and nothing is done, or it waits for the store to be there again; what was there before is there
//! again afterwards.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use urge::app::{Backends, Stores};
use urge::auth::{AuthStore, CodeRecord, CodeState, Purpose, Refreshed, Session, Spent, Try};
use urge::clock::Timestamp;
use urge::id::{ConversationId, MessageId, Seq, SessionId, UserId};
use urge::log::{
    Cleared, ConversationRecord, Flags, Head, Insert, Location, LogRow, LogStore, Member, MemberMark, Membership, OwnMark, Rewrite,
    Rewritten, Whole, WholeAppend,
};
use urge::messages::{MessageStore, RowWords, Star, TermMatch};
use urge::phone::Phone;
use urge::settings::{ChangeNotifications, ChangePrivacy, NotificationSettings, Privacy, Relation, SettingsStore};
use urge::store::{Probe, StoreError, StoreResult};
use urge::users::{Claim, Inserted, Replaced, UserRecord, UserStore};
use uuid::Uuid;

/// Where the store is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    There,
    Away,
    Stalled,
}

/// Whether the store is there; clones are the same switch.
#[derive(Clone)]
pub struct Switch {
    place: Arc<watch::Sender<Place>>,
    waiting: Arc<watch::Sender<usize>>,
    refused: Arc<watch::Sender<HashSet<&'static str>>>,
}

impl Default for Switch {
    fn default() -> Self {
        Self { place: Arc::new(watch::Sender::new(Place::There)), waiting: Arc::default(), refused: Arc::default() }
    }
}

impl Switch {
    /// From now on the store is away.
    pub fn take_away(&self) {
        self.place.send_replace(Place::Away);
    }

    /// From now on it does not answer.
    pub fn stall(&self) {
        self.place.send_replace(Place::Stalled);
    }

    /// From now on it is there.
    pub fn give_back(&self) {
        self.place.send_replace(Place::There);
    }

    /// Returns once as many calls wait for a store that does not answer.
    pub async fn asked_by(&self, calls: usize) {
        self.waiting.subscribe().wait_for(|waiting| *waiting >= calls).await.unwrap();
    }

    /// Returns once a call of this method has been refused.
    pub async fn refuses(&self, method: &'static str) {
        self.refused.subscribe().wait_for(|refused| refused.contains(method)).await.unwrap();
    }

    /// These backends with the log alone behind the switch.
    pub fn wrap_log(&self, mut backends: Backends) -> Backends {
        backends.stores.log = Arc::new(self.before(backends.stores.log));
        backends
    }

    /// These backends with stores behind the switch: what [`super::TestServer::on`] takes.
    pub fn wrap(&self, backends: Backends) -> Backends {
        let Stores { log, settings, users, auth, messages, outbox, probe } = backends.stores;
        let stores = Stores {
            log: Arc::new(self.before(log)),
            settings: Arc::new(self.before(settings)),
            users: Arc::new(self.before(users)),
            auth: Arc::new(self.before(auth)),
            messages: Arc::new(self.before(messages)),
            // Written while the bus is away, and not at all on that of one node.
            outbox,
            probe: Arc::new(self.before(probe)),
        };
        Backends { stores, ..backends }
    }

    /// The same with the stars, hidden messages and search terms alone.
    pub fn wrap_messages(&self, mut backends: Backends) -> Backends {
        backends.stores.messages = Arc::new(self.before(backends.stores.messages));
        backends
    }

    fn before<S: ?Sized>(&self, store: Arc<S>) -> Away<S> {
        Away { store, switch: self.clone() }
    }
}

/// A store behind a [`Switch`].
struct Away<S: ?Sized> {
    store: Arc<S>,
    switch: Switch,
}

impl<S: ?Sized> Away<S> {
    async fn ask(&self, method: &'static str) -> StoreResult<&S> {
        let mut places = self.switch.place.subscribe();
        let _waits = Waits::new(&self.switch.waiting);
        if let Ok(Place::There) = places.wait_for(|place| *place != Place::Stalled).await.as_deref() {
            return Ok(&self.store);
        }
        self.switch.refused.send_if_modified(|refused| refused.insert(method));
        Err(StoreError::Unavailable("the test has taken it away".into()))
    }
}

/// A call that waits; it may be given up.
struct Waits<'a>(&'a watch::Sender<usize>);

impl<'a> Waits<'a> {
    fn new(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

/// The trait for a store behind a switch: each method asks whether it is there, then does as told.
macro_rules! away {
    (impl $trait:ident $($method:ident($($argument:ident: $type:ty),*) -> $answer:ty;)+) => {
        #[async_trait]
        impl $trait for Away<dyn $trait> {
            $(async fn $method(&self, $($argument: $type),*) -> StoreResult<$answer> {
                self.ask(stringify!($method)).await?.$method($($argument),*).await
            })+
        }
    };
}

away! { impl Probe
    probe() -> ();
}

away! { impl LogStore
    insert_rows(rows: &[LogRow]) -> Insert;
    append_whole(append: &WholeAppend) -> Whole;
    rewrite_row(rewrite: &Rewrite) -> Rewritten;
    rows_after(conversation: ConversationId, after: Seq, limit: usize) -> Vec<LogRow>;
    rows_before(conversation: ConversationId, before: Seq, limit: usize) -> Vec<LogRow>;
    row(conversation: ConversationId, seq: Seq) -> Option<LogRow>;
    location(message: MessageId) -> Option<Location>;
    put_locations(messages: &[MessageId], location: &Location) -> ();
    conversation(id: ConversationId) -> Option<ConversationRecord>;
    put_conversation(id: ConversationId, record: &ConversationRecord, seq: Seq) -> ();
    mark_large(id: ConversationId, members: &[UserId]) -> ();
    advance_heads(id: ConversationId, head: &Head, members: &[UserId], own: &[OwnMark]) -> ();
    mark_indexed(id: ConversationId, seq: Seq) -> ();
    unindexed(after: Option<ConversationId>, limit: usize) -> Vec<ConversationId>;
    members(id: ConversationId, after: Option<UserId>, limit: usize) -> Vec<Member>;
    member(id: ConversationId, user: UserId) -> Option<Member>;
    put_members(id: ConversationId, record: &ConversationRecord, changes: &[Member], cleared: &Cleared) -> ();
    mark_members(id: ConversationId, marks: &[MemberMark], at: Timestamp) -> ();
    memberships(user: UserId) -> Vec<Membership>;
    membership(user: UserId, id: ConversationId) -> Option<Membership>;
    mark_read(user: UserId, id: ConversationId, seq: Seq, n: i64) -> ();
    clear(user: UserId, id: ConversationId, cleared: &Cleared) -> ();
    hide(user: UserId, id: ConversationId, seq: Seq) -> ();
    set_flags(user: UserId, id: ConversationId, flags: &Flags, at: Timestamp) -> ();
    turn_favourite(user: UserId, id: ConversationId, to: bool, at: Timestamp) -> bool;
}

away! { impl UserStore
    claim_phone(phone: &str, user: UserId, at: Timestamp) -> Claim;
    phone_owner(phone: &str) -> Option<UserId>;
    user(id: UserId) -> Option<UserRecord>;
    users(ids: &[UserId]) -> Vec<UserRecord>;
    insert_user(record: &UserRecord) -> Inserted;
    replace_user(record: &UserRecord) -> Replaced;
    mark_seen(id: UserId, at: Timestamp) -> ();
    put_prefixes(user: UserId, prefixes: &[String], version: i64) -> ();
    remove_prefixes(user: UserId, prefixes: &[String], version: i64) -> ();
    users_by_prefix(prefix: &str, shard: u8, after: Option<UserId>, limit: usize) -> Vec<UserId>;
    list_user(user: UserId) -> ();
    listed_users(shard: u8, after: Option<UserId>, limit: usize) -> Vec<UserId>;
    spend_lookups(user: UserId, day: i64, count: i64, limit: i64) -> bool;
}

away! { impl AuthStore
    insert_session(session: &Session) -> ();
    session(user: UserId, id: SessionId) -> Option<Session>;
    sessions(user: UserId) -> Vec<Session>;
    use_generation(user: UserId, id: SessionId, secret_hash: [u8; 32], generation: u32, unused_since: Timestamp, now: Timestamp) -> Refreshed;
    touch_session(user: UserId, id: SessionId, now: Timestamp) -> ();
    end_session(user: UserId, id: SessionId) -> bool;
    put_code(phone: &Phone, purpose: Purpose, code: &CodeRecord) -> Option<CodeRecord>;
    take_code_back(phone: &Phone, purpose: Purpose, code_id: Uuid, before: Option<&CodeRecord>) -> ();
    claim_try(phone: &Phone, purpose: Purpose, limit: u32, now: Timestamp) -> Try;
    return_try(phone: &Phone, purpose: Purpose, code_id: Uuid) -> ();
    claim_code(phone: &Phone, purpose: Purpose, code_id: Uuid, from: &[CodeState], to: CodeState, claim: [u8; 32]) -> bool;
    advance_code(phone: &Phone, purpose: Purpose, code_id: Uuid, from: &[CodeState], to: CodeState, expires_at: Timestamp) -> bool;
    spend(budget: &str, limit: u32, window: Duration, now: Timestamp) -> Spent;
    return_unit(budget: &str, now: Timestamp) -> ();
    open_login_ticket(user: UserId, expires_at: Timestamp) -> ();
    claim_login_ticket(user: UserId, limit: u32, now: Timestamp) -> bool;
    close_login_ticket(user: UserId) -> ();
    put_socket_ticket(hash: [u8; 32], user: UserId, session: SessionId, expires_at: Timestamp, now: Timestamp) -> ();
    take_socket_ticket(hash: [u8; 32], now: Timestamp) -> Option<(UserId, SessionId)>;
}

away! { impl SettingsStore
    privacy(user: UserId) -> Privacy;
    privacies(users: &[UserId]) -> Vec<Privacy>;
    put_privacy(user: UserId, change: &ChangePrivacy) -> ();
    notifications(user: UserId) -> NotificationSettings;
    put_notifications(user: UserId, change: &ChangeNotifications) -> ();
    blocks(user: UserId, limit: usize) -> BTreeMap<UserId, Timestamp>;
    relation(user: UserId, other: UserId) -> Relation;
    blocked_by(user: UserId) -> BTreeMap<UserId, Timestamp>;
    put_block(user: UserId, other: UserId, at: Timestamp) -> ();
    put_blocked_by(user: UserId, other: UserId, at: Timestamp) -> ();
    remove_block(user: UserId, other: UserId) -> ();
    remove_blocked_by(user: UserId, other: UserId) -> ();
}

away! { impl MessageStore
    put_star(user: UserId, star: &Star) -> ();
    remove_star(user: UserId, conversation: ConversationId, seq: Seq) -> ();
    stars(user: UserId, limit: usize) -> Vec<Star>;
    stars_in(user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> Vec<Seq>;
    put_hidden(user: UserId, conversation: ConversationId, seq: Seq, counted: bool) -> ();
    hidden_in(user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> Vec<Seq>;
    hidden_count(user: UserId, conversation: ConversationId, after: Seq) -> i64;
    hidden_unread(user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> i64;
    put_words(conversation: ConversationId, block: i64, rows: &[RowWords]) -> ();
    term_rows(conversation: ConversationId, block: i64, wanted: &TermMatch, before: Seq, limit: usize) -> Option<Vec<Seq>>;
}
