//! The scenarios beside writing: coming back, attacks; and whom the harness knows, and what it may load.

use std::{os::unix::fs::PermissionsExt, process::Command};

use crate::{
    fake::{self, Done, Faults},
    report::run,
};

async fn back_through(door: &str) {
    let (url, fake) = fake::start(Faults { keeps: true, ..Faults::default() }).await;
    let report = run(&url, &format!("reconnect --door {door} --sockets 40 --missed 60 --away 0.5 --burst 10 --threads 2")).await;
    let result = &report["result"];
    let count = |name: &str| result[name].as_u64().unwrap();
    assert_eq!([count("back"), count("not_recovered"), result["resumed"]["count"].as_u64().unwrap()], [40, 0, 40], "{door}");
    let messages = &result["messages"];
    for (name, expected) in [("acknowledged", 100), ("received", 100), ("lost", 0), ("doubled", 0), ("reordered", 0), ("unanswered", 0)] {
        assert_eq!(messages[name], expected, "{door}, {name}: {messages}");
    }
    assert_eq!(Done::count(&fake.done.messages), 100);
    let (first, last) = (result["first_ms"].as_f64().unwrap(), result["last_ms"].as_f64().unwrap());
    assert!(first > 0.0 && first <= last && last < 5_000.0, "{door}: {first} {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_is_told_once_what_he_missed() {
    tokio::join!(back_through("ws"), back_through("socketio"), back_through("polling"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attack_stands_beside_the_messages_and_is_counted() {
    let (url, fake) = fake::start(Faults::default()).await;
    let report = run(&url, "hostile storm --attackers 3 --pairs 2 --rate 100 --seconds 1 --warmup 0").await;
    let result = &report["result"];
    for phase in ["before", "during", "after"] {
        let count = |name: &str| result[phase][name].as_u64().unwrap();
        assert_eq!([count("acknowledged"), count("received"), count("lost"), count("doubled")], [100, 100, 0, 0], "{phase}");
    }
    assert_eq!(Done::count(&fake.done.messages), 300, "those who storm write nothing");
    assert!(result["attackers"]["connected"].as_u64().unwrap() > 3, "each came again: {}", result["attackers"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_kept_and_made_anew_for_a_server_that_does_not_know_them() {
    let people = format!("{}/people-{}.json", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    for _ in 0..2 {
        let (url, fake) = fake::start(Faults::default()).await;
        for _ in 0..2 {
            let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
            command.args(["pairs", "--pairs", "3", "--seconds", "0", "--warmup", "0.1", "--url", &url, "--people", &people]);
            let status = tokio::task::spawn_blocking(move || command.output().unwrap().status).await.unwrap();
            assert!(status.success());
            assert_eq!(fake.people(), 6, "made once for each server");
        }
    }
    assert_eq!(std::fs::metadata(&people).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(people).unwrap();
}

#[test]
fn other_machines_are_not_loaded() {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["idle", "--url", "http://192.0.2.1:80"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("only servers on this machine are loaded"));
}
