//! Standard output, written by a thread of its own: who logs never waits for whoever reads the log, or does not.
//! Lines wait up to a bound; what comes on top, or cannot be written, is dropped and counted. `tracing-appender` is not
//! used for it: its guard prints to standard output at the end, and so would wait there for ever.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

/// Lines that may wait for their reader.
const QUEUE_LINES: usize = 4_096;

enum Item {
    Line(Vec<u8>),
    /// Dropped when all before it has been written.
    End(Sender<()>),
}

/// Standard output; what is written is queued line by line, and never waits.
#[derive(Clone)]
pub struct Output {
    queue: Sender<Item>,
}

impl Output {
    /// The process's.
    pub fn standard() -> &'static Self {
        static OUTPUT: OnceLock<Output> = OnceLock::new();
        OUTPUT.get_or_init(|| Self::onto(io::stdout()))
    }

    /// One that ends at this writer. Without a thread there is no reader, and everything is dropped.
    fn onto(writer: impl Write + Send + 'static) -> Self {
        let (queue, items) = crossbeam_channel::bounded(QUEUE_LINES);
        let _ = std::thread::Builder::new().name("output".to_owned()).spawn(move || write_all(writer, &items));
        Self { queue }
    }

    /// Queues a line, its end included; whether there was room for it.
    pub fn queue(&self, line: Vec<u8>) -> bool {
        let queued = self.queue.try_send(Item::Line(line)).is_ok();
        if !queued {
            dropped();
        }
        queued
    }

    /// Waits until all that was queued before has been written, at most this long for each of two steps.
    pub fn flush_within(&self, limit: Duration) {
        let (end, ended) = crossbeam_channel::bounded(0);
        if self.queue.send_timeout(Item::End(end), limit).is_ok() {
            let _ = ended.recv_timeout(limit);
        }
    }
}

impl Write for Output {
    /// A whole line at once: so it comes from the subscriber.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all(mut writer: impl Write, items: &Receiver<Item>) {
    for item in items {
        match item {
            Item::Line(line) => {
                // The reader may have gone away; another one may come (a named pipe), so each line is tried.
                if writer.write_all(&line).and_then(|()| writer.flush()).is_err() {
                    dropped();
                }
            }
            Item::End(end) => drop(end),
        }
    }
}

fn dropped() {
    metrics::counter!("urge_log_lines_dropped_total").increment(1);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Takes what it is given once it may.
    #[derive(Clone, Default)]
    struct Slow(Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_come_out_in_order_and_the_end_waits_for_them() {
        let slow = Slow::default();
        let output = Output::onto(slow.clone());
        let lines: Vec<_> = (0..1_000).map(|n| format!("{n}\n")).collect();
        assert!(lines.iter().all(|line| output.queue(line.clone().into_bytes())));
        output.flush_within(PATIENCE);
        assert_eq!(String::from_utf8(slow.0.lock().clone()).unwrap(), lines.concat());
    }

    #[test]
    fn what_has_no_room_is_dropped_and_nobody_waits() {
        let slow = Slow::default();
        let output = Output::onto(slow.clone());
        let reader = slow.0.lock();
        // One may be in the writer's hands.
        let queued = (0..QUEUE_LINES + 10).filter(|_| output.queue(b"x\n".to_vec())).count();
        assert!((QUEUE_LINES..=QUEUE_LINES + 1).contains(&queued), "{queued}");
        output.flush_within(Duration::from_millis(1));
        drop(reader);
        output.flush_within(PATIENCE);
        assert_eq!(slow.0.lock().len(), queued * 2);
        assert!(output.queue(b"again\n".to_vec()));
    }

    #[test]
    fn a_reader_that_has_gone_ends_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        let output = Output::onto(writer);
        drop(reader);
        for _ in 0..3 {
            assert!(output.queue(b"nobody reads it\n".to_vec()));
            output.flush_within(PATIENCE);
        }
    }
}
