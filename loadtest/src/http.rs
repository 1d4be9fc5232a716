//! HTTP/1.1 requests over a keep-alive pool, and the TCP connections of websockets.
//! Both may leave from a chosen loopback address: one address has some 28,000 ports towards a server, a load test needs more.
//! No TLS and no redirects: what is tested here listens on this machine.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::net::{TcpSocket, TcpStream};

/// Idle connections are kept this long; shorter than any server's own limit, so that none is used as it closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a server answered, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The header as text, if it is there and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text, broken characters replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// It took longer than the caller allowed.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// No connection, or it broke.
    #[error("the request failed: {0}")]
    Broken(String),
}

/// A pool of connections. Clones share it; it belongs to the runtime on which it is first used.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    /// A pool whose connections leave from `source`, or from where the system likes.
    pub fn new(source: Option<IpAddr>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_local_address(source);
        connector.set_reuse_address(source.is_some());
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT).build(connector);
        Self { client }
    }

    /// Sends the request and reads the whole answer, both within `limit`.
    pub async fn send(&self, request: Request<Full<Bytes>>, limit: Duration) -> Result<Answer, HttpError> {
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| HttpError::Broken(chain(&error)))?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(|error| HttpError::Broken(chain(&error)))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(limit, exchange).await.map_err(|_| HttpError::Timeout(limit))?
    }
}

/// An error with its causes in one line; hyper's own text names only the outermost.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A TCP connection to `authority` (`host:port`), Nagle off, leaving from `source` if one is given.
pub async fn dial(authority: &str, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{authority} has no address"));
    for address in tokio::net::lookup_host(authority).await? {
        match dial_address(address, source).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn dial_address(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        // Ports that linger from closed connections are free for new ones.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
