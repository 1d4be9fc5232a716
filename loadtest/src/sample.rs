//! What processes cost while they are loaded: processor time, resident memory and open files, read from /proc.
//! The harness samples itself too: both share the machine.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::Serialize;

use crate::failure::{Failure, Result, Trying};

/// How often.
const EVERY: Duration = Duration::from_millis(500);
/// Samples kept at most: ten hours.
const MAX_SAMPLES: usize = 72_000;
/// The kernel counts processor time in these; 100 a second wherever Linux runs.
const TICKS_PER_SECOND: f64 = 100.0;

/// One look at a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reading {
    /// Processor time since it started, hundredths of a second.
    pub cpu_ticks: u64,
    /// Resident memory.
    pub rss_kb: u64,
    /// Open files.
    pub files: u64,
}

/// One look at all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Since the sampler started.
    pub at_ms: u64,
    /// As the processes were named, the harness itself last; none where a process has ended.
    pub processes: Vec<Option<Reading>>,
}

/// What a process did in a stretch of time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    /// Which process.
    pub pid: u32,
    /// Processors kept busy.
    pub cores: f64,
    /// Resident memory at the start,
    pub rss_start_kb: u64,
    /// at its highest,
    pub rss_peak_kb: u64,
    /// and at the end.
    pub rss_end_kb: u64,
    /// Open files at their most.
    pub files_peak: u64,
}

/// Looks at a process.
pub fn read(pid: u32) -> Option<Reading> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    let folder = format!("/proc/{pid}/fd");
    // Newer kernels give the number of open files as the folder's size; elsewhere it is counted.
    let files = match fs::metadata(&folder).map(|folder| folder.len()) {
        Ok(files @ 1..) => files,
        _ => fs::read_dir(&folder).map(|files| files.count() as u64).unwrap_or_default(),
    };
    Some(Reading { cpu_ticks: ticks(11)? + ticks(12)?, rss_kb: rss.unwrap_or(0), files })
}

/// How many files this process may open.
pub fn max_files() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}

/// Samples until it is dropped.
#[derive(Debug)]
pub struct Sampler {
    pids: Vec<u32>,
    start: Instant,
    samples: Arc<Mutex<Vec<Sample>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Samples these processes and the harness itself.
    pub fn start(servers: &[u32]) -> Result<Self> {
        if let Some(pid) = servers.iter().find(|pid| read(**pid).is_none()) {
            return Err(Failure::new(format!("there is no process {pid} to sample")));
        }
        let pids: Vec<u32> = servers.iter().copied().chain([std::process::id()]).collect();
        let (start, samples, stop) = (Instant::now(), Arc::<Mutex<Vec<Sample>>>::default(), Arc::<AtomicBool>::default());
        let (kept, stopped, own_pids) = (Arc::clone(&samples), Arc::clone(&stop), pids.clone());
        let thread = std::thread::Builder::new().name("sampler".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let sample = look(&own_pids, start);
                let mut kept = kept.lock();
                if kept.len() < MAX_SAMPLES {
                    kept.push(sample);
                }
                drop(kept);
                std::thread::park_timeout(EVERY);
            }
        });
        Ok(Self { pids, start, samples, stop, thread: Some(thread.trying("starting the sampler")?) })
    }

    /// The processes' ids, the harness's own last.
    pub fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// A look now, kept with the others.
    pub fn mark(&self) -> Sample {
        let sample = look(&self.pids, self.start);
        self.samples.lock().push(sample.clone());
        sample
    }

    /// What each process did between two looks.
    pub fn usage(&self, from: &Sample, to: &Sample) -> Vec<Usage> {
        let samples = self.samples.lock();
        let seconds = (to.at_ms.saturating_sub(from.at_ms)).max(1) as f64 / 1000.0;
        let usage = |(place, pid): (usize, &u32)| {
            let at = |sample: &Sample| sample.processes.get(place).copied().flatten().unwrap_or_default();
            let (first, last) = (at(from), at(to));
            let between = samples.iter().filter(|sample| (from.at_ms..=to.at_ms).contains(&sample.at_ms)).map(at);
            let (rss_peak_kb, files_peak) = between.fold((0, 0), |(rss, files), one| (one.rss_kb.max(rss), one.files.max(files)));
            Usage {
                pid: *pid,
                cores: last.cpu_ticks.saturating_sub(first.cpu_ticks) as f64 / TICKS_PER_SECOND / seconds,
                rss_start_kb: first.rss_kb,
                rss_peak_kb,
                rss_end_kb: last.rss_kb,
                files_peak,
            }
        };
        self.pids.iter().enumerate().map(usage).collect()
    }

    /// What each process did in the last second or so.
    pub fn lately(&self) -> Vec<Usage> {
        let samples = self.samples.lock();
        let last = samples.last().cloned();
        let first = samples.iter().rev().nth(2).or(samples.first()).cloned();
        drop(samples);
        match (first, last) {
            (Some(first), Some(last)) => self.usage(&first, &last),
            _ => Vec::new(),
        }
    }

    /// All samples so far, in the order of time.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = self.samples.lock().clone();
        samples.sort_by_key(|sample| sample.at_ms);
        samples
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn look(pids: &[u32], start: Instant) -> Sample {
    Sample { at_ms: start.elapsed().as_millis() as u64, processes: pids.iter().map(|pid| read(*pid)).collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn this_process_is_seen_at_work() {
        let sampler = Sampler::start(&[]).unwrap();
        let before = sampler.mark();
        let start = Instant::now();
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_millis(300) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let usage = sampler.usage(&before, &sampler.mark()).remove(0);
        assert_eq!(usage.pid, std::process::id());
        assert!(usage.cores > 0.1 && usage.rss_peak_kb > 100 && usage.files_peak > 2, "{usage:?}");
        assert!(max_files().unwrap() > 0);
        assert!(Sampler::start(&[u32::MAX]).is_err());
    }
}
