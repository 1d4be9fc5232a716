//! The official Socket.IO clients as judges of the real binary: the scenario of `tests/client/README.md`, in three languages.
//! What a language needs is installed when it is missing. Without its tools the test is skipped, loudly; under `CI` that is a failure.

use std::fs;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Balanced, World, command};

/// No check waits longer than 15 s for each of its events; the longest has four.
const LINE_TIMEOUT: Duration = Duration::from_secs(75);
/// Fewer checks than this means that the scenario was not run.
const FEWEST_CHECKS: usize = 25;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Whether all these programs are there.
pub fn have(tools: &[&str]) -> bool {
    let missing: Vec<&&str> = tools.iter().filter(|tool| Command::new(tool).arg("--version").output().is_err()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{missing:?} must be installed");
    // Past the harness, which keeps what a passing test prints to itself.
    io::stderr().write_all(format!("SKIPPED, NOTHING WAS TESTED: {missing:?} not found\n").as_bytes()).unwrap();
    false
}

/// Whether `made` is there and no older than what it is made from.
fn is_fresh(made: &Path, sources: &[PathBuf]) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    modified(made).is_some_and(|made| sources.iter().all(|source| modified(source).is_some_and(|source| source <= made)))
}

fn must_run(command: &mut Command) {
    let output = command::tool(command);
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs the scenario over each transport against one node, or two, which restart when the scenario asks for it.
fn judge(transports: &[&str], program: impl Fn() -> Command) {
    let mut node = Balanced::start();
    for transport in transports {
        let mut command = program();
        for (name, value) in tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(people(node.url())) {
            command.env(name, value);
        }
        run(command.env("URGE_TRANSPORT", transport), transport, &mut node);
    }
}

/// Two users with two logins each, and their conversation.
async fn people(url: &str) -> Vec<(&'static str, String)> {
    let world = World::at(url);
    let (a, b) = (world.person_with_password("Ada").await, world.person_with_password("Ben").await);
    vec![
        ("URGE_URL", url.to_owned()),
        ("URGE_CONVERSATION", world.direct(&a, &b).await),
        ("URGE_REST_TOKEN_A", a.another_device().await.account.access_token),
        ("URGE_REST_TOKEN_B", b.another_device().await.account.access_token),
        ("URGE_TOKEN_A", a.account.access_token),
        ("URGE_TOKEN_B", b.account.access_token),
    ]
}

fn run(command: &mut Command, transport: &str, node: &mut Balanced) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (send, lines) = mpsc::channel();
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let (mut passed, mut failures) = (0, Vec::new());
    loop {
        let line = match lines.recv_timeout(LINE_TIMEOUT) {
            Ok(line) => line,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                failures.push("nothing came any more".to_owned());
                break;
            }
        };
        match serde_json::from_str::<Value>(&line) {
            Ok(line) if line["want"] == "restart" => node.restart(),
            Ok(line) if line["ok"] == true => passed += 1,
            _ => failures.push(line),
        }
    }
    let status = child.wait().unwrap();
    assert!(failures.is_empty(), "over {transport}, {passed} passed, but:\n{}", failures.join("\n"));
    assert!(status.success() && passed >= FEWEST_CHECKS, "over {transport}: {status}, {passed} passed");
}

/// The folder in which the official JavaScript client is installed; none where there is no JavaScript.
pub fn javascript() -> Option<&'static Path> {
    static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let folder = root().join("tests/client/js");
        if !have(&["node", "npm"]) {
            return None;
        }
        if !is_fresh(&folder.join("node_modules/.package-lock.json"), &[folder.join("package-lock.json")]) {
            must_run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder));
        }
        Some(folder)
    });
    FOLDER.as_deref()
}

#[test]
fn javascript_client() {
    let Some(folder) = javascript() else { return };
    judge(&["websocket", "polling", "upgrade"], || {
        let mut command = Command::new("node");
        command.arg(folder.join("scenario.mjs"));
        command
    });
}

#[test]
fn python_client() {
    if !have(&["python3"]) {
        return;
    }
    let folder = root().join("tests/client/python");
    let requirements = folder.join("requirements.txt");
    let environment = root().join("target/client/python");
    let installed = environment.join("installed");
    if !is_fresh(&installed, std::slice::from_ref(&requirements)) {
        must_run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment));
        must_run(
            Command::new(environment.join("bin/python")).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements),
        );
        fs::write(&installed, "").unwrap();
    }
    judge(&["websocket", "polling"], || {
        let mut command = Command::new(environment.join("bin/python"));
        command.arg(folder.join("scenario.py"));
        command
    });
}

#[test]
fn java_client() {
    if !have(&["java", "mvn"]) {
        return;
    }
    let folder = root().join("tests/client/java");
    let built = root().join("target/client/java");
    if !is_fresh(&built.join("classes/Scenario.class"), &[folder.join("Scenario.java"), folder.join("pom.xml")]) {
        must_run(Command::new("mvn").args(["--quiet", "--batch-mode", "process-classes"]).current_dir(&folder));
    }
    judge(&["websocket"], || {
        let mut command = Command::new("java");
        command.arg("-cp").arg(format!("{0}/classes:{0}/jars/*", built.display())).arg("Scenario");
        command
    });
}
