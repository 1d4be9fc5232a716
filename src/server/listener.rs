//! The listener: accepts connections and feeds their requests to one endpoint.
//! It does what poem's own lacks: TCP_NODELAY, time limits for heads and for readers who do not read, a limit of
//! connections (upgraded ones count until they end), a pause when the process is out of files, and a shutdown that finishes
//! what has begun.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::endpoint::BoxEndpoint;
use poem::http::StatusCode;
use poem::http::uri::Scheme;
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Endpoint, Response};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::exchange::Exchanges;
use super::places::Places;
use crate::config::ServerSettings;
use crate::error::Error;
use crate::rest::failure::whole_answer;

/// The first pause after a failed accept; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause: clients that wait in the kernel's queue must not time out.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a node that stops waits for the first request of who has just connected: it is on its way.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// A head and what is buffered of a body; larger heads are refused.
const BUFFER_BYTES: usize = 64 * 1024;

/// Connections that may wait in the kernel's queue, which may allow fewer: all clients of a node that has died come at once.
const BACKLOG: u32 = 4_096;

/// Listens on this address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted node takes its port back at once, whatever connections of the old one still linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves connections until `stop`, then closes the listener, finishes requests under way and returns;
/// what is not done after the drain timeout is cut off.
pub async fn serve(
    listener: TcpListener,
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    settings: &ServerSettings,
    places: Places,
    stop: CancellationToken,
) {
    let serving = Serving::new(endpoint, settings, places, stop.clone());
    stop.run_until_cancelled(serving.accept(&listener)).await;
    serving.close(listener);
    serving.finish().await;
}

/// An endpoint and the connections that it serves.
pub struct Serving<'a> {
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    settings: &'a ServerSettings,
    places: Places,
    http: hyper::server::conn::http1::Builder,
    connections: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl<'a> Serving<'a> {
    /// No connections yet. From `stop` on, those that there are take no more requests.
    pub fn new(
        endpoint: Arc<BoxEndpoint<'static, Response>>,
        settings: &'a ServerSettings,
        places: Places,
        stop: CancellationToken,
    ) -> Self {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(settings.header_timeout).max_buf_size(BUFFER_BYTES);
        Self { endpoint, settings, places, http, connections: TaskTracker::new(), stop, cut: CancellationToken::new() }
    }

    /// Serves who connects to this listener. When it is dropped, those who have connected are served on, and those who wait
    /// in the kernel's queue are whoever's who accepts next.
    pub async fn accept(&self, listener: &TcpListener) -> Infallible {
        let mut accept = Accept { listener, pause: FIRST_PAUSE };
        loop {
            // The semaphore of the places is never closed.
            let Some(permit) = self.places.free().await else { std::future::pending().await };
            let (stream, peer) = accept.next().await;
            self.serve(stream, peer, permit);
        }
    }

    /// Serves who has connected by now, if there is a place, and closes the listener: that resets who waits in the kernel's queue.
    /// tokio looks there only when it has been told of somebody, which may be later than this, and for so many at a time.
    fn close(&self, listener: TcpListener) {
        let listener = match listener.into_std() {
            Ok(listener) => listener,
            Err(error) => return cannot_accept(&error),
        };
        for _ in 0..BACKLOG {
            let Some(permit) = self.places.free_now() else { return };
            let accepted = listener.accept().and_then(|(stream, peer)| {
                stream.set_nonblocking(true)?;
                Ok((TcpStream::from_std(stream)?, peer))
            });
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer, permit),
                Err(error) if is_of_the_connection(&error) => {}
                // Nobody waits any more.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return cannot_accept(&error),
            }
        }
    }

    /// Serves this connection, or says that there is no place for it.
    fn serve(&self, stream: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
        let place = match self.places.give(permit, peer.ip()) {
            Ok(place) => place,
            Err(error) => return turn_away(stream, &error),
        };
        let (http, endpoint, stop, cut) = (self.http.clone(), Arc::clone(&self.endpoint), self.stop.clone(), self.cut.clone());
        let exchanges = Exchanges::default();
        let connection = Connection::new(stream, place, self.settings.write_timeout, exchanges.clone());
        self.connections.spawn(async move {
            let serving = serve_connection(&http, connection, exchanges, endpoint, stop);
            cut.run_until_cancelled(serving).await;
        });
    }

    /// Waits until the connections have ended; what is left of them after the drain timeout is cut off.
    pub async fn finish(self) {
        let Self { connections, cut, settings, .. } = self;
        connections.close();
        if tokio::time::timeout(settings.drain_timeout, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests were cut off: they took longer than the drain timeout");
            cut.cancel();
            connections.wait().await;
        }
    }
}

struct Accept<'a> {
    listener: &'a TcpListener,
    pause: Duration,
}

impl Accept<'_> {
    /// The next connection. An error of one connection is skipped; an error of the process (no files, no memory)
    /// pauses, and is logged when it begins: who has connected waits in the kernel's queue and is not lost.
    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => {
                    if self.pause > FIRST_PAUSE {
                        tracing::info!("connections are accepted again");
                        self.pause = FIRST_PAUSE;
                    }
                    return accepted;
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    if self.pause == FIRST_PAUSE {
                        tracing::error!(%error, "connections cannot be accepted; trying on");
                    }
                    metrics::counter!("urge_accept_errors_total").increment(1);
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// At the end nobody tries again.
fn cannot_accept(error: &io::Error) {
    metrics::counter!("urge_accept_errors_total").increment(1);
    tracing::warn!(%error, "who had just connected was turned away");
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused)
}

/// Answers without a request and closes. What has arrived is not read, so the answer may be lost: then it was refused.
fn turn_away(stream: TcpStream, error: &Error) {
    metrics::counter!("urge_connections_refused_total", "reason" => error.code.name()).increment(1);
    // Whatever does not fit into a fresh connection's empty buffer is not waited for.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(&whole_answer(error));
    }
}

async fn serve_connection(
    http: &hyper::server::conn::http1::Builder,
    connection: Connection,
    exchanges: Exchanges,
    endpoint: Arc<BoxEndpoint<'static, Response>>,
    stop: CancellationToken,
) {
    // It ended before it began: there is nobody to serve.
    let (Ok(local), Ok(peer)) = (connection.stream().local_addr(), connection.stream().peer_addr()) else { return };
    if let Err(error) = connection.stream().set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let asked = exchanges.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (endpoint, exchanges, exchange) = (Arc::clone(&endpoint), exchanges.clone(), exchanges.begin());
        async move {
            let request = poem::Request::from((request, LocalAddr(local.into()), RemoteAddr(peer.into()), Scheme::HTTP));
            let response = endpoint.get_response(request).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                exchanges.upgrade();
            }
            Ok::<_, Infallible>(http::Response::from(response).map(|body| exchange.track(body)))
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(connection), service).with_upgrades());
    let stopped = async {
        stop.cancelled().await;
        // hyper would close what nothing has been read from yet.
        let _ = tokio::time::timeout(FIRST_REQUEST, asked.first()).await;
    };
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read as _;
    use std::net::Ipv4Addr;

    use poem::EndpointExt as _;

    use super::*;
    use crate::server::Proxies;

    /// More than tokio takes at a time.
    const CLIENTS: usize = 300;

    fn settings() -> ServerSettings {
        ServerSettings {
            max_connections: CLIENTS,
            connections_per_network: CLIENTS,
            write_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
            requests_per_minute: 60,
            request_burst: 60,
            user_requests_per_minute: 60,
            user_request_burst: 60,
        }
    }

    /// On one thread, which has not asked the kernel for news since they have connected.
    #[tokio::test]
    async fn who_has_connected_as_it_stops_is_answered() {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
                client
            })
            .collect();
        let stop = CancellationToken::new();
        stop.cancel();
        let endpoint = Arc::new(poem::endpoint::make_sync(|_| Response::from("here")).boxed());
        let places = Places::new(CLIENTS, None, Proxies::default());
        let settings = settings();
        tokio::time::timeout(Duration::from_secs(10), serve(listener, endpoint, &settings, places, stop)).await.unwrap();
        for mut client in clients {
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"), "{answer}");
        }
    }
}
