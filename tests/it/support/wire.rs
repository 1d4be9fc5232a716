//! Stores that do as told at one place: the next call of a method fails with nothing done, or waits for the test.
//! [`Faulty`](super::faulty::Faulty) is for what may go wrong anywhere; this is for what must go wrong here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use urge::app::Backends;
use urge::auth::{AuthStore, CodeRecord, CodeState, Purpose, Refreshed, Session, Spent, Try};
use urge::clock::Timestamp;
use urge::id::{ConversationId, MessageId, Seq, SessionId, UserId};
use urge::log::{
    Cleared, ConversationRecord, Flags, Head, Insert, Location, LogRow, LogStore, Member, MemberMark, Membership, OwnMark, Rewrite,
    Rewritten, Whole, WholeAppend,
};
use urge::messages::{MessageStore, RowWords, Star, TermMatch};
use urge::phone::Phone;
use urge::store::{StoreError, StoreResult};
use urge::users::{Claim, Inserted, Replaced, UserRecord, UserStore};

use super::PATIENCE;

/// What the stores are told to do.
#[derive(Default)]
pub struct Wire {
    orders: Mutex<HashMap<&'static str, Vec<Order>>>,
    carried_out: Notify,
    /// Every call fails.
    cut: std::sync::atomic::AtomicBool,
}

enum Order {
    Pass,
    Fail,
    Full,
    Break,
    Wait(Arc<Gate>),
}

struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

/// A call that waits.
pub struct Held(Arc<Gate>);

impl Held {
    /// Waits until the call has come.
    pub async fn reached(&self) {
        let came = tokio::time::timeout(PATIENCE, self.0.reached.acquire()).await;
        came.expect("the call never came").unwrap().forget();
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.0.open.add_permits(1);
    }
}

impl Wire {
    /// The next call of this method fails, and nothing is done.
    pub fn fail(&self, method: &'static str) {
        self.order(method, Order::Fail);
    }

    /// The next call of this method finds the store full.
    pub fn full(&self, method: &'static str) {
        self.order(method, Order::Full);
    }

    /// The next call of this method finds what no repetition mends.
    pub fn damage(&self, method: &'static str) {
        self.order(method, Order::Break);
    }

    /// Before the next order one call passes.
    pub fn pass(&self, method: &'static str) {
        self.order(method, Order::Pass);
    }

    /// The next call of this method waits before it does anything.
    pub fn hold(&self, method: &'static str) -> Held {
        let gate = Arc::new(Gate { reached: Semaphore::new(0), open: Semaphore::new(0) });
        self.order(method, Order::Wait(Arc::clone(&gate)));
        Held(gate)
    }

    /// From now on every call fails, or none any more.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, std::sync::atomic::Ordering::SeqCst);
    }

    /// Waits until all that was ordered has been carried out.
    pub async fn done(&self) {
        let done = async {
            loop {
                let carried_out = self.carried_out.notified();
                if self.is_done() {
                    return;
                }
                carried_out.await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.expect("not all that was ordered came to pass");
    }

    /// Whether all that was ordered has been carried out.
    pub fn is_done(&self) -> bool {
        self.orders.lock().values().all(Vec::is_empty)
    }

    fn order(&self, method: &'static str, order: Order) {
        self.orders.lock().entry(method).or_default().push(order);
    }

    async fn at(&self, method: &'static str) -> StoreResult<()> {
        let order = self.orders.lock().get_mut(method).filter(|orders| !orders.is_empty()).map(|orders| orders.remove(0));
        self.carried_out.notify_waiters();
        match order {
            Some(Order::Fail) => return Err(lost()),
            Some(Order::Full) => return Err(StoreError::Full),
            Some(Order::Break) => return Err(StoreError::Corrupt("the test damaged it".into())),
            Some(Order::Wait(gate)) => {
                gate.reached.add_permits(1);
                gate.open.acquire().await.unwrap().forget();
            }
            Some(Order::Pass) | None => {}
        }
        if self.cut.load(std::sync::atomic::Ordering::SeqCst) { Err(lost()) } else { Ok(()) }
    }

    /// The stores of accounts and logins, on this wire.
    pub fn accounts(self: &Arc<Self>, mut backends: Backends) -> Backends {
        backends.stores.auth = self.on(backends.stores.auth);
        backends.stores.users = self.on(backends.stores.users);
        backends
    }

    /// The stores of conversations and messages, on this wire.
    pub fn conversations(self: &Arc<Self>, mut backends: Backends) -> Backends {
        backends.stores.log = self.on(backends.stores.log);
        backends.stores.messages = self.on(backends.stores.messages);
        backends
    }

    /// A log on this wire.
    pub fn log(self: &Arc<Self>, log: Arc<dyn LogStore>) -> Arc<dyn LogStore> {
        self.on(log)
    }

    fn on<S: ?Sized>(self: &Arc<Self>, store: Arc<S>) -> Arc<Wired<S>> {
        Arc::new(Wired { store, wire: Arc::clone(self) })
    }
}

fn lost() -> StoreError {
    StoreError::Unavailable("the test cut the wire".into())
}

/// A store on a [`Wire`].
pub struct Wired<S: ?Sized> {
    store: Arc<S>,
    wire: Arc<Wire>,
}

macro_rules! wired {
    ($store:ident { $(fn $method:ident($($argument:ident: $kind:ty),*) -> $answer:ty;)* }) => {
        #[async_trait]
        impl $store for Wired<dyn $store> {
            $(async fn $method(&self, $($argument: $kind),*) -> StoreResult<$answer> {
                self.wire.at(stringify!($method)).await?;
                self.store.$method($($argument),*).await
            })*
        }
    };
}

wired!(AuthStore {
    fn insert_session(session: &Session) -> ();
    fn session(user: UserId, id: SessionId) -> Option<Session>;
    fn sessions(user: UserId) -> Vec<Session>;
    fn use_generation(user: UserId, id: SessionId, secret: [u8; 32], generation: u32, since: Timestamp, now: Timestamp) -> Refreshed;
    fn touch_session(user: UserId, id: SessionId, now: Timestamp) -> ();
    fn end_session(user: UserId, id: SessionId) -> bool;
    fn put_code(phone: &Phone, purpose: Purpose, code: &CodeRecord) -> Option<CodeRecord>;
    fn take_code_back(phone: &Phone, purpose: Purpose, code: uuid::Uuid, before: Option<&CodeRecord>) -> ();
    fn claim_try(phone: &Phone, purpose: Purpose, limit: u32, now: Timestamp) -> Try;
    fn return_try(phone: &Phone, purpose: Purpose, code: uuid::Uuid) -> ();
    fn claim_code(phone: &Phone, purpose: Purpose, code: uuid::Uuid, from: &[CodeState], to: CodeState, claim: [u8; 32]) -> bool;
    fn advance_code(phone: &Phone, purpose: Purpose, code: uuid::Uuid, from: &[CodeState], to: CodeState, until: Timestamp) -> bool;
    fn spend(budget: &str, limit: u32, window: Duration, now: Timestamp) -> Spent;
    fn return_unit(budget: &str, now: Timestamp) -> ();
    fn open_login_ticket(user: UserId, until: Timestamp) -> ();
    fn claim_login_ticket(user: UserId, limit: u32, now: Timestamp) -> bool;
    fn close_login_ticket(user: UserId) -> ();
    fn put_socket_ticket(hash: [u8; 32], user: UserId, session: SessionId, until: Timestamp, now: Timestamp) -> ();
    fn take_socket_ticket(hash: [u8; 32], now: Timestamp) -> Option<(UserId, SessionId)>;
});

wired!(UserStore {
    fn claim_phone(phone: &str, user: UserId, at: Timestamp) -> Claim;
    fn phone_owner(phone: &str) -> Option<UserId>;
    fn user(id: UserId) -> Option<UserRecord>;
    fn users(ids: &[UserId]) -> Vec<UserRecord>;
    fn insert_user(record: &UserRecord) -> Inserted;
    fn replace_user(record: &UserRecord) -> Replaced;
    fn mark_seen(id: UserId, at: Timestamp) -> ();
    fn put_prefixes(user: UserId, prefixes: &[String], version: i64) -> ();
    fn remove_prefixes(user: UserId, prefixes: &[String], version: i64) -> ();
    fn users_by_prefix(prefix: &str, shard: u8, after: Option<UserId>, limit: usize) -> Vec<UserId>;
    fn list_user(user: UserId) -> ();
    fn listed_users(shard: u8, after: Option<UserId>, limit: usize) -> Vec<UserId>;
    fn spend_lookups(user: UserId, day: i64, count: i64, limit: i64) -> bool;
});

wired!(LogStore {
    fn insert_rows(rows: &[LogRow]) -> Insert;
    fn append_whole(append: &WholeAppend) -> Whole;
    fn rewrite_row(rewrite: &Rewrite) -> Rewritten;
    fn rows_after(conversation: ConversationId, after: Seq, limit: usize) -> Vec<LogRow>;
    fn rows_before(conversation: ConversationId, before: Seq, limit: usize) -> Vec<LogRow>;
    fn row(conversation: ConversationId, seq: Seq) -> Option<LogRow>;
    fn location(message: MessageId) -> Option<Location>;
    fn put_locations(messages: &[MessageId], location: &Location) -> ();
    fn conversation(id: ConversationId) -> Option<ConversationRecord>;
    fn put_conversation(id: ConversationId, record: &ConversationRecord, seq: Seq) -> ();
    fn mark_large(id: ConversationId, members: &[UserId]) -> ();
    fn advance_heads(id: ConversationId, head: &Head, members: &[UserId], own: &[OwnMark]) -> ();
    fn mark_indexed(id: ConversationId, seq: Seq) -> ();
    fn unindexed(after: Option<ConversationId>, limit: usize) -> Vec<ConversationId>;
    fn members(id: ConversationId, after: Option<UserId>, limit: usize) -> Vec<Member>;
    fn member(id: ConversationId, user: UserId) -> Option<Member>;
    fn put_members(id: ConversationId, record: &ConversationRecord, changes: &[Member], cleared: &Cleared) -> ();
    fn mark_members(id: ConversationId, marks: &[MemberMark], at: Timestamp) -> ();
    fn memberships(user: UserId) -> Vec<Membership>;
    fn membership(user: UserId, id: ConversationId) -> Option<Membership>;
    fn mark_read(user: UserId, id: ConversationId, seq: Seq, n: i64) -> ();
    fn clear(user: UserId, id: ConversationId, cleared: &Cleared) -> ();
    fn hide(user: UserId, id: ConversationId, seq: Seq) -> ();
    fn set_flags(user: UserId, id: ConversationId, flags: &Flags, at: Timestamp) -> ();
    fn turn_favourite(user: UserId, id: ConversationId, to: bool, at: Timestamp) -> bool;
});

wired!(MessageStore {
    fn put_star(user: UserId, star: &Star) -> ();
    fn remove_star(user: UserId, conversation: ConversationId, seq: Seq) -> ();
    fn stars(user: UserId, limit: usize) -> Vec<Star>;
    fn stars_in(user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> Vec<Seq>;
    fn put_hidden(user: UserId, conversation: ConversationId, seq: Seq, counted: bool) -> ();
    fn hidden_in(user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> Vec<Seq>;
    fn hidden_count(user: UserId, conversation: ConversationId, after: Seq) -> i64;
    fn hidden_unread(user: UserId, conversation: ConversationId, from: Seq, to: Seq) -> i64;
    fn put_words(conversation: ConversationId, block: i64, rows: &[RowWords]) -> ();
    fn term_rows(conversation: ConversationId, block: i64, wanted: &TermMatch, before: Seq, limit: usize) -> Option<Vec<Seq>>;
});
