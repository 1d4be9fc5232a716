//! Clients that take connections and give nothing: more than there are files for, half-open ones, slow ones.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use loadtest::Door;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, Process, TestServer, World};

/// The processor time that a process has used so far.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name stands in brackets and may hold anything; user and system time are the 12th and 13th field behind it.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // A tick is a hundredth of a second on Linux (USER_HZ).
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_files_accepting_pauses_and_who_is_connected_talks_on() {
    let node = Process::under("ulimit -n 256", &[("URGE_SERVER_HEADER_TIMEOUT", "60s")]);
    let world = World::at(&node.url());
    let (ada, ben) = (world.person("Ada").await, world.person("Ben").await);
    let conversation = world.direct(&ada, &ben).await;
    let mut sockets = Vec::new();
    for door in [Door::WebSocket, Door::SocketIo] {
        sockets.push((ada.connect(door).await, ben.connect(door).await));
    }
    // They are taken by the kernel at once, by the node as long as it has files.
    let knocks = try_join_all((0..500).map(|_| TcpStream::connect(node.address))).await.unwrap();
    let mut waiting = TcpStream::connect(node.address).await.unwrap();
    waiting.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let cannot = async {
        while !node.has_logged("connections cannot be accepted") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, cannot).await.expect("the node has more files than it was given");

    // A second in which nothing happens but knocking: it must cost next to nothing.
    let before = processor_time(node.pid());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = processor_time(node.pid()).checked_sub(before).unwrap();
    assert!(used < Duration::from_millis(200), "it spins: {used:?} in a second");

    for (n, (from, to)) in sockets.iter_mut().enumerate() {
        let text = format!("still here {n}");
        let message = serde_json::json!({"conversationId": conversation, "content": text});
        from.call("message:sent", &message).await.unwrap();
        to.next_match(&text, PATIENCE, |event| event.name == "message:received" && event.json()["content"] == text.as_str()).await.unwrap();
    }

    drop(knocks);
    let mut answer = Vec::new();
    timeout(PATIENCE, waiting.read_to_end(&mut answer)).await.expect("who waited was forgotten").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    node.logged("connections are accepted again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_has_gone_silent_is_given_up() {
    let server = TestServer::with(|config| {
        (config.sockets.ping_interval, config.sockets.ping_timeout) = (Duration::from_millis(300), Duration::from_millis(300));
    })
    .await;
    let world = World::on(&server);
    let watcher = world.person("Watcher").await;
    let mut watching = watcher.connect(Door::WebSocket).await;
    for door in [Door::WebSocket, Door::SocketIo, Door::Polling] {
        let person = world.person("Silent").await;
        world.direct(&person, &watcher).await;
        let socket = person.connect(door).await;
        let of_his = |event: &loadtest::socket::Event| event.json()["userId"] == person.id();
        watching.next_match("online", PATIENCE, |event| event.name == "user:online" && of_his(event)).await.unwrap();
        // Its connection stays open, and nobody is there: no reads, so no pongs.
        socket.emitter().stop_reading().await.unwrap();
        watching.next_match("offline", PATIENCE, |event| event.name == "user:offline" && of_his(event)).await.unwrap();
        drop(socket);
    }
    server.stop().await;
}

#[tokio::test]
async fn slow_heads_and_bodies_hold_nobody_up() {
    let server = TestServer::with(|config| {
        config.server.header_timeout = Duration::from_millis(500);
        config.server.request_timeout = Duration::from_millis(500);
    })
    .await;
    let heads = (0..50).map(|_| "GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ".to_owned());
    let bodies = (0..50)
        .map(|_| "POST /auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{".to_owned());
    let mut slow = Vec::new();
    for begun in heads.chain(bodies) {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(server.get("/health").await.status(), 200);
    // Each is cut off by the node: a head without a word or with a 408, a body with the envelope of a 503.
    let answers = join_all(slow.into_iter().map(async |mut stream| {
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is waited for without end").unwrap();
        String::from_utf8(answer).unwrap()
    }))
    .await;
    let (heads, bodies) = answers.split_at(50);
    assert!(heads.iter().all(|answer| answer.is_empty() || answer.starts_with("HTTP/1.1 408")), "{heads:?}");
    assert!(bodies.iter().all(|answer| answer.starts_with("HTTP/1.1 503") && answer.contains("\"unavailable\"")), "{bodies:?}");
    server.stop().await;
}
