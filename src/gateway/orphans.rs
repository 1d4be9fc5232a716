//! Those whose node has ended, until somebody has told of them. Of the nodes that are left the first does, and may itself have died
//! already, unnoticed; then the next one does, once that shows. So what was left to another node is kept until it is heard that
//! somebody told of them, and looked at again whenever one more node has ended.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::watch::GRACE;
use crate::clock::Timestamp;
use crate::id::UserId;

/// So long they are kept: until nodes that died while they were to tell, one after the other, are found to be dead.
pub(super) const KEPT: Duration = Duration::from_mins(2);
/// Nodes find out within this time of each other that one has ended: who is first may have told before it shows here.
const AHEAD: Duration = Duration::from_secs(10);
/// Of so many it is remembered that others told of them early; of more, some are told of twice.
const MOST_TOLD: usize = 65_536;

/// See the module.
#[derive(Default)]
pub(super) struct Orphans(Mutex<State>);

#[derive(Default)]
struct State {
    left: HashMap<UserId, Left>,
    /// Those who are gone, as others have told, while they seem to be online: their node has ended, which does not show here yet.
    told: HashMap<UserId, Instant>,
}

#[derive(Clone, Copy)]
struct Left {
    since: Instant,
    gone_at: Timestamp,
}

impl Orphans {
    /// Their node has ended. Those of whom another one has told already are nobody's business any more.
    pub fn leave(&self, users: &[UserId], gone_at: Timestamp, now: Instant) {
        let State { left, told } = &mut *self.0.lock();
        told.retain(|_, at| now.duration_since(*at) < AHEAD);
        for user in users.iter().filter(|user| told.remove(user).is_none()) {
            left.insert(*user, Left { since: now, gone_at });
        }
    }

    /// Those of whom nobody has told, and who were to be back by now; and when they were there last.
    pub fn due(&self, now: Instant) -> Vec<(UserId, Timestamp)> {
        let left = &mut self.0.lock().left;
        left.retain(|_, left| now.duration_since(left.since) < KEPT);
        let is_due = |(_, left): &(&UserId, &Left)| now.duration_since(left.since) >= GRACE;
        left.iter().filter(is_due).map(|(user, left)| (*user, left.gone_at)).collect()
    }

    /// He is back, or this node tells of him.
    pub fn settle(&self, user: UserId) {
        self.0.lock().left.remove(&user);
    }

    /// Others have told that he is gone, though he seemed to be online here.
    pub fn was_told_gone(&self, user: UserId) -> bool {
        self.0.lock().told.contains_key(&user)
    }

    /// A node has told that he is online, or that he went; and is he online, for all that is known here?
    pub fn told(&self, user: UserId, went: bool, seems_online: bool, now: Instant) {
        let State { left, told } = &mut *self.0.lock();
        left.remove(&user);
        told.remove(&user);
        if went && seems_online {
            if told.len() >= MOST_TOLD {
                told.clear();
            }
            told.insert(user, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Timestamp = Timestamp(1_000);

    #[test]
    fn who_was_left_to_a_node_that_died_is_due_again() {
        let (orphans, ada, ben, now) = (Orphans::default(), UserId::fresh(), UserId::fresh(), Instant::now());
        orphans.leave(&[ada], GONE, now);
        assert_eq!(orphans.due(now), [], "he may come back");
        assert_eq!(orphans.due(now + GRACE), [(ada, GONE)]);
        // The first of those that were left has ended, too, with somebody of its own.
        let later = now + Duration::from_secs(20);
        orphans.leave(&[ben], Timestamp(2_000), later);
        assert_eq!(orphans.due(later), [(ada, GONE)]);
        orphans.settle(ada);
        assert_eq!(orphans.due(later + GRACE), [(ben, Timestamp(2_000))]);
        assert_eq!(orphans.due(later + KEPT), [], "what came of it is not known, and long ago");
    }

    #[test]
    fn of_whom_others_have_told_is_not() {
        let (orphans, ada, ben, now) = (Orphans::default(), UserId::fresh(), UserId::fresh(), Instant::now());
        orphans.leave(&[ada, ben], GONE, now);
        orphans.told(ada, true, false, now);
        orphans.told(ben, false, true, now);
        assert_eq!(orphans.due(now + GRACE), []);
    }

    #[test]
    fn nor_if_they_told_before_it_showed_here() {
        let (orphans, now) = (Orphans::default(), Instant::now());
        let [ada, ben, cem, dan] = [(); 4].map(|()| UserId::fresh());
        orphans.told(ada, true, true, now);
        orphans.told(ben, true, true, now);
        // He has come again, and others were told so.
        orphans.told(ben, false, true, now);
        // He was gone for them here, too.
        orphans.told(cem, true, false, now);
        orphans.told(dan, true, true, now);
        assert!(orphans.was_told_gone(ada) && !orphans.was_told_gone(ben) && !orphans.was_told_gone(cem));
        orphans.leave(&[ada, ben, cem], GONE, now + AHEAD / 2);
        let mut due: Vec<_> = orphans.due(now + AHEAD / 2 + GRACE).into_iter().map(|(user, _)| user).collect();
        due.sort();
        let mut wanted = [ben, cem];
        wanted.sort();
        assert_eq!(due, wanted);
        orphans.leave(&[dan], GONE, now + AHEAD);
        assert!(orphans.due(now + AHEAD + GRACE).contains(&(dan, GONE)), "that was of another time");
    }
}
