//! The real binary as one process, or as several behind a balancer, if [`pair`](super::pair) says so: any connection gets to any of
//! them, those of a session of long-polling to the one that began it. Sessions are known by what the nodes call them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::RngExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::pair::{Places, Streams};
use super::process::{Process, lasting_address};
use super::{cluster, keyspaces};

/// The largest head of a request.
const MAX_HEAD: usize = 64 << 10;

/// See the module.
pub struct Balanced {
    nodes: Vec<Process>,
    /// Where clients go.
    url: String,
    /// What the nodes share is kept under its name.
    folder: Arc<TempDir>,
    between: Option<(Streams, AbortHandle)>,
}

impl Balanced {
    /// Development nodes; limits are off.
    pub fn start() -> Self {
        let Some(streams) = Streams::new() else {
            let node = Process::start().ready();
            return Self { url: node.url(), folder: Arc::clone(&node.folder), nodes: vec![node], between: None };
        };
        let folder = Arc::new(TempDir::new().unwrap());
        let (store, bus) = (keyspaces::setting(folder.path()).unwrap(), streams.setting());
        let settings = [
            ("URGE_STORE", store.as_str()),
            ("URGE_BUS", bus.as_str()),
            ("URGE_BUS_NATS_NAME", streams.name()),
            ("URGE_SECRET_KEY", "the same on all nodes of the cluster"),
        ];
        let nodes: Vec<_> = (0..streams.count).map(|_| Process::with(&settings).ready()).collect();
        let addresses = nodes.iter().map(|node| node.address).collect();
        let (url, balancing) = cluster::block_on(balance(addresses));
        Self { nodes, url, folder, between: Some((streams, balancing)) }
    }

    /// Where clients go.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder whose store this is.
    pub fn folder(&self) -> PathBuf {
        if self.between.is_some() { self.folder.path().to_owned() } else { self.folder.path().join("data") }
    }

    /// Stops all of them, as a deployment does, and starts them again at their addresses.
    pub fn restart(&mut self) {
        self.terminate();
        for node in &mut self.nodes {
            node.start_again();
            node.until_ready();
        }
    }

    /// Ends all of them well.
    pub fn terminate(&mut self) {
        for node in &self.nodes {
            node.signal("TERM");
        }
        for node in &mut self.nodes {
            assert!(node.ended().success(), "the node did not stop well");
        }
    }

    /// Kills one of them, as a crash does, and starts it again.
    pub fn crash(&mut self, dice: &mut impl rand::Rng) {
        let which = dice.random_range(0..self.nodes.len());
        self.nodes[which].kill();
        self.nodes[which].start_again();
    }
}

impl Drop for Balanced {
    fn drop(&mut self) {
        self.nodes.clear();
        if let Some((streams, balancing)) = self.between.take() {
            balancing.abort();
            streams.end_with(Vec::new());
        }
    }
}

/// Lets connections to the address that is given back get to any of these nodes that is there, until it is told to end.
pub async fn balance(nodes: Vec<SocketAddr>) -> (String, AbortHandle) {
    let address = lasting_address();
    let listener = TcpListener::bind(address).await.unwrap();
    let balancer = Arc::new(Balancer { places: Places::new(nodes), sessions: Mutex::default() });
    (format!("http://{address}"), cluster::spawn(balancer.run(listener)).abort_handle())
}

/// What stands before the nodes.
struct Balancer {
    places: Places,
    sessions: Mutex<HashMap<String, SocketAddr>>,
}

impl Balancer {
    async fn run(self: Arc<Self>, listener: TcpListener) {
        while let Ok((client, _)) = listener.accept().await {
            let balancer = Arc::clone(&self);
            // What breaks here breaks for the client, who is the one to judge it.
            tokio::spawn(async move { balancer.carry(client).await });
        }
    }

    async fn carry(&self, mut client: TcpStream) -> io::Result<()> {
        let mut head = Vec::new();
        let end = loop {
            if let Some(at) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            if head.len() > MAX_HEAD || client.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&head[..end]).into_owned();
        let session = text.lines().next().and_then(|line| Some(line.split_once("sid=")?.1.split([' ', '&']).next()?.to_owned()));
        let (mut node, place) = self.connect(session.as_deref()).await?;
        let is_upgrade = text.lines().any(|line| line.to_ascii_lowercase().starts_with("upgrade:"));
        // One request a connection: a client would send its next one, of another session perhaps, to the same node.
        let kept = |line: &&str| is_upgrade || !line.to_ascii_lowercase().starts_with("connection:");
        let mut lines: Vec<_> = text.split("\r\n").filter(kept).collect();
        if !is_upgrade {
            lines.push("Connection: close");
        }
        node.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).await?;
        node.write_all(&head[end + 4..]).await?;
        if !is_upgrade && session.is_none() && text.contains("transport=polling") {
            return self.note_session(&mut node, &mut client, place).await;
        }
        tokio::io::copy_bidirectional(&mut client, &mut node).await.map(drop)
    }

    /// A connection to the node of this session, or to any that is there.
    async fn connect(&self, session: Option<&str>) -> io::Result<(TcpStream, SocketAddr)> {
        let known = session.and_then(|session| self.sessions.lock().get(session).copied());
        let mut order = known.map_or_else(|| self.places.in_any_order(), |place| vec![place]);
        loop {
            let place = order.remove(0);
            match TcpStream::connect(place).await {
                Err(_) if !order.is_empty() => {}
                connected => return Ok((connected?, place)),
            }
        }
    }

    /// Hands on the answer; the session that begins with it is this node's.
    async fn note_session(&self, node: &mut TcpStream, client: &mut TcpStream, place: SocketAddr) -> io::Result<()> {
        let mut answer = Vec::new();
        node.read_to_end(&mut answer).await?;
        if let Some((_, rest)) = String::from_utf8_lossy(&answer).split_once("\"sid\":\"") {
            let session = rest.split('"').next().unwrap_or_default().to_owned();
            self.sessions.lock().insert(session, place);
        }
        client.write_all(&answer).await
    }
}
