//! The real binary as a process of its own, which can be stopped, killed and started again at the same address.
//! For what a node in this process cannot show: other languages' clients, crashes, signals.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use tempfile::TempDir;

use super::keyspaces;
use super::node::PATIENCE;

/// What the reader of its log does once the node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Reads on to the end.
    Reads,
    /// Keeps the pipe and reads no more.
    Stalls,
    /// Closes the pipe.
    Leaves,
}

/// What a node has logged so far.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// A running `urge serve`.
pub struct Process {
    /// Where it listens; the same after a restart.
    pub address: SocketAddr,
    /// Its data folder; it outlives the process.
    pub folder: Arc<TempDir>,
    settings: Vec<(String, String)>,
    prelude: String,
    log: Arc<Log>,
    reader: Reader,
    child: Child,
    /// Held open and not read.
    unread: Option<BufReader<ChildStdout>>,
    /// Reads its log.
    reading: Option<JoinHandle<()>>,
}

impl Process {
    /// A development node in a new folder, on a free port; limits by address, user and socket are off.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same with more environment variables.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::under(":", settings)
    }

    /// The same, started by a shell that has done `prelude` before: limits, traps.
    pub fn under(prelude: &str, settings: &[(&str, &str)]) -> Self {
        Self::read_by(Reader::Reads, prelude, settings)
    }

    /// The same with a reader of its log that may stop reading.
    pub fn read_by(reader: Reader, prelude: &str, settings: &[(&str, &str)]) -> Self {
        let (prelude, log) = (prelude.to_owned(), Arc::default());
        let mut settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>();
        let folder = Arc::new(TempDir::new().unwrap());
        if !settings.iter().any(|(name, _)| name == "URGE_STORE") {
            settings.extend(keyspaces::setting(folder.path()).map(|store| ("URGE_STORE".to_owned(), store)));
        }
        let address = lasting_address().to_string();
        let Launched { child, address, unread, reading } = launch(&address, &folder, &settings, &prelude, &log, reader);
        Self { address, folder, settings, prelude, log, reader, child, unread, reading }
    }

    /// The same once it is ready: while a store of its own is made it answers that it is not.
    pub fn ready(self) -> Self {
        self.until_ready();
        self
    }

    /// Waits until it is ready.
    pub fn until_ready(&self) {
        let began = Instant::now();
        let asked = || {
            let mut connection = TcpStream::connect(self.address)?;
            connection.write_all(b"GET /ready HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).map(|_| answer)
        };
        while !asked().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            assert!(began.elapsed() < PATIENCE, "the node does not become ready: {:#?}", self.log());
            // It tells nobody by itself.
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether a line of its log has these words.
    pub fn has_logged(&self, words: &str) -> bool {
        self.log.lines.lock().unwrap().iter().any(|line| line.contains(words))
    }

    /// The first line of its log with these words, which it writes sooner or later.
    pub fn logged(&self, words: &str) -> String {
        let lacks = |lines: &mut Vec<String>| !lines.iter().any(|line| line.contains(words));
        let (lines, _) = self.log.grown.wait_timeout_while(self.log.lines.lock().unwrap(), PATIENCE, lacks).unwrap();
        lines.iter().find(|line| line.contains(words)).unwrap_or_else(|| panic!("no line with {words:?}: {lines:#?}")).clone()
    }

    /// The lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap().clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    /// Sends it this signal, `INT` for example.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "the node is not there any more");
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        // A node that does not stop would hold the test for ever.
        let (stopped, waiting) = mpsc::channel::<()>();
        let watch = thread::spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &pid]).status();
            }
        });
        let status = self.child.wait().unwrap();
        drop(stopped);
        watch.join().unwrap();
        // What it said last is in the log then.
        self.reading.take().map(JoinHandle::join);
        status
    }

    /// Ends it as a crash does (SIGKILL).
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, at the same address and in the same folder.
    pub fn start_again(&mut self) {
        let address = self.address.to_string();
        let launched = launch(&address, &self.folder, &self.settings, &self.prelude, &self.log, self.reader);
        (self.child, self.unread, self.reading) = (launched.child, launched.unread, launched.reading);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that is free and stays so while the node is down. Not of the ports that the kernel gives to whoever connects:
/// a client that knocks at such a one while nobody listens may be given that same port and reach itself, and then the node
/// cannot have it back.
pub fn lasting_address() -> SocketAddr {
    let mut ports = rand::rng();
    let is_free = |address: &SocketAddr| TcpListener::bind(address).is_ok();
    let any = std::iter::repeat_with(|| SocketAddr::from(([127, 0, 0, 1], ports.random_range(10_000..30_000))));
    any.take(1_000).find(is_free).unwrap()
}

/// A node that listens.
struct Launched {
    child: Child,
    address: SocketAddr,
    unread: Option<BufReader<ChildStdout>>,
    /// None when its log is not read on.
    reading: Option<JoinHandle<()>>,
}

/// Starts the binary and waits for the log line that says where it listens.
fn launch(listen: &str, folder: &TempDir, settings: &[(String, String)], prelude: &str, log_lines: &Arc<Log>, reader: Reader) -> Launched {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{prelude}; exec \"$0\""), env!("CARGO_BIN_EXE_urge")]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("URGE_")) {
        command.env_remove(name);
    }
    command
        .current_dir(folder.path())
        .env("URGE_LISTEN", listen)
        .env("URGE_DATA_DIR", folder.path().join("data"))
        .env("URGE_RATE_LIMIT", "off")
        .env("NO_COLOR", "1")
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap());
    let (found, address) = mpsc::channel();
    let kept = Arc::clone(log_lines);
    let reading = thread::spawn(move || {
        for line in log.by_ref().lines().map_while(Result::ok) {
            let listens = if line.contains("listening") { listened(&line) } else { None };
            kept.lines.lock().unwrap().push(line);
            kept.grown.notify_all();
            if let Some(address) = listens {
                if reader != Reader::Reads {
                    let _ = found.send((address, (reader == Reader::Stalls).then_some(log)));
                    return;
                }
                let _ = found.send((address, None));
            }
        }
    });
    match address.recv_timeout(PATIENCE) {
        Ok((address, unread)) => Launched { child, address, unread, reading: (reader == Reader::Reads).then_some(reading) },
        Err(error) => {
            let _ = child.kill();
            panic!("the node does not listen ({error}); it ended with {:?}", child.wait());
        }
    }
}

fn listened(line: &str) -> Option<SocketAddr> {
    let address = &line[line.find("127.0.0.1:")?..];
    let end = address.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(address.len());
    address[..end].parse().ok()
}
