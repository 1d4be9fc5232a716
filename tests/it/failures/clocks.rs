//! Nodes whose clocks are wrong by half a minute, one ahead and one behind: order, counts, marks, logins and search do not ask clocks,
//! and lists ask what the nodes agree that the time is.

use std::time::Duration;

use http::Method;
use loadtest::socket::Event;
use loadtest::verify::read_log;
use loadtest::{Door, Rest, Socket};
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use urge::clock::{Clock as _, RealClock, Timestamp};

use super::scene::through;
use super::tally::Tally;
use crate::support::{Nodes, PASSWORD, PATIENCE, Person, Process, World, cluster, id};

/// By how much, in milliseconds.
const WRONG_BY: i64 = 30_000;
/// Within so much nodes set their clocks right; what is written at the same moment has no order that people know.
const APART: Duration = Duration::from_millis(600);
/// Whatever nodes make of it: they have not heard each other yet, say.
const AND_STAY_SO: [(&str, &str); 1] = [("URGE_TEST_CLOCK_STAYS_WRONG", "1")];
/// Of the matrix.
const CASE: &str = "4 clocks 30 s ahead and 30 s behind";

/// The first one is ahead, the second one behind.
fn cluster_of_wrong_clocks(more: &[(&str, &str)]) -> Option<Nodes> {
    let servers = cluster::servers()?;
    let mut nodes = Nodes::none_on(servers);
    for offset in [WRONG_BY, -WRONG_BY] {
        let offset = offset.to_string();
        let settings = [&[("URGE_TEST_CLOCK_OFFSET_MS", offset.as_str())], more].concat();
        block_in_place(|| nodes.add(&settings));
    }
    Some(nodes)
}

fn of<'a>(list: &'a Value, place: &str) -> &'a Value {
    list["conversations"].as_array().unwrap().iter().find(|listed| listed["id"] == *place).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_stand_in_the_order_in_which_they_were_sent() {
    let Some(nodes) = cluster_of_wrong_clocks(&AND_STAY_SO) else { return };
    let world = World::at(&nodes.processes[0].url());
    let [ann, ben, cem] = [world.person("Ann").await, world.person("Ben").await, world.person("Cem").await];
    let place = world.group(&ann, "place", &[&ben, &cem]).await;
    let mut sockets = Vec::new();
    for (node, door) in nodes.processes.iter().zip([Door::WebSocket, Door::SocketIo]) {
        sockets.push(Socket::connect(&node.url(), &cem.account.access_token, door).await.unwrap());
    }
    // Each of them through the nodes by turns, and each quotes what was said before.
    let (mut sent, mut before, began) = (Vec::<Value>::new(), None::<String>, RealClock.now());
    for number in 0..12 {
        let (person, node) = ([&ann, &ben][number / 2 % 2], &nodes.processes[number % 2]);
        let mut draft = json!({"conversation_id": place, "content": format!("word{number}"), "message_type": "TEXT"});
        if let Some(before) = &before {
            draft["reply_to_id"] = json!(before);
        }
        let message = through(node, person).post("/messages", &draft).await.unwrap();
        assert_eq!(message["replyToId"], json!(before));
        before = Some(id(&message));
        sent.push(message);
    }
    let seqs: Vec<_> = sent.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (2..14).collect::<Vec<_>>());
    let times: Vec<_> = sent.iter().map(|message| message["createdAt"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "times go back: {times:#?}");
    let ahead = times[0].parse::<Timestamp>().unwrap().0 - began.0;
    assert!(ahead >= WRONG_BY, "the first node's clock was not wrong: {ahead} ms from now");
    let what = |message: &Value| ["id", "seq", "createdAt", "replyToId"].map(|name| message[name].clone());
    let (all, mut tally, mut pages) = (sent.iter().map(what).collect::<Vec<_>>(), Tally::default(), Vec::new());
    for node in &nodes.processes {
        let history = through(node, &cem).history(&place, "limit=100").await.unwrap();
        let mut page = history["messages"].as_array().unwrap().clone();
        page.sort_by_key(|message| message["seq"].as_u64());
        let quoted: Vec<_> = page[1..].iter().map(|message| message["replyTo"]["content"].clone()).collect();
        assert_eq!(quoted, (0..11).map(|number| json!(format!("word{number}"))).collect::<Vec<_>>());
        pages.push(page.iter().map(what).collect::<Vec<_>>());
        let synced = through(node, &cem).sync(&json!({&place: 1}), None).await.unwrap();
        let messages = synced["conversations"][0]["messages"].as_array().unwrap();
        tally.resumed("Cem", &all, &messages.iter().map(what).collect::<Vec<_>>());
    }
    assert_eq!(pages[0], pages[1], "both nodes show one log");
    tally.log(&[&all], &pages[0]);
    // And who listens was told the same, at once.
    let is_last = |event: &Event| event.name == "message:received" && event.json()["content"] == "word11";
    for (node, mut socket) in sockets.into_iter().enumerate() {
        let told = socket.collect_until(PATIENCE, |events| events.last().is_some_and(is_last)).await.unwrap();
        let told = told.iter().filter(|event| event.name == "message:received").map(|event| what(&event.json()));
        tally.told(&format!("Cem at node {node}"), &all, &told.collect::<Vec<_>>());
    }
    tally.accept(CASE, "through both by turns: one order in history, by sync and at a socket of each node, replies to what came before");
}

/// What was acknowledged in a conversation, one after the other, as this node shows it.
async fn log(tally: &mut Tally, rest: &Rest, place: &str, acknowledged: &[String]) {
    let stored: Vec<_> = read_log(rest, place).await.unwrap().into_iter().map(|row| row.id).collect();
    tally.log(&[acknowledged], &stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_edited_and_deleted_stays_so() {
    let Some(nodes) = cluster_of_wrong_clocks(&AND_STAY_SO) else { return };
    let world = World::at(&nodes.processes[0].url());
    let [ann, ben] = [world.person("Ann").await, world.person("Ben").await];
    let place = world.direct(&ann, &ben).await;
    let at = |node: usize, person| through(&nodes.processes[node], person);
    let mut sent = Vec::new();
    // Written and read through the one that is ahead, then through the one that is behind, and so on.
    for round in 0..4 {
        let (here, there) = (round % 2, (round + 1) % 2);
        let first = at(here, &ann).send_text(&place, &format!("first{round}"), None).await.unwrap();
        let second = at(there, &ann).send_text(&place, &format!("second{round}"), None).await.unwrap();
        sent.extend([&first, &second].map(id));
        for node in [here, there] {
            assert_eq!(of(&at(node, &ben).conversations().await.unwrap(), &place)["unreadCount"], 2, "round {round}");
        }
        let read = json!({"message_ids": [id(&first)], "conversation_id": place});
        at(here, &ben).post("/messages/read", &read).await.unwrap();
        for node in [here, there] {
            assert_eq!(of(&at(node, &ben).conversations().await.unwrap(), &place)["unreadCount"], 1, "round {round}");
        }
        at(there, &ben).read_conversation(&place).await.unwrap();
        for node in [here, there] {
            let (mine, his) = (at(node, &ben).conversations().await.unwrap(), at(node, &ann).message(&id(&second)).await.unwrap());
            assert_eq!((&of(&mine, &place)["unreadCount"], &his["status"]), (&json!(0), &json!("READ")), "round {round}");
        }
        // A change through the node that is behind is one, and the last.
        at(here, &ann).edit(&id(&second), "changed").await.unwrap();
        let edited = at(there, &ann).edit(&id(&second), &format!("changed{round}")).await.unwrap();
        assert!(edited["updatedAt"].as_str() >= edited["createdAt"].as_str(), "{edited}");
        at(there, &ann).delete_message(&id(&first)).await.unwrap();
        for node in [here, there] {
            assert_eq!(at(node, &ben).message(&id(&second)).await.unwrap()["content"], format!("changed{round}"));
            assert_eq!(at(node, &ben).message(&id(&first)).await.unwrap()["isDeleted"], true);
        }
    }
    let mut tally = Tally::default();
    log(&mut tally, &at(1, &ben), &place, &sent).await;
    tally
        .accept(CASE, "4 rounds of writing, reading, editing and deleting: unread counts, READ, edits and deletions the same through both");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_last_holds() {
    let Some(nodes) = cluster_of_wrong_clocks(&AND_STAY_SO) else { return };
    let world = World::at(&nodes.processes[0].url());
    let [ann, ben] = [world.person("Ann").await, world.person("Ben").await];
    let place = world.direct(&ann, &ben).await;
    let at = |node: usize| through(&nodes.processes[node], &ben);
    let path = |what: &str| format!("/conversations/{place}/{what}");
    let shown = async |what: &str| {
        [at(0).conversation(&place).await.unwrap()[what].clone(), at(1).conversation(&place).await.unwrap()[what].clone()]
    };
    let mut sent = Vec::new();
    // On through the one that is ahead, off through the one that is behind, and the other way round.
    for (on, off) in [(0, 1), (1, 0)] {
        for (what, to, back) in [("isMuted", "mute", "unmute"), ("isArchived", "archive", "unarchive")] {
            at(on).put_empty(&path(to)).await.unwrap();
            assert_eq!(shown(what).await, [true, true], "{to} through node {on}");
            at(off).put_empty(&path(back)).await.unwrap();
            assert_eq!(shown(what).await, [false, false], "{back} through node {off}");
        }
        let favourite = path("favorite");
        for (node, is) in [(on, true), (off, false), (on, true)] {
            at(node).put(&favourite, &json!({"is_favorite": is})).await.unwrap();
            assert_eq!(shown("isFavourite").await, [is, is], "a favourite set through node {node}");
        }
        for (node, is) in [(off, false), (on, true), (off, false)] {
            assert_eq!(at(node).put_empty(&favourite).await.unwrap()["is_favorite"], is);
            assert_eq!(shown("isFavourite").await, [is, is], "a favourite turned through node {node}");
        }
        for (node, is) in [(on, false), (off, true)] {
            at(node).put("/settings/privacy", &json!({"show_online_status": is, "show_last_seen": is})).await.unwrap();
            at(node).put("/notifications/settings", &json!({"sound": is})).await.unwrap();
            for other in [0, 1] {
                assert_eq!(at(other).get("/settings/privacy").await.unwrap()["show_online_status"], is, "privacy through node {node}");
                assert_eq!(
                    at(other).get("/notifications/settings").await.unwrap()["settings"]["sound"],
                    is,
                    "notifications through node {node}"
                );
            }
        }
        at(on).block(ann.id()).await.unwrap();
        at(off).unblock(ann.id()).await.unwrap();
        for node in [0, 1] {
            let check = at(node).get(&format!("/settings/privacy/blocked/check/{}", ann.id())).await.unwrap();
            assert_eq!(check["i_blocked_them"], false, "blocked through node {on}, unblocked through node {off}");
        }
        // And she can write to him again.
        sent.push(id(&through(&nodes.processes[on], &ann).send_text(&place, "again", None).await.unwrap()));
    }
    let mut tally = Tally::default();
    log(&mut tally, &at(1), &place, &sent).await;
    tally.accept(CASE, "what is switched last holds through both: mute, archive, favourites, privacy, notifications, blocks");
}

/// The ids of this person's list, the same through both nodes, where the times go back from one to the next.
async fn listed(nodes: &Nodes, person: &Person) -> Vec<String> {
    let mut orders = Vec::new();
    for node in &nodes.processes {
        let list = through(node, person).conversations().await.unwrap();
        let list = list["conversations"].as_array().unwrap();
        let times: Vec<_> = list.iter().map(|listed| listed["lastMessageAt"].as_str().unwrap()).collect();
        assert!(times.iter().rev().is_sorted(), "{times:?}");
        orders.push(list.iter().map(id).collect::<Vec<_>>());
    }
    assert_eq!(orders[0], orders[1], "all nodes show one order");
    orders.remove(0)
}

/// Ann and her conversations, each with one more, made through the second node.
async fn places(nodes: &Nodes, count: usize) -> (Person, Vec<String>) {
    let world = World::at(&nodes.processes[1].url());
    let ann = world.person("Ann").await;
    let mut places = Vec::new();
    for number in 0..count {
        places.push(world.direct(&ann, &world.person(&format!("Peer {number}")).await).await);
    }
    (ann, places)
}

/// What goes through nodes whose clocks are a minute apart stands in the order in which it was written, once they have heard each other.
#[tokio::test(flavor = "multi_thread")]
async fn lists_go_by_what_was_said_last_and_search_finds_it() {
    let Some(nodes) = cluster_of_wrong_clocks(&[]) else { return };
    let (ann, places) = places(&nodes, 6).await;
    for (node, offset_ms) in nodes.processes.iter().zip([WRONG_BY, -WRONG_BY]) {
        shows(node, "urge_clock_correction_seconds", offset_ms).await;
    }
    let through = [0, 1].map(|node: usize| through(&nodes.processes[node], &ann));
    // Each conversation through another node than the one before, and the next time through that one.
    let mut sent = vec![Vec::new(); places.len()];
    for (round, order) in [[3, 0, 4, 2, 5, 1], [1, 5, 0, 3, 2, 4]].into_iter().enumerate() {
        for (turn, number) in order.into_iter().enumerate() {
            let message = through[(round + turn) % 2].send_text(&places[number], "needle", None).await.unwrap();
            let off = message["createdAt"].as_str().unwrap().parse::<Timestamp>().unwrap().0 - RealClock.now().0;
            assert!(off.abs() < 5_000, "a message of now is shown {off} ms from now");
            sent[number].push(id(&message));
            // Set right to so much they are; who writes to two people is no faster.
            sleep(APART).await;
        }
        let newest_first: Vec<_> = order.iter().rev().map(|number| places[*number].clone()).collect();
        assert_eq!(listed(&nodes, &ann).await, newest_first, "round {round}");
    }
    let mut tally = Tally::default();
    for rest in &through {
        found(rest, "needle", 2 * places.len()).await;
    }
    for (place, sent) in places.iter().zip(&sent) {
        log(&mut tally, &through[0], place, sent).await;
    }
    tally
        .accept(CASE, "6 conversations through both by turns: lists are the same through both, what was said last first; search finds all");
}

/// What is written is found a moment later; nobody tells when.
async fn found(rest: &Rest, word: &str, count: usize) {
    let began = Instant::now();
    loop {
        let answer = rest.get(&format!("/messages/search?q={word}")).await.unwrap();
        if answer["total"] == count {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "not {count}: {answer}");
        // Nobody is told what is found by now.
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_one_node_hold_on_the_other_and_both_report_their_clocks() {
    let Some(nodes) = cluster_of_wrong_clocks(&AND_STAY_SO) else { return };
    let mut tally = Tally::default();
    for (made_on, used_on) in [(0, 1), (1, 0)] {
        let (made, used) = (&nodes.processes[made_on], &nodes.processes[used_on]);
        let ann = World::at(&made.url()).person_with_password("Ann").await;
        assert_eq!(through(used, &ann).me().await.unwrap()["id"], *ann.id());
        let renewed = Rest::new(&used.url()).refresh(&ann.account.refresh_token).await.unwrap();
        assert_eq!(Rest::new(&made.url()).as_account(&renewed).me().await.unwrap()["id"], *ann.id());
        // What is written with the one is there for the other.
        let place = World::at(&used.url()).direct(&ann, &World::at(&used.url()).person("Ben").await).await;
        let sent = Rest::new(&made.url()).as_account(&renewed).send_text(&place, "renewed", None).await.unwrap();
        log(&mut tally, &through(used, &ann), &place, &[id(&sent)]).await;
        let again = Rest::new(&used.url()).login(&ann.phone, PASSWORD).await.unwrap();
        let there = Rest::new(&made.url()).as_account(&again);
        there.me().await.unwrap();
        there.logout().await.unwrap();
        let began = Instant::now();
        while Rest::new(&used.url()).as_account(&again).me().await.is_ok() {
            assert!(began.elapsed() < PATIENCE, "a login that has ended goes on");
            // The other node hears of it; its clients do not.
            sleep(Duration::from_millis(20)).await;
        }
    }
    for (node, offset_ms) in nodes.processes.iter().zip([WRONG_BY, -WRONG_BY]) {
        shows(node, "urge_clock_skew_seconds", offset_ms).await;
        node.logged("this node's clock is not");
    }
    tally.accept(CASE, "logins, refreshes and logouts hold through both, and each node says how far its clock is from the bus's");
}

/// This figure of the node comes to be that of its clock.
async fn shows(node: &Process, name: &str, offset_ms: i64) {
    let rest = Rest::new(&node.url()).with_prefix("");
    let began = Instant::now();
    loop {
        let metrics = rest.send(Method::GET, "/metrics", &[], "").await.unwrap().text();
        let shown = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        if shown.is_some_and(|shown| (shown - offset_ms as f64 / 1_000.0).abs() < 1.0) {
            return;
        }
        assert!(began.elapsed() < PATIENCE * 3, "{name} is {shown:?} at a clock that is {offset_ms} ms ahead");
        // Nodes speak every 3 s, and nobody is told when they have agreed.
        sleep(Duration::from_millis(100)).await;
    }
}
