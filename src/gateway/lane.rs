//! The order of one conversation on this node: which row goes out next. A row that is too early waits while the rows
//! before it are waited for, and then read from the store; one that is late has gone out already. Pure: no sockets, no
//! store, no clock.

use std::collections::BTreeMap;

use crate::event::RowEvent;
use crate::id::Seq;

/// Early rows that wait in memory; what is beyond is read from the store.
const MAX_WAITING: usize = 512;

/// What is to be done with a row, or next.
#[derive(Debug)]
pub(super) enum Step {
    /// Tell it now.
    Tell(Box<RowEvent>),
    /// Give the rows that are missing a moment to arrive, then call [`Lane::overdue`].
    Wait,
    /// Read these rows, then call [`Lane::next`] again.
    Fill(Missing),
    /// Find out whether people here need rows before this one, then call [`Lane::begin`].
    Locate(Seq),
    /// Nothing.
    Rest,
}

/// Rows that are there and did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// The first.
    pub from: Seq,
    /// The last.
    pub upto: Seq,
    /// The heads alone tell of the last one: nothing that arrived does.
    pub by_heads: bool,
}

/// One conversation's order.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The row that goes out next; 0 while it is not known.
    next_seq: Seq,
    /// The row that went out first; 0 while it is not known.
    first_seq: Seq,
    /// Rows up to here are known to exist.
    known_upto: Seq,
    /// The last row that has arrived.
    arrived_upto: Seq,
    /// Rows up to here have been waited for.
    overdue_upto: Seq,
    /// Rows up to here are being waited for; 0 when none are.
    waits_upto: Seq,
    early: BTreeMap<Seq, Box<RowEvent>>,
    /// Somebody is telling or filling; others only add to `early`.
    is_busy: bool,
    /// Something has asked for it since [`Lane::unused`].
    used: bool,
}

impl Lane {
    /// A row has arrived. Any step but `Wait` and `Rest` makes the caller the one who works: he goes on with
    /// [`Lane::told`] and [`Lane::next`]. `begins`: nobody here can need an earlier row, should this be the first that
    /// the lane hears of.
    pub fn arrive(&mut self, row: RowEvent, begins: bool) -> Step {
        if self.next_seq == 0 && row.again && !begins {
            // All that came after it would go out once more.
            return Step::Rest;
        }
        if begins && !self.is_busy {
            self.begin(row.seq);
        }
        if row.seq < self.next_seq {
            metrics::counter!("urge_hub_rows_dropped_total").increment(1);
            return Step::Rest;
        }
        self.known_upto = self.known_upto.max(row.seq);
        self.arrived_upto = self.arrived_upto.max(row.seq);
        if self.early.len() < MAX_WAITING {
            self.early.entry(row.seq).or_insert_with(|| Box::new(row));
        }
        self.work()
    }

    /// Rows up to `head` exist.
    pub fn ensure(&mut self, head: Seq) -> Step {
        self.known_upto = self.known_upto.max(head);
        self.work()
    }

    /// What was waited for has had its time.
    pub fn overdue(&mut self) -> Step {
        self.overdue_upto = self.overdue_upto.max(std::mem::take(&mut self.waits_upto));
        self.work()
    }

    /// The first row that people here need, for a lane that does not know.
    pub fn begin(&mut self, first: Seq) {
        self.used = true;
        if self.next_seq == 0 {
            (self.next_seq, self.first_seq) = (first, first);
        }
    }

    /// Nobody here needs rows before this one, though it has begun: they do not go out. Those who come now have asked for the heads.
    pub fn skip_to(&mut self, first: Seq) {
        if !self.is_busy && self.next_seq < first {
            (self.next_seq, self.first_seq) = (first, first);
        }
    }

    /// The last row that never goes out here, for it was before the lane began.
    pub fn begun_after(&self) -> Seq {
        (self.first_seq - 1).max(0)
    }

    /// Whether the lane knows which row goes out next.
    pub fn has_begun(&self) -> bool {
        self.next_seq != 0
    }

    /// Whether rows up to `head` have not all gone out.
    pub fn lags(&self, head: Seq) -> bool {
        self.next_seq <= head
    }

    fn work(&mut self) -> Step {
        self.used = true;
        if self.is_busy {
            return Step::Rest;
        }
        self.is_busy = true;
        self.next()
    }

    /// What the one who works does next; after `Wait` and `Rest` he no longer does.
    pub fn next(&mut self) -> Step {
        if self.next_seq == 0 {
            return Step::Locate(self.early.first_key_value().map_or(self.known_upto + 1, |(seq, _)| *seq));
        }
        while self.early.first_key_value().is_some_and(|(seq, _)| *seq < self.next_seq) {
            self.early.pop_first();
        }
        let first_early = self.early.first_key_value().map(|(seq, _)| *seq);
        if first_early == Some(self.next_seq)
            && let Some((_, row)) = self.early.pop_first()
        {
            return Step::Tell(row);
        }
        if self.next_seq <= self.overdue_upto {
            // Not beyond, though the log may go on: a client that comes back now is brought up to the heads only, and
            // would miss such a row or get it twice.
            let upto = first_early.map_or(self.overdue_upto, |early| self.overdue_upto.min(early - 1));
            return Step::Fill(Missing { from: self.next_seq, upto, by_heads: upto > self.arrived_upto });
        }
        self.is_busy = false;
        if self.next_seq > self.known_upto || self.waits_upto > 0 {
            return Step::Rest;
        }
        self.waits_upto = self.known_upto;
        Step::Wait
    }

    /// The row has gone out.
    pub fn told(&mut self, seq: Seq) {
        self.next_seq = self.next_seq.max(seq + 1);
    }

    /// The one who works has panicked, perhaps over this row: it is left out. What it says is found by a sync.
    pub fn abandoned(&mut self, telling: Option<Seq>) -> Step {
        self.is_busy = false;
        match telling {
            Some(seq) => {
                self.told(seq);
                self.work()
            }
            None => Step::Rest,
        }
    }

    /// Forgets that it was asked for: a sweep begins.
    pub fn unused(&mut self) {
        self.used = false;
    }

    /// Whether it works, or was asked for since the sweep began.
    pub fn was_used(&self) -> bool {
        self.used || self.is_busy || self.waits_upto > 0 || !self.early.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Origin;
    use crate::id::ConversationId;

    fn row(seq: Seq) -> RowEvent {
        RowEvent {
            conversation_id: ConversationId::fresh(),
            seq,
            audience: [].into(),
            is_large: false,
            target_seq: None,
            introduces: [].into(),
            refreshes: false,
            event: None,
            faceless: None,
            message: None,
            step: None,
            origin: Origin::default(),
            posted: false,
            again: false,
        }
    }

    /// Works until there is nothing to do but to wait. Returns the rows told, those from the store negative.
    fn run(lane: &mut Lane, mut step: Step) -> Vec<Seq> {
        let mut told = Vec::new();
        loop {
            match step {
                Step::Tell(row) => {
                    told.push(row.seq);
                    lane.told(row.seq);
                }
                Step::Fill(Missing { from, upto, .. }) => {
                    for seq in from..=upto {
                        told.push(-seq);
                        lane.told(seq);
                    }
                }
                Step::Locate(row) => lane.begin(row),
                Step::Wait | Step::Rest => return told,
            }
            step = lane.next();
        }
    }

    fn arrive(lane: &mut Lane, seq: Seq) -> Vec<Seq> {
        let step = lane.arrive(row(seq), true);
        run(lane, step)
    }

    fn overdue(lane: &mut Lane) -> Vec<Seq> {
        let step = lane.overdue();
        run(lane, step)
    }

    #[test]
    fn what_nobody_needs_is_skipped_unless_somebody_is_at_work() {
        let mut lane = Lane::default();
        lane.begin(3);
        lane.skip_to(9);
        assert_eq!((lane.begun_after(), lane.lags(8), lane.lags(9)), (8, false, true));
        lane.skip_to(5);
        assert!(!lane.lags(8), "never back");
        assert!(matches!(lane.arrive(row(9), false), Step::Tell(_)));
        lane.skip_to(20);
        lane.told(9);
        assert!(lane.lags(10));
    }

    #[test]
    fn rows_go_out_in_order_and_once() {
        let mut lane = Lane::default();
        assert_eq!(arrive(&mut lane, 5), [5]);
        assert_eq!(arrive(&mut lane, 5), [] as [Seq; 0]);
        assert_eq!(arrive(&mut lane, 6), [6]);
    }

    #[test]
    fn a_gap_is_waited_for_and_filled_before_what_came_early() {
        let mut lane = Lane::default();
        arrive(&mut lane, 1);
        assert!(matches!(lane.arrive(row(4), true), Step::Wait));
        assert!(matches!(lane.arrive(row(6), true), Step::Rest), "one waits");
        assert_eq!(arrive(&mut lane, 2), [2]);
        let step = lane.overdue();
        assert!(matches!(step, Step::Fill(Missing { from: 3, upto: 3, by_heads: false })), "4 is here: {step:?}");
        assert!(matches!(lane.arrive(row(3), true), Step::Rest), "one works");
        assert_eq!(run(&mut lane, step), [-3, 4]);
        assert_eq!(overdue(&mut lane), [-5, 6], "5 has had a time of its own");
    }

    #[test]
    fn what_the_heads_tell_of_goes_out_when_it_arrives() {
        let mut lane = Lane::default();
        arrive(&mut lane, 1);
        assert!(matches!(lane.ensure(3), Step::Wait));
        assert_eq!(arrive(&mut lane, 2), [2]);
        assert_eq!(arrive(&mut lane, 3), [3]);
        assert_eq!(overdue(&mut lane), [] as [Seq; 0]);
        assert!(matches!(lane.ensure(4), Step::Wait));
        assert!(matches!(lane.overdue(), Step::Fill(Missing { from: 4, upto: 4, by_heads: true })));
    }

    #[test]
    fn a_lane_that_missed_its_first_row_finds_out_where_to_begin() {
        let mut lane = Lane::default();
        assert!(matches!(lane.arrive(row(3), false), Step::Locate(3)));
        lane.begin(2);
        assert!(matches!(lane.next(), Step::Wait));
        assert_eq!(overdue(&mut lane), [-2, 3]);
    }

    #[test]
    fn a_row_that_is_told_again_begins_nothing_but_for_who_is_new() {
        let mut lane = Lane::default();
        let again = || RowEvent { again: true, ..row(5) };
        assert!(matches!(lane.arrive(again(), false), Step::Rest) && !lane.has_begun());
        let step = Lane::default().arrive(again(), true);
        assert!(matches!(step, Step::Tell(row) if row.seq == 5));
        assert_eq!(arrive(&mut lane, 101), [101]);
        let step = lane.arrive(RowEvent { again: true, ..row(102) }, true);
        assert_eq!(run(&mut lane, step), [102], "its first writer did not live to tell of it");
    }

    #[test]
    fn a_row_whose_telling_panics_is_left_out() {
        let mut lane = Lane::default();
        assert!(matches!(lane.arrive(row(1), true), Step::Tell(_)));
        assert!(matches!(lane.arrive(row(2), true), Step::Rest), "one works");
        let step = lane.abandoned(Some(1));
        assert_eq!(run(&mut lane, step), [2]);
        assert!(matches!(lane.ensure(3), Step::Wait));
        assert!(matches!(lane.overdue(), Step::Fill(_)));
        assert!(matches!(lane.abandoned(None), Step::Rest), "nothing is tried over and over");
        assert_eq!(arrive(&mut lane, 3), [3]);
    }

    #[test]
    fn a_fill_that_finds_nothing_yet_is_asked_again() {
        let mut lane = Lane::default();
        let step = lane.ensure(3);
        assert!(matches!(step, Step::Locate(4)), "it has never heard of the conversation");
        assert_eq!(run(&mut lane, step), [] as [Seq; 0], "nobody here needs what was before");
        assert!(!lane.lags(3) && lane.lags(4));
        assert!(matches!(lane.ensure(5), Step::Wait));
        let fill = Missing { from: 4, upto: 5, by_heads: true };
        assert!(matches!(lane.overdue(), Step::Fill(missing) if missing == fill));
        assert!(matches!(lane.next(), Step::Fill(missing) if missing == fill), "nothing was told meanwhile");
    }
}
