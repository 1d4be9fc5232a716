//! A node that is told to stop says so to whoever asks, before it goes.

use futures_util::future::{join_all, select_all};
use loadtest::Door;

use crate::support::{PATIENCE, Process, World, id};

#[tokio::test]
async fn a_node_that_drains_is_not_ready() {
    for door in [Door::WebSocket, Door::SocketIo] {
        let node = Process::start();
        let world = World::at(&node.url());
        let person = world.person("Ada").await;
        // As many as there are batches: it takes its time over them.
        let mut sockets = join_all((0..10).map(|_| person.connect(door))).await;
        world.rest.get("/ready").await.unwrap();
        node.signal("TERM");
        let closed = select_all(sockets.iter_mut().map(|socket| Box::pin(socket.closed(PATIENCE)))).await.0.unwrap();
        assert_eq!(closed.code, (door == Door::WebSocket).then_some(4503));
        // The first has been sent away, and the others are still there.
        let refused = world.rest.get("/ready").await.unwrap_err();
        assert_eq!((refused.status(), refused.code()), (503, "unavailable"), "{door:?}");
        assert!(refused.refusal().unwrap().retry_after_s.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_drains_like_sigterm_and_what_was_acknowledged_is_there() {
    for signal in ["INT", "TERM"] {
        let mut node = Process::start();
        let world = World::at(&node.url());
        let (ada, ben) = (world.person("Ada").await, world.person("Ben").await);
        let place = world.direct(&ada, &ben).await;
        let mut sockets = Vec::new();
        for door in Door::ALL {
            sockets.push((door, ben.connect(door).await));
        }
        let sent = ada.rest.send_text(&place, "the last", None).await.unwrap();
        node.signal(signal);
        for (door, socket) in &mut sockets {
            let close = socket.closed(PATIENCE).await.unwrap();
            assert!(door.is_socket_io() || close.code == Some(4503), "{signal}: {close}");
            // Its clients come back by themselves after this end alone.
            assert_ne!(close.ending, loadtest::socket::Ending::Disconnect, "{signal}");
        }
        let status = node.ended();
        assert!(status.success(), "{signal}: {status}");
        node.logged("stopping");
        node.start_again();
        let rest = World::at(&node.url()).rest.as_account(&ben.account);
        let history = rest.history(&place, "limit=5").await.unwrap();
        assert_eq!(id(&history["messages"][0]), id(&sent), "{signal}");
    }
}
