//! A connection as the HTTP engine sees it. It holds its place, also after an upgrade, until it is dropped; and it fails
//! when something waits to be written and the client takes none of it for too long. Upgraded ones are sockets, which have
//! rules of their own for slow readers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::places::Place;

/// Whether a connection has been upgraded.
#[derive(Clone, Debug, Default)]
pub struct Upgraded(Arc<AtomicBool>);

impl Upgraded {
    /// From now on it is a socket's.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection with its place.
pub struct Connection {
    stream: TcpStream,
    upgraded: Upgraded,
    /// How long a write may wait.
    patience: Duration,
    /// When the write that waits has waited for too long.
    overdue: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Connection {
    /// A connection that waits this long for its client to read.
    pub fn new(stream: TcpStream, place: Place, patience: Duration, upgraded: Upgraded) -> Self {
        metrics::gauge!("urge_connections").increment(1.0);
        Self { stream, upgraded, patience, overdue: None, _place: place }
    }

    /// What the client sees of it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The outcome of a write, unless it has waited for too long.
    fn in_time(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() || self.upgraded.0.load(Ordering::Relaxed) {
            self.overdue = None;
            return written;
        }
        let overdue = self.overdue.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        overdue.as_mut().poll(cx).map(|()| {
            metrics::counter!("urge_connections_stalled_total").increment(1);
            Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        metrics::gauge!("urge_connections").decrement(1.0);
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(written, cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.in_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::super::Proxies;
    use super::super::places::Places;
    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    /// A connection of this patience, and a client who does not read.
    async fn unread(patience: Duration, upgraded: Upgraded) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let places = Places::new(1, None, Proxies::default());
        let place = places.give(places.free().await.unwrap(), peer.ip()).unwrap();
        (Connection::new(stream, place, patience, upgraded), client)
    }

    /// Writes as long as it goes well.
    async fn fill(connection: &mut Connection) -> io::Error {
        loop {
            if let Err(error) = connection.write_all(&[0; 65_536]).await {
                return error;
            }
        }
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (mut connection, client) = unread(SHORT, Upgraded::default()).await;
        let filling = tokio::time::timeout(Duration::from_secs(10), fill(&mut connection));
        assert_eq!(filling.await.unwrap().kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    #[tokio::test]
    async fn who_reads_slowly_is() {
        let patience = Duration::from_secs(2);
        let (mut connection, client) = unread(patience, Upgraded::default()).await;
        // All of it takes longer than the patience, which is for one step.
        let (bytes, begun) = (vec![0; 32 * 1024 * 1024], std::time::Instant::now());
        let reading = async {
            let (mut read, mut part) = (0, vec![0; 1024 * 1024]);
            while read < bytes.len() {
                tokio::time::sleep(patience / 10).await;
                client.readable().await.unwrap();
                read += client.try_read(&mut part).unwrap_or(0);
            }
        };
        let (written, ()) = tokio::join!(connection.write_all(&bytes), reading);
        written.unwrap();
        assert!(begun.elapsed() > patience);
    }

    #[tokio::test]
    async fn sockets_have_their_own_rules() {
        let upgraded = Upgraded::default();
        upgraded.set();
        let (mut connection, client) = unread(SHORT, upgraded).await;
        assert!(tokio::time::timeout(SHORT * 5, fill(&mut connection)).await.is_err(), "it was given up");
        drop(client);
    }
}
