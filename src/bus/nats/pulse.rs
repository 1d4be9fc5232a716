//! Whether what is followed still comes: this node says something into each stream now and then, and must hear it. A server that has
//! fallen behind the others says that it is there, and brings nothing of what they have taken in; only own words show that.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Own words come back within this time, or not at all. They are said every few seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    /// Something is on its way.
    pub fn said(&self, now: Instant) {
        self.0.lock().get_or_insert(now);
    }

    /// Something has come back: it is heard again, whatever was lost before.
    pub fn heard(&self) {
        *self.0.lock() = None;
    }

    /// Waits until something does not come back in time. What was said until then counts no more.
    pub async fn is_missed(&self) {
        loop {
            let since = self.0.lock().unwrap_or_else(Instant::now);
            sleep_until(since + PATIENCE).await;
            if self.gives_up(Instant::now()) {
                return;
            }
        }
    }

    fn gives_up(&self, now: Instant) -> bool {
        self.0.lock().take_if(|since| now.duration_since(*since) >= PATIENCE).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_back_is_missed_once() {
        let (pulse, began) = (Pulse::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(!pulse.gives_up(at(10)), "nothing was said");
        pulse.said(at(10));
        pulse.said(at(13));
        assert!(!pulse.gives_up(at(14)));
        assert!(pulse.gives_up(at(15)), "the first of them");
        assert!(!pulse.gives_up(at(30)), "it is missed once");
        pulse.said(at(40));
        pulse.heard();
        pulse.said(at(43));
        assert!(!pulse.gives_up(at(46)));
        assert!(pulse.gives_up(at(48)));
    }
}
