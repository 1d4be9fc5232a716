//! A cable between a node and a server of its cluster: it can be cut, which ends what goes through it and lets nothing new
//! through, and mended; and it can lose some of what the node sends, or is sent, one message of NATS's protocol at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::PATIENCE;

/// What a node sends to the server, or is sent.
pub struct Passing<'a> {
    /// How the node's end began: who it is, to the server; nothing of what comes from there.
    pub connection: &'a str,
    /// `PUB subject 5`, say.
    pub line: &'a str,
    /// What is published.
    pub payload: &'a [u8],
}

impl Passing<'_> {
    /// Whether these bytes are in what is published.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        self.payload.windows(bytes.len()).any(|some| some == bytes)
    }
}

/// What becomes of it.
pub enum Fate {
    /// It arrives.
    Arrives,
    /// It alone does not.
    Lost,
    /// The connection ends.
    Ends,
}

type Judge = Box<dyn FnMut(&Passing<'_>) -> Fate + Send>;

/// See the module.
pub struct Cable {
    /// Where the node finds the server.
    pub address: SocketAddr,
    whole: watch::Sender<bool>,
    judge: Arc<Mutex<Judge>>,
    judge_of_coming: Arc<Mutex<Judge>>,
    lost: watch::Sender<usize>,
}

impl Cable {
    /// One to this `host:port`.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (whole, is_whole) = watch::channel(true);
        let [judge, judge_of_coming] = [(); 2].map(|()| Arc::new(Mutex::new(Box::new(|_: &Passing<'_>| Fate::Arrives) as Judge)));
        let judges = (Arc::clone(&judge), Arc::clone(&judge_of_coming));
        let cable = Self { address, whole, judge, judge_of_coming, lost: watch::Sender::new(0) };
        let (server, lost) = (server.to_owned(), cable.lost.clone());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (server, mut is_whole, judges, lost) = (server.clone(), is_whole.clone(), judges.clone(), lost.clone());
                tokio::spawn(async move {
                    if !*is_whole.borrow_and_update() {
                        return;
                    }
                    let Ok(far) = TcpStream::connect(server).await else { return };
                    let (Ok(()), Ok(())) = (near.set_nodelay(true), far.set_nodelay(true)) else { return };
                    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        _ = carry(near_read, far_write, &judges.0, &lost) => {}
                        _ = carry(far_read, near_write, &judges.1, &lost) => {}
                        _ = is_whole.wait_for(|is_whole| !is_whole) => {}
                    }
                });
            }
        });
        cable
    }

    /// Cuts it.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Mends it.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }

    /// From now on this says what becomes of what the node sends.
    pub fn judge(&self, judge: impl FnMut(&Passing<'_>) -> Fate + Send + 'static) {
        *self.judge.lock() = Box::new(judge);
    }

    /// The same of what it is sent.
    pub fn judge_coming(&self, judge: impl FnMut(&Passing<'_>) -> Fate + Send + 'static) {
        *self.judge_of_coming.lock() = Box::new(judge);
    }

    /// Waits until so many messages are lost.
    pub async fn has_lost(&self, count: usize) {
        let (mut lost, enough) = (self.lost.subscribe(), format!("{count} messages are lost"));
        timeout(PATIENCE, lost.wait_for(|lost| *lost >= count)).await.expect(&enough).unwrap();
    }
}

/// Carries what the one end sends, as far as it is to arrive.
async fn carry(
    near: impl AsyncRead + Unpin,
    mut far: impl AsyncWrite + Unpin,
    judge: &Mutex<Judge>,
    lost: &watch::Sender<usize>,
) -> io::Result<()> {
    let (mut near, mut connection, mut bytes) = (BufReader::new(near), String::new(), Vec::new());
    loop {
        bytes.clear();
        if near.read_until(b'\n', &mut bytes).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let begin = bytes.len();
        if line.starts_with("CONNECT ") {
            connection.clone_from(&line);
        }
        if ["PUB ", "HPUB ", "MSG ", "HMSG "].iter().any(|kind| line.starts_with(kind)) {
            let size: usize = line.rsplit(' ').next().and_then(|size| size.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
            bytes.resize(begin + size + 2, 0);
            near.read_exact(&mut bytes[begin..]).await?;
        }
        let fate = (judge.lock())(&Passing { connection: &connection, line: &line, payload: &bytes[begin..] });
        match fate {
            Fate::Arrives => far.write_all(&bytes).await?,
            Fate::Lost => lost.send_modify(|lost| *lost += 1),
            Fate::Ends => return Ok(()),
        }
    }
}
