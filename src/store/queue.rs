//! The queues to the store's threads: bounded, taken from in whole groups, and asleep while there is nothing to do.
//! A channel that spins and yields before it sleeps costs a twentieth of the processor here: between two commits there
//! mostly is a pause, and it is longer than any spin.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// A bounded queue between tasks, which never wait, and threads, which do.
pub(super) struct Queue<T> {
    jobs: Mutex<Jobs<T>>,
    filled: Condvar,
    limit: usize,
}

struct Jobs<T> {
    waiting: VecDeque<T>,
    is_closed: bool,
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are as many as may wait.
    Full,
    /// Nobody takes any more.
    Closed,
}

impl<T> Queue<T> {
    /// A queue in which up to `limit` jobs wait.
    pub fn new(limit: usize) -> Self {
        Self { jobs: Mutex::new(Jobs { waiting: VecDeque::new(), is_closed: false }), filled: Condvar::new(), limit }
    }

    /// Puts a job behind the others.
    pub fn push(&self, job: T) -> Result<(), Refused> {
        let mut jobs = self.jobs.lock();
        if jobs.is_closed {
            return Err(Refused::Closed);
        }
        if jobs.waiting.len() >= self.limit {
            return Err(Refused::Full);
        }
        jobs.waiting.push_back(job);
        drop(jobs);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for jobs and moves up to `limit` of them into `group`; false once it is closed and empty.
    pub fn take(&self, group: &mut Vec<T>, limit: usize) -> bool {
        let mut jobs = self.jobs.lock();
        while jobs.waiting.is_empty() && !jobs.is_closed {
            self.filled.wait(&mut jobs);
        }
        let count = jobs.waiting.len().min(limit);
        group.extend(jobs.waiting.drain(..count));
        count > 0
    }

    /// Takes no more jobs; those that wait are still done.
    pub fn close(&self) {
        self.jobs.lock().is_closed = true;
        self.filled.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_in_their_order_and_in_groups() {
        let queue = Queue::new(3);
        (0..3).for_each(|job| queue.push(job).unwrap());
        assert_eq!(queue.push(3), Err(Refused::Full));
        let mut group = Vec::new();
        assert!(queue.take(&mut group, 2) && group == [0, 1]);
        queue.push(3).unwrap();
        queue.close();
        assert_eq!(queue.push(4), Err(Refused::Closed));
        assert!(queue.take(&mut group, 9) && group == [0, 1, 2, 3], "what waited is still done");
        assert!(!queue.take(&mut group, 9));
    }

    #[test]
    fn every_job_is_taken_once_by_threads_that_sleep_in_between() {
        let queue = Queue::new(usize::MAX);
        let taken: usize = std::thread::scope(|scope| {
            let take = || {
                let (mut group, mut sum) = (Vec::new(), 0);
                while queue.take(&mut group, 4) {
                    sum += group.drain(..).sum::<usize>();
                }
                sum
            };
            let takers: Vec<_> = (0..3).map(|_| scope.spawn(take)).collect();
            for job in 0..10_000 {
                queue.push(job).unwrap();
                if job % 100 == 0 {
                    std::thread::yield_now();
                }
            }
            queue.close();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, (0..10_000).sum::<usize>());
    }
}
