//! The client against a small server written by hand: what it does with good frames, refusals, ends and silence, through each door.
//! The server knows one command, `echo`, and says what it is told to say; that the official servers agree, the project's own tests show.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod http;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use loadtest::{
    Auth, Door, Options, Rest, Socket,
    socket::{CallError, ConnectError, Ending},
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
};
use tokio_tungstenite::{
    accept_async,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use http::read_request;

const LIMIT: Duration = Duration::from_secs(5);

/// One Engine.IO session: what waits to be polled.
struct Engine {
    send: mpsc::UnboundedSender<String>,
    waiting: Mutex<mpsc::UnboundedReceiver<String>>,
    pongs: AtomicUsize,
    ping_interval: u64,
}

#[derive(Clone)]
struct Server {
    engine: Arc<Engine>,
}

/// Starts a server for one client; it pings every `ping_interval` ms when asked to by `ping`.
async fn serve(ping_interval: u64) -> (String, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let (send, waiting) = mpsc::unbounded_channel();
    let engine = Engine { send, waiting: Mutex::new(waiting), pongs: AtomicUsize::new(0), ping_interval };
    let server = Server { engine: Arc::new(engine) };
    let accepting = server.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(accepting.clone().connection(stream));
        }
    });
    (format!("http://{address}"), server)
}

impl Server {
    /// Looks at the request's head without taking it, and leads to the right door.
    async fn connection(self, mut stream: TcpStream) {
        let mut head = vec![0; 4096];
        let mut length = 0;
        while !head[..length].windows(4).any(|end| end == b"\r\n\r\n") {
            stream.readable().await.unwrap();
            length = stream.peek(&mut head).await.unwrap_or(0);
            if length == 0 {
                return;
            }
        }
        let head = String::from_utf8_lossy(&head[..length]).to_lowercase();
        if head.contains("upgrade: websocket") {
            if head.starts_with("get /ws") {
                self.plain(stream, head.contains("bearer good")).await;
            } else {
                self.engine_websocket(stream, head.contains("sid=s1")).await;
            }
        } else {
            while self.http(&mut stream).await.is_some() {}
        }
    }

    async fn plain(self, stream: TcpStream, authorised: bool) {
        let mut socket = accept_async(stream).await.unwrap();
        if !authorised {
            let frame = CloseFrame { code: CloseCode::from(4401), reason: "the token is not valid".into() };
            socket.close(Some(frame)).await.unwrap();
            while let Some(Ok(_)) = socket.next().await {}
            return;
        }
        socket.send(Message::text(r#"{"event":"authenticated","data":{"userId":"u1"}}"#)).await.unwrap();
        while let Some(Ok(Message::Text(text))) = socket.next().await {
            let frame: Value = serde_json::from_str(&text).unwrap();
            let answer = match frame["event"].as_str().unwrap() {
                "echo" => json!({"event": "ack", "id": frame["id"], "data": frame["data"]}),
                "tell" => json!({"event": "told", "data": frame["data"]}),
                "slow" => {
                    let frame = CloseFrame { code: CloseCode::from(4503), reason: "draining".into() };
                    return socket.close(Some(frame)).await.unwrap();
                }
                _ => json!({"event": "ack", "id": frame["id"], "error": {"code": "unknown"}}),
            };
            socket.send(Message::text(answer.to_string())).await.unwrap();
        }
    }

    fn handshake(&self, upgrades: &[&str]) -> String {
        let interval = self.engine.ping_interval;
        format!("0{}", json!({"sid": "s1", "upgrades": upgrades, "pingInterval": interval, "pingTimeout": 100, "maxPayload": 1000}))
    }

    /// What the session answers to one Engine.IO packet.
    fn answers(&self, packet: &str) -> Vec<String> {
        if packet == "3" {
            self.engine.pongs.fetch_add(1, Ordering::SeqCst);
            return Vec::new();
        }
        if packet == r#"40{"token":"good"}"# {
            return vec![r#"40{"sid":"x"}"#.to_owned(), r#"42["authenticated",{"userId":"u1"}]"#.to_owned()];
        }
        if packet.starts_with("40") {
            return vec![r#"44{"message":"the token is not valid"}"#.to_owned()];
        }
        let Some(event) = packet.strip_prefix("42") else { return Vec::new() };
        let (id, event) = event.split_at(event.find('[').unwrap());
        let event: Value = serde_json::from_str(event).unwrap();
        match event[0].as_str().unwrap() {
            "echo" => vec![format!("43{id}{}", json!([event[1]]))],
            "tell" => vec![format!("42{}", json!(["told", event[1]]))],
            "ping me" => vec!["2".to_owned(), format!("43{id}[]")],
            "slow" => vec!["1".to_owned()],
            _ => vec![format!("43{id}{}", json!([{"error": {"code": "unknown"}}]))],
        }
    }

    async fn engine_websocket(self, stream: TcpStream, upgrading: bool) {
        let mut socket = accept_async(stream).await.unwrap();
        if upgrading {
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("2probe"));
            socket.send(Message::text("3probe")).await.unwrap();
            // Lets the waiting poll go.
            self.engine.send.send("6".to_owned()).unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("5"));
        } else {
            socket.send(Message::text(self.handshake(&[]))).await.unwrap();
        }
        while let Some(Ok(Message::Text(text))) = socket.next().await {
            for answer in self.answers(&text) {
                if socket.send(Message::text(answer)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// One request of long-polling.
    async fn http(&self, stream: &mut TcpStream) -> Option<()> {
        let (head, body) = read_request(stream).await?;
        let (status, answer) = if head.starts_with("GET /refuse") {
            ("429 Too Many Requests", json!({"success": false, "code": "slow_down", "message": "no", "detail": "no"}).to_string())
        } else if !head.contains("sid=") {
            ("200 OK", self.handshake(&["websocket"]))
        } else if head.starts_with("POST") {
            for packet in body.split('\u{1e}') {
                for answer in self.answers(packet) {
                    self.engine.send.send(answer).unwrap();
                }
            }
            ("200 OK", "ok".to_owned())
        } else {
            let mut waiting = self.engine.waiting.lock().await;
            let mut packets = vec![waiting.recv().await?];
            packets.extend(std::iter::from_fn(|| waiting.try_recv().ok()));
            ("200 OK", packets.join("\u{1e}"))
        };
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: 7\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        stream.write_all(answer.as_bytes()).await.ok()
    }
}

#[tokio::test]
async fn every_door_carries_events_and_acks() {
    for door in Door::ALL {
        let (url, _server) = serve(60_000).await;
        let mut socket = Socket::connect(&url, "good", door).await.unwrap();
        assert_eq!(socket.user_id(), "u1", "{door:?}");
        if door == Door::Upgrade {
            socket.upgraded(LIMIT).await.unwrap();
        }
        assert_eq!(socket.call("echo", &json!({"a": "é"})).await.unwrap(), json!({"a": "é"}), "{door:?}");
        let refused = socket.call("nonsense", &()).await.unwrap_err();
        assert_eq!(refused.code(), "unknown", "{door:?}: {refused}");
        for n in 0..100 {
            socket.emit("tell", &n).await.unwrap();
        }
        let events = socket.collect_until(LIMIT, |events| events.len() == 100).await.unwrap();
        assert!(events.iter().enumerate().all(|(n, event)| event.name == "told" && event.json() == n), "{door:?}");
        socket.close().await.unwrap();
        assert_eq!(socket.closed(LIMIT).await.unwrap().ending, Ending::Local, "{door:?}");
    }
}

#[tokio::test]
async fn every_door_says_why_it_refuses() {
    for door in Door::ALL {
        let (url, _server) = serve(60_000).await;
        match (door, Socket::connect(&url, "bad", door).await.unwrap_err()) {
            (Door::WebSocket, ConnectError::Closed(close)) => {
                assert_eq!((close.ending, close.code, close.reason.as_str()), (Ending::CloseFrame, Some(4401), "the token is not valid"));
            }
            (_, ConnectError::Refused(error)) => assert_eq!(error["message"], "the token is not valid"),
            (door, other) => panic!("{door:?}: {other}"),
        }
    }
}

#[tokio::test]
async fn every_door_says_how_it_ends() {
    for (door, ending, code) in [
        (Door::WebSocket, Ending::CloseFrame, Some(4503)),
        (Door::SocketIo, Ending::EngineClose, None),
        (Door::Polling, Ending::EngineClose, None),
    ] {
        let (url, _server) = serve(60_000).await;
        let mut socket = Socket::connect(&url, "good", door).await.unwrap();
        let ended = socket.call("slow", &()).await.unwrap_err();
        assert!(matches!(ended, CallError::Closed(_)), "{door:?}: {ended}");
        let close = socket.closed(LIMIT).await.unwrap();
        assert_eq!((close.ending, close.code), (ending, code), "{door:?}");
    }
}

#[tokio::test]
async fn pings_are_answered_and_silence_ends_the_socket() {
    for door in [Door::SocketIo, Door::Polling] {
        let (url, server) = serve(300).await;
        let mut socket = Socket::connect(&url, "good", door).await.unwrap();
        socket.call("ping me", &()).await.unwrap();
        // The pong left before this command did.
        socket.call("echo", &1).await.unwrap();
        assert_eq!(server.engine.pongs.load(Ordering::SeqCst), 1, "{door:?}");
        let ending = socket.closed(LIMIT).await.unwrap().ending;
        assert!(ending == Ending::Silent || (door == Door::Polling && ending == Ending::Lost), "{door:?}: {ending:?}");
    }
}

#[tokio::test]
async fn events_wait_for_whoever_asks() {
    let (url, _server) = serve(60_000).await;
    let mut socket = Socket::connect(&url, "good", Door::WebSocket).await.unwrap();
    socket.emit("tell", "first").await.unwrap();
    socket.emit("tell", "second").await.unwrap();
    let second = socket.next_match("second", LIMIT, |event| event.json() == "second").await.unwrap();
    assert_eq!(second.name, "told");
    assert_eq!(socket.next_event("told", LIMIT).await.unwrap(), "first");
    let late = socket.next_event("never", Duration::from_millis(20)).await.unwrap_err();
    assert!(late.to_string().contains("no never"), "{late}");
}

#[tokio::test]
async fn a_socket_and_a_request_leave_from_the_address_they_are_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let source = "127.0.0.9".parse().unwrap();
    let options = Options { source: Some(source), ..Options::new(&url, Door::WebSocket, Auth::Missing) };
    let opening = tokio::spawn(options.open());
    assert_eq!(listener.accept().await.unwrap().1.ip(), source);
    opening.abort();
    let rest = Rest::from_source(&url, source);
    let asking = tokio::spawn(async move { rest.me().await });
    assert_eq!(listener.accept().await.unwrap().1.ip(), source);
    asking.abort();
}

#[tokio::test]
async fn a_refusal_is_read() {
    let (url, _server) = serve(60_000).await;
    let error = Rest::new(&url).with_prefix("").get("/refuse").await.unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!((error.status(), error.code(), refusal.retry_after_s, refusal.is_envelope), (429, "slow_down", Some(7), true));
}
