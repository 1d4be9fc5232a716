//! Socket.IO by long-polling, and the upgrade to websocket.

use std::time::Duration;

use serde_json::{Value, json};
use urge::gateway::{CloseReason, Settings};
use urge::id::{ConversationId, UserId};

use super::fake::{Came, House, Raw, message};

/// A client that polls by hand.
pub struct Poller {
    pub http: reqwest::Client,
    pub url: String,
    sid: String,
}

impl Poller {
    pub async fn new(house: &House) -> Self {
        let http = reqwest::Client::new();
        let url = house.url("/socket.io/?EIO=4&transport=polling");
        let open = http.get(&url).send().await.unwrap();
        assert_eq!(open.headers()["content-type"], "text/plain; charset=UTF-8");
        let open: Value = serde_json::from_str(open.text().await.unwrap().strip_prefix('0').unwrap()).unwrap();
        assert_eq!(open["upgrades"], json!(["websocket"]));
        let sid = open["sid"].as_str().unwrap().to_owned();
        Self { http, url: format!("{url}&sid={sid}"), sid }
    }

    pub async fn enter(house: &House, user: UserId) -> Self {
        let poller = Self::new(house).await;
        assert_eq!(poller.post(format!(r#"40{{"token":"{user}"}}"#)).await, (200, "ok".into()));
        let mut packets = Vec::new();
        while packets.len() < 2 {
            packets.extend(poller.packets().await);
        }
        assert!(packets[0].starts_with(r#"40{"sid":""#));
        assert_eq!(packets[1..], [format!(r#"42["authenticated",{{"userId":"{user}"}}]"#)]);
        poller
    }

    pub async fn get(&self) -> (u16, String) {
        let answer = self.http.get(&self.url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn packets(&self) -> Vec<String> {
        let (status, text) = self.get().await;
        assert_eq!(status, 200, "{text}");
        text.split('\u{1e}').map(str::to_owned).collect()
    }

    pub async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, String) {
        let answer = self.http.post(&self.url).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn upgrade(&self, house: &House) -> Raw {
        house.dial(&format!("/socket.io/?EIO=4&transport=websocket&sid={}", self.sid), &[]).await
    }
}

fn short() -> Settings {
    let short = Duration::from_millis(200);
    Settings { connect_timeout: short, ping_interval: short, ping_timeout: short, upgrade_timeout: short, ..Settings::default() }
}

#[tokio::test]
async fn packets_go_both_ways_several_at_once() {
    let mut house = House::new().await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    let socket = house.opened().await;
    let both = "420[\"message:sent\",{\"content\":\"a\"}]\u{1e}421[\"message:sent\",{\"content\":\"é\"}]";
    assert_eq!(poller.post(both).await.0, 200);
    let mut packets = Vec::new();
    while packets.len() < 2 {
        packets.extend(poller.packets().await);
    }
    assert_eq!(packets, [r#"430[{"content":"a"}]"#, r#"431[{"content":"é"}]"#]);
    (0..40).for_each(|n| socket.send(message(n, "a")));
    let first = poller.packets().await;
    assert_eq!(first.len(), 16, "the Python client takes no more in one payload");
    assert_eq!(poller.packets().await.len(), 16);
    assert_eq!(house.wrote().await.len(), 16, "what was fetched is confirmed by the next poll");
    assert_eq!(poller.packets().await.len(), 8);
    assert!(house.wrote().await.into_iter().eq(16..32));
}

#[tokio::test]
async fn a_poll_waits_until_something_comes() {
    let mut house = House::with(short()).await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    house.opened().await;
    for _ in 0..3 {
        assert_eq!(poller.packets().await, ["2"]);
        assert_eq!(poller.post("3").await.0, 200);
    }
    assert_eq!(house.closed().await, None, "it answers no more");
    let mut last = poller.get().await;
    while last.0 == 200 {
        last = poller.get().await;
    }
    assert_eq!(last, (400, r#"{"code":1,"message":"Session ID unknown"}"#.into()));
    let stranger = Poller::new(&house).await;
    while stranger.get().await.0 == 200 {}
}

#[tokio::test]
async fn errors_are_those_of_engine_io() {
    let house = House::new().await;
    let http = reqwest::Client::new();
    for (query, code) in [
        ("EIO=4&transport=carrier-pigeon", 0),
        ("EIO=4&transport=polling&sid=00", 1),
        ("EIO=4&transport=websocket&sid=00", 1),
        ("EIO=3&transport=polling", 5),
        ("EIO=4&transport=polling&j=1", 3),
    ] {
        let answer = http.get(house.url(&format!("/socket.io/?{query}"))).send().await.unwrap();
        assert_eq!(answer.status(), 400);
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(body["code"], code, "{query}");
    }
    let answer = http.post(house.url("/socket.io?EIO=4&transport=polling")).body("40").send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), r#"{"code":2,"message":"Bad handshake method"}"#);
    let poller = Poller::new(&house).await;
    assert_eq!(http.put(&poller.url).send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn two_polls_at_once_end_the_session() {
    let mut house = House::new().await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    house.opened().await;
    let (one, two) = tokio::join!(poller.get(), poller.get());
    assert_eq!((one.0, two.0), (400, 400));
    assert_eq!(house.closed().await, None);
    assert_eq!(poller.post("3").await, (400, r#"{"code":1,"message":"Session ID unknown"}"#.into()));
}

#[tokio::test]
async fn bodies_are_bounded_also_when_they_do_not_say_how_long_they_are() {
    let house = House::new().await;
    let stranger = Poller::new(&house).await;
    assert_eq!(stranger.post("x".repeat(20_000)).await.0, 413);
    let known = Poller::enter(&house, UserId::fresh()).await;
    assert_eq!(known.post(format!(r#"42["message:sent",{{"content":"{}"}}]"#, "x".repeat(100_000))).await.0, 200);
    let mut stream = tokio::net::TcpStream::connect(house.address).await.unwrap();
    let path = known.url.split_once(&house.address.to_string()).unwrap().1;
    let (mut reader, mut writer) = stream.split();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    let send = async {
        use tokio::io::AsyncWriteExt;
        let mut bytes = head.into_bytes();
        for _ in 0..30 {
            bytes.extend_from_slice(format!("10000\r\n{}\r\n", "x".repeat(0x10000)).as_bytes());
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        // The server may stop reading once it has seen enough.
        writer.write_all(&bytes).await.ok();
    };
    let receive = async {
        use tokio::io::AsyncReadExt;
        let mut head = [0; 12];
        reader.read_exact(&mut head).await.unwrap();
        head
    };
    let ((), head) = tokio::join!(send, receive);
    assert_eq!(&head, b"HTTP/1.1 413");
}

#[tokio::test]
async fn refusals_and_ends_reach_a_client_that_polls() {
    let mut house = House::new().await;
    let refused = Poller::new(&house).await;
    refused.post(r#"40{"token":"bad"}"#).await;
    assert!(refused.packets().await[0].starts_with("44{"));
    assert_eq!(refused.get().await.0, 400);
    for reason in [CloseReason::Revoked, CloseReason::Draining] {
        let poller = Poller::enter(&house, UserId::fresh()).await;
        let socket = house.opened().await;
        let waiting = poller.get();
        let close = async {
            socket.close(reason);
            house.closed().await
        };
        let (answer, closed) = tokio::join!(waiting, close);
        assert_eq!(closed, Some(reason));
        if reason.is_final() {
            assert_eq!(answer, (200, "41".into()));
        } else {
            assert_eq!(answer.0, 400);
        }
    }
    let poller = Poller::enter(&house, UserId::fresh()).await;
    let socket = house.opened().await;
    (0..20).for_each(|n| socket.send(message(n, "a")));
    socket.close(CloseReason::Draining);
    assert_eq!(poller.packets().await.len(), 16);
    assert_eq!(poller.packets().await.len(), 4);
    assert_eq!(poller.get().await.0, 400);
}

#[tokio::test]
async fn an_upgrade_loses_nothing_and_doubles_nothing() {
    let mut house = House::new().await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    let socket = house.opened().await;
    let (done, mut stop) = tokio::sync::oneshot::channel();
    let sender = tokio::spawn(async move {
        let mut n = 0;
        while stop.try_recv().is_err() {
            socket.send(message(n, "a"));
            n += 1;
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        n
    });
    let mut seen = Vec::new();
    let read = |packet: &str, seen: &mut Vec<i64>| {
        if let Some(event) = packet.strip_prefix("42") {
            let event: Value = serde_json::from_str(event).unwrap();
            seen.extend(event[1]["seq"].as_i64());
        }
    };
    while seen.len() < 50 {
        for packet in poller.packets().await {
            read(&packet, &mut seen);
        }
    }
    let mut raw = poller.upgrade(&house).await;
    let probing = async {
        raw.send("2probe").await;
        assert_eq!(raw.text().await, "3probe");
        raw
    };
    let (mut raw, last) = tokio::join!(probing, poller.packets());
    for packet in &last {
        read(packet, &mut seen);
    }
    raw.send("5").await;
    raw.send("420[\"message:sent\",{\"content\":\"up\"}]").await;
    let mut acked = false;
    while seen.len() < 300 || !acked {
        let text = raw.text().await;
        acked |= text == r#"430[{"content":"up"}]"#;
        read(&text, &mut seen);
    }
    done.send(()).unwrap();
    let sent = sender.await.unwrap();
    while (seen.len() as i64) < sent {
        read(&raw.text().await, &mut seen);
    }
    assert!(seen.into_iter().eq(0..sent));
    assert_eq!(poller.get().await.0, 400, "the websocket is the transport now");
    raw.send("41").await;
    assert_eq!(house.closed().await, None);
}

#[tokio::test]
async fn the_probe_lets_the_waiting_poll_go() {
    let mut house = House::new().await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    house.opened().await;
    let probing = async {
        let mut raw = poller.upgrade(&house).await;
        raw.send("2probe").await;
        assert_eq!(raw.text().await, "3probe");
        raw
    };
    let (packets, mut raw) = tokio::join!(poller.packets(), probing);
    assert_eq!(packets, ["6"]);
    raw.send("5").await;
    raw.send("427[\"resume\",{\"known\":{}}]").await;
    assert_eq!(raw.text().await, r#"437[{"recovered":true,"sent":0}]"#);
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_has_just_stopped_to_poll() {
    let house = House::new().await;
    let poller = Poller::new(&house).await;
    assert_eq!(poller.post(r#"40{"token":"late"}"#).await.0, 200);
    let probing = async {
        let mut raw = poller.upgrade(&house).await;
        raw.send("2probe").await;
        assert_eq!(raw.text().await, "3probe");
        raw
    };
    let (packets, mut raw) = tokio::join!(poller.packets(), probing);
    assert_eq!(packets, ["6"], "the poll is let go, and the client sends no other");
    house.fake.gate.add_permits(1);
    // One thread runs it all: the session has ended when everybody has had his turn.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    raw.send("5").await;
    assert!(raw.text().await.starts_with(r#"44{"data":{"code":"unauthenticated"}"#));
    assert_eq!(raw.came().await, Came::Close(1000, String::new()));
}

#[tokio::test]
async fn an_upgrade_that_fails_leaves_polling_as_it_was() {
    let mut house = House::with(Settings { upgrade_timeout: Duration::from_millis(200), ..Settings::default() }).await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    let socket = house.opened().await;
    let mut hesitant = poller.upgrade(&house).await;
    let mut second = poller.http.get(poller.url.replace("transport=polling", "transport=websocket"));
    for (name, value) in
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", "AA==")]
    {
        second = second.header(name, value);
    }
    assert_eq!(second.send().await.unwrap().status(), 400, "one probe at a time");
    assert!(matches!(hesitant.came().await, Came::Close(1000, _)));
    let mut wrong = poller.upgrade(&house).await;
    wrong.send("5").await;
    assert!(matches!(wrong.came().await, Came::Close(1000, _)));
    socket.send(message(1, "a"));
    assert!(poller.packets().await[0].contains("message:received"));
    let place = ConversationId::fresh();
    poller.post(format!(r#"420["join:conversation",{{"conversationId":"{place}"}}]"#)).await;
    assert!(poller.packets().await[0].starts_with("430"));
}

#[tokio::test]
async fn a_poll_that_is_made_again_is_answered_again() {
    let mut house = House::new().await;
    let poller = Poller::enter(&house, UserId::fresh()).await;
    let socket = house.opened().await;
    let poll = async |name: &str| poller.http.get(format!("{}&t={name}", poller.url)).send().await.unwrap().text().await.unwrap();
    socket.send(message(1, "a"));
    let answer = poll("one").await;
    assert!(answer.contains("message:received"));
    socket.send(message(2, "b"));
    // What stands between says that the first request failed, and the browser makes it again.
    assert_eq!(poll("one").await, answer);
    assert_eq!(poller.post(r#"420["message:sent",{"content":"c"}]"#).await.0, 200);
    assert_eq!(poll("one").await, answer);
    let mut next = poll("two").await;
    assert_eq!(house.wrote().await, [1], "written is what was asked beyond");
    while !next.contains(r#"430[{"content":"c"}]"#) {
        next.push_str(&poll(&next.len().to_string()).await);
    }
    assert!(next.contains(r#""seq":2"#) && !next.contains(r#""seq":1"#), "{next}");
}
