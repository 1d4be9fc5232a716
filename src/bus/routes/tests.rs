//! What the words of other nodes mean.

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
    let came = Heard { came: vec![ada], ..Heard::default() };
    assert_eq!(routes.hear(a, delta(1, &[ada], &[]), now), came);
    assert_eq!(routes.hear(b, delta(1, &[ada], &[]), now), came);
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
    assert_eq!((heard.came, heard.late), (vec![ben], true), "he has been there for some time");
    assert_eq!((routes.of(ben), routes.of(ada)), (&[a][..], &[][..]));
    let again = routes.hear(a, snapshot(4, &[ben, cem]), now);
    assert_eq!((again.came, again.late), (vec![], false));
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
    times.flat_map(|at| orphans(routes.echo(at))).collect()
}

fn orphans(echoed: Echoed) -> Vec<UserId> {
    echoed.ended.into_iter().flat_map(|ended| ended.orphans).collect()
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
        let echoed = routes.echo(NOW + SILENCE);
        assert_eq!(echoed.buried, [dead]);
        assert_eq!(echoed.ended, [Ended { last: NOW, orphans: vec![ada] }], "Ben is on the other one");
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
    assert_eq!(orphans(routes.echo(back + SILENCE)), [ada]);
}

#[test]
fn a_new_node_takes_none_for_alive_that_had_ended_before() {
    let mut routes = Routes::new(NodeId::fresh());
    let (dead, alive, ada, ben) = (NodeId::fresh(), NodeId::fresh(), UserId::fresh(), UserId::fresh());
    // What the stream still has is heard at once.
    routes.hear(dead, snapshot(7, &[ada]), NOW);
    routes.hear(alive, snapshot(7, &[ben]), NOW + SILENCE);
    assert_eq!(orphans(routes.echo(NOW + SILENCE)), [ada]);
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
    assert_eq!(routes.echo(later + SPOKEN).revived, [a], "what was said has not come back");
    routes.revival_is_said(a);
    assert!(routes.echo(later + SPOKEN * 2).revived.is_empty());
    let heard = routes.hear(a, snapshot(3, &[ada]), later + SPOKEN * 2);
    assert_eq!((heard.came, heard.late), (vec![ada], true), "what is for her went nowhere meanwhile");
}

#[test]
fn if_the_first_does_not_say_so_another_does() {
    let mut nodes = [(); 3].map(|()| NodeId::fresh());
    nodes.sort();
    let [first, own, a] = nodes;
    for is_said in [false, true] {
        let (mut routes, ada) = (Routes::new(own), UserId::fresh());
        routes.hear(a, delta(1, &[ada], &[]), NOW);
        routes.hear(first, delta(1, &[], &[]), NOW + SHORT);
        assert_eq!(echoes(&mut routes, NOW, NOW + SILENCE), [ada]);
        let later = NOW + SILENCE + Duration::from_secs(1);
        assert!(!routes.hear(a, delta(2, &[], &[]), later).revived, "the first of them says so");
        assert!(routes.echo(later).revived.is_empty());
        if is_said {
            routes.hear(first, Said::Revived { of: a }, later);
        }
        // The first has died since, or did not take it for dead.
        let unsaid = if is_said { vec![] } else { vec![a] };
        assert_eq!(routes.echo(later + SPOKEN).revived, unsaid);
        assert!(routes.echo(later + SPOKEN + SHORT / 5).revived.is_empty(), "it may be on its way");
        assert_eq!(routes.echo(later + SPOKEN * 2).revived, unsaid, "it was lost");
        routes.revival_is_said(a);
        assert!(routes.echo(later + SPOKEN * 3).revived.is_empty());
    }
}

#[test]
fn who_leaves_nobody_has_ended_too() {
    let (mut routes, a, b) = (Routes::new(NodeId::fresh()), NodeId::fresh(), NodeId::fresh());
    routes.echo(NOW);
    routes.hear(a, delta(1, &[], &[]), NOW);
    routes.hear(b, delta(1, &[], &[]), NOW);
    assert_eq!(routes.hear(b, Said::Bye, NOW).ended, Some(Ended { last: NOW, orphans: Vec::new() }));
    routes.echo(NOW + SILENCE / 2);
    // What it was to do is left to another one now.
    assert_eq!(routes.echo(NOW + SILENCE).ended, [Ended { last: NOW, orphans: Vec::new() }]);
}

#[test]
fn who_says_goodbye_leaves_his_users_to_the_others() {
    let (mut routes, now) = (Routes::new(NodeId::fresh()), NOW);
    let (a, ada) = (NodeId::fresh(), UserId::fresh());
    routes.hear(a, delta(1, &[ada], &[]), now);
    routes.echo(now);
    let later = now + SHORT;
    let heard = routes.hear(a, Said::Bye, later);
    assert_eq!(heard.ended, Some(Ended { last: later, orphans: vec![ada] }));
    assert_eq!(routes.hear(a, Said::Bye, later).ended, None, "it has ended once");
    assert_eq!(routes.nodes(), 0);
    assert!(routes.is_first());
}

#[test]
fn whose_node_ended_before_this_one_began_the_others_have_seen_to() {
    let (before, just_now, ada, ben, cem) = (NodeId::fresh(), NodeId::fresh(), UserId::fresh(), UserId::fresh(), UserId::fresh());
    let mut routes = Routes::new(NodeId::fresh());
    routes.hear(before, delta(1, &[ada], &[]), NOW);
    routes.hear(just_now, delta(1, &[ben, cem], &[]), NOW);
    assert_eq!(routes.hear(before, Said::Bye, NOW).ended, None);
    assert_eq!(routes.hear(just_now, Said::Bye, NOW + SEEN_TO).ended, None);
    let alive = NodeId::fresh();
    routes.hear(alive, delta(1, &[cem], &[]), NOW + SEEN_TO);
    // The others may have waited for this one, of whom they knew by then.
    assert_eq!(orphans(routes.echo(NOW + SEEN_TO + SEEN_TO / 2)), [ben], "Cem is on another one by now");
    assert!(orphans(routes.echo(NOW + SEEN_TO * 2)).is_empty(), "it is said once");
    assert_eq!(routes.hear(alive, Said::Bye, NOW + SEEN_TO * 2).ended.map(|ended| ended.orphans), Some(vec![cem]));
}

#[test]
fn only_the_one_who_is_asked_answers() {
    let own = NodeId::fresh();
    let (mut routes, now) = (Routes::new(own), NOW);
    assert!(routes.hear(NodeId::fresh(), Said::Ask { of: own }, now).asked);
    assert!(!routes.hear(NodeId::fresh(), Said::Ask { of: NodeId::fresh() }, now).asked);
    assert!(routes.hear(NodeId::fresh(), Said::Revived { of: own }, now).was_buried);
}
