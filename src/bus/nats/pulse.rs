//! Whether what is followed still comes: this node says something into each stream now and then, and must hear it. A server that has
//! fallen behind the others says that it is there, and brings nothing of what they have taken in; only own words show that.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// When own words are on their way something comes within this time; doubled each time that nothing did, so that a stream that takes
/// nothing costs less and less.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
const LAST_PATIENCE: Duration = Duration::from_secs(40);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Since when own words are on their way, or when something came last while they were.
    since: Option<Instant>,
    patience: Duration,
}

impl Default for State {
    fn default() -> Self {
        Self { since: None, patience: FIRST_PATIENCE }
    }
}

impl Pulse {
    /// It is followed from now on: of what was said before some may never come.
    pub fn begin(&self) {
        self.0.lock().since = None;
    }

    /// Own words are on their way.
    pub fn said(&self, now: Instant) {
        self.0.lock().since.get_or_insert(now);
    }

    /// Something has come: own words may be behind much else.
    pub fn brought(&self, now: Instant) {
        let mut state = self.0.lock();
        state.patience = FIRST_PATIENCE;
        if let Some(since) = &mut state.since {
            *since = now;
        }
    }

    /// Own words have come back.
    pub fn heard(&self) {
        self.0.lock().since = None;
    }

    /// Waits until own words are on their way and nothing comes.
    pub async fn is_missed(&self) {
        loop {
            let until = {
                let state = self.0.lock();
                state.since.unwrap_or_else(Instant::now) + state.patience
            };
            sleep_until(until).await;
            if self.gives_up(Instant::now()) {
                return;
            }
        }
    }

    fn gives_up(&self, now: Instant) -> bool {
        let mut state = self.0.lock();
        let gives_up = state.since.is_some_and(|since| now.duration_since(since) >= state.patience);
        if gives_up {
            *state = State { since: None, patience: LAST_PATIENCE.min(state.patience * 2) };
        }
        gives_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_back_is_missed() {
        let (pulse, began) = (Pulse::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(!pulse.gives_up(at(10)), "nothing was said");
        pulse.said(at(10));
        pulse.said(at(13));
        assert!(!pulse.gives_up(at(14)));
        assert!(pulse.gives_up(at(15)), "the first of them");
        assert!(!pulse.gives_up(at(30)), "it is missed once");
        pulse.brought(at(30));
        pulse.said(at(40));
        pulse.heard();
        pulse.said(at(43));
        assert!(!pulse.gives_up(at(46)));
        pulse.begin();
        pulse.said(at(47));
        assert!(!pulse.gives_up(at(51)), "what was said before it was followed does not count");
        assert!(pulse.gives_up(at(52)));
    }

    #[test]
    fn while_anything_comes_it_is_waited_for() {
        let (pulse, began) = (Pulse::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        pulse.said(at(0));
        for seconds in 1..60 {
            pulse.brought(at(seconds));
            assert!(!pulse.gives_up(at(seconds)), "a long queue");
        }
        assert!(pulse.gives_up(at(64)));
    }

    #[test]
    fn a_stream_that_brings_nothing_is_followed_anew_less_and_less_often() {
        let (pulse, began) = (Pulse::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        let missed = |seconds: &u64| {
            pulse.said(at(*seconds));
            pulse.gives_up(at(*seconds))
        };
        let times: Vec<u64> = (0..200).filter(missed).collect();
        assert_eq!(times, [5, 16, 37, 78, 119, 160]);
        pulse.brought(at(200));
        assert_eq!((200..220).find(missed), Some(205));
    }
}
