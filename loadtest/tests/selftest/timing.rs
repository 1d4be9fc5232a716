//! What the server is known to take is what is said of it: a stall, a limit, a surge; and the lateness of the harness itself.

use std::time::Duration;

use crate::{
    fake::{self, Faults},
    report::{faults, outcome, run},
};

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
    assert!(outcome(&late)["receive"]["p50_us"].as_u64().unwrap() >= 10_000, "its lateness is in the latencies");
    let in_time = run(&url, "pairs --pairs 2 --rate 200 --seconds 1 --warmup 0 --max-lag-ms 5000").await;
    assert_eq!(outcome(&in_time)["harness"]["limited_by_harness"], false);
}
