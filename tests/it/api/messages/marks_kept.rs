//! Marks that the store did not take at once are written later.

use std::sync::Arc;

use loadtest::Door;
use tempfile::TempDir;

use crate::support::wire::Wire;
use crate::support::{PATIENCE, Person, TestServer, World, id};

async fn wired(folder: &Arc<TempDir>) -> (TestServer, World, Arc<Wire>) {
    let wire = Arc::new(Wire::default());
    let server = TestServer::on(Arc::clone(folder), |_| {}, |backends| wire.conversations(backends)).await;
    let world = World::on(&server);
    (server, world, wire)
}

#[tokio::test]
async fn a_delivery_is_told_once_the_store_is_back() {
    let folder = Arc::new(TempDir::new().unwrap());
    let (server, world, wire) = wired(&folder).await;
    let (ann, ben) = (world.person("Ann").await, world.person("Ben").await);
    let place = world.direct(&ann, &ben).await;
    let mut socket = ann.connect(Door::WebSocket).await;
    let sent = ann.rest.send_text(&place, "hello", None).await.unwrap();
    wire.fail("mark_members");
    ben.rest.history(&place, "limit=1").await.unwrap();
    let told = socket.next_event("message:delivered", PATIENCE).await.unwrap();
    assert_eq!(told["messageId"], sent["id"]);
    assert!(wire.is_done());
    drop((socket, world));
    server.stop().await;
}

#[tokio::test]
async fn a_mark_in_a_large_group_is_written_with_the_next_ones() {
    let folder = Arc::new(TempDir::new().unwrap());
    let (server, world, wire) = wired(&folder).await;
    let ann = world.person("Ann").await;
    let mut others = Vec::new();
    for _ in 0..65 {
        others.push(world.person("Ben").await);
    }
    let place = world.group(&ann, "Crowd", &others.iter().collect::<Vec<&Person>>()).await;
    let sent = ann.rest.send_text(&place, "hello", None).await.unwrap();
    let ben = &others[0];
    wire.fail("mark_members");
    ben.rest.read_conversation(&place).await.unwrap();
    // The first writing fails; the last one, when the node stops, has it.
    wire.done().await;
    server.stop().await;
    let server = TestServer::on(folder, |_| {}, |backends| backends).await;
    let rest = World::on(&server).rest.as_account(&ann.account);
    let receipts = rest.get(&format!("/messages/{}/receipts", id(&sent))).await.unwrap();
    assert_eq!(receipts["read_count"], 1, "{receipts}");
    drop((world, rest));
    server.stop().await;
}
