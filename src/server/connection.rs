//! A connection as the HTTP engine sees it. It holds its place, also after an upgrade, until it is dropped; it fails when
//! something waits to be written and the client takes none of it for too long; and what the engine answers by itself, with
//! an empty body, leaves with the envelope. Upgraded ones are sockets, which have rules of their own for slow readers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::exchange::Exchanges;
use super::places::Place;
use super::unparsed;

/// A connection with its place.
pub struct Connection {
    stream: TcpStream,
    exchanges: Exchanges,
    /// As many exchanges had begun when the last answer had left as a whole.
    settled: u64,
    /// What leaves instead of what the engine writes, and how much of it has.
    instead: Option<(Vec<u8>, usize)>,
    /// How long a write may wait.
    patience: Duration,
    /// When the write that waits has waited for too long.
    overdue: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl Connection {
    /// A connection that waits this long for its client to read.
    pub fn new(stream: TcpStream, place: Place, patience: Duration, exchanges: Exchanges) -> Self {
        metrics::gauge!("urge_connections").increment(1.0);
        Self { stream, exchanges, settled: 0, instead: None, patience, overdue: None, _place: place }
    }

    /// What the client sees of it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes `slices`, unless they are the engine's own answer to what it could not read: then ours, and all of theirs
    /// count as written. Nobody else writes when all answers have left and no request has come.
    fn write(&mut self, slices: &[io::IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.instead.is_none() && self.exchanges.begun() == self.settled {
            self.instead = slices.iter().find(|slice| !slice.is_empty()).and_then(|first| unparsed::answer(first)).map(|bytes| (bytes, 0));
        }
        let Some((bytes, sent)) = &mut self.instead else { return Pin::new(&mut self.stream).poll_write_vectored(cx, slices) };
        while *sent < bytes.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*sent..]))? {
                0 => return Poll::Ready(Ok(0)),
                count => *sent += count,
            }
        }
        self.instead = None;
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    /// The outcome of a write, unless it has waited for too long.
    fn in_time(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() || self.exchanges.is_upgraded() {
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
        let written = self.write(&[io::IoSlice::new(bytes)], cx);
        self.in_time(written, cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = self.write(slices, cx);
        self.in_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The engine flushes when it has handed over all that it had.
        if let Some(begun) = self.exchanges.begun_and_ended() {
            self.settled = begun;
        }
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
    async fn unread(patience: Duration, exchanges: Exchanges) -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let places = Places::new(1, None, Proxies::default());
        let place = places.give(places.free().await.unwrap(), peer.ip()).unwrap();
        (Connection::new(stream, place, patience, exchanges), client)
    }

    /// Writes as long as it goes well.
    async fn fill(connection: &mut Connection) -> io::Error {
        loop {
            if let Err(error) = connection.write_all(&[0; 8_192]).await {
                return error;
            }
        }
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_waited_for() {
        let (mut connection, client) = unread(SHORT, Exchanges::default()).await;
        let filling = tokio::time::timeout(Duration::from_secs(10), fill(&mut connection));
        assert_eq!(filling.await.unwrap().kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    #[tokio::test]
    async fn who_reads_slowly_is() {
        let patience = Duration::from_secs(2);
        let (mut connection, client) = unread(patience, Exchanges::default()).await;
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
        let exchanges = Exchanges::default();
        exchanges.upgrade();
        let (mut connection, client) = unread(SHORT, exchanges).await;
        assert!(tokio::time::timeout(SHORT * 5, fill(&mut connection)).await.is_err(), "it was given up");
        drop(client);
    }
}
