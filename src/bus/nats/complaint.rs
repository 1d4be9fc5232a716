//! What is wrong with the bus, said once for each cause and once a minute while it lasts: it is tried again every second,
//! and a line each time would hide all others.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often the same is said again.
const AGAIN: Duration = Duration::from_mins(1);
/// Causes that are remembered: of servers that each fail for another reason, say.
const CAUSES: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Complaint(Mutex<Option<Lasting>>);

#[derive(Debug)]
struct Lasting {
    since: Instant,
    /// What was said, and when.
    said: Vec<(String, Instant)>,
}

impl Complaint {
    /// Notes that it begins now, if it lasts not yet.
    pub fn begins(&self, now: Instant) {
        self.0.lock().get_or_insert_with(|| Lasting { since: now, said: Vec::new() });
    }

    /// Notes that it lasts, for this cause. If that is to be said now: how long it has lasted.
    pub fn lasts(&self, cause: &str, now: Instant) -> Option<Duration> {
        let mut state = self.0.lock();
        let Lasting { since, said } = state.get_or_insert_with(|| Lasting { since: now, said: Vec::new() });
        match said.iter_mut().find(|(words, _)| words == cause) {
            Some((_, at)) if now.duration_since(*at) < AGAIN => return None,
            Some((_, at)) => *at = now,
            None => {
                said.truncate(CAUSES - 1);
                said.push((cause.to_owned(), now));
            }
        }
        Some(now.duration_since(*since))
    }

    /// It is over. How long it lasted, if anything was said of it.
    pub fn ends(&self, now: Instant) -> Option<Duration> {
        let over = self.0.lock().take()?;
        (!over.said.is_empty()).then(|| now.duration_since(over.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_said_once_and_again_after_a_while() {
        let (complaint, begin) = (Complaint::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        complaint.begins(begin);
        assert_eq!(complaint.ends(after(1)), None, "nothing was said");
        assert_eq!(complaint.lasts("refused", begin), Some(Duration::ZERO));
        assert_eq!(complaint.lasts("refused", after(59)), None);
        assert_eq!(complaint.lasts("expired", after(59)), Some(Duration::from_secs(59)));
        assert_eq!(complaint.lasts("refused", after(60)), Some(Duration::from_mins(1)));
        assert_eq!(complaint.lasts("refused", after(61)), None);
        assert_eq!(complaint.ends(after(70)), Some(Duration::from_secs(70)));
        assert_eq!(complaint.ends(after(71)), None);
        assert_eq!(complaint.lasts("refused", after(80)), Some(Duration::ZERO));
    }
}
