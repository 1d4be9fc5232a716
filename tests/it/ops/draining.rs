//! A node that is told to stop says so to whoever asks, before it goes.

use std::process::Command;

use futures_util::future::{join_all, select_all};
use loadtest::Door;

use crate::support::{PATIENCE, Process, World};

#[tokio::test]
async fn a_node_that_drains_is_not_ready() {
    let node = Process::start();
    let world = World::at(&node.url());
    let person = world.person("Ada").await;
    // As many as there are batches: it takes its time over them.
    let mut sockets = join_all((0..10).map(|_| person.connect(Door::WebSocket))).await;
    world.rest.get("/ready").await.unwrap();
    assert!(Command::new("kill").args(["-TERM", &node.pid().to_string()]).status().unwrap().success());
    let closed = select_all(sockets.iter_mut().map(|socket| Box::pin(socket.closed(PATIENCE)))).await.0.unwrap();
    assert_eq!(closed.code, Some(4503));
    // The first has been sent away, and the others are still there.
    let refused = world.rest.get("/ready").await.unwrap_err();
    assert_eq!((refused.status(), refused.code()), (503, "unavailable"));
    assert!(refused.refusal().unwrap().retry_after_s.is_some());
}
