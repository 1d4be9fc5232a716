//! What was done to messages is what is said of them: exactly, through each door.

use std::time::Duration;

use crate::{
    fake::{self, Done, Fake, Faults},
    report::{delivered, done, faults, outcome, release_in_the_end, run},
};

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

/// Nothing else than these faults has happened: all was sent, and no socket has ended or heard what was not for it.
fn assert_nothing_else(report: &serde_json::Value, fake: &Fake) {
    let outcome = outcome(report);
    assert_eq!(outcome["sent"], outcome["intended"]);
    assert_eq!(outcome["sent"], Done::count(&fake.done.messages));
    assert_eq!(outcome["received"], delivered(fake));
    for nothing in ["unsent", "strays", "stray_acks"] {
        assert_eq!(outcome[nothing], 0, "{nothing}");
    }
    assert_eq!(outcome["closed"], serde_json::json!({}));
}

/// In twos, with a delay that is long beside what a busy machine adds.
async fn pairs_through(door: &str) {
    let delay = Duration::from_millis(200);
    let faults_made = Faults { drop_every: 37, double_every: 41, swap_every: 29, delay, ..Faults::default() };
    let (url, fake) = fake::start(faults_made).await;
    release_in_the_end(&fake);
    let report = run(&url, &format!("pairs --door {door} --pairs 3 --rate 300 --seconds 2 --warmup 0.5 --arrivals poisson")).await;
    assert_eq!(report["settings"]["door"], door);
    assert_eq!(faults(&report), done(&fake));
    assert_nothing_else(&report, &fake);
    let [lost, doubled, reordered, ..] = done(&fake);
    assert!(lost >= 15 && doubled >= 10 && reordered >= 15, "{:?}", done(&fake));
    for latency in ["ack", "receive"] {
        let p50_us = outcome(&report)[latency]["p50_us"].as_u64().unwrap();
        assert!((200_000..210_000).contains(&p50_us), "the delay of 200 ms and a twentieth at most: {latency} {p50_us} us");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_report_exactly_what_was_done_to_them() {
    pairs_through("ws").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_through_socket_io_do_too() {
    pairs_through("socketio").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pairs_through_long_polling_do_too() {
    pairs_through("polling").await;
}

async fn group_through(door: &str) {
    let faults_made = Faults { drop_every: 101, double_every: 103, swap_every: 97, delay: Duration::from_millis(5), ..Faults::default() };
    let (url, fake) = fake::start(faults_made).await;
    release_in_the_end(&fake);
    let report = run(&url, &format!("fanout --door {door} --members 20 --senders 3 --rate 100 --seconds 2 --warmup 0.5 --threads 2")).await;
    assert_eq!(faults(&report), done(&fake), "{door}");
    assert_nothing_else(&report, &fake);
    assert!(done(&fake)[..3].iter().all(|count| *count > 30), "{door}: {:?}", done(&fake));
    let last = outcome(&report)["last"]["count"].as_u64().unwrap();
    assert_eq!(last, 200, "{door}: each measured message has a last delivery");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_reports_exactly_what_was_done_to_it() {
    tokio::join!(group_through("ws"), group_through("socketio"), group_through("polling"));
}

async fn refused_through(way: &str) {
    let (url, fake) = fake::start(Faults { refuse_every: 13, silence_every: 17, ..Faults::default() }).await;
    let report = run(&url, &format!("pairs --pairs 3 --rate 200 --seconds 1 --warmup 0 --drain 3 {way}")).await;
    let made = done(&fake);
    assert_eq!(faults(&report), made, "{way}");
    assert_eq!(outcome(&report)["refused"]["unavailable"], made[4], "{way}");
    assert!(made[3] > 5 && made[4] > 5, "{way}: {made:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_silence_are_told_apart() {
    let through = refused_through;
    tokio::join!(through("--door ws"), through("--door socketio"), through("--door polling"), through("--send post"));
}
