//! What the processes of a server cost: processes that do a known thing are named by `--pid`, in place of a server's.

use std::{
    fs,
    io::{self, Read, Write},
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::Value;

use crate::{
    fake::{self, Faults},
    report::{outcome, run},
};

/// Holds ten open files or more, three of them its streams, and 64 MB: all is read before any is written, of which a pipe takes little.
const HOLD: &str = "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null 7</dev/null 8</dev/null 9</dev/null; \
                    exec dd if=/dev/zero bs=64M count=1";

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn start(script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Waits until it has written something.
    fn written(&mut self) {
        self.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    /// Its open files, one by one: those of HOLD, and what this test was started with.
    fn files(&self) -> u64 {
        fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().count() as u64
    }

    /// Processor time so far, seconds: by a count of the kernel's scheduler, which the harness does not read.
    fn on_processor(&self) -> f64 {
        let counts = fs::read_to_string(format!("/proc/{}/schedstat", self.0.id())).unwrap();
        counts.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_costs_what_it_is_known_to_cost() {
    let (mut busy, mut holding) = (Process::start("echo; while :; do :; done"), Process::start(HOLD));
    busy.written();
    holding.written();
    let (url, _fake) = fake::start(Faults::default()).await;

    let (start, before) = (Instant::now(), busy.on_processor());
    let arguments = format!("pairs --pairs 2 --rate 20 --seconds 3 --warmup 0.5 --pid {} --pid {}", busy.0.id(), holding.0.id());
    let report = run(&url, &arguments).await;
    let share = (busy.on_processor() - before) / start.elapsed().as_secs_f64();

    let server = outcome(&report)["server"].as_array().unwrap();
    let pids: Vec<&Value> = server.iter().map(|usage| &usage["pid"]).collect();
    assert_eq!(pids, [busy.0.id(), holding.0.id()]);
    let cores = |place: usize| server[place]["cores"].as_f64().unwrap();
    // It has a processor for itself as far as others leave it one.
    assert!((share * 0.7..share * 1.3).contains(&cores(0)) && cores(0) < 1.05, "{share} of a processor: {server:?}");
    assert!(cores(1) < 0.02, "who holds does nothing: {server:?}");
    assert_eq!([&server[0]["files_peak"], &server[1]["files_peak"]], [busy.files(), holding.files()], "{server:?}");
    assert!(holding.files() >= 10);
    for rss in ["rss_start_kb", "rss_peak_kb", "rss_end_kb"] {
        let kb = server[1][rss].as_u64().unwrap();
        assert!((64 << 10..72 << 10).contains(&kb), "{rss}: 64 MB and the program itself: {server:?}");
        assert!(server[0][rss].as_u64().unwrap() < 8 << 10, "{rss}: a shell: {server:?}");
    }
    let line = report["line"].as_str().unwrap();
    assert!(line.contains(&format!("server {:.2} cores", cores(0))) && line.contains("server 0.0"), "{line}");
    assert_samples(&report, 3);
}

/// Each sample has a reading of each process, the harness's own last, and time and processor time only grow.
fn assert_samples(report: &Value, processes: usize) {
    assert_eq!(report["sampled"]["processes"].as_array().unwrap().len(), processes);
    let samples = report["sampled"]["samples"].as_array().unwrap();
    assert!(samples.len() >= 7, "two a second: {samples:?}");
    for pair in samples.windows(2) {
        assert!(pair[0]["at_ms"].as_u64() <= pair[1]["at_ms"].as_u64(), "{pair:?}");
        for place in 0..processes {
            let ticks = |sample: &Value| sample["processes"][place]["cpu_ticks"].as_u64().unwrap();
            assert!(ticks(&pair[0]) <= ticks(&pair[1]), "{pair:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_for_a_while_is_the_peak_and_an_end_is_seen() {
    let mut passing = Process::start(&format!("read go; {HOLD}"));
    let (url, fake) = fake::start(Faults::default()).await;
    let arguments = format!("pairs --pairs 2 --rate 20 --seconds 4 --warmup 0 --pid {}", passing.0.id());
    // A second after the first message until two seconds later.
    let hold = async {
        fake.messages(20).await;
        passing.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
        passing.written();
        let files = passing.files();
        fake.messages(60).await;
        io::copy(passing.0.stdout.as_mut().unwrap(), &mut io::sink()).unwrap();
        passing.0.wait().unwrap();
        files
    };
    let (report, files) = tokio::join!(run(&url, &arguments), hold);
    let usage = &outcome(&report)["server"][0];
    let kb = |name: &str| usage[name].as_u64().unwrap();
    assert!(kb("rss_start_kb") < 8 << 10 && (64 << 10..72 << 10).contains(&kb("rss_peak_kb")), "{usage}");
    assert_eq!((kb("rss_end_kb"), kb("files_peak")), (0, files), "{usage}");
    let samples = report["sampled"]["samples"].as_array().unwrap();
    assert!(samples[0]["processes"][0].is_object() && samples.last().unwrap()["processes"][0].is_null(), "{samples:?}");
}
