//! What members of a group are told of each other: who comes and goes, who types, who is there.

use serde_json::{Value, json};

use super::{Scene, about, before_marker, names, next, send, through_every_door};
use crate::support::{PATIENCE, Person, id};

/// The events up to and including the next `conversation:updated`, presence and receipts left out.
async fn up_to_update(socket: &mut loadtest::Socket) -> Vec<(String, Value)> {
    let is_update = |events: &[loadtest::socket::Event]| events.last().is_some_and(|event| event.name == "conversation:updated");
    let events = socket.collect_until(PATIENCE, is_update).await.unwrap();
    let named = events.into_iter().map(|event| (event.name.clone(), event.json()));
    named.filter(|(name, _)| name.starts_with("message:received") || name.starts_with("conversation:")).collect()
}

/// A group of Ann, Ben, and of Cy, whom nobody else knows.
async fn club(scene: &Scene) -> (Person, Person, Person, String) {
    let (ann, ben, _) = scene.pair().await;
    let cy = scene.world.person("Cy").await;
    let group = scene.world.group(&ann, "Club", &[&ben, &cy]).await;
    (ann, ben, cy, group)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_added_hears_of_the_group_first_and_the_others_of_him() {
    through_every_door(|scene| async move {
        let (ann, ben, cy, group) = club(&scene).await;
        let dan = scene.world.person("Dan").await;
        let mut sockets = Vec::new();
        for person in [&ann, &ben, &cy] {
            sockets.push(person.connect(scene.door).await);
        }
        let mut new = dan.connect(scene.door).await;
        send(&sockets[0], &group, "before Dan").await;
        for socket in &mut sockets[1..] {
            next(socket, "message:received").await;
        }
        scene.add(&ann, &group, &dan).await;
        for socket in &mut sockets {
            let told = up_to_update(socket).await;
            assert_eq!(names(&told), ["message:received", "conversation:updated"]);
            assert_eq!((&told[0].1["messageType"], &told[0].1["content"]), (&json!("SYSTEM"), &json!("Ann added Dan")));
            assert_eq!((&told[1].1["id"], &told[1].1["participantCount"]), (&json!(group), &json!(4)));
        }
        let told = before_marker(&mut new, &ann, &group).await;
        let told: Vec<_> = told.into_iter().filter(|(name, _)| name == "message:received" || name.starts_with("conversation:")).collect();
        assert_eq!(names(&told), ["conversation:created", "message:received"]);
        assert_eq!((&told[0].1["name"], &told[0].1["participantCount"], &told[0].1["unreadCount"]), (&json!("Club"), &json!(4), &json!(0)));
        assert_eq!(told[1].1["content"], "Ann added Dan");
        let sent = send(&new, &group, "hello").await;
        for socket in &mut sockets {
            about(socket, "message:received", &id(&sent)).await;
        }

        scene.remove(&ann, &group, &dan).await;
        for socket in &mut sockets {
            let told = up_to_update(socket).await;
            let [.., (_, system), (_, updated)] = told.as_slice() else { panic!("{told:?}") };
            assert_eq!((&system["content"], &updated["participantCount"]), (&json!("Ann removed Dan"), &json!(3)));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_else_in_a_group_is_told_who_types() {
    through_every_door(|scene| async move {
        let (ann, ben, cy, group) = club(&scene).await;
        let mut phone = ann.connect(scene.door).await;
        let mut others = [ben.connect(scene.door).await, cy.connect(scene.door).await];
        let typing = json!({"conversationId": group});
        let (started, stopped) =
            (json!({"conversationId": group, "userId": ann.id(), "userName": "Ann"}), json!({"conversationId": group, "userId": ann.id()}));
        phone.call("typing:start", &typing).await.unwrap();
        for socket in &mut others {
            assert_eq!(next(socket, "typing:start").await, started);
        }
        cy.sees_typing(&group, 1).await;
        phone.call("typing:stop", &typing).await.unwrap();
        for socket in &mut others {
            assert_eq!(next(socket, "typing:stop").await, stopped);
        }
        phone.call("typing:start", &typing).await.unwrap();
        send(&phone, &group, "a message ends it too").await;
        for socket in &mut others {
            next(socket, "typing:start").await;
            assert_eq!(next(socket, "typing:stop").await, stopped);
        }
        cy.sees_typing(&group, 0).await;
        let at_ann = before_marker(&mut phone, &ben, &group).await;
        assert!(!names(&at_ann).iter().any(|name| name.starts_with("typing:")), "nobody is told of himself: {at_ann:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shares_but_a_group_is_told_who_is_there() {
    through_every_door(|scene| async move {
        let (ann, ben, cy, group) = club(&scene).await;
        let mut watching = [ann.connect(scene.door).await, ben.connect(scene.door).await];
        let of_cy = |event: &loadtest::socket::Event| event.json()["userId"] == cy.id();
        let socket = cy.connect(scene.door).await;
        for watcher in &mut watching {
            watcher.next_match("online", PATIENCE, |event| event.name == "user:online" && of_cy(event)).await.unwrap();
        }
        socket.close().await.unwrap();
        for watcher in &mut watching {
            watcher.next_match("offline", PATIENCE, |event| event.name == "user:offline" && of_cy(event)).await.unwrap();
        }
        // Who shares it no longer is told nothing more. Ben, who does, is told in the same moment as Ann would be.
        scene.world.direct(&ben, &cy).await;
        scene.remove(&ann, &group, &cy).await;
        let _back = cy.connect(scene.door).await;
        watching[1].next_match("online", PATIENCE, |event| event.name == "user:online" && of_cy(event)).await.unwrap();
        let at_ann = before_marker(&mut watching[0], &ben, &group).await;
        assert!(!at_ann.iter().any(|(name, data)| name.starts_with("user:") && data["userId"] == cy.id()), "{at_ann:?}");
    })
    .await;
}
