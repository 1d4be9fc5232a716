//! Who has sockets on which other node, as those nodes say: each tells its comings and goings as numbered deltas, and
//! now and then all of them, a snapshot. What is missed shows as a gap in the numbers, and a snapshot is asked for; who
//! says nothing for [`SILENCE`] is dead, and his users are gone. Time is the bus's: when it took a message in. This node
//! judges others only when its own words come back, for then it has heard all that was said before them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{LooseEvent, Typist};
use crate::id::{IdMap, NodeId, UserId};

/// A node that says nothing for so long is dead.
pub const SILENCE: Duration = Duration::from_secs(15);
/// Own words come back more often than this, or nobody's silence means anything: this node stood still, or the bus did.
const OWN_SILENCE: Duration = Duration::from_secs(10);
/// Who was asked for a snapshot has so much time to send it.
const ANSWER: Duration = Duration::from_secs(4);
/// How long it takes, with some more, until those who were there when a node ended have seen to its users.
const SEEN_TO: Duration = Duration::from_secs(5);
/// The first of those who took a node for dead says so within this time of hearing it again, or another one does.
const SPOKEN: Duration = Duration::from_secs(4);
/// How long a node that was taken for dead is remembered, should it be heard again.
const REMEMBERED: Duration = Duration::from_hours(1);
/// Users in one part of a snapshot: a message stays well below what the bus carries.
pub const PART: usize = 8_192;

/// A user of a node who has gone from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Went {
    /// Who.
    pub user_id: UserId,
    /// The node knew of him nowhere else, so it tells the others that he is offline.
    pub told: bool,
}

/// What a node says of itself. A node's id is fresh at every start: it is the incarnation, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// What has changed. Empty ones say that it lives.
    Delta {
        /// One more than the last.
        version: u64,
        /// Who has come.
        came: Vec<UserId>,
        /// Who has gone.
        went: Vec<Went>,
        /// Who is to be told that somebody came or went.
        tells: Vec<LooseEvent>,
    },
    /// Everybody who is there after the delta of this number.
    Snapshot {
        /// The delta's.
        version: u64,
        /// Which part of it, from 0.
        part: u32,
        /// Of how many.
        parts: u32,
        /// The users of this part.
        users: Vec<UserId>,
    },
    /// People type, or no longer. What is lost is said anew soon, or ends by itself.
    Typing {
        /// The last of each, wherever he types.
        typists: Vec<Typist>,
    },
    /// Who missed something of another node asks it for a snapshot.
    Ask {
        /// Whom.
        of: NodeId,
    },
    /// Who was taken for dead is heard again: others were told that its users are gone.
    Revived {
        /// Who.
        of: NodeId,
    },
    /// It stops, and has told its sockets to go elsewhere.
    Bye,
}

/// A node that has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// When it was heard last, since 1970.
    pub last: Duration,
    /// Those who have sockets on no other node but perhaps this one: for [`Routes::is_first`] to see to.
    pub orphans: Vec<UserId>,
}

/// What another node's words mean for this one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Something of this node was missed: it is to be asked for a snapshot.
    pub ask: bool,
    /// This node was taken for dead, and is to be told so.
    pub revived: bool,
    /// Those who are on that node and were not known to be.
    pub came: Vec<UserId>,
    /// They may have been there for some time: what that node said of them was missed.
    pub late: bool,
    /// Those who have left that node, and have sockets on no other node but perhaps this one.
    pub left: Vec<Went>,
    /// It has ended.
    pub ended: Option<Ended>,
    /// What is to be told here.
    pub tells: Vec<LooseEvent>,
    /// Who types there, or no longer.
    pub typists: Vec<Typist>,
    /// This node's own snapshot is asked for.
    pub asked: bool,
    /// This node itself was taken for dead by others.
    pub was_buried: bool,
}

/// What it means that this node's own words have come back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Echoed {
    /// Nodes that have ended, as it shows now.
    pub ended: Vec<Ended>,
    /// Those of them that are taken for dead from now on.
    pub buried: Vec<NodeId>,
    /// Nodes that were taken for dead, are alive, and were not told so by whoever was to: they are to be told.
    pub revived: Vec<NodeId>,
    /// Nodes of which something is missing: they are to be asked for a snapshot.
    pub ask: Vec<NodeId>,
    /// They had not come back before.
    pub is_first: bool,
}

#[derive(Debug)]
struct Node {
    heard: Duration,
    version: u64,
    /// Nothing was missed since the last snapshot.
    whole: bool,
    /// When it was asked for one.
    asked: Option<Duration>,
    users: HashSet<UserId>,
    /// The parts of a snapshot that have come, all of one version.
    parts: Vec<Vec<UserId>>,
    parts_version: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Routes {
    own: NodeId,
    nodes: HashMap<NodeId, Node>,
    users: IdMap<UserId, Vec<NodeId>>,
    /// When own words came back last.
    echoed: Option<Duration>,
    /// Who was taken for dead, and when.
    buried: HashMap<NodeId, Duration>,
    /// Who was, and is heard again, since when it was to be said: until somebody is heard saying so.
    revived: HashMap<NodeId, Duration>,
    /// Nodes that had said goodbye before own words came back for the first time.
    left_behind: Vec<Ended>,
}

impl Routes {
    /// No other node is known yet.
    pub fn new(own: NodeId) -> Self {
        let (nodes, buried, revived) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { own, nodes, users: IdMap::default(), echoed: None, buried, revived, left_behind: Vec::new() }
    }

    /// The other nodes on which the user has sockets.
    pub fn of(&self, user: UserId) -> &[NodeId] {
        self.users.get(&user).map_or(&[], Vec::as_slice)
    }

    /// Whether that node lives.
    pub fn knows(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// How many other nodes live.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Takes in what a node said; `at` is when the bus took it in, since 1970.
    pub fn hear(&mut self, from: NodeId, said: Said, at: Duration) -> Heard {
        let mut heard = Heard::default();
        let was_buried = self.buried.remove(&from).is_some();
        if let Said::Bye = said {
            heard.ended = self.forget(from).map(|ended| Ended { last: at, ..ended });
            if self.echoed.is_none() {
                self.left_behind.extend(heard.ended.take());
            }
            return heard;
        }
        // Of several who took it for dead, one says so.
        heard.revived = was_buried && self.is_first();
        if was_buried {
            self.revived.insert(from, at);
        }
        let node = self.nodes.entry(from).or_insert_with(|| Node {
            heard: at,
            version: 0,
            whole: false,
            asked: None,
            users: HashSet::new(),
            parts: Vec::new(),
            parts_version: 0,
        });
        node.heard = node.heard.max(at);
        match said {
            Said::Delta { version, came, went, tells } => {
                if version <= node.version {
                    return heard;
                }
                // The first of a node's life needs no snapshot before it.
                let follows = version == node.version + 1 && (node.whole || version == 1);
                heard.ask = !follows && node.whole;
                if heard.ask {
                    node.asked = Some(at);
                }
                node.whole = follows;
                node.version = version;
                heard.tells = tells;
                heard.came = self.add_all(from, came);
                heard.left = went.into_iter().filter(|went| self.remove(from, went.user_id)).collect();
            }
            Said::Snapshot { version, part, parts, users } => {
                if version < node.version {
                    return heard;
                }
                if part == 0 || node.parts_version != version || node.parts.len() != part as usize {
                    node.parts.clear();
                    node.parts_version = version;
                    if part != 0 {
                        // Its beginning was missed: the next one is whole.
                        return heard;
                    }
                }
                node.parts.push(users);
                if node.parts.len() == parts as usize {
                    node.version = version;
                    heard.late = !std::mem::replace(&mut node.whole, true);
                    let there: HashSet<UserId> = std::mem::take(&mut node.parts).into_iter().flatten().collect();
                    let gone: Vec<UserId> = node.users.difference(&there).copied().collect();
                    heard.came = self.add_all(from, there);
                    let left = gone.into_iter().filter(|user| self.remove(from, *user));
                    heard.left = left.map(|user_id| Went { user_id, told: true }).collect();
                }
            }
            Said::Typing { typists } => heard.typists = typists,
            Said::Ask { of } => heard.asked = of == self.own,
            Said::Revived { of } => {
                self.revival_is_said(of);
                heard.was_buried = of == self.own;
            }
            Said::Bye => {}
        }
        heard
    }

    /// Own words have come back, which the bus took in at `at`: whatever others said before has been heard. Forgets who has been
    /// silent for too long, and finds out of whom something is missing. Users of nodes that ended before the others knew of this one
    /// they have seen to themselves; what is heard of that is history.
    pub fn echo(&mut self, at: Duration) -> Echoed {
        let before = self.echoed.replace(at);
        if before.is_some_and(|before| at.saturating_sub(before) >= OWN_SILENCE) {
            for node in self.nodes.values_mut() {
                node.heard = at;
            }
        }
        self.buried.retain(|_, since| at.saturating_sub(*since) < REMEMBERED);
        let silent = |node: &Node| at.saturating_sub(node.heard) >= SILENCE;
        let dead: Vec<NodeId> = self.nodes.iter().filter(|(_, node)| silent(node)).map(|(id, _)| *id).collect();
        self.buried.extend(dead.iter().map(|id| (*id, at)));
        let mut ended: Vec<Ended> = dead.iter().filter_map(|id| self.forget(*id)).collect();
        for mut left in std::mem::take(&mut self.left_behind) {
            if at.saturating_sub(left.last) < SEEN_TO {
                left.orphans.retain(|user| self.of(*user).is_empty());
                ended.push(left);
            }
        }
        let unsaid = |since: &Duration| at.saturating_sub(*since) >= SPOKEN;
        let mut revived = Vec::new();
        for (id, since) in self.revived.iter_mut().filter(|(_, since)| unsaid(since)) {
            revived.push(*id);
            *since = at;
        }
        let unasked = |node: &Node| !node.whole && node.asked.is_none_or(|asked| at.saturating_sub(asked) >= ANSWER);
        let ask: Vec<NodeId> = self.nodes.iter().filter(|(_, node)| unasked(node)).map(|(id, _)| *id).collect();
        for id in &ask {
            if let Some(node) = self.nodes.get_mut(id) {
                node.asked = Some(at);
            }
        }
        Echoed { ended, buried: dead, revived, ask, is_first: before.is_none() }
    }

    /// Own words that this node was taken for dead, and is not, have come back: it hears them too.
    pub fn revival_is_said(&mut self, of: NodeId) {
        self.revived.remove(&of);
    }

    /// Whether of all that live this node does what only one of them is to do.
    pub fn is_first(&self) -> bool {
        self.nodes.keys().all(|other| self.own < *other)
    }

    fn forget(&mut self, id: NodeId) -> Option<Ended> {
        self.revived.remove(&id);
        let node = self.nodes.remove(&id)?;
        let orphans = node.users.into_iter().filter(|user| self.unroute(id, *user)).collect();
        Some(Ended { last: node.heard, orphans })
    }

    /// Those of them who were not known to be there.
    fn add_all(&mut self, id: NodeId, users: impl IntoIterator<Item = UserId>) -> Vec<UserId> {
        let Some(node) = self.nodes.get_mut(&id) else { return Vec::new() };
        let new: Vec<UserId> = users.into_iter().filter(|user| node.users.insert(*user)).collect();
        for user in &new {
            self.users.entry(*user).or_default().push(id);
        }
        new
    }

    /// Whether he was there and is on no other node now.
    fn remove(&mut self, id: NodeId, user: UserId) -> bool {
        self.nodes.get_mut(&id).is_some_and(|node| node.users.remove(&user)) && self.unroute(id, user)
    }

    fn unroute(&mut self, id: NodeId, user: UserId) -> bool {
        let Some(nodes) = self.users.get_mut(&user) else { return true };
        nodes.retain(|node| *node != id);
        let is_last = nodes.is_empty();
        if is_last {
            self.users.remove(&user);
        }
        is_last
    }
}

#[cfg(test)]
mod tests;
