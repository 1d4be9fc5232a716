//! The order of one conversation on this node: which row goes out next. A row that is too early waits while the rows
//! before it are read from the store; one that is late has gone out already. Pure: no sockets, no store, no clock.

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
    /// Read rows from this one on, then call [`Lane::next`] again.
    Fill(Seq),
    /// Find out whether people here need rows before this one, then call [`Lane::begin`].
    Locate(Seq),
    /// Nothing.
    Rest,
}

/// One conversation's order.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The row that goes out next; 0 while it is not known.
    next_seq: Seq,
    /// Rows up to here are known to exist.
    known_upto: Seq,
    early: BTreeMap<Seq, Box<RowEvent>>,
    /// Somebody is telling or filling; others only add to `early`.
    is_busy: bool,
    /// Something has asked for it since [`Lane::unused`].
    used: bool,
}

impl Lane {
    /// A row has arrived. Any step but `Rest` makes the caller the one who works: he goes on with [`Lane::told`] and
    /// [`Lane::next`]. `begins`: nobody here can need an earlier row, should this be the first that the lane hears of.
    pub fn arrive(&mut self, row: RowEvent, begins: bool) -> Step {
        if self.next_seq == 0 && begins && !self.is_busy {
            self.next_seq = row.seq;
        }
        if row.seq < self.next_seq {
            metrics::counter!("urge_hub_rows_dropped_total").increment(1);
            return Step::Rest;
        }
        self.known_upto = self.known_upto.max(row.seq);
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

    /// The first row that people here need, for a lane that does not know.
    pub fn begin(&mut self, first: Seq) {
        self.used = true;
        if self.next_seq == 0 {
            self.next_seq = first;
        }
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

    /// What the one who works does next; after `Rest` he no longer does.
    pub fn next(&mut self) -> Step {
        if self.next_seq == 0 {
            return Step::Locate(self.early.first_key_value().map_or(self.known_upto + 1, |(seq, _)| *seq));
        }
        while self.early.first_key_value().is_some_and(|(seq, _)| *seq < self.next_seq) {
            self.early.pop_first();
        }
        match self.early.first_key_value() {
            Some((seq, _)) if *seq == self.next_seq => match self.early.pop_first() {
                Some((_, row)) => Step::Tell(row),
                None => Step::Rest,
            },
            _ if self.next_seq <= self.known_upto => Step::Fill(self.next_seq),
            _ => {
                self.is_busy = false;
                Step::Rest
            }
        }
    }

    /// Rows up to here may go out: the heads say that they exist. A row beyond may be in the log already, but a client
    /// that comes back now is brought up to the heads only, and would miss it or get it twice.
    pub fn known_upto(&self) -> Seq {
        self.known_upto
    }

    /// The row has gone out.
    pub fn told(&mut self, seq: Seq) {
        self.next_seq = self.next_seq.max(seq + 1);
    }

    /// Forgets that it was asked for: a sweep begins.
    pub fn unused(&mut self) {
        self.used = false;
    }

    /// Whether it works, or was asked for since the sweep began.
    pub fn was_used(&self) -> bool {
        self.used || self.is_busy || !self.early.is_empty()
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
            target_seq: None,
            introduces: [].into(),
            refreshes: false,
            event: None,
            message: None,
            origin: Origin::default(),
            posted: false,
            again: false,
        }
    }

    /// Works until there is nothing to do; `store` is how far the log goes. Returns the rows told.
    fn run(lane: &mut Lane, mut step: Step, store: Seq) -> Vec<Seq> {
        let mut told = Vec::new();
        loop {
            match step {
                Step::Tell(row) => {
                    told.push(row.seq);
                    lane.told(row.seq);
                }
                Step::Fill(from) => {
                    for seq in from..=store {
                        told.push(seq);
                        lane.told(seq);
                    }
                }
                Step::Locate(row) => lane.begin(row),
                Step::Rest => return told,
            }
            step = lane.next();
        }
    }

    #[test]
    fn rows_go_out_in_order_and_once() {
        let mut lane = Lane::default();
        let step = lane.arrive(row(5), true);
        assert_eq!(run(&mut lane, step, 5), [5]);
        let step = lane.arrive(row(5), true);
        assert_eq!(run(&mut lane, step, 5), [] as [Seq; 0]);
        let step = lane.arrive(row(6), true);
        assert_eq!(run(&mut lane, step, 6), [6]);
    }

    #[test]
    fn a_gap_is_filled_before_what_came_early() {
        let mut lane = Lane::default();
        let step = lane.arrive(row(1), true);
        run(&mut lane, step, 1);
        let step = lane.arrive(row(4), true);
        assert!(matches!(step, Step::Fill(2)));
        assert!(matches!(lane.arrive(row(2), true), Step::Rest), "one works");
        assert_eq!(run(&mut lane, step, 4), [2, 3, 4]);
    }

    #[test]
    fn a_lane_that_missed_its_first_row_finds_out_where_to_begin() {
        let mut lane = Lane::default();
        let step = lane.arrive(row(3), false);
        assert!(matches!(step, Step::Locate(_)));
        lane.begin(2);
        let step = lane.next();
        assert!(matches!(step, Step::Fill(2)));
        assert_eq!(run(&mut lane, step, 3), [2, 3]);
    }

    #[test]
    fn a_fill_that_finds_nothing_yet_is_asked_again() {
        let mut lane = Lane::default();
        let step = lane.ensure(3);
        assert!(matches!(step, Step::Locate(_)), "it has never heard of the conversation");
        assert_eq!(run(&mut lane, step, 3), [] as [Seq; 0], "nobody here needs what was before");
        assert!(!lane.lags(3) && lane.lags(4));
        let step = lane.ensure(5);
        assert!(matches!(step, Step::Fill(4)));
        assert!(matches!(lane.next(), Step::Fill(4)), "nothing was told meanwhile");
    }
}
