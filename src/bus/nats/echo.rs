//! How long this node's own words take to come back to it: those of others, which come the same way, may be as late. Words that never
//! come back count when later ones do.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Words that take longer show that this node was deaf.
const DEAF: Duration = Duration::from_secs(1);
/// Words that have not come back of which it is known when they were said: minutes of a node to which much happens.
const MOST: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Echo(VecDeque<(u64, Instant)>);

impl Echo {
    /// Words of this number, which is higher than those before, are said.
    pub fn said(&mut self, number: u64, now: Instant) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((number, now));
    }

    /// They have come back. Whether they, or some before them that did not, were away for long.
    pub fn heard(&mut self, number: u64, now: Instant) -> bool {
        let mut was_deaf = false;
        while let Some((_, at)) = self.0.pop_front_if(|(said, _)| *said <= number) {
            was_deaf |= now.duration_since(at) > DEAF;
        }
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
    }

    #[test]
    fn all_that_come_late_are_late() {
        let (mut echo, began) = (Echo::default(), Instant::now());
        let last = MOST as u64 + 100;
        for number in 1..=last {
            echo.said(number, began + Duration::from_millis(number * 10));
        }
        // Each is heard 20 s after it was said; the first hundred are too old to be known.
        let mut late = |number: u64| echo.heard(number, began + Duration::from_millis(number * 10 + 20_000));
        let late: Vec<u64> = (1..=last).filter(|number| late(*number)).collect();
        assert_eq!(late, (101..=last).collect::<Vec<_>>());
        for number in last + 1..=last + 100 {
            echo.said(number, began + Duration::from_millis(number * 10));
            assert!(!echo.heard(number, began + Duration::from_millis(number * 10 + 900)));
        }
    }
}
