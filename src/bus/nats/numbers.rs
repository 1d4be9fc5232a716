//! Numbers of what goes from one node to another: from 1 for each pair of them, without a gap in what is put on its way. A gap
//! in what arrives is something lost. Of the last ones nothing that follows tells: the other node is asked for its word then.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::id::NodeId;

/// Nodes whose numbers are kept, whether they are still there or not.
const MOST: usize = 4_096;
/// A node that does not give its word is asked again after this, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// What goes from this node to the others.
#[derive(Debug, Default)]
pub(super) struct Departures(Mutex<HashMap<NodeId, Arc<Departure>>>);

/// What goes to one of them.
#[derive(Debug, Default)]
pub(super) struct Departure {
    /// Held while something is numbered and put on its way: the numbers are in the order of the way.
    turn: tokio::sync::Mutex<()>,
    /// The last number.
    last: AtomicU64,
    /// The node knows of all up to this: it has them, or knows that they were lost.
    confirmed: AtomicU64,
    asked: Mutex<Option<Asked>>,
}

/// How a node was asked for its word.
#[derive(Debug)]
struct Asked {
    /// On what.
    number: u64,
    /// The last time.
    at: Instant,
    /// Until the next time.
    pause: Duration,
}

impl Departures {
    /// What goes to this node.
    pub fn to(&self, node: NodeId) -> Arc<Departure> {
        Arc::clone(self.0.lock().entry(node).or_default())
    }

    /// Those of these nodes that may not know yet of the last ones to them.
    pub fn unconfirmed(&self, is_there: impl Fn(NodeId) -> bool) -> Vec<(NodeId, Arc<Departure>)> {
        let departures = self.0.lock();
        let unconfirmed = departures.iter().filter(|(node, departure)| !departure.is_confirmed() && is_there(**node));
        unconfirmed.map(|(node, departure)| (*node, Arc::clone(departure))).collect()
    }

    /// A node has given its word that it knows of all up to this number.
    pub fn confirm(&self, node: NodeId, number: u64) {
        if let Some(departure) = self.0.lock().get(&node)
            // More than was sent: it speaks of numbers before these were forgotten.
            && number <= departure.last.load(Ordering::Relaxed)
        {
            departure.confirmed.fetch_max(number, Ordering::Relaxed);
        }
    }

    /// Forgets those of nodes that are not there, if there are many. Should one be heard again, its numbers begin anew.
    pub fn prune(&self, is_there: impl Fn(NodeId) -> bool) {
        prune(&mut self.0.lock(), is_there);
    }
}

impl Departure {
    /// Puts the next one on its way; its number is the next one's too if that fails.
    pub async fn next<E, F: Future<Output = Result<(), E>>>(&self, put: impl FnOnce(u64) -> F) -> Result<(), E> {
        let _turn = self.turn.lock().await;
        let number = self.last.load(Ordering::Relaxed) + 1;
        put(number).await?;
        self.last.store(number, Ordering::Relaxed);
        Ok(())
    }

    /// Puts on its way, behind all that it counts, how far the numbers have come.
    pub async fn tail<T, F: Future<Output = T>>(&self, put: impl FnOnce(u64) -> F) -> T {
        let _turn = self.turn.lock().await;
        put(self.last.load(Ordering::Relaxed)).await
    }

    /// Whether the node is to be asked for its word on the last one now; it counts as asked then.
    pub fn is_due(&self, now: Instant) -> bool {
        let number = self.last.load(Ordering::Relaxed);
        let mut asked = self.asked.lock();
        let pause = match asked.as_ref() {
            Some(asked) if asked.number == number && now < asked.at + asked.pause => return false,
            Some(asked) if asked.number == number => LAST_PAUSE.min(asked.pause * 2),
            _ => FIRST_PAUSE,
        };
        *asked = Some(Asked { number, at: now, pause });
        true
    }

    fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Relaxed) >= self.last.load(Ordering::Relaxed)
    }
}

/// What has come from the others: the last number of each.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<HashMap<NodeId, u64>>);

impl Arrivals {
    /// One of this number has come. False when it is not the next: some before it were lost, or the sender counts anew, and nobody
    /// knows what was the last before that.
    pub fn next(&self, from: NodeId, number: u64) -> bool {
        self.0.lock().insert(from, number).unwrap_or(0).checked_add(1) == Some(number)
    }

    /// The last one that was sent had this number. False when another was the last to come.
    pub fn upto(&self, from: NodeId, number: u64) -> bool {
        self.0.lock().insert(from, number).unwrap_or(0) == number
    }

    /// Forgets those of nodes that are not there, if there are many: of those that were heard again something would be missed.
    pub fn prune(&self, is_there: impl Fn(NodeId) -> bool) {
        prune(&mut self.0.lock(), is_there);
    }
}

/// A node that was taken for dead goes on with its numbers, and what an ended one had sent may come after its goodbye: so all are
/// kept while they are few.
fn prune<T>(numbers: &mut HashMap<NodeId, T>, is_there: impl Fn(NodeId) -> bool) {
    if numbers.len() > MOST {
        numbers.retain(|node, _| is_there(*node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts one on its way, or fails to.
    async fn depart(departure: &Departure, goes: bool) -> Result<u64, u64> {
        let mut number = 0;
        let put = |next| {
            number = next;
            std::future::ready(if goes { Ok(()) } else { Err(()) })
        };
        let put = departure.next(put).await;
        put.map(|()| number).map_err(|()| number)
    }

    #[tokio::test]
    async fn a_number_is_used_up_by_what_is_on_its_way() {
        let (departures, one, other) = (Departures::default(), NodeId::fresh(), NodeId::fresh());
        assert_eq!(depart(&departures.to(one), true).await, Ok(1));
        assert_eq!(depart(&departures.to(one), false).await, Err(2));
        assert_eq!(depart(&departures.to(one), true).await, Ok(2));
        assert_eq!(depart(&departures.to(other), true).await, Ok(1), "each node has its own");
        let last = departures.to(one).tail(std::future::ready).await;
        assert_eq!((last, depart(&departures.to(one), true).await), (2, Ok(3)), "a tail uses none up");
        departures.prune(|_| false);
        assert_eq!(depart(&departures.to(one), true).await, Ok(4), "of few all are kept");
        (0..MOST).for_each(|_| drop(departures.to(NodeId::fresh())));
        departures.prune(|node| node == other);
        assert_eq!(depart(&departures.to(one), true).await, Ok(1));
        assert_eq!(depart(&departures.to(other), true).await, Ok(2));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_uses_no_number_up() {
        use futures_util::FutureExt as _;
        let departure = Departure::default();
        assert!(departure.next(|_| std::future::pending::<Result<(), ()>>()).now_or_never().is_none());
        assert_eq!(depart(&departure, true).await, Ok(1));
    }

    #[tokio::test]
    async fn numbers_are_in_the_order_of_the_way() {
        let (departure, way) = (Departure::default(), Mutex::new(Vec::new()));
        let all = (0..100).map(|_| {
            departure.next(|number| {
                let way = &way;
                async move {
                    // Were the turn not held, the others would pass here.
                    tokio::task::yield_now().await;
                    way.lock().push(number);
                    Ok::<_, ()>(())
                }
            })
        });
        futures_util::future::join_all(all).await;
        assert_eq!(way.into_inner(), (1..=100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_a_node_has_not_confirmed_it_is_asked_for() {
        let (departures, node) = (Departures::default(), NodeId::fresh());
        let departure = departures.to(node);
        let unconfirmed = || departures.unconfirmed(|_| true).len();
        assert_eq!(unconfirmed(), 0, "nothing was sent");
        for _ in 0..2 {
            assert!(depart(&departure, true).await.is_ok());
        }
        departures.confirm(node, 1);
        departures.confirm(NodeId::fresh(), 2);
        assert_eq!((unconfirmed(), departures.unconfirmed(|_| false).len()), (1, 0), "who is not there is not asked");
        departures.confirm(node, 3);
        assert_eq!(unconfirmed(), 1, "so many were not sent");
        departures.confirm(node, 2);
        departures.confirm(node, 1);
        assert_eq!(unconfirmed(), 0);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_asked_less_and_less_often() {
        let (departure, began) = (Departure::default(), Instant::now());
        assert!(depart(&departure, true).await.is_ok());
        // A second and more is a round of 250 ms each.
        let asked = |from: u64| (from..from + 80).filter(|round| departure.is_due(began + Duration::from_millis(250 * round)));
        assert_eq!(asked(0).collect::<Vec<_>>(), [0, 2, 6, 14, 22, 30, 38, 46, 54, 62, 70, 78]);
        assert!(depart(&departure, true).await.is_ok());
        assert_eq!(asked(80).take(2).collect::<Vec<_>>(), [80, 82], "of what is new at once");
    }

    #[test]
    fn what_is_not_the_next_shows_that_something_was_lost() {
        let (arrivals, a, b) = (Arrivals::default(), NodeId::fresh(), NodeId::fresh());
        assert!(arrivals.next(a, 1) && arrivals.next(a, 2) && arrivals.next(b, 1), "each sender has its own");
        assert!(!arrivals.next(a, 4), "3 was lost");
        assert!(arrivals.next(a, 5), "it is said once");
        assert!(!arrivals.next(a, 1), "it counts anew: what came after 5 is not known");
        assert!(arrivals.next(a, 2));
        assert!(!arrivals.next(NodeId::fresh(), 2), "of who is not known the first was missed");
        assert!(!arrivals.next(b, 0) && !arrivals.next(b, u64::MAX) && !arrivals.next(b, 0), "what nobody sends harms nobody");
    }

    #[test]
    fn a_tail_shows_that_the_last_was_lost() {
        let (arrivals, node) = (Arrivals::default(), NodeId::fresh());
        assert!(arrivals.next(node, 1) && arrivals.upto(node, 1));
        assert!(!arrivals.upto(node, 3), "2 and 3 were lost");
        assert!(arrivals.upto(node, 3) && arrivals.next(node, 4));
        assert!(!arrivals.upto(node, 1), "it counts anew, and its first was lost");
        (0..MOST).for_each(|_| assert!(arrivals.next(NodeId::fresh(), 1)));
        arrivals.prune(|other| other == node);
        assert!(arrivals.next(node, 2));
        (0..MOST).for_each(|_| assert!(arrivals.next(NodeId::fresh(), 1)));
        arrivals.prune(|_| false);
        assert!(!arrivals.upto(node, 2), "nothing of it is known");
    }
}
