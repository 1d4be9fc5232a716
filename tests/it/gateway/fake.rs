//! A gateway that lets in whoever names himself, echoes, and tells what it saw; the doors in front of it on a free port;
//! and the rawest of clients.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use poem::Endpoint;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use urge::error::{Error, ErrorCode, Result};
use urge::event::{Event, EventKind};
use urge::gateway::{CloseReason, Command, Credentials, Doors, Gateway, Login, Mark, Outgoing, Settings, Socket, Visitor};
use urge::id::{ConversationId, MessageId, SessionId, UserId};

/// Nothing in these tests takes this long.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub enum Seen {
    Opened(Arc<Socket>),
    Wrote(Vec<Mark>),
    Closed(Option<CloseReason>),
}

pub struct Fake {
    seen: mpsc::UnboundedSender<Seen>,
    pub sockets: Mutex<HashMap<UserId, Vec<Arc<Socket>>>>,
    /// A send of "slow" and the token "late" wait for a permit.
    pub gate: Semaphore,
    /// Nobody gets in any more, and nobody is told so.
    pub stuck: AtomicBool,
    pub draining: AtomicBool,
    pub visitors: Mutex<Vec<Visitor>>,
}

#[async_trait]
impl Gateway for Fake {
    async fn authenticate(&self, credentials: Credentials, visitor: &Visitor) -> Result<Login> {
        self.visitors.lock().push(visitor.clone());
        let (Credentials::Token(name) | Credentials::Ticket(name)) = credentials;
        match name.as_str() {
            "away" => Err(Error::new(ErrorCode::Unavailable, "the store is away")),
            "late" => {
                self.gate.acquire().await.map_err(Error::internal)?.forget();
                Err(Error::unauthenticated("the token is not valid"))
            }
            "unverified" => Err(Error::new(ErrorCode::PhoneUnverified, "verify the phone number first")),
            name => match name.parse() {
                Ok(user_id) => Ok(Login { user_id, session_id: SessionId::fresh() }),
                Err(_) => Err(Error::unauthenticated("the token is not valid")),
            },
        }
    }

    async fn open(&self, socket: &Arc<Socket>) -> Result<()> {
        self.sockets.lock().entry(socket.user_id).or_default().push(socket.clone());
        self.seen.send(Seen::Opened(socket.clone())).ok();
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn command(&self, socket: &Arc<Socket>, command: Command) -> Result<Bytes> {
        let answer = match command {
            Command::Join { conversation_id, bare } => {
                socket.opened(conversation_id, bare, None);
                json!({"conversationId": conversation_id, "bare": bare})
            }
            Command::Send(body) => {
                let body: Value = serde_json::from_str(body.get()).map_err(|_| Error::bad_request("no"))?;
                match body["content"].as_str() {
                    Some("slow") => self.gate.acquire().await.map_err(Error::internal)?.forget(),
                    Some("forbidden") => return Err(Error::new(ErrorCode::Forbidden, "not here")),
                    _ => {}
                }
                json!({"content": body["content"]})
            }
            Command::Resume { known } => {
                let count = known.values().sum::<i64>();
                for n in 0..count {
                    socket.send_paced(message(n, &"x".repeat(1000))).await;
                }
                json!({"recovered": true, "sent": count})
            }
            other => json!({"did": other.name()}),
        };
        Ok(answer.to_string().into())
    }

    fn wrote(&self, _: &Arc<Socket>, marks: &[Mark]) {
        self.seen.send(Seen::Wrote(marks.to_vec())).ok();
    }

    fn closed(&self, socket: &Arc<Socket>) {
        self.sockets.lock().entry(socket.user_id).or_default().retain(|open| open.id != socket.id);
        self.seen.send(Seen::Closed(socket.closing())).ok();
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}

/// `message:received` with this place and content.
pub fn message(seq: i64, content: &str) -> Arc<Outgoing> {
    let mark =
        Mark { conversation_id: ConversationId::fresh(), seq, message_id: MessageId::fresh(), sender_id: UserId::fresh(), is_large: false };
    let data = json!({"id": mark.message_id, "seq": seq, "conversationId": mark.conversation_id, "content": content});
    Outgoing::new(Event::new(EventKind::MessageReceived, &data).unwrap(), Some(mark))
}

/// The doors on a free port.
pub struct House {
    pub address: SocketAddr,
    pub fake: Arc<Fake>,
    pub doors: Arc<Doors>,
    seen: mpsc::UnboundedReceiver<Seen>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl House {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, settings)
    }

    pub fn on(listener: TcpListener, settings: Settings) -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        let fake = Fake {
            seen: sender,
            sockets: Mutex::default(),
            gate: Semaphore::new(0),
            stuck: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            visitors: Mutex::default(),
        };
        let fake = Arc::new(fake);
        let doors = Doors::new(fake.clone(), settings);
        let address = listener.local_addr().unwrap();
        let routes = Arc::new(doors.mount(poem::Route::new()));
        let listening = tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let routes = routes.clone();
                let service = service_fn(move |request| {
                    let routes = routes.clone();
                    let request = poem::Request::from((request, LocalAddr(address.into()), RemoteAddr(peer.into()), Scheme::HTTP));
                    async move { Ok::<_, Infallible>(poem::http::Response::from(routes.get_response(request).await)) }
                });
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        Self { address, fake, doors, seen, listening }
    }

    pub async fn seen(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.expect("the gateway is called").unwrap()
    }

    pub async fn opened(&mut self) -> Arc<Socket> {
        loop {
            if let Seen::Opened(socket) = self.seen().await {
                return socket;
            }
        }
    }

    pub async fn wrote(&mut self) -> Vec<i64> {
        loop {
            if let Seen::Wrote(marks) = self.seen().await {
                return marks.iter().map(|mark| mark.seq).collect();
            }
        }
    }

    pub async fn closed(&mut self) -> Option<CloseReason> {
        loop {
            if let Seen::Closed(reason) = self.seen().await {
                return reason;
            }
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A WebSocket at this path, with these headers.
    pub async fn dial(&self, path: &str, headers: &[(&'static str, String)]) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        // Small, so that a client that does not read is soon felt.
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (stream, _) =
            timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await.unwrap().expect("the upgrade is answered");
        Raw(stream)
    }

    /// `/ws`, let in as `user`, `authenticated` read.
    pub async fn enter(&self, user: UserId) -> Raw {
        let mut raw = self.dial("/ws", &[("authorization", format!("Bearer {user}"))]).await;
        assert_eq!(raw.json().await, json!({"event": "authenticated", "data": {"userId": user}}));
        raw
    }
}

/// What came last.
#[derive(Debug, PartialEq)]
pub enum Came {
    Text(String),
    Ping,
    /// The close frame's code and words.
    Close(u16, String),
    /// No close frame.
    Lost,
}

/// A WebSocket client that knows no protocol.
pub struct Raw(pub WebSocketStream<TcpStream>);

impl Raw {
    pub async fn send(&mut self, text: impl Into<String>) {
        self.0.send(Message::Text(text.into().into())).await.unwrap();
    }

    pub async fn came(&mut self) -> Came {
        loop {
            return match timeout(PATIENCE, self.0.next()).await.expect("something comes") {
                Some(Ok(Message::Text(text))) => Came::Text(text.to_string()),
                Some(Ok(Message::Ping(_))) => Came::Ping,
                Some(Ok(Message::Close(Some(frame)))) => Came::Close(frame.code.into(), frame.reason.to_string()),
                Some(Ok(Message::Close(None)) | Err(_)) | None => Came::Lost,
                Some(Ok(_)) => continue,
            };
        }
    }

    pub async fn text(&mut self) -> String {
        loop {
            match self.came().await {
                Came::Text(text) => return text,
                Came::Ping => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Reads on to the end; gives back how many frames came first.
    pub async fn end(&mut self) -> (usize, Came) {
        let mut count = 0;
        loop {
            match self.came().await {
                Came::Text(_) => count += 1,
                Came::Ping => {}
                end => return (count, end),
            }
        }
    }

    /// The end's close code.
    pub async fn code(&mut self) -> u16 {
        match self.end().await.1 {
            Came::Close(code, _) => code,
            other => panic!("{other:?}"),
        }
    }
}
