//! Users of other nodes of whom this one has heard since its own words came back last. If it heard of them late, rows may have been
//! written meanwhile that were not sent to where they are, and nothing that follows need show it: each node is named those of its
//! users who may have been overlooked. However late everything is, a node hears of its own alone, and of each once.

use std::collections::{HashMap, HashSet};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::id::{NodeId, UserId};

/// So many of one node are remembered; of more it is all of them.
const MOST: usize = 16_384;

/// Users of a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Users {
    /// These.
    Some(HashSet<UserId>),
    /// All of them.
    All,
}

impl Users {
    fn none() -> Self {
        Self::Some(HashSet::new())
    }

    fn add(&mut self, others: Self) {
        match (&mut *self, others) {
            (Self::Some(users), Self::Some(others)) if users.len() + others.len() <= MOST => users.extend(others),
            _ => *self = Self::All,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    kept: Mutex<Kept>,
    late: Notify,
}

#[derive(Debug, Default)]
struct Kept {
    /// Of whom was heard, by node, and whether of all of them late.
    heard: HashMap<NodeId, (Users, bool)>,
    /// Whom nodes are to be named.
    due: HashMap<NodeId, Users>,
}

impl Newcomers {
    /// These of that node were heard of; `late`: other words of it were missed before.
    pub fn add(&self, node: NodeId, users: Vec<UserId>, late: bool) {
        if !users.is_empty() {
            let mut kept = self.kept.lock();
            let (heard, is_late) = kept.heard.entry(node).or_insert_with(|| (Users::none(), false));
            heard.add(Users::Some(users.into_iter().collect()));
            *is_late |= late;
        }
    }

    /// Own words have come back; `late`: they were away for long, and so may have been all others.
    pub fn settle(&self, late: bool) {
        let heard = std::mem::take(&mut self.kept.lock().heard);
        for (node, (users, is_late)) in heard {
            if late || is_late {
                self.put(node, users);
            }
        }
    }

    /// Forgets of whom was heard: their nodes are told to look in any case.
    pub fn forget(&self) {
        self.kept.lock().heard.clear();
    }

    /// Waits for a node that is to be named some of its users, and takes them.
    pub async fn next(&self) -> (NodeId, Users) {
        loop {
            if let Some(due) = self.take() {
                return due;
            }
            self.late.notified().await;
        }
    }

    /// These are to be named to their node.
    pub fn put(&self, node: NodeId, users: Users) {
        self.kept.lock().due.entry(node).or_insert_with(Users::none).add(users);
        self.late.notify_one();
    }

    fn take(&self) -> Option<(NodeId, Users)> {
        let due = &mut self.kept.lock().due;
        let node = *due.keys().next()?;
        due.remove_entry(&node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(users: &[UserId]) -> Users {
        Users::Some(users.iter().copied().collect())
    }

    #[test]
    fn who_was_heard_of_late_is_named_when_own_words_come_back() {
        let (newcomers, [a, b], [ada, ben]) = (Newcomers::default(), [(); 2].map(|()| NodeId::fresh()), [(); 2].map(|()| UserId::fresh()));
        newcomers.add(a, vec![ada], false);
        newcomers.settle(false);
        newcomers.settle(true);
        assert_eq!(newcomers.take(), None, "in time");
        newcomers.add(a, vec![ada], false);
        newcomers.settle(true);
        assert_eq!(newcomers.take(), Some((a, some(&[ada]))), "everything came late");
        newcomers.add(a, vec![ada], false);
        newcomers.add(b, vec![ben], true);
        newcomers.add(b, vec![ada], false);
        newcomers.add(a, vec![], true);
        newcomers.settle(false);
        assert_eq!(newcomers.take(), Some((b, some(&[ada, ben]))), "of that node something was missed");
        assert_eq!(newcomers.take(), None);
        newcomers.add(a, vec![ada], true);
        newcomers.forget();
        newcomers.settle(true);
        assert_eq!(newcomers.take(), None);
    }

    #[test]
    fn who_is_named_twice_is_named_once_and_many_are_all() {
        let (newcomers, a, ada) = (Newcomers::default(), NodeId::fresh(), UserId::fresh());
        for _ in 0..MOST {
            newcomers.add(a, vec![ada], true);
            newcomers.settle(false);
        }
        assert_eq!(newcomers.take(), Some((a, some(&[ada]))));
        newcomers.add(a, (0..=MOST).map(|_| UserId::fresh()).collect(), true);
        newcomers.settle(false);
        newcomers.put(a, some(&[ada]));
        assert_eq!((newcomers.take(), newcomers.take()), (Some((a, Users::All)), None));
    }

    #[tokio::test]
    async fn who_waits_is_given_what_comes() {
        use futures_util::FutureExt as _;
        let (newcomers, a) = (Newcomers::default(), NodeId::fresh());
        let mut next = Box::pin(newcomers.next());
        assert!((&mut next).now_or_never().is_none());
        newcomers.put(a, Users::All);
        assert_eq!(next.now_or_never(), Some((a, Users::All)));
    }
}
