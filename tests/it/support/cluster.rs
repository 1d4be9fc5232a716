//! The real servers of the cluster, one of each, for all tests of a run: those that `URGE_TEST_SCYLLA` and `URGE_TEST_NATS` name,
//! or else what `tests/servers/servers.py` starts on a machine that can have them. On one that cannot, the tests of the cluster
//! are skipped, loudly; under `CI` that is a failure. What is named and does not answer is a failure anywhere.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::Runtime;
use urge::store::{Prepared, Scylla, ScyllaOptions, Statements};

use super::command;

/// Where the servers are.
pub struct Servers {
    /// `host:port`, one or more.
    pub scylla: Vec<String>,
    /// `host:port`, one or more.
    pub nats: Vec<String>,
}

/// The servers of this run; none on a machine that cannot have them.
pub fn servers() -> Option<&'static Servers> {
    static SERVERS: LazyLock<Option<Servers>> = LazyLock::new(|| named().or_else(started));
    SERVERS.as_ref()
}

fn named() -> Option<Servers> {
    let list = |name: &str| std::env::var(name).ok().map(|text| text.split(',').map(str::to_owned).collect());
    Some(Servers { scylla: list("URGE_TEST_SCYLLA")?, nats: list("URGE_TEST_NATS")? })
}

fn started() -> Option<Servers> {
    let missing: Vec<_> =
        ["python3", "java", "mvn"].into_iter().filter(|tool| Command::new(tool).arg("--version").output().is_err()).collect();
    if !missing.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "{missing:?} must be installed: the cluster's servers need them");
        let words = format!("SKIPPED, NOTHING OF THE CLUSTER WAS TESTED: {missing:?} not found\n");
        // Past the harness, which keeps what a passing test prints to itself.
        std::io::stderr().write_all(words.as_bytes()).unwrap();
        return None;
    }
    let set = OwnServers::start(&[]);
    Some(Servers { scylla: set.list("URGE_TEST_SCYLLA"), nats: set.list("URGE_TEST_NATS") })
}

/// A set of servers of its own, for tests that kill and pause them. It ends with this process, whoever else tests on this machine.
pub struct OwnServers {
    state: PathBuf,
    printed: String,
}

impl OwnServers {
    /// Starts it, with these further arguments.
    pub fn start(arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id().to_string();
        let name = format!("servers-{pid}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut set = Self { state: Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), printed: String::new() };
        set.printed = set.run(&[&["start", "--until", &pid], arguments].concat());
        set
    }

    /// A command of the script: `kill`, `pause`, `resume`, `restart` or `wipe` and a server's name.
    pub fn run(&self, arguments: &[&str]) -> String {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/servers.py"));
        let output = command::tool(script.arg("--state").arg(&self.state).args(arguments));
        let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "servers.py {arguments:?} failed:\n{printed}{errors}");
        printed.into_owned()
    }

    /// Where the servers are that this variable names, `host:port` each.
    pub fn list(&self, name: &str) -> Vec<String> {
        let line = self.printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{name} is not in {}", self.printed)).split(',').map(str::to_owned).collect()
    }
}

/// Where sessions live: each test has a runtime of its own, and a session ends with the one that it was made on.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// Does this there, and waits for it: not on a test's own runtime, which must not be blocked by another one.
pub fn block_on<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    std::thread::spawn(|| RUNTIME.block_on(work)).join().unwrap()
}

/// Does this there.
pub async fn within<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    RUNTIME.spawn(work).await.unwrap()
}

/// The keyspace of this run, connected to once.
pub fn scylla() -> Option<&'static Scylla> {
    static SCYLLA: LazyLock<Option<Scylla>> = LazyLock::new(|| {
        let nodes = servers()?.scylla.clone();
        let keyspace = new_keyspace();
        Some(block_on(async move { Scylla::connect(&ScyllaOptions { nodes, keyspace, migrate: Some(1) }).await.unwrap() }))
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
