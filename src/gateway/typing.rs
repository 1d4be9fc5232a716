//! Who types where, as this node was told: it stops by itself, and a message stops it too.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::id::{ConversationId, UserId};

/// Typing ends by itself after this.
pub const TYPING_TTL: Duration = Duration::from_secs(6);
/// Others are told of the same typing at most this often.
const TELL_EVERY: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
struct Entry {
    until: Instant,
    told: Instant,
    /// He stopped; the entry stays until its timer ends, which a new start takes over: one timer each, however often.
    stopped: bool,
}

/// The people who type.
#[derive(Default)]
pub struct TypingNow(Mutex<HashMap<(ConversationId, UserId), Entry>>);

/// What a sign of typing means.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Started {
    /// Others are to be told.
    pub tell: bool,
    /// A timer is to be started: [`TypingNow::expired`] after [`TYPING_TTL`].
    pub watch: bool,
}

impl TypingNow {
    /// Somebody types.
    pub(super) fn start(&self, conversation: ConversationId, user: UserId, now: Instant) -> Started {
        let mut typing = self.0.lock();
        let until = now + TYPING_TTL;
        let Some(entry) = typing.get_mut(&(conversation, user)) else {
            typing.insert((conversation, user), Entry { until, told: now, stopped: false });
            return Started { tell: true, watch: true };
        };
        let tell = entry.stopped || now.duration_since(entry.told) >= TELL_EVERY;
        *entry = Entry { until, told: if tell { now } else { entry.told }, stopped: false };
        Started { tell, watch: false }
    }

    /// Somebody stopped. False: he did not type.
    pub(super) fn stop(&self, conversation: ConversationId, user: UserId) -> bool {
        self.0.lock().get_mut(&(conversation, user)).is_some_and(|entry| !std::mem::replace(&mut entry.stopped, true))
    }

    /// When to look again, or `Err(true)` when the time is up and others are to be told, `Err(false)` when it was stopped.
    pub(super) fn expired(&self, conversation: ConversationId, user: UserId, now: Instant) -> Result<Instant, bool> {
        let mut typing = self.0.lock();
        match typing.get(&(conversation, user)) {
            None => Err(false),
            Some(entry) if entry.until > now && !entry.stopped => Ok(entry.until),
            Some(entry) => {
                let tell = !entry.stopped;
                typing.remove(&(conversation, user));
                Err(tell)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_is_told_now_and_then_and_ends_by_itself() {
        let (typing, c, u, start) = (TypingNow::default(), ConversationId::fresh(), UserId::fresh(), Instant::now());
        assert_eq!(typing.start(c, u, start), Started { tell: true, watch: true });
        assert_eq!(typing.start(c, u, start + Duration::from_secs(1)), Started { tell: false, watch: false });
        assert_eq!(typing.start(c, u, start + Duration::from_secs(3)), Started { tell: true, watch: false });
        assert_eq!(typing.expired(c, u, start + TYPING_TTL), Ok(start + Duration::from_secs(9)));
        assert_eq!(typing.expired(c, u, start + Duration::from_secs(9)), Err(true));
        assert_eq!(typing.expired(c, u, start + Duration::from_secs(9)), Err(false));
        assert!(!typing.stop(c, u));
    }

    #[test]
    fn whoever_stops_and_starts_all_the_time_has_one_timer() {
        let (typing, c, u, start) = (TypingNow::default(), ConversationId::fresh(), UserId::fresh(), Instant::now());
        let timers = (0..1_000).filter(|_| {
            let started = typing.start(c, u, start);
            assert!(started.tell, "others were told that he stopped");
            assert!(typing.stop(c, u) && !typing.stop(c, u), "once");
            started.watch
        });
        assert_eq!(timers.count(), 1);
        assert_eq!(typing.start(c, u, start + Duration::from_secs(5)), Started { tell: true, watch: false });
        assert_eq!(typing.expired(c, u, start + TYPING_TTL), Ok(start + Duration::from_secs(11)), "of the last start");
        assert!(typing.stop(c, u));
        assert_eq!(typing.expired(c, u, start + Duration::from_secs(7)), Err(false));
        assert!(typing.start(c, u, start + Duration::from_secs(7)).watch, "the timer had ended");
    }
}
