//! Much at once: many conversations of one person, and many people who come back at once.

mod lists;
mod returns;

use std::time::Duration;

use futures_util::StreamExt as _;
use loadtest::Rest;
use tokio::time::{Instant, sleep};
use urge::app::Stores;
use urge::clock::Timestamp;
use urge::id::{ConversationId, Seq, UserId};
use urge::log::{Body, Cleared, ConversationKind, ConversationRecord, Creation, Head, Member, MemberState, Profile, Role};

use super::metric;
use super::tally::Tally;
use crate::support::{PATIENCE, rows};

/// What is made side by side.
const TOGETHER: usize = 32;

/// Rows of a page of a log.
const ROWS: usize = 256;

/// A conversation as if it had been written: these people, this many messages of the second one, indexed.
async fn conversation(stores: &Stores, kind: ConversationKind, people: &[UserId], messages: Seq, at: i64) -> ConversationId {
    let log = stores.log.as_ref();
    let (founder, writer) = (people[0], people[1]);
    let id = if kind == ConversationKind::Direct { ConversationId::direct(founder, writer) } else { ConversationId::fresh() };
    let name = (kind == ConversationKind::Group).then(|| format!("Group {at}"));
    let profile = Profile { name, ..Profile::default() };
    let created_at = Timestamp(at);
    let record = ConversationRecord {
        kind,
        created_by: founder,
        created_at,
        profile: profile.clone(),
        large: false,
        head: Head::default(),
        indexed_seq: 0,
    };
    let role = |user: UserId| if kind == ConversationKind::Group && user == founder { Role::Founder } else { Role::Member };
    let creation = Creation { kind, profile, members: people.iter().map(|user| (*user, role(*user))).collect() };
    let member = |user: &UserId| Member {
        user_id: *user,
        state: MemberState::Active,
        role: role(*user),
        change_seq: 1,
        joined_seq: 1,
        joined_at: created_at,
        delivered_seq: 0,
        delivered_at: Timestamp(0),
        read_seq: 0,
        read_at: Timestamp(0),
    };
    let members: Vec<_> = people.iter().map(member).collect();
    let seq = messages + 1;
    let first = [rows::row(id, 1, founder, Body::Created(creation))];
    rows::written(async || log.insert_rows(&first).await).await;
    rows::seed(log, id, writer, 2, seq).await;
    rows::written(async || log.put_conversation(id, &record, 1).await).await;
    rows::written(async || log.put_members(id, &record, &members, &Cleared::default()).await).await;
    rows::written(async || log.mark_indexed(id, seq).await).await;
    let head = Head { seq, n: messages, total: messages, message_seq: seq, at: Timestamp(at) };
    rows::written(async || log.advance_heads(id, &head, people, &[]).await).await;
    id
}

/// What a node has asked its store for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Statements {
    reads: u64,
    others: u64,
}

/// The statements so far, once a node is quiet: what follows an answer, marks and the like, is done and counted.
async fn statements(rest: &Rest) -> Statements {
    let read = async || {
        let mut statements = Statements::default();
        for (labels, count) in metric(rest, "urge_store_statements_total").await {
            *(if labels.contains("\"read\"") { &mut statements.reads } else { &mut statements.others }) += count;
        }
        statements
    };
    let (mut before, began) = (read().await, Instant::now());
    loop {
        // Nobody tells that nothing more comes.
        sleep(Duration::from_millis(300)).await;
        let now = read().await;
        if now == before || began.elapsed() > PATIENCE {
            return now;
        }
        before = now;
    }
}

/// The places of the messages in its log.
async fn stored(stores: &Stores, conversation: ConversationId) -> Vec<Seq> {
    let mut found = Vec::new();
    let mut after = 1;
    loop {
        let page = stores.log.rows_after(conversation, after, ROWS).await.unwrap();
        found.extend(page.iter().filter(|row| matches!(row.body, Body::Message(_))).map(|row| row.seq));
        // A page ends with its bucket, or is the last one.
        match page.last() {
            Some(last) => after = last.seq,
            None => return found,
        }
    }
}

/// What was acknowledged in each of these, and what stands there.
async fn log(tally: &mut Tally, stores: &Stores, acknowledged: impl Iterator<Item = (ConversationId, Vec<Seq>)>) {
    let reads = acknowledged.map(async |(conversation, acknowledged)| (acknowledged, stored(stores, conversation).await));
    for (acknowledged, stored) in futures_util::stream::iter(reads).buffered(TOGETHER).collect::<Vec<_>>().await {
        tally.log(&[&acknowledged], &stored);
    }
}
