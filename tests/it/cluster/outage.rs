//! NATS away: killed with all that it knew, or standing still. Sends go on, nothing is lost, doubled or out of order, and
//! who is connected has everything soon after, without connecting again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use loadtest::Door;
use serde_json::json;

use super::{Cluster, arrive, send};
use crate::support::PATIENCE;
use crate::support::cluster::OwnServers;

/// A NATS of its own, and two nodes on it.
pub(super) async fn on_own_nats() -> Option<(Arc<OwnServers>, Cluster)> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("nats-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let set = tokio::task::spawn_blocking(move || OwnServers::start(&name, &["--only", "nats"])).await.unwrap()?;
    let cluster = Cluster::on(&set.servers.nats, 2).await;
    Some((Arc::new(set), cluster))
}

/// Does this to the server.
pub(super) async fn command(set: &Arc<OwnServers>, verb: &'static str) {
    let set = Arc::clone(set);
    tokio::task::spawn_blocking(move || set.tell(verb, "nats-1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_forgotten_everything_costs_nothing() {
    let Some((nats, cluster)) = on_own_nats().await else { return };
    let (ann, ben) = (cluster.worlds[0].person("Ann").await, cluster.worlds[1].person("Ben").await);
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    let phone = cluster.connect(0, &ann, Door::SocketIo).await;
    let mut peer = cluster.connect(1, &ben, Door::WebSocket).await;
    send(&phone, &place, 0..20).await;
    arrive(&mut peer, 0..20).await;

    let wiping = tokio::spawn({
        let nats = Arc::clone(&nats);
        async move { command(&nats, "wipe").await }
    });
    let mut sent = 20;
    while !wiping.is_finished() {
        send(&phone, &place, sent..sent + 1).await;
        sent += 1;
    }
    wiping.await.unwrap();
    let back = tokio::time::Instant::now();
    arrive(&mut peer, 20..sent).await;
    // The contract's two seconds, with threefold slack.
    assert!(back.elapsed() < Duration::from_secs(6), "{:?}", back.elapsed());

    // The nodes find each other again.
    cluster.all_know(&ann, true).await;
    cluster.all_know(&ben, true).await;
    // What lasts for a moment alone comes through again as soon as the server serves: nobody says when.
    let begin = tokio::time::Instant::now();
    loop {
        phone.call("typing:start", &json!({"conversationId": place})).await.unwrap();
        if peer.next_event("typing:start", Duration::from_secs(3)).await.is_ok() {
            break;
        }
        assert!(begin.elapsed() < PATIENCE, "nobody is told who types");
    }
    send(&phone, &place, sent..sent + 5).await;
    arrive(&mut peer, sent..sent + 5).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_holds_nobody_up() {
    let Some((nats, cluster)) = on_own_nats().await else { return };
    let ann = cluster.worlds[0].person("Ann").await;
    let ben = cluster.worlds[1].person_with_password("Ben").await;
    let place = cluster.worlds[0].direct(&ann, &ben).await;
    let tablet = ben.another_device().await;
    let phone = cluster.connect(0, &ann, Door::WebSocket).await;
    let (mut peer, mut lost) = (cluster.connect(1, &ben, Door::WebSocket).await, cluster.connect(1, &tablet, Door::SocketIo).await);

    command(&nats, "pause").await;
    send(&phone, &place, 0..20).await;
    cluster.through(0, &tablet).rest.logout().await.unwrap();
    command(&nats, "resume").await;
    arrive(&mut peer, 0..20).await;
    lost.closed(PATIENCE).await.unwrap();
    cluster.stop().await;
}
