//! Everything that a client can be told, from a socket on one node to a socket on another, through each door.

use loadtest::Door;
use serde_json::json;
use urge::event::Origin;

use super::{Cluster, next};
use crate::support::{PATIENCE, Person, id};

#[tokio::test(flavor = "multi_thread")]
async fn everything_crosses() {
    let Some(cluster) = Cluster::of(2).await else { return };
    for door in Door::ALL {
        let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
        let place = cluster.worlds[0].direct(&ann, &ben).await;
        let mut phone = cluster.connect(0, &ann, door).await;
        let mut peer = cluster.connect(1, &ben, door).await;
        assert_eq!(next(&mut phone, "user:online").await, json!({"userId": ben.id()}), "{door:?}");

        phone.call("typing:start", &json!({"conversationId": place})).await.unwrap();
        assert_eq!(next(&mut peer, "typing:start").await["userId"], ann.id());

        let command = json!({"conversationId": place, "content": "hello", "clientMessageId": "one"});
        let sent = phone.call("message:sent", &command).await.unwrap();
        let received = next(&mut peer, "message:received").await;
        assert_eq!((&received["id"], &received["content"]), (&sent["id"], &json!("hello")));
        next(&mut peer, "typing:stop").await;
        // It was shown to him, which is its receipt.
        assert_eq!(next(&mut phone, "message:delivered").await["messageId"], sent["id"]);

        peer.call("message:read", &json!({"conversationId": place, "messageId": sent["id"]})).await.unwrap();
        assert_eq!(next(&mut phone, "message:read").await["messageId"], sent["id"]);

        ann.rest.edit(&id(&sent), "hello again").await.unwrap();
        assert_eq!(next(&mut peer, "message:updated").await["content"], "hello again");

        let posted = ben.rest.send_text(&place, "by post", None).await.unwrap();
        assert_eq!(next(&mut phone, "message:received").await["id"], posted["id"]);
        ben.rest.delete_message(&id(&posted)).await.unwrap();
        assert_eq!(next(&mut phone, "message:deleted").await["id"], posted["id"]);

        drop(peer);
        let gone = next(&mut phone, "user:offline").await;
        assert_eq!((&gone["userId"], gone["lastSeen"].is_string()), (&json!(ben.id()), true), "{door:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_closes_sockets_on_other_nodes() {
    let Some(cluster) = Cluster::of(2).await else { return };
    for door in Door::ALL {
        let ann = cluster.worlds[0].person("Ann").await;
        let mut phone = cluster.connect(1, &ann, door).await;
        ann.rest.logout().await.unwrap();
        let close = phone.closed(PATIENCE).await.unwrap();
        assert!(door.is_socket_io() || close.code == Some(4401), "{close}");
        let refused = cluster.through(1, &ann).rest.me().await.unwrap_err();
        assert_eq!(refused.status(), 401);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_told_on_all_nodes_and_who_is_removed_hears_no_more() {
    let Some(cluster) = Cluster::of(3).await else { return };
    let mut people = Vec::new();
    for (n, name) in ["Ann", "Ben", "Cem", "Dee"].into_iter().enumerate() {
        people.push(cluster.worlds[n % 3].person(name).await);
    }
    let [ann, ben, cem, dee] = &people[..] else { unreachable!() };
    let group = cluster.worlds[0].group(ann, "Club", &[ben, cem, dee]).await;
    let mut sockets = Vec::new();
    for (n, person) in people.iter().enumerate() {
        sockets.push(cluster.connect(n % 3, person, Door::ALL[n]).await);
    }
    let mut sent = Vec::new();
    for (n, person) in people.iter().enumerate() {
        let text = format!("from {n}");
        sent.push(id(&cluster.through((n + 1) % 3, person).rest.send_text(&group, &text, None).await.unwrap()));
    }
    for (n, socket) in sockets.iter_mut().enumerate() {
        let mut others: Vec<_> = sent.iter().enumerate().filter(|(from, _)| *from != n).map(|(_, id)| id.clone()).collect();
        while !others.is_empty() {
            let event = id(&next(socket, "message:received").await);
            // Of his own he is told only when the row had to be read from the log.
            if event != sent[n] {
                assert_eq!(event, others.remove(0), "to {n}");
            }
        }
    }

    let (founder, member, place) = (ann.id().parse().unwrap(), dee.id().parse().unwrap(), group.parse().unwrap());
    cluster.nodes[1].services.conversations.remove_member(founder, place, member, Origin::default()).await.unwrap();
    let last = ben.rest.send_text(&group, "without Dee", None).await.unwrap();
    for socket in &mut sockets[..1] {
        let accept = |event: &loadtest::socket::Event| event.name == "message:received" && event.json()["id"] == last["id"];
        socket.next_match("the last one", PATIENCE, accept).await.unwrap();
    }
    let elsewhere = cluster.worlds[2].direct(ann, dee).await;
    let marker = cluster.through(2, ann).rest.send_text(&elsewhere, "marker", None).await.unwrap();
    loop {
        let event = next(&mut sockets[3], "message:received").await;
        assert_ne!(event["id"], last["id"], "he had left");
        if event["id"] == marker["id"] {
            break;
        }
    }
    assert_eq!(cluster.through(0, dee).rest.send_text(&group, "am I in?", None).await.unwrap_err().status(), 403);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_heard_of_a_message_is_what_its_writer_knows() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[0].person("Ben").await);
    let group = cluster.worlds[0].group(&ann, "Club", &[&ben]).await;
    let place = group.parse().unwrap();
    let mut socket = cluster.connect(0, &ann, Door::WebSocket).await;
    for text in ["one", "two", "three"] {
        cluster.through(1, &ben).rest.send_text(&group, text, None).await.unwrap();
        next(&mut socket, "message:received").await;
        let [heard, written] = [0, 1].map(|node: usize| cluster.nodes[node].services.appender.known(place));
        let (heard, written) = (heard.await.unwrap(), written.await.unwrap());
        assert_eq!((heard.head, heard.last_at), (written.head, written.last_at));
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_has_changed_another_one_knows_at_once() {
    let Some(cluster) = Cluster::of(2).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[0].person("Ben").await);
    let group = cluster.worlds[0].group(&ann, "Club", &[&ben]).await;
    let there = |person: &Person| cluster.through(1, person);
    // The other node knows the group from now on.
    there(&ann).rest.send_text(&group, "hello", None).await.unwrap();
    for n in 0..20 {
        let new = cluster.worlds[0].person(&format!("Guest {n}")).await;
        let conversations = &cluster.nodes[0].services.conversations;
        let (founder, place, guest) = (ann.id().parse().unwrap(), group.parse().unwrap(), new.id().parse().unwrap());
        conversations.add_members(founder, place, &[guest], Origin::default()).await.unwrap();
        let view = there(&ben).rest.conversation(&group).await.unwrap();
        assert_eq!(view["participants"].as_array().unwrap().len(), 3, "{view}");
        there(&new).rest.send_text(&group, "I am new", None).await.unwrap();
        conversations.remove_member(founder, place, guest, Origin::default()).await.unwrap();
        assert_eq!(there(&new).rest.send_text(&group, "am I in?", None).await.unwrap_err().status(), 403);
        assert_eq!(there(&ben).rest.conversation(&group).await.unwrap()["participants"].as_array().unwrap().len(), 2);
    }
    cluster.stop().await;
}
