//! Who has sockets on which other node, as those nodes say: each tells its comings and goings as numbered deltas, and
//! now and then all of them, a snapshot. What is missed shows as a gap in the numbers, and a snapshot is asked for; who
//! says nothing for [`SILENCE`] is dead, and his users are gone. Time is the bus's: when it took a message in. This node
//! judges others only when its own words come back, for then it has heard all that was said before them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::LooseEvent;
use crate::id::{IdMap, NodeId, UserId};

/// A node that says nothing for so long is dead.
pub const SILENCE: Duration = Duration::from_secs(15);
/// Own words come back more often than this, or nobody's silence means anything: this node stood still, or the bus did.
const OWN_SILENCE: Duration = Duration::from_secs(10);
/// Who was asked for a snapshot has so much time to send it.
const ANSWER: Duration = Duration::from_secs(4);
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

/// What another node's words mean for this one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Something of this node was missed: it is to be asked for a snapshot.
    pub ask: bool,
    /// This node was taken for dead, and is to be told so.
    pub revived: bool,
    /// Those who have left that node, and have sockets on no other node but perhaps this one.
    pub left: Vec<Went>,
    /// Those whose node has ended, and who have sockets on no other one but perhaps this one: for [`Routes::is_first`] to see to.
    pub orphans: Vec<UserId>,
    /// What is to be told here.
    pub tells: Vec<LooseEvent>,
    /// This node's own snapshot is asked for.
    pub asked: bool,
    /// This node itself was taken for dead by others.
    pub was_buried: bool,
}

/// What it means that this node's own words have come back.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Echoed {
    /// Those whose node has ended: [`Heard::orphans`].
    pub orphans: Vec<UserId>,
    /// Nodes of which something is missing: they are to be asked for a snapshot.
    pub ask: Vec<NodeId>,
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
}

impl Routes {
    /// No other node is known yet.
    pub fn new(own: NodeId) -> Self {
        Self { own, nodes: HashMap::new(), users: IdMap::default(), echoed: None, buried: HashMap::new() }
    }

    /// The other nodes on which the user has sockets.
    pub fn of(&self, user: UserId) -> &[NodeId] {
        self.users.get(&user).map_or(&[], Vec::as_slice)
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
            heard.orphans = self.forget(from);
            return heard;
        }
        // Of several who took it for dead, one says so.
        heard.revived = was_buried && self.is_first();
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
                for user in came {
                    self.add(from, user);
                }
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
                    node.whole = true;
                    let there: HashSet<UserId> = std::mem::take(&mut node.parts).into_iter().flatten().collect();
                    let gone: Vec<UserId> = node.users.difference(&there).copied().collect();
                    for user in there {
                        self.add(from, user);
                    }
                    let left = gone.into_iter().filter(|user| self.remove(from, *user));
                    heard.left = left.map(|user_id| Went { user_id, told: true }).collect();
                }
            }
            Said::Ask { of } => heard.asked = of == self.own,
            Said::Revived { of } => heard.was_buried = of == self.own,
            Said::Bye => {}
        }
        heard
    }

    /// Own words have come back, which the bus took in at `at`: whatever others said before has been heard. Forgets who has been
    /// silent for too long, and finds out of whom something is missing.
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
        let orphans = dead.into_iter().flat_map(|id| self.forget(id)).collect();
        let unasked = |node: &Node| !node.whole && node.asked.is_none_or(|asked| at.saturating_sub(asked) >= ANSWER);
        let ask: Vec<NodeId> = self.nodes.iter().filter(|(_, node)| unasked(node)).map(|(id, _)| *id).collect();
        for id in &ask {
            if let Some(node) = self.nodes.get_mut(id) {
                node.asked = Some(at);
            }
        }
        Echoed { orphans, ask }
    }

    /// Whether of all that live this node does what only one of them is to do.
    pub fn is_first(&self) -> bool {
        self.nodes.keys().all(|other| self.own < *other)
    }

    fn forget(&mut self, id: NodeId) -> Vec<UserId> {
        let users = self.nodes.remove(&id).map(|node| node.users).unwrap_or_default();
        users.into_iter().filter(|user| self.unroute(id, *user)).collect()
    }

    fn add(&mut self, id: NodeId, user: UserId) {
        if self.nodes.get_mut(&id).is_some_and(|node| node.users.insert(user)) {
            self.users.entry(user).or_default().push(id);
        }
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
mod tests {
    use super::*;

    /// Nearly too long.
    const SHORT: Duration = Duration::from_millis(SILENCE.as_millis() as u64 - 1);
    /// Some time.
    const NOW: Duration = Duration::from_hours(480_000);

    fn delta(version: u64, came: &[UserId], went: &[UserId]) -> Said {
        let went = went.iter().map(|user_id| Went { user_id: *user_id, told: false }).collect();
        Said::Delta { version, came: came.to_vec(), went, tells: Vec::new() }
    }

    fn snapshot(version: u64, users: &[UserId]) -> Said {
        Said::Snapshot { version, part: 0, parts: 1, users: users.to_vec() }
    }

    fn left(heard: &Heard) -> Vec<UserId> {
        heard.left.iter().map(|went| went.user_id).collect()
    }

    #[test]
    fn a_user_is_where_the_nodes_say() {
        let (mut routes, now) = (Routes::new(NodeId::fresh()), NOW);
        let (a, b, ada) = (NodeId::fresh(), NodeId::fresh(), UserId::fresh());
        assert_eq!(routes.hear(a, delta(1, &[ada], &[]), now), Heard::default());
        assert_eq!(routes.hear(b, delta(1, &[ada], &[]), now), Heard::default());
        assert_eq!(routes.of(ada), [a, b]);
        let heard = routes.hear(a, delta(2, &[], &[ada]), now);
        assert!(heard.left.is_empty(), "he is on the other one");
        assert_eq!(routes.of(ada), [b]);
        assert_eq!(left(&routes.hear(b, delta(2, &[], &[ada]), now)), [ada]);
        assert_eq!(routes.of(ada), [] as [NodeId; 0]);
    }

    #[test]
    fn a_gap_asks_once_for_a_snapshot_which_mends_it() {
        let (mut routes, now) = (Routes::new(NodeId::fresh()), NOW);
        let (a, ada, ben, cem) = (NodeId::fresh(), UserId::fresh(), UserId::fresh(), UserId::fresh());
        routes.hear(a, delta(1, &[ada], &[]), now);
        assert!(routes.hear(a, delta(3, &[cem], &[]), now).ask, "2 is missing: Ada went, Ben came");
        assert!(!routes.hear(a, delta(4, &[], &[]), now).ask, "it has been asked");
        assert_eq!(routes.of(cem), [a]);
        let heard = routes.hear(a, snapshot(4, &[ben, cem]), now);
        assert_eq!(left(&heard), [ada]);
        assert_eq!((routes.of(ben), routes.of(ada)), (&[a][..], &[][..]));
        assert!(!routes.hear(a, delta(5, &[], &[]), now).ask);
        assert!(routes.hear(a, delta(7, &[], &[]), now).ask, "the next gap");
    }

    #[test]
    fn what_is_old_changes_nothing() {
        let (mut routes, now) = (Routes::new(NodeId::fresh()), NOW);
        let (a, ada) = (NodeId::fresh(), UserId::fresh());
        routes.hear(a, delta(1, &[ada], &[]), now);
        routes.hear(a, delta(2, &[], &[ada]), now);
        assert_eq!(routes.hear(a, delta(1, &[ada], &[]), now), Heard::default());
        assert_eq!(routes.hear(a, snapshot(1, &[ada]), now), Heard::default());
        assert!(routes.of(ada).is_empty());
    }

    #[test]
    fn who_comes_late_learns_of_all_by_a_snapshot() {
        let (mut routes, now) = (Routes::new(NodeId::fresh()), NOW);
        let (a, ada, ben) = (NodeId::fresh(), UserId::fresh(), UserId::fresh());
        assert!(!routes.hear(a, delta(41, &[ada], &[]), now).ask, "a snapshot may be among what has not been heard yet");
        assert_eq!(routes.of(ada), [a], "what is known is used");
        assert_eq!(routes.echo(now).ask, [a]);
        assert!(routes.echo(now + ANSWER / 2).ask.is_empty(), "it has been asked");
        assert_eq!(routes.echo(now + ANSWER).ask, [a], "and has not answered");
        routes.hear(a, snapshot(41, &[ada, ben]), now);
        assert_eq!(routes.of(ben), [a]);
        assert!(!routes.hear(a, delta(42, &[], &[]), now).ask);
    }

    #[test]
    fn a_snapshot_in_parts_counts_when_it_is_whole() {
        let (mut routes, now) = (Routes::new(NodeId::fresh()), NOW);
        let (a, ada, ben) = (NodeId::fresh(), UserId::fresh(), UserId::fresh());
        let part = |part, user| Said::Snapshot { version: 5, part, parts: 2, users: vec![user] };
        routes.hear(a, part(1, ben), now);
        assert!(routes.of(ben).is_empty(), "its first part was missed");
        routes.hear(a, part(0, ada), now);
        assert!(routes.of(ada).is_empty());
        routes.hear(a, part(1, ben), now);
        assert_eq!((routes.of(ada), routes.of(ben)), (&[a][..], &[a][..]));
    }

    /// Own words come back all the time.
    fn echoes(routes: &mut Routes, from: Duration, upto: Duration) -> Vec<UserId> {
        let times = (0..).map(|n| from + Duration::from_secs(5) * n).take_while(|at| *at < upto).chain([upto]);
        times.flat_map(|at| routes.echo(at).orphans).collect()
    }

    #[test]
    fn a_silent_node_is_buried_and_one_of_the_living_sees_to_its_users() {
        let (low, high) = (NodeId::fresh(), NodeId::fresh());
        let (low, high) = if low < high { (low, high) } else { (high, low) };
        let (dead, ada, ben) = (NodeId::fresh(), UserId::fresh(), UserId::fresh());
        let mut buried = Vec::new();
        for (own, other) in [(low, high), (high, low)] {
            let mut routes = Routes::new(own);
            routes.hear(dead, delta(1, &[ada, ben], &[]), NOW);
            routes.hear(other, delta(1, &[ben], &[]), NOW);
            assert!(echoes(&mut routes, NOW, NOW + SHORT).is_empty());
            routes.hear(other, delta(2, &[], &[]), NOW + SHORT);
            assert_eq!(routes.echo(NOW + SILENCE).orphans, [ada], "Ben is on the other one");
            assert_eq!((routes.nodes(), routes.of(ben)), (1, &[other][..]));
            buried.push(routes.is_first());
        }
        assert_eq!(buried, [true, false]);
    }

    #[test]
    fn who_could_hear_nobody_buries_nobody() {
        let mut routes = Routes::new(NodeId::fresh());
        let (a, ada) = (NodeId::fresh(), UserId::fresh());
        routes.hear(a, delta(1, &[ada], &[]), NOW);
        routes.echo(NOW);
        let back = NOW + SILENCE * 2;
        assert!(echoes(&mut routes, back, back + SHORT).is_empty());
        assert_eq!(routes.echo(back + SILENCE).orphans, [ada]);
    }

    #[test]
    fn a_new_node_takes_none_for_alive_that_had_ended_before() {
        let mut routes = Routes::new(NodeId::fresh());
        let (dead, alive, ada, ben) = (NodeId::fresh(), NodeId::fresh(), UserId::fresh(), UserId::fresh());
        // What the stream still has is heard at once.
        routes.hear(dead, snapshot(7, &[ada]), NOW);
        routes.hear(alive, snapshot(7, &[ben]), NOW + SILENCE);
        assert_eq!(routes.echo(NOW + SILENCE).orphans, [ada]);
        assert_eq!(routes.of(ben), [alive]);
    }

    #[test]
    fn who_was_taken_for_dead_is_told_so_once() {
        let mut routes = Routes::new(NodeId::fresh());
        let (a, ada) = (NodeId::fresh(), UserId::fresh());
        routes.hear(a, delta(1, &[ada], &[]), NOW);
        assert_eq!(echoes(&mut routes, NOW, NOW + SILENCE), [ada]);
        let later = NOW + SILENCE * 2;
        assert!(routes.hear(a, delta(2, &[], &[]), later).revived);
        assert!(!routes.hear(a, delta(3, &[], &[]), later).revived);
        assert_eq!(routes.echo(later).ask, [a], "who is on it is to be found out");
    }

    #[test]
    fn who_says_goodbye_leaves_his_users_to_the_others() {
        let (mut routes, now) = (Routes::new(NodeId::fresh()), NOW);
        let (a, ada) = (NodeId::fresh(), UserId::fresh());
        routes.hear(a, delta(1, &[ada], &[]), now);
        assert_eq!(routes.hear(a, Said::Bye, now).orphans, [ada]);
        assert_eq!(routes.nodes(), 0);
        assert!(routes.is_first());
    }

    #[test]
    fn only_the_one_who_is_asked_answers() {
        let own = NodeId::fresh();
        let (mut routes, now) = (Routes::new(own), NOW);
        assert!(routes.hear(NodeId::fresh(), Said::Ask { of: own }, now).asked);
        assert!(!routes.hear(NodeId::fresh(), Said::Ask { of: NodeId::fresh() }, now).asked);
        assert!(routes.hear(NodeId::fresh(), Said::Revived { of: own }, now).was_buried);
    }
}
