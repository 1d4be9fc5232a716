//! A node that ends at each step of what it writes. Its client tries again through another one and is answered: from then on the
//! message is stored, counted, listed, and told to those who listen, though nobody writes anything more.

use std::collections::BTreeMap;

use loadtest::Rest;
use loadtest::rest::draft;
use loadtest::verify::{Told, read_log, told};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::scene::{Scene, through};
use super::tally::Tally;
use crate::support::cluster::OwnServers;
use crate::support::{PATIENCE, World, id};

/// The steps of an append, in their order.
const APPEND: [&str; 5] = ["append.located", "append.inserted", "settle.headed", "settle.announced", "settle.enqueued"];
/// Those of a change.
const CHANGE: [&str; 4] = ["change.rewritten", "settle.headed", "settle.announced", "settle.enqueued"];
/// Those of making a conversation.
const CREATE: [&str; 7] =
    ["append.located", "append.inserted", "settle.recorded", "settle.projected", "settle.headed", "settle.announced", "settle.enqueued"];

/// Appends through nodes that end at each step; others write before the sender tries again, or nobody does.
async fn appends(mut scene: Scene, others_write: bool, case: &str) {
    let (ann, dan) = (scene.ann.clone(), scene.dan.clone());
    scene.settles().await;
    for point in APPEND {
        let node = scene.failing(&format!("{point}=kill"));
        let first_try = scene.ann_sends(node, point);
        assert!(first_try.await.unwrap().is_err_and(|error| error.status() == 0), "nobody answers from {point}");
        block_in_place(|| scene.nodes.processes[node].ended());
        let is_written = point != "append.located";
        if is_written {
            scene.has_said(&ann, point);
        }
        let others = format!("beside {point}");
        if others_write {
            scene.sends(&dan, &others).await;
        }
        let again = ann.rest.send_text(&scene.place, point, Some(point)).await.unwrap();
        if !is_written {
            scene.has_said(&ann, point);
        }
        let at = scene.said.iter().position(|(_, words)| words == point).unwrap();
        assert_eq!(again["seq"], at as u64 + 2, "its place");
        let last = scene.said.last().unwrap().1.clone();
        scene.heard(&last).await;
        assert_eq!(ann.rest.send_text(&scene.place, point, Some(point)).await.unwrap()["id"], again["id"]);
        scene.is_whole(0).await;
    }
    let fresh = scene.add(&[]);
    scene.is_whole(fresh).await;
    let case = format!("3 killed at {} steps of an append, {case}", APPEND.len());
    scene.tally(fresh).await.accept(&case, "as a node shows it that was none of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_append_and_nobody_else_writes() {
    let Some(scene) = Scene::set().await else { return };
    appends(scene, false, "while nobody else writes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_append_and_others_write_meanwhile() {
    let Some(scene) = Scene::set().await else { return };
    appends(scene, true, "while others write").await;
}

/// What NATS would have told is found in the store.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_append_while_there_is_no_nats() {
    let Some((nats, both)) = block_in_place(|| OwnServers::nats_beside("failures-points")) else { return };
    let scene = Scene::on(&both).await;
    block_in_place(|| nats.tell("kill", "nats-1"));
    appends(scene, true, "while there is no NATS").await;
}

/// What was sent stays sent, whatever has changed since: who is answered so may rely on it that the other one has it.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_append_and_the_retry_would_be_refused() {
    let Some(mut scene) = Scene::set().await else { return };
    let world = World::at(&scene.nodes.processes[0].url());
    scene.settles().await;
    let mut tally = Tally::default();
    for point in ["append.inserted", "settle.headed", "settle.announced"] {
        for is_blocked in [true, false] {
            let dan = world.person("Dan").await;
            let place = world.direct(&dan, &scene.ben).await;
            // From now on the sound node knows the conversation.
            let before = dan.rest.send_text(&place, "before", None).await.unwrap();
            let named = |name: &str| {
                let mut draft = draft(&place, point, Some(name));
                if !is_blocked {
                    draft["reply_to_id"] = before["id"].clone();
                }
                draft
            };
            let node = scene.failing(&format!("{point}=kill"));
            let first_try = through(&scene.nodes.processes[node], &dan).post("/messages", &named("held")).await;
            assert!(first_try.is_err_and(|error| error.status() == 0), "nobody answers from {point}");
            block_in_place(|| scene.nodes.processes[node].ended());
            let refusal = if is_blocked {
                scene.ben.rest.block(dan.id()).await.unwrap();
                403
            } else {
                dan.rest.delete(&format!("/conversations/{place}/clear")).await.unwrap();
                422
            };
            let case = format!("from {point}, then {refusal}");
            let again = dan.rest.post("/messages", &named("held")).await.unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(again["seq"], before["seq"].as_i64().unwrap() + 1, "{case}");
            // Nobody can write more, and Ben has it: in his list, by /sync, and on his socket.
            let list = scene.ben.rest.conversations().await.unwrap();
            let listed = list["conversations"].as_array().unwrap().iter().find(|listed| listed["id"] == *place).unwrap();
            assert_eq!((&listed["lastMessage"]["id"], &listed["unreadCount"]), (&again["id"], &json!(2)), "{case}: {listed}");
            let synced = scene.ben.rest.sync(&json!({&place: before["seq"]}), None).await.unwrap();
            let entries = synced["conversations"].as_array().unwrap();
            let entry = entries.iter().find(|entry| entry["id"] == *place).unwrap_or_else(|| panic!("{case}: {synced}"));
            assert_eq!(entry["lastSeq"], again["seq"], "{case}");
            let brought: Vec<_> = entry["messages"].as_array().unwrap().iter().map(told).collect();
            let heard = scene.heard_in(&place, again["seq"].as_i64().unwrap()).await;
            let other = dan.rest.post("/messages", &named("another")).await;
            assert!(other.is_err_and(|error| error.status() == refusal), "{case}: what is new is refused");
            let sent = [told(&before), told(&again)];
            tally.log(&[&sent], &read_log(&scene.ben.rest, &place).await.unwrap());
            tally.resumed("Ben", &sent[1..], &brought);
            tally.told("Ben", &sent, &heard);
        }
    }
    let case = "3 killed at 3 steps of an append, after which the sender is blocked, or what he answers is cleared";
    tally.accept(case, "what is tried again is answered as it was sent");
}

/// Edits a message and then deletes it, each through a node that ends.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_edit_and_of_a_deletion() {
    let Some(mut scene) = Scene::set().await else { return };
    let ann = scene.ann.clone();
    scene.settles().await;
    let (mut tally, mut messages) = (Tally::default(), Vec::new());
    for point in CHANGE {
        let sent = scene.sends(&ann, point).await;
        scene.heard(point).await;
        messages.push(id(&sent));
        let message = sent["id"].as_str().unwrap();
        let place = sent["seq"].as_i64().unwrap();
        let edited = format!("{point} edited");
        for (seq, event, words) in [(place, "message:updated", edited.as_str()), (place + 1, "message:deleted", "")] {
            let node = scene.failing(&format!("{point}=kill"));
            let make = async |rest: &Rest| match words {
                "" => rest.delete_message(message).await,
                words => rest.edit(message, words).await,
            };
            let first_try = make(&through(&scene.nodes.processes[node], &ann)).await;
            assert!(first_try.is_err_and(|error| error.status() == 0), "nobody answers from {point}");
            block_in_place(|| scene.nodes.processes[node].ended());
            make(&ann.rest).await.unwrap();
            // Without anybody doing more: Ben hears of it, Cem finds it, and the lists show it.
            let came = scene.hears.collect_until(PATIENCE, |events| events.last().is_some_and(|last| last.name == event)).await;
            let came = came.unwrap_or_else(|error| panic!("{event} is not heard from {point}: {error}"));
            let heard = came.iter().filter(|event| ["message:updated", "message:deleted"].contains(&event.name.as_str()));
            let (found, listed) = scene.synced(0, seq).await;
            let due = [(message.to_owned(), seq + 1)];
            tally.told("Ben", &due, &heard.map(|event| change(&event.json())).collect::<Vec<_>>());
            tally.resumed("Cem", &due, &found.iter().map(change).collect::<Vec<_>>());
            assert_eq!(listed["lastSeq"], seq + 1, "from {point}");
            assert_eq!((&found[0]["isDeleted"], &found[0]["isEdited"]), (&json!(words.is_empty()), &json!(!words.is_empty())));
            for person in [&scene.ann, &scene.ben, &scene.cem, &scene.dan] {
                let list = person.rest.conversations().await.unwrap();
                let newest = &list["conversations"][0]["lastMessage"];
                assert_eq!((&newest["id"], &newest["content"]), (&sent["id"], &found[0]["content"]), "{}'s list", person.name);
            }
        }
    }
    let stored = read_log(&scene.cem.rest, &scene.place).await.unwrap();
    tally.log(&[&messages], &stored.into_iter().map(|row| row.id).collect::<Vec<_>>());
    scene.tells(&mut tally);
    let case = format!("3 killed at {} steps of an edit and of a deletion", CHANGE.len());
    tally.accept(&case, "changes are told and synced once, too, and everybody has the last that was acknowledged");
}

/// Which message has changed, and by which row.
fn change(message: &Value) -> (String, i64) {
    (id(message), message["changeSeq"].as_i64().unwrap())
}

/// The one conversation of this name or with this person that the lists of all of them show.
async fn listed(people: &[&Rest], is_it: impl Fn(&Value) -> bool) -> Vec<usize> {
    let mut found = Vec::new();
    for rest in people {
        let list = rest.conversations().await.unwrap();
        found.push(list["conversations"].as_array().unwrap().iter().filter(|listed| is_it(listed)).count());
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn of_making_a_conversation_of_two() {
    let Some(mut scene) = Scene::set().await else { return };
    let (world, mut tally) = (World::at(&scene.nodes.processes[0].url()), Tally::default());
    scene.settles().await;
    for point in CREATE {
        let node = scene.failing(&format!("{point}=kill"));
        let dan = world.person("Dan").await;
        let first_try = through(&scene.nodes.processes[node], &dan).create_direct(scene.ben.id()).await;
        assert!(first_try.is_err_and(|error| error.status() == 0), "nobody answers from {point}");
        block_in_place(|| scene.nodes.processes[node].ended());
        let place = id(&dan.rest.create_direct(scene.ben.id()).await.unwrap());
        let counted = listed(&[&dan.rest, &scene.ben.rest], |listed| listed["id"] == *place).await;
        assert_eq!(counted, [1, 1], "{point}");
        // Ben's socket learns of it, with or without a message in it.
        let created = scene
            .hears
            .next_match("conversation:created", PATIENCE, |event| event.name == "conversation:created" && event.json()["id"] == *place);
        created.await.unwrap_or_else(|error| panic!("it is not told of from {point}: {error}"));
        let sent = dan.rest.send_text(&place, point, Some(point)).await.unwrap();
        assert_eq!(sent["seq"], 2);
        let sent = [told(&sent)];
        tally.log(&[&sent], &read_log(&scene.ben.rest, &place).await.unwrap());
        tally.told("Ben", &sent, &scene.heard_in(&place, 2).await);
    }
    let case = format!("3 killed at {} steps of making a conversation of two", CREATE.len());
    tally.accept(&case, "there is one, and both have it and can write in it");
}

/// A group has no id that a client could name again: what a node left half made may be there, and must be whole then.
#[tokio::test(flavor = "multi_thread")]
async fn of_making_a_group() {
    let Some(mut scene) = Scene::set().await else { return };
    let mut tally = Tally::default();
    for point in ["append.inserted", "settle.recorded", "settle.projected", "settle.headed"] {
        let node = scene.failing(&format!("{point}=kill"));
        let others = [scene.ben.id(), scene.cem.id()];
        let first_try = through(&scene.nodes.processes[node], &scene.ann).create_group(point, &others).await;
        assert!(first_try.is_err_and(|error| error.status() == 0), "nobody answers from {point}");
        let everybody = [&scene.ann.rest, &scene.ben.rest, &scene.cem.rest];
        let left = listed(&everybody, |listed| listed["name"] == point).await;
        assert!(left.iter().all(|count| *count == left[0]), "all or nobody: {left:?} from {point}");
        scene.ann.rest.create_group(point, &others).await.unwrap();
        let made = listed(&everybody, |listed| listed["name"] == point).await;
        assert_eq!(made, [left[0] + 1; 3], "{point}");
        let mut sent = BTreeMap::<String, Vec<Told>>::new();
        for rest in everybody {
            rest.sync(&json!({}), None).await.unwrap();
            let list = rest.conversations().await.unwrap();
            // What is listed can be written to, by each of them.
            for found in list["conversations"].as_array().unwrap().iter().filter(|listed| listed["name"] == point) {
                let place = id(found);
                let message = rest.send_text(&place, "here", None).await.unwrap();
                sent.entry(place).or_default().push(told(&message));
            }
        }
        for (place, sent) in sent {
            tally.log(&[&sent], &read_log(&scene.ben.rest, &place).await.unwrap());
            let synced = scene.cem.rest.sync(&json!({&place: 1}), None).await.unwrap();
            let entry = synced["conversations"].as_array().unwrap().iter().find(|entry| entry["id"] == *place).unwrap();
            tally.resumed("Cem", &sent, &entry["messages"].as_array().unwrap().iter().map(told).collect::<Vec<_>>());
        }
    }
    tally.accept("3 killed at 4 steps of making a group", "it is there for all of its members, or for none, and they can write in it");
}
