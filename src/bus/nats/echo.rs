//! How long this node's own words take to come back to it: those of others, which come the same way, may be as late. Words that never
//! come back count when later ones do.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Words that take longer show that this node was deaf.
const DEAF: Duration = Duration::from_secs(1);
/// Words that have not come back of which it is known when they were said.
const MOST: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Echo(VecDeque<(u64, Instant)>);

impl Echo {
    /// Words of this number, which is higher than those before, are said.
    pub fn said(&mut self, number: u64, now: Instant) {
        if self.0.len() == MOST {
            // The first says for how long nothing has come back.
            self.0.remove(1);
        }
        self.0.push_back((number, now));
    }

    /// They have come back. Whether they, or some before them that did not, were away for long.
    pub fn heard(&mut self, number: u64, now: Instant) -> bool {
        let was_deaf = self.0.front().is_some_and(|(said, at)| *said <= number && now.duration_since(*at) > DEAF);
        self.0.retain(|(said, _)| *said > number);
        was_deaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_come_back_late_or_never_show_that_it_was_deaf() {
        let (mut echo, began) = (Echo::default(), Instant::now());
        let at = |millis| began + Duration::from_millis(millis);
        echo.said(1, at(0));
        assert!(!echo.heard(1, at(1_000)), "in time");
        echo.said(2, at(2_000));
        echo.said(3, at(3_000));
        assert!(!echo.heard(1, at(3_500)), "nothing new");
        assert!(echo.heard(3, at(3_500)), "the one before was lost");
        echo.said(4, at(4_000));
        assert!(!echo.heard(4, at(4_500)));
        assert!(!echo.heard(4, at(9_000)), "it was heard");
        let last = 4 + 2 * MOST as u64;
        for number in 5..=last {
            echo.said(number, at(10_000 + number));
        }
        assert!(echo.heard(5, at(11_100)), "however many were said since");
        assert!(echo.heard(last, at(11_200)), "and of those");
    }
}
