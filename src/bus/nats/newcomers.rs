//! Users of other nodes of whom this one has heard since its own words came back last. If it heard of them late, rows may have been
//! written meanwhile that were not sent to where they are, and nothing that follows need show it: their nodes are told to look.

use parking_lot::Mutex;

use crate::id::UserId;

/// So many are remembered.
const MOST: usize = 16_384;

/// Those who were heard of late.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// These.
    Users(Vec<UserId>),
    /// More than are remembered.
    Many,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Newcomers(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    users: Vec<UserId>,
    are_many: bool,
    is_late: bool,
}

impl Newcomers {
    /// These were heard of; `late`: other words of their node were missed before.
    pub fn add(&self, users: Vec<UserId>, late: bool) {
        let mut kept = self.0.lock();
        kept.is_late |= late && !users.is_empty();
        kept.are_many |= kept.users.len() + users.len() > MOST;
        if kept.are_many {
            kept.users = Vec::new();
        } else {
            kept.users.extend(users);
        }
    }

    /// Own words have come back; `late`: they were away for long, and so may have been all others. Those who were heard of late.
    pub fn take(&self, late: bool) -> Late {
        match std::mem::take(&mut *self.0.lock()) {
            Kept { is_late, .. } if !late && !is_late => Late::Users(Vec::new()),
            Kept { are_many: true, .. } => Late::Many,
            Kept { users, .. } => Late::Users(users),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_heard_of_late_is_known_when_own_words_come_back() {
        let (newcomers, [ada, ben]) = (Newcomers::default(), [(); 2].map(|()| UserId::fresh()));
        let take = |late| match newcomers.take(late) {
            Late::Users(users) => users,
            Late::Many => panic!("they are few"),
        };
        newcomers.add(vec![ada], false);
        assert_eq!(take(false), [], "in time");
        assert_eq!(take(true), [], "she was seen to");
        newcomers.add(vec![ada], false);
        assert_eq!(take(true), [ada], "everything came late");
        newcomers.add(vec![ada], false);
        newcomers.add(vec![ben], true);
        newcomers.add(vec![], false);
        assert_eq!(take(false), [ada, ben]);
        newcomers.add(vec![], true);
        newcomers.add(vec![ada], false);
        assert_eq!(take(false), [], "nobody came late");
    }

    #[test]
    fn those_who_are_too_many_are_known_to_be_many() {
        let newcomers = Newcomers::default();
        for late in [true, false] {
            newcomers.add((0..MOST).map(|_| UserId::fresh()).collect(), false);
            newcomers.add(vec![UserId::fresh()], false);
            newcomers.add(vec![UserId::fresh()], false);
            assert_eq!(newcomers.take(late), if late { Late::Many } else { Late::Users(vec![]) });
        }
    }
}
