//! Somebody with a thousand conversations lists and syncs them at the price of one partition read and some point reads for each
//! conversation that is shown, however many messages there are.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use loadtest::{Rest, RestError};
use serde_json::{Value, json};
use urge::app::Stores;
use urge::clock::Timestamp;
use urge::id::{ConversationId, Seq, UserId};
use urge::log::ConversationKind;
use urge::users::UserRecord;

use super::{Statements, TOGETHER, conversation, log, statements};
use crate::failures::is_long;
use crate::failures::tally::Tally;
use crate::support::{Nodes, World, id};

/// Conversations of one person.
const CONVERSATIONS: usize = 1_000;
/// People in them.
const PEERS: usize = 500;
/// Conversations of a page.
const PAGE: usize = 50;
/// Messages that a sync brings of a conversation of which a device knows nothing.
const NEWEST: Seq = 50;

/// Reads that a page may take beside those for what it shows: the login, the person, blocks, and the partition of memberships.
const OF_A_PAGE: u64 = 10;
/// Reads for a conversation that is listed by a node that knows it: the last message, what of it was hidden or starred, what is hidden
/// of the unread ones, in a group the members' marks.
const KNOWN: u64 = 7;
/// The same of one that it has not met, with members, the rows behind the head, and people who are mostly new too.
const UNKNOWN: u64 = 14;
/// Reads for one that is synced anew: its newest page besides, and the marks that show what has been delivered.
const SYNCED: u64 = 22;
/// Statements that are no reads, for one that is synced anew: what it brings counts as delivered.
const MARKS: u64 = 2;

/// People who never logged in.
async fn strangers(stores: &Stores, count: usize) -> Vec<UserId> {
    let making = (0..count).map(async |n| {
        let id = UserId::fresh();
        let record = UserRecord { display_name: Some(format!("Peer {n}")), ..UserRecord::new(id, format!("+49153{n:08}"), Timestamp(1)) };
        stores.users.insert_user(&record).await.unwrap();
        id
    });
    futures_util::stream::iter(making).buffered(TOGETHER).collect().await
}

/// What this took of the node's store.
async fn cost<T>(rest: &Rest, work: impl Future<Output = T>) -> (T, Statements) {
    let before = statements(rest).await;
    let done = work.await;
    let after = statements(rest).await;
    (done, Statements { reads: after.reads - before.reads, others: after.others - before.others })
}

/// A page, and how often it was asked for: a machine that has much else to do may answer that it took too long.
async fn page(ask: impl AsyncFn() -> Result<Value, RestError>) -> (Value, u64) {
    for tries in 1..10 {
        match ask().await {
            Ok(page) => return (page, tries),
            Err(error) => assert_eq!(error.status(), 503, "{error}"),
        }
    }
    panic!("a page cannot be had");
}

/// The ids of all that is listed, page by page, and how many pages were asked for.
async fn list(rest: &Rest) -> (Vec<String>, u64) {
    let (mut ids, mut asked, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let (page, tries) = page(async || rest.get(&format!("/conversations?limit={PAGE}{cursor}")).await).await;
        assert_eq!(page["total"], CONVERSATIONS);
        for one in page["conversations"].as_array().unwrap() {
            assert!(one["lastMessage"]["content"].is_string() && one["unreadCount"].as_i64() > Some(0), "{one}");
            ids.push(id(one));
        }
        asked += tries;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (ids, asked),
        }
    }
}

/// What a sync brings, page by page: conversations, messages, pages that were asked for.
async fn sync(rest: &Rest, known: &Value) -> (Vec<String>, Vec<(String, Seq)>, u64) {
    let (mut ids, mut messages, mut asked, mut cursor) = (Vec::new(), Vec::new(), 0, Value::Null);
    loop {
        let body = json!({"known": known, "limit": PAGE, "cursor": cursor});
        let (page, tries) = page(async || rest.post("/sync", &body).await).await;
        asked += tries;
        for one in page["conversations"].as_array().unwrap() {
            assert_eq!(one["more"], false);
            ids.push(id(one));
            messages.extend(one["messages"].as_array().unwrap().iter().map(|message| (id(one), message["seq"].as_i64().unwrap())));
        }
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            return (ids, messages, asked);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_conversations_cost_what_is_shown_of_them() {
    let Some(nodes) = tokio::task::spawn_blocking(|| Nodes::start_apart(2)).await.unwrap() else { return };
    let (stores, urls) = (nodes.stores().await, nodes.urls());
    let each: Seq = if is_long() { 500 } else { 20 };
    let person = World::at(&urls[0]).person("Popular").await;
    let user: UserId = person.id().parse().unwrap();
    let peers = strangers(&stores, PEERS).await;
    let made = (0..CONVERSATIONS).map(async |n| {
        let peer = |further: usize| peers[(n / 2 + further) % PEERS];
        let at = 1_000_000 + n as i64;
        if n % 2 == 0 {
            conversation(&stores, ConversationKind::Direct, &[user, peer(0)], each, at).await
        } else {
            let people: Vec<_> = std::iter::once(user).chain((0..4).map(peer)).collect();
            conversation(&stores, ConversationKind::Group, &people, each, at).await
        }
    });
    let made: Vec<ConversationId> = futures_util::stream::iter(made).buffered(TOGETHER).collect().await;
    let newest_first: Vec<_> = made.iter().rev().map(ToString::to_string).collect();
    let by_id: Vec<_> = made.iter().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect();
    let known: BTreeMap<String, Seq> = made.iter().map(|id| (id.to_string(), each + 1)).collect();
    let [one, other] = [0, 1].map(|node: usize| Rest::new(&urls[node]).as_account(&person.account));
    let pages = (CONVERSATIONS / PAGE) as u64;
    let most = |pages: u64, each: u64| pages * (OF_A_PAGE + PAGE as u64 * each);

    // Of nodes that have met none of them.
    let ((ids, first), cold) = cost(&one, list(&one)).await;
    assert_eq!(ids, newest_first);
    let ((ids, second), warm) = cost(&one, list(&one)).await;
    assert_eq!(ids, newest_first);
    let few = page(async || other.get("/conversations?limit=10").await);
    let ((shown, tries), ten) = cost(&other, few).await;
    assert_eq!(shown["conversations"].as_array().unwrap().len(), 10);
    let (nothing, idle) = cost(&other, sync(&other, &json!(known))).await;
    assert_eq!((&nothing.0, &nothing.1), (&Vec::new(), &Vec::new()));
    let ((ids, messages, synced), anew) = cost(&other, sync(&other, &json!({}))).await;
    assert_eq!((&ids, synced >= pages), (&by_id, true));
    let newest: Vec<_> = by_id.iter().flat_map(|id| (each + 2 - each.min(NEWEST)..each + 2).map(|seq| (id.clone(), seq))).collect();
    let mut tally = Tally::default();
    tally.resumed("a new device", &newest, &messages);
    log(&mut tally, &stores, made.iter().map(|id| (*id, (2..=each + 1).collect()))).await;
    tally.accept(
        "11 many conversations",
        format!(
            "{CONVERSATIONS} conversations; reads: list cold {}, warm {}, ten {}; sync all known {}, none {} in {synced} pages; \
             other statements: {} {} {} {} {}",
            cold.reads, warm.reads, ten.reads, idle.reads, anew.reads, cold.others, warm.others, ten.others, idle.others, anew.others
        ),
    );
    assert!(cold.reads <= most(first, UNKNOWN), "{cold:?}");
    assert!(warm.reads <= most(second, KNOWN), "{warm:?}");
    assert!(ten.reads <= tries * (OF_A_PAGE + 10 * UNKNOWN), "ten of a thousand: {ten:?}");
    assert!(idle.reads <= nothing.2 * OF_A_PAGE, "nothing new: {idle:?}");
    assert!(anew.reads <= most(synced, SYNCED), "{anew:?}");
    assert!(
        [cold, warm, ten, idle].iter().all(|cost| cost.others <= OF_A_PAGE),
        "looking writes nothing: {cold:?} {warm:?} {ten:?} {idle:?}"
    );
    assert!(anew.others <= most(synced, MARKS), "{anew:?}");
}
