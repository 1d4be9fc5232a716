//! Users of other nodes of whom this one has heard since its own words came back last. If it heard of them late, rows may have been
//! written meanwhile that were not sent to where they are, and nothing that follows need show it: their nodes are told to look.

use parking_lot::Mutex;

use crate::id::UserId;

/// So many are remembered.
const MOST: usize = 16_384;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Newcomers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    users: Vec<UserId>,
    is_late: bool,
}

impl Newcomers {
    /// These were heard of; `late`: other words of their node were missed before. False when they are too many to be remembered.
    pub fn add(&self, users: Vec<UserId>, late: bool) -> bool {
        let mut kept = self.0.lock();
        if kept.users.len() + users.len() > MOST {
            *kept = Kept::default();
            return false;
        }
        kept.is_late |= late && !users.is_empty();
        kept.users.extend(users);
        true
    }

    /// Own words have come back; `late`: they were away for long, and so may have been all others. Those who were heard of late.
    pub fn take(&self, late: bool) -> Vec<UserId> {
        let Kept { users, is_late } = std::mem::take(&mut *self.0.lock());
        if late || is_late { users } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_heard_of_late_is_known_when_own_words_come_back() {
        let (newcomers, [ada, ben]) = (Newcomers::default(), [(); 2].map(|()| UserId::fresh()));
        assert!(newcomers.add(vec![ada], false));
        assert_eq!(newcomers.take(false), [], "in time");
        assert_eq!(newcomers.take(true), [], "he was seen to");
        newcomers.add(vec![ada], false);
        assert_eq!(newcomers.take(true), [ada], "everything came late");
        newcomers.add(vec![ada], false);
        newcomers.add(vec![ben], true);
        newcomers.add(vec![], false);
        assert_eq!(newcomers.take(false), [ada, ben]);
        newcomers.add(vec![], true);
        newcomers.add(vec![ada], false);
        assert_eq!(newcomers.take(false), [], "nobody came late");
    }

    #[test]
    fn those_who_are_too_many_are_said_to_be() {
        let newcomers = Newcomers::default();
        let many = || (0..MOST).map(|_| UserId::fresh()).collect();
        assert!(newcomers.add(many(), true));
        assert!(!newcomers.add(vec![UserId::fresh()], false));
        assert_eq!(newcomers.take(true), [], "all are told to look");
    }
}
