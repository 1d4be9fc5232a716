//! Programs that run to their end. One that does not end is killed and fails its test: it would hold all others up for ever.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long a command of the binary may take: it may wait a few seconds for another node to let the data folder go.
const COMMAND: Duration = Duration::from_secs(30);
/// How long other tools may take: they download what they need.
const TOOL: Duration = Duration::from_mins(10);

/// Runs this binary of ours to its end.
pub fn output(command: &mut Command) -> Output {
    bounded(command, COMMAND)
}

/// Runs a tool to its end, one that installs something for example.
pub fn tool(command: &mut Command) -> Output {
    bounded(command, TOOL)
}

fn bounded(command: &mut Command, bound: Duration) -> Output {
    // A group of its own, so that what it has started ends with it: those would keep its output open.
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
    let group = format!("-{}", child.id());
    let (ended, waiting) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        let is_late = waiting.recv_timeout(bound) == Err(mpsc::RecvTimeoutError::Timeout);
        if is_late {
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        }
        is_late
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(!watch.join().unwrap(), "{command:?} did not end within {bound:?}; it said:\n{}{}", said[0], said[1]);
    output
}

#[test]
#[should_panic(expected = "did not end within 1s; it said:\nhere\n")]
fn what_does_not_end_is_killed_with_all_that_it_started() {
    bounded(Command::new("sh").args(["-c", "echo here; sleep 1000 & sleep 1000"]), Duration::from_secs(1));
}
