//! The real servers of the cluster, one of each, for all tests of a run: those that `URGE_TEST_SCYLLA` and `URGE_TEST_NATS` name,
//! or else what `tests/servers/servers.py` starts on a machine that can have them. On one that cannot, the tests of the cluster
//! are skipped, loudly; under `CI` that is a failure. What is named and does not answer is a failure anywhere.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use urge::store::{Prepared, Scylla, ScyllaOptions, Statements};

use super::command;

/// Where the servers are.
pub struct Servers {
    /// `host:port`, one or more.
    pub scylla: Vec<String>,
    /// `host:port`, one or more.
    pub nats: Vec<String>,
    /// Who may do what at a NATS that asks, and whom to believe.
    pub guarded: Option<Guarded>,
}

/// A NATS that is run as `nats/server/` says.
pub struct Guarded {
    /// The certificate of the authority that signed the servers'; others stand beside it.
    pub ca: PathBuf,
    /// The password of `urge`, who may do everything there.
    pub urge: String,
    /// Of `watcher`, who may only look.
    pub watcher: String,
    /// Of `system`, who has no streams.
    pub system: String,
}

/// The servers of this run; none on a machine that cannot have them.
pub fn servers() -> Option<&'static Servers> {
    static SERVERS: LazyLock<Option<Servers>> = LazyLock::new(|| named().or_else(started));
    SERVERS.as_ref()
}

fn named() -> Option<Servers> {
    let list = |name: &str| std::env::var(name).ok().map(|text| text.split(',').map(str::to_owned).collect());
    Some(Servers { scylla: list("URGE_TEST_SCYLLA")?, nats: list("URGE_TEST_NATS")?, guarded: None })
}

fn started() -> Option<Servers> {
    let missing: Vec<_> =
        ["python3", "java", "mvn", "openssl"].into_iter().filter(|tool| Command::new(tool).arg("--version").output().is_err()).collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "{missing:?} must be installed: the cluster's servers need them");
        let words = format!("SKIPPED, NOTHING OF THE CLUSTER WAS TESTED: {missing:?} not found\n");
        // Past the harness, which keeps what a passing test prints to itself.
        std::io::stderr().write_all(words.as_bytes()).unwrap();
        return None;
    }
    // A set of its own: it ends with this process, whoever else tests on this machine.
    Some(start(&state("servers"), &[]))
}

fn state(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()))
}

/// Tells this set of servers something; what was printed.
fn tell(state: &Path, arguments: &[&str]) -> String {
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/servers.py"));
    let output = command::tool(script.arg("--state").arg(state).args(arguments));
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "servers.py {arguments:?} failed:\n{printed}{errors}");
    printed.into_owned()
}

fn start(state: &Path, options: &[&str]) -> Servers {
    let pid = std::process::id().to_string();
    let printed = tell(state, &[&["start", "--until", &pid], options].concat());
    // Of a set of one kind of servers the others' line is missing.
    let value = |name: &str| printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let list = |name: &str| value(name).into_iter().flat_map(|line| line.split(',')).map(str::to_owned).collect();
    let word = |name: &str| value(name).unwrap().to_owned();
    let guarded = value("URGE_TEST_NATS_CA").map(|ca| Guarded {
        ca: PathBuf::from(ca),
        urge: word("URGE_TEST_NATS_URGE"),
        watcher: word("URGE_TEST_NATS_WATCHER"),
        system: word("URGE_TEST_NATS_SYSTEM"),
    });
    Servers { scylla: list("URGE_TEST_SCYLLA"), nats: list("URGE_TEST_NATS"), guarded }
}

/// Servers that a test may stop, or that are set up otherwise than those of the run. They end with this process.
pub struct OwnServers {
    state: PathBuf,
    /// Where they are.
    pub servers: Servers,
}

impl OwnServers {
    /// Starts them, with these options of `servers.py start`; none where there are none for the run.
    pub fn start(name: &str, options: &[&str]) -> Option<Self> {
        servers()?;
        let state = state(name);
        let servers = start(&state, options);
        Some(Self { state, servers })
    }

    /// A NATS of one's own beside the run's store.
    pub fn nats_beside(name: &str) -> Option<(Self, Servers)> {
        let own = Self::start(name, &["--only", "nats"])?;
        let both = Servers { scylla: servers()?.scylla.clone(), nats: own.servers.nats.clone(), guarded: None };
        Some((own, both))
    }

    /// `pause`, `resume`, `kill` or `restart`, and which.
    pub fn tell(&self, what: &str, server: &str) {
        self.ask(&[what, server]);
    }

    /// Any command of `servers.py`; what it prints.
    pub fn ask(&self, command: &[&str]) -> String {
        tell(&self.state, command)
    }
}

impl Drop for OwnServers {
    fn drop(&mut self) {
        tell(&self.state, &["stop"]);
    }
}

/// Lets this address lead to a server from now on.
pub async fn forward(address: SocketAddr, to: String) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let Ok(mut to) = TcpStream::connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
}

/// Where sessions live: each test has a runtime of its own, and a session ends with the one that it was made on.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Does this there, and waits for it: not on a test's own runtime, which must not be blocked by another one.
pub fn block_on<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    std::thread::spawn(|| RUNTIME.block_on(work)).join().unwrap()
}

/// Does this there, whether or not somebody waits for it.
pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    RUNTIME.spawn(work)
}

/// Does this there.
pub async fn within<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    spawn(work).await.unwrap()
}

/// The keyspace of this run, connected to once.
pub fn scylla() -> Option<&'static Scylla> {
    static SCYLLA: LazyLock<Option<Scylla>> = LazyLock::new(|| {
        let nodes = servers()?.scylla.clone();
        let keyspace = new_keyspace();
        Some(block_on(async move { Scylla::connect(&ScyllaOptions { nodes, keyspace, login: None, migrate: Some(1) }).await.unwrap() }))
    });
    SCYLLA.as_ref()
}

/// A name that no keyspace has.
pub fn new_keyspace() -> String {
    format!("urge_test_{}", uuid::Uuid::now_v7().simple())
}

/// The store of a feature on the cluster.
pub async fn on_cluster<S: Statements>() -> Option<Prepared<S>> {
    Some(scylla()?.prepared().await.unwrap())
}
