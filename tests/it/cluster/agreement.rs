//! What nodes agree on: who is online with sockets on several of them, who tells when he has gone, who sees to those whose
//! node has ended.

use loadtest::Door;
use serde_json::json;

use super::{Cluster, before_marker, next, until};

#[tokio::test(flavor = "multi_thread")]
async fn who_has_sockets_on_two_nodes_is_online_until_he_leaves_both() {
    let Some(cluster) = Cluster::of(3).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    let mut watching = cluster.connect(2, &ann, Door::WebSocket).await;
    let phone = cluster.connect(0, &ben, Door::WebSocket).await;
    next(&mut watching, "user:online").await;
    let tablet = cluster.connect(1, &ben, Door::WebSocket).await;
    drop(phone);
    // The first node says that he has left it, and the second one goes on.
    let user = ben.id().parse().unwrap();
    until("the first node says that he has left it", || !cluster.nodes[0].services.online.is_here(user)).await;
    let names = before_marker(&mut watching, &ben, &place).await;
    assert!(!names.iter().any(|name| name == "user:offline"), "{names:?}");
    drop(tablet);
    assert_eq!(next(&mut watching, "user:offline").await["userId"], ben.id());
    cluster.all_know(&ben, false).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_two_nodes_at_once_is_told_of() {
    let Some(cluster) = Cluster::of(3).await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    cluster.worlds[0].direct(&ann, &ben).await;
    let mut watching = cluster.connect(2, &ann, Door::WebSocket).await;
    let sockets = (cluster.connect(0, &ben, Door::WebSocket).await, cluster.connect(1, &ben, Door::SocketIo).await);
    drop(sockets);
    assert_eq!(next(&mut watching, "user:offline").await["userId"], ben.id());
    cluster.all_know(&ben, false).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_leaves_its_users_to_the_others() {
    let Some(mut cluster) = Cluster::of(3).await else { return };
    let (ann, ben, cem) =
        (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await, cluster.worlds[1].person("Cem").await);
    for other in [&ben, &cem] {
        cluster.worlds[0].direct(&ann, other).await;
    }
    let mut watching = cluster.connect(0, &ann, Door::WebSocket).await;
    let phones = (cluster.connect(2, &ben, Door::WebSocket).await, cluster.connect(2, &cem, Door::WebSocket).await);
    cluster.nodes.pop().unwrap().stop().await;
    // Cem comes back to another node within the grace; Ben does not.
    let back = cluster.connect(1, &cem, Door::WebSocket).await;
    assert_eq!(next(&mut watching, "user:offline").await["userId"], ben.id());
    let status = ann.rest.get(&format!("/users/{}/status", ben.id())).await.unwrap();
    assert_eq!((&status["is_online"], status["last_seen"].is_string()), (&json!(false), true));
    assert_eq!(ann.rest.get(&format!("/users/{}/status", cem.id())).await.unwrap()["is_online"], true);
    drop((phones, back));
    cluster.stop().await;
}
