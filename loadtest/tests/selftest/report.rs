//! Runs of the program, and what their reports say.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::Value;

use crate::fake::{Done, Fake};

static RUNS: AtomicU32 = AtomicU32::new(0);

/// Runs the harness; its report.
pub async fn run(url: &str, arguments: &str) -> Value {
    let number = RUNS.fetch_add(1, Ordering::SeqCst);
    let folder = format!("{}/selftest-{}-{number}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(arguments.split(' ')).args(["--url", url, "--people", &format!("{folder}/people.json")]);
    command.args(["--json", &format!("{folder}/report.json")]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let report = serde_json::from_slice(&std::fs::read(format!("{folder}/report.json")).unwrap()).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1, "one line of result");
    std::fs::remove_dir_all(&folder).unwrap();
    report
}

/// What it says of the phase.
pub fn outcome(report: &Value) -> &Value {
    &report["result"]["outcome"]
}

/// Its counts: lost, doubled, reordered, unanswered, refused.
pub fn faults(report: &Value) -> [u64; 5] {
    let outcome = outcome(report);
    let refused = outcome["refused"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    let count = |name: &str| outcome[name].as_u64().unwrap();
    [count("lost"), count("doubled"), count("reordered"), count("unanswered"), refused]
}

/// What the server did, in the same order; the deliveries of what it did not answer are not missed.
pub fn done(fake: &Fake) -> [u64; 5] {
    [&fake.done.dropped, &fake.done.doubled, &fake.done.swapped, &fake.done.silenced, &fake.done.refused].map(Done::count)
}

/// How many deliveries there should have been by what the server did, each receiver counted once.
pub fn delivered(fake: &Fake) -> u64 {
    Done::count(&fake.done.deliveries) - Done::count(&fake.done.dropped)
}

/// Lets the last swapped ones go once no next one comes.
pub fn release_in_the_end(fake: &Arc<Fake>) {
    let fake = Arc::clone(fake);
    tokio::spawn(async move {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = Done::count(&fake.done.messages);
            if now > 0 && now == before {
                fake.release();
            }
            before = now;
        }
    });
}
