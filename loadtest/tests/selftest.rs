//! The harness against a server whose faults are known: its report must say exactly those, and no others.
//! The program itself is run, so that its command line and its file are tested with it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fake;

use std::{
    os::unix::fs::PermissionsExt,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use fake::{Done, Fake, Faults};
use serde_json::Value;

static RUNS: AtomicU32 = AtomicU32::new(0);

/// Runs the harness; its report.
async fn run(url: &str, arguments: &str) -> Value {
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
fn outcome(report: &Value) -> &Value {
    &report["result"]["outcome"]
}

/// Its counts: lost, doubled, reordered, unanswered, refused.
fn faults(report: &Value) -> [u64; 5] {
    let outcome = outcome(report);
    let refused = outcome["refused"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    let count = |name: &str| outcome[name].as_u64().unwrap();
    [count("lost"), count("doubled"), count("reordered"), count("unanswered"), refused]
}

/// What the server did, in the same order; the deliveries of what it did not answer are not missed.
fn done(fake: &Fake) -> [u64; 5] {
    [&fake.done.dropped, &fake.done.doubled, &fake.done.swapped, &fake.done.silenced, &fake.done.refused].map(Done::count)
}

/// Lets the last swapped ones go once no next one comes.
fn release_in_the_end(fake: &Arc<Fake>) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_faults_has_none() {
    let (url, fake) = fake::start(Faults::default()).await;
    let report = run(&url, "pairs --pairs 5 --rate 200 --seconds 1 --warmup 0.5 --threads 2").await;
    assert_eq!(faults(&report), [0; 5]);
    let count = |name: &str| outcome(&report)[name].as_u64().unwrap();
    assert_eq!([count("intended"), count("sent"), count("acknowledged"), count("received")], [300; 4]);
    assert_eq!(outcome(&report)["receive"]["count"], 200, "the warm-up is left out");
    assert_eq!(Done::count(&fake.done.messages), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_report_exactly_what_was_done_to_them() {
    let faults_made = Faults { drop_every: 37, double_every: 41, swap_every: 29, delay: Duration::from_millis(20), ..Faults::default() };
    let (url, fake) = fake::start(faults_made).await;
    release_in_the_end(&fake);
    let report = run(&url, "pairs --pairs 3 --rate 300 --seconds 2 --warmup 0.5 --arrivals poisson").await;
    assert_eq!(faults(&report), done(&fake));
    let [lost, doubled, reordered, ..] = done(&fake);
    assert!(lost >= 15 && doubled >= 10 && reordered >= 15, "{:?}", done(&fake));
    for latency in ["ack", "receive"] {
        let p50_us = outcome(&report)[latency]["p50_us"].as_u64().unwrap();
        assert!((20_000..150_000).contains(&p50_us), "the delay of 20 ms and little more: {latency} {p50_us} us");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_reports_exactly_what_was_done_to_it() {
    let faults_made = Faults { drop_every: 101, double_every: 103, swap_every: 97, delay: Duration::from_millis(5), ..Faults::default() };
    let (url, fake) = fake::start(faults_made).await;
    release_in_the_end(&fake);
    let report = run(&url, "fanout --members 20 --senders 3 --rate 100 --seconds 2 --warmup 0.5 --threads 2").await;
    assert_eq!(faults(&report), done(&fake));
    assert!(done(&fake)[..3].iter().all(|count| *count > 30), "{:?}", done(&fake));
    let last = outcome(&report)["last"]["count"].as_u64().unwrap();
    assert_eq!(last, 200, "each measured message has a last delivery");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_silence_are_told_apart() {
    let (url, fake) = fake::start(Faults { refuse_every: 13, silence_every: 17, ..Faults::default() }).await;
    for send in ["socket", "post"] {
        let before = done(&fake);
        let report = run(&url, &format!("pairs --pairs 3 --rate 200 --seconds 1 --warmup 0 --drain 3 --send {send}")).await;
        let made: Vec<u64> = done(&fake).iter().zip(before).map(|(now, before)| now - before).collect();
        assert_eq!(faults(&report).to_vec(), made, "{send}");
        assert_eq!(outcome(&report)["refused"]["unavailable"], made[4], "{send}");
        assert!(made[3] > 5 && made[4] > 5, "{send}: {made:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_is_in_the_latencies_of_all_who_waited() {
    let stall = Duration::from_millis(500);
    let (url, _fake) = fake::start(Faults { stall_after: 200, stall, ..Faults::default() }).await;
    let report = run(&url, "pairs --pairs 5 --rate 200 --seconds 4 --warmup 0.5").await;
    assert_eq!(faults(&report), [0; 5]);
    let latency = &outcome(&report)["receive"];
    let at = |name: &str| latency[name].as_u64().unwrap();
    // 100 of 800 came due in the stall: one in eight waited, some of them for nearly all of it.
    assert_eq!(latency["count"], 800, "none was held back");
    assert!(at("p50_us") < 100_000, "{latency}");
    assert!(at("p90_us") > 60_000 && at("p99_us") > 400_000 && at("max_us") < 1_500_000, "{latency}");
    let windows = outcome(&report)["windows"].as_array().unwrap();
    let slow = windows.iter().filter(|window| window["p99_us"].as_u64().unwrap() > 250_000).count();
    assert!((1..=4).contains(&slow), "only the windows of the stall are slow: {windows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_highest_rate_is_that_of_the_server() {
    let (url, _fake) = fake::start(Faults { service: Duration::from_millis(4), ..Faults::default() }).await;
    let report = run(&url, "max pairs --pairs 5 --from 60 --step-seconds 1 --retries 1").await;
    let search = &report["result"]["search"];
    let step = |which: &str| &search["steps"][search[which].as_u64().unwrap() as usize];
    let level = |which: &str| step(which)["level"].as_f64().unwrap();
    // It bears 250 a second; what is over that makes its queue grow past the limit within a step, unless it is very little.
    assert!(level("held") < 280.0 && level("broken") > 240.0, "{search}");
    assert!(level("broken") / level("held") < 1.06, "{search}");
    assert_ne!(step("broken")["broke"], "loss", "{search}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_surge_is_seen_and_so_is_its_end() {
    let (url, _fake) = fake::start(Faults { service: Duration::from_millis(4), ..Faults::default() }).await;
    let report = run(&url, "pairs --pairs 5 --rate 50 --warmup 0.5 --seconds 4 --surge-rate 500 --surge-seconds 1 --window-ms 250").await;
    assert_eq!(faults(&report), [0; 5]);
    assert_eq!(outcome(&report)["sent"], 50 * 8 + 25 + 500);
    let surge = &report["result"]["surge"];
    let p99_us = |when: &str| surge[when]["p99_us"].as_u64().unwrap();
    assert!(p99_us("during") > 500_000 && p99_us("during") > 4 * p99_us("before"), "{surge}");
    // 250 are left in the queue, which shrinks by 200 a second.
    let normal_after_ms = surge["normal_after_ms"].as_u64().unwrap();
    assert!((500..3_000).contains(&normal_after_ms), "{surge}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_harness_that_is_late_says_so() {
    let (url, _fake) = fake::start(Faults::default()).await;
    let late = run(&url, "pairs --pairs 2 --rate 200 --seconds 1 --warmup 0 --hold-us 10000").await;
    assert_eq!(outcome(&late)["harness"]["limited_by_harness"], true);
    assert!(late["line"].as_str().unwrap().contains("THE HARNESS WAS LATE"));
    assert_eq!(faults(&late), [0; 5], "late, yet nothing is left out");
    let in_time = run(&url, "pairs --pairs 2 --rate 200 --seconds 1 --warmup 0 --max-lag-ms 5000").await;
    assert_eq!(outcome(&in_time)["harness"]["limited_by_harness"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_is_told_once_what_he_missed() {
    let (url, fake) = fake::start(Faults { keeps: true, ..Faults::default() }).await;
    let report = run(&url, "reconnect --sockets 40 --missed 60 --away 0.5 --burst 10 --threads 2").await;
    let result = &report["result"];
    let count = |name: &str| result[name].as_u64().unwrap();
    assert_eq!([count("back"), count("not_recovered"), result["resumed"]["count"].as_u64().unwrap()], [40, 0, 40]);
    let messages = &result["messages"];
    for (name, expected) in [("acknowledged", 100), ("received", 100), ("lost", 0), ("doubled", 0), ("reordered", 0), ("unanswered", 0)] {
        assert_eq!(messages[name], expected, "{name}: {messages}");
    }
    assert_eq!(Done::count(&fake.done.messages), 100);
    let (first, last) = (result["first_ms"].as_f64().unwrap(), result["last_ms"].as_f64().unwrap());
    assert!(first > 0.0 && first <= last && last < 5_000.0, "{first} {last}");
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
