//! A node that is told to stop says so to whoever asks, before it goes.

use std::process::Command;

use loadtest::{Door, RestError};

use crate::support::{Process, World};

#[tokio::test]
async fn a_node_that_drains_is_not_ready() {
    let node = Process::start();
    let world = World::at(&node.url());
    let person = world.person("Ada").await;
    let _socket = person.connect(Door::WebSocket).await;
    let ready = || world.rest.with_prefix("").clone();
    ready().get("/ready").await.unwrap();
    assert!(Command::new("kill").args(["-TERM", &node.pid().to_string()]).status().unwrap().success());
    // Whoever balances load asks until it hears no; the signal takes a moment to arrive.
    let refused = loop {
        match ready().get("/ready").await {
            Ok(_) => {}
            Err(RestError::Refused(refused)) => break refused,
            Err(error) => panic!("it went without saying so: {error}"),
        }
    };
    assert_eq!((refused.status.as_u16(), refused.code.as_str()), (503, "unavailable"));
}
