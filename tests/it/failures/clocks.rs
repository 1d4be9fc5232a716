//! Nodes whose clocks are wrong by half a minute, one ahead and one behind: order, counts, marks, logins and search do not ask clocks.

use std::time::Duration;

use http::Method;
use loadtest::{Door, Rest};
use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};

use super::scene::through;
use crate::support::{Nodes, PASSWORD, PATIENCE, Process, World, cluster, id};

/// By how much, in milliseconds.
const WRONG_BY: i64 = 30_000;

fn cluster_of_wrong_clocks() -> Option<Nodes> {
    let servers = cluster::servers()?;
    let mut nodes = Nodes::none_on(servers, 1);
    for offset in [WRONG_BY, -WRONG_BY] {
        block_in_place(|| nodes.add(&[("URGE_TEST_CLOCK_OFFSET_MS", &offset.to_string())]));
    }
    Some(nodes)
}

fn of<'a>(list: &'a Value, place: &str) -> &'a Value {
    list["conversations"].as_array().unwrap().iter().find(|listed| listed["id"] == *place).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_stand_in_the_order_in_which_they_were_sent() {
    let Some(nodes) = cluster_of_wrong_clocks() else { return };
    let world = World::at(&nodes.processes[0].url());
    let [ann, ben, cem] = [world.person("Ann").await, world.person("Ben").await, world.person("Cem").await];
    let place = world.group(&ann, "place", &[&ben, &cem]).await;
    // Each of them through the nodes by turns, and each quotes what was said before.
    let (mut sent, mut before) = (Vec::<Value>::new(), None::<String>);
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
    for node in &nodes.processes {
        let history = through(node, &cem).history(&place, "limit=100").await.unwrap();
        let mut page = history["messages"].as_array().unwrap().clone();
        page.sort_by_key(|message| message["seq"].as_u64());
        assert!(page.iter().map(|message| &message["id"]).eq(sent.iter().map(|message| &message["id"])), "{page:#?}");
        assert!(page.iter().map(|message| message["createdAt"].as_str().unwrap()).is_sorted());
        let quoted: Vec<_> = page[1..].iter().map(|message| message["replyTo"]["content"].clone()).collect();
        assert_eq!(quoted, (0..11).map(|number| json!(format!("word{number}"))).collect::<Vec<_>>());
        let synced = through(node, &cem).sync(&json!({&place: 1}), None).await.unwrap();
        let messages = synced["conversations"][0]["messages"].as_array().unwrap();
        assert!(messages.iter().map(|message| &message["id"]).eq(sent.iter().map(|message| &message["id"])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_edited_and_deleted_stays_so() {
    let Some(nodes) = cluster_of_wrong_clocks() else { return };
    let world = World::at(&nodes.processes[0].url());
    let [ann, ben] = [world.person("Ann").await, world.person("Ben").await];
    let place = world.direct(&ann, &ben).await;
    let at = |node: usize, person| through(&nodes.processes[node], person);
    // Written and read through the one that is ahead, then through the one that is behind, and so on.
    for round in 0..4 {
        let (here, there) = (round % 2, (round + 1) % 2);
        let first = at(here, &ann).send_text(&place, &format!("first{round}"), None).await.unwrap();
        let second = at(there, &ann).send_text(&place, &format!("second{round}"), None).await.unwrap();
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
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_switched_last_holds() {
    let Some(nodes) = cluster_of_wrong_clocks() else { return };
    let world = World::at(&nodes.processes[0].url());
    let [ann, ben] = [world.person("Ann").await, world.person("Ben").await];
    let place = world.direct(&ann, &ben).await;
    let at = |node: usize| through(&nodes.processes[node], &ben);
    let path = |what: &str| format!("/conversations/{place}/{what}");
    let shown = async |what: &str| {
        [at(0).conversation(&place).await.unwrap()[what].clone(), at(1).conversation(&place).await.unwrap()[what].clone()]
    };
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
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_go_by_what_was_said_last_and_search_finds_it() {
    let Some(nodes) = cluster_of_wrong_clocks() else { return };
    let world = World::at(&nodes.processes[1].url());
    let ann = world.person("Ann").await;
    let mut places = Vec::new();
    for name in ["ben", "cem", "dan"] {
        places.push(world.direct(&ann, &world.person(name).await).await);
    }
    // In one conversation the times do not go back; between conversations they are those of the nodes, and a list goes by them.
    for place in &places {
        through(&nodes.processes[0], &ann).send_text(place, "ahead", None).await.unwrap();
    }
    for place in places.iter().rev() {
        through(&nodes.processes[1], &ann).send_text(place, "needle", None).await.unwrap();
    }
    let mut orders = Vec::new();
    for node in &nodes.processes {
        let rest = through(node, &ann);
        let list = rest.conversations().await.unwrap();
        let list = list["conversations"].as_array().unwrap();
        assert!(list.iter().all(|listed| listed["lastMessage"]["content"] == "needle"), "{list:#?}");
        let times: Vec<_> = list.iter().map(|listed| listed["lastMessageAt"].as_str().unwrap()).collect();
        assert!(times.iter().rev().is_sorted(), "{times:?}");
        orders.push(list.iter().map(id).collect::<Vec<_>>());
        found(&rest, "needle", places.len()).await;
    }
    assert_eq!(orders[0], orders[1], "all nodes show one order");
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
    let Some(nodes) = cluster_of_wrong_clocks() else { return };
    for (made_on, used_on) in [(0, 1), (1, 0)] {
        let (made, used) = (&nodes.processes[made_on], &nodes.processes[used_on]);
        let ann = World::at(&made.url()).person_with_password("Ann").await;
        assert_eq!(through(used, &ann).me().await.unwrap()["id"], *ann.id());
        let renewed = Rest::new(&used.url()).refresh(&ann.account.refresh_token).await.unwrap();
        assert_eq!(Rest::new(&made.url()).as_account(&renewed).me().await.unwrap()["id"], *ann.id());
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
    for (node, offset) in nodes.processes.iter().zip([WRONG_BY, -WRONG_BY]) {
        reports(node, offset).await;
    }
}

/// Says by how much it is wrong, once enough of its words have come back from the bus.
async fn reports(node: &Process, offset: i64) {
    let ann = World::at(&node.url()).person("Ann").await;
    let began = Instant::now();
    loop {
        // What it tells the others: who comes and goes.
        drop(ann.connect(Door::WebSocket).await);
        let metrics = ann.rest.with_prefix("").send(Method::GET, "/metrics", &[], "").await.unwrap().text();
        let skew = metrics.lines().find_map(|line| line.strip_prefix("urge_clock_skew_seconds ")).map(|skew| skew.parse::<f64>().unwrap());
        if let Some(skew) = skew {
            let off = skew - offset as f64 / 1_000.0;
            assert!(off.abs() < 5.0, "{skew} s is reported for {offset} ms");
            break;
        }
        assert!(began.elapsed() < PATIENCE * 2, "it does not report its clock: {metrics}");
        // Words go out every 100 ms.
        sleep(Duration::from_millis(100)).await;
    }
    node.logged("this node's clock is not the bus's");
}
