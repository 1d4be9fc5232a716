//! The append protocol as a state machine: nodes that take the steps of `src/log/batch.rs`, named as the statements
//! of `LogStore` that they consist of, a store that loses answers
//! and applies writes late, and crashes between any two steps. What a row says, permissions and events are left out:
//! they change nothing about numbers and ids. A write whose answer is lost is a write that lands at any later moment,
//! at once and never included.

mod exploration;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A message: its index in [`Protocol::named`].
pub type Id = u8;
/// A place in the log, from 1.
pub type Seq = u8;

/// A guarantee of the protocol that a mutation switches off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// A floor is written before the insert is tried.
    Floor,
    /// The floor's write is awaited before the insert is tried.
    FloorAwaited,
    /// The head is taken before the location is read.
    HeadBeforeLocation,
    /// All rows from the floor to the proposed number have been seen.
    RowsFromFloor,
    /// After a timeout the same number is proposed again.
    SameNumber,
    /// A refusal by a row of ours settles that row alone, not the batch it was part of.
    OneByOne,
    /// Heads take the largest value ever written.
    MonotoneHeads,
    /// The heads are written before the answer.
    HeadsBeforeAnswer,
    /// One transaction asks whether its messages are located.
    WholeUnlocated,
}

/// Situations that an exploration must have come through to mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// A head older than the log's end was used.
    StaleHead,
    /// A floor landed after its attempt had gone on or died.
    LateFloor,
    /// A floor replaced a different one.
    FloorReplaced,
    /// Rows landed after their attempt had gone on or died.
    LateRows,
    /// Late rows found their place taken.
    LateRowsRefused,
    /// A late head was older than the one there.
    LateHead,
    /// An insert was refused by a row of the same message.
    RefusedByOwn,
    /// An insert was refused by another message.
    RefusedByOther,
    /// An attempt found its message while reading.
    FoundInRows,
    /// An attempt died after its rows were in the log, before its answer.
    DiedUnanswered,
    /// One transaction did it all.
    AppendedWhole,
    /// One transaction did nothing, and the steps were taken.
    WholeRefused,
}

impl Witness {
    /// Those of the steps one by one.
    pub const STEPS: [Self; 10] = [
        Self::StaleHead,
        Self::LateFloor,
        Self::FloorReplaced,
        Self::LateRows,
        Self::LateRowsRefused,
        Self::LateHead,
        Self::RefusedByOwn,
        Self::RefusedByOther,
        Self::FoundInRows,
        Self::DiedUnanswered,
    ];
}

/// What is explored: who appends what, and how much goes wrong.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// One entry an attempt, each on a node of its own: the messages that it appends in one batch.
    pub attempts: Vec<Vec<Id>>,
    /// Whether a message has a client_message_id: only then does the client try again after a crash.
    pub named: Vec<bool>,
    /// Whether locations, rows and heads are tried in one transaction first, as on a store that has such.
    pub whole: bool,
    /// How many crashes there may be.
    pub crashes: u8,
    /// How many answers may be lost.
    pub timeouts: u8,
    /// What is switched off.
    pub without: Option<Guarantee>,
    /// Bits of [`Witness`] that were seen.
    pub seen: Arc<AtomicU32>,
}

/// Where an attempt stands: the step that it takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    TakeHead,
    /// All that follows, in one transaction.
    AppendWhole,
    ReadLocation,
    PutLocation,
    ReadRows,
    InsertRows,
    AdvanceHeads,
    Answer,
    Done,
}

/// One attempt: what a node knows while it appends. All of it is gone after a crash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    pub step: Step,
    /// The messages still to be placed.
    pending: Vec<Id>,
    /// The one whose location is being dealt with.
    locating: u8,
    /// The head that was taken.
    head: Seq,
    /// The last row whose id is known, from the lowest floor on.
    base: Seq,
    /// Where messages of the batch stand.
    found: Vec<(Id, Seq)>,
}

impl Attempt {
    fn new(batch: Vec<Id>) -> Self {
        let step = if batch.is_empty() { Step::Done } else { Step::TakeHead };
        Self { step, pending: batch, locating: 0, head: 0, base: Seq::MAX, found: Vec::new() }
    }

    fn locating(&self) -> Id {
        self.pending[usize::from(self.locating)]
    }

    /// Notes the row at `seq`; it may be one of ours.
    fn see(&mut self, seq: Seq, id: Id) -> bool {
        self.base = seq;
        let ours = self.pending.contains(&id);
        if ours {
            self.pending.retain(|pending| *pending != id);
            self.found.push((id, seq));
        }
        ours
    }
}

/// A write whose answer was lost: it may land at any time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Late {
    Location(Id, Seq),
    Rows(Seq, Vec<Id>),
    Heads(Seq),
    /// From this place on.
    Whole(Seq, Vec<Id>),
}

/// The store, the nodes and what clients have been told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Row `i + 1` of the log.
    pub rows: Vec<Option<Id>>,
    pub locations: Vec<Option<Seq>>,
    pub head: Seq,
    pub head_went_back: bool,
    pub late: BTreeSet<Late>,
    pub attempts: Vec<Attempt>,
    /// Messages that were acknowledged, and the places named in the answers.
    pub answers: BTreeSet<(Id, Seq)>,
    pub crashes: u8,
    pub timeouts: u8,
}

impl State {
    fn last(&self) -> Seq {
        self.rows.iter().take_while(|row| row.is_some()).count() as Seq
    }

    fn row(&self, seq: Seq) -> Option<Id> {
        self.rows.get(usize::from(seq) - 1).copied().flatten()
    }

    /// `insert_rows`: conditional on the first place alone, as the one batch of a bucket is.
    fn insert_rows(&mut self, first: Seq, batch: &[Id]) -> Result<(), Id> {
        if let Some(id) = self.row(first) {
            return Err(id);
        }
        for (place, id) in (usize::from(first) - 1..).zip(batch) {
            if self.rows.len() <= place {
                self.rows.resize(place + 1, None);
            }
            self.rows[place] = Some(*id);
        }
        Ok(())
    }
}

/// One thing that happens; the number is the attempt's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Takes a head, perhaps from a cache: any row that is there.
    TakeHead(usize, Seq),
    AppendWhole(usize, Answer),
    ReadLocation(usize),
    PutLocation(usize, Answer),
    /// Reads the rows after the last known one up to this: perhaps not all that are there.
    ReadRows(usize, Seq),
    InsertRows(usize, Answer),
    AdvanceHeads(usize, Answer),
    Answer(usize),
    /// The node dies; a write that it was about to make may have left it.
    Crash(usize, Answer),
    /// A write lands whose answer was lost.
    Land(Late),
}

/// Whether the store's answer arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Arrives,
    Lost,
}

impl Protocol {
    fn lacks(&self, guarantee: Guarantee) -> bool {
        self.without == Some(guarantee)
    }

    fn witness(&self, witness: Witness) {
        self.seen.fetch_or(1 << witness as u32, Ordering::Relaxed);
    }

    pub fn has_seen(&self, witness: Witness) -> bool {
        self.seen.load(Ordering::Relaxed) & (1 << witness as u32) != 0
    }

    /// The write that an attempt is about to make.
    fn write_of(attempt: &Attempt) -> Option<Late> {
        match attempt.step {
            Step::AppendWhole => Some(Late::Whole(attempt.head + 1, attempt.pending.clone())),
            Step::PutLocation => Some(Late::Location(attempt.locating(), attempt.head)),
            Step::InsertRows => Some(Late::Rows(attempt.base + 1, attempt.pending.clone())),
            Step::AdvanceHeads => attempt.found.iter().map(|(_, seq)| *seq).max().map(Late::Heads),
            _ => None,
        }
    }

    /// Does a write in the store; `Err` names the row that refused it, or the message that is located.
    fn apply(&self, state: &mut State, write: &Late) -> Result<(), Id> {
        match write {
            Late::Location(id, floor) => {
                if state.locations[usize::from(*id)].replace(*floor).is_some_and(|before| before != *floor) {
                    self.witness(Witness::FloorReplaced);
                }
            }
            Late::Rows(first, batch) => return state.insert_rows(*first, batch),
            Late::Heads(head) => {
                let head = if self.lacks(Guarantee::MonotoneHeads) { *head } else { state.head.max(*head) };
                state.head_went_back |= head < state.head;
                state.head = head;
            }
            Late::Whole(first, batch) => {
                let is_located = |id: &&Id| self.named[usize::from(**id)] && state.locations[usize::from(**id)].is_some();
                if let Some(located) = batch.iter().find(is_located).filter(|_| !self.lacks(Guarantee::WholeUnlocated)) {
                    return Err(*located);
                }
                state.insert_rows(*first, batch)?;
                for id in batch {
                    state.locations[usize::from(*id)] = Some(first - 1);
                }
                state.head = state.head.max(first + batch.len() as Seq - 1);
            }
        }
        Ok(())
    }

    /// After a location was dealt with: the next one, or on to the rows.
    fn located(&self, attempt: &mut Attempt, floor: Seq) {
        let floor = if self.lacks(Guarantee::RowsFromFloor) { attempt.head } else { floor };
        attempt.base = attempt.base.min(floor).min(attempt.head);
        attempt.locating += 1;
        attempt.step = if usize::from(attempt.locating) < attempt.pending.len() { self.locate(attempt) } else { Step::ReadRows };
    }

    /// The first step about a location: a fresh id has none that could be read.
    fn locate(&self, attempt: &Attempt) -> Step {
        if self.named[usize::from(attempt.locating())] { Step::ReadLocation } else { Step::PutLocation }
    }

    /// After rows were seen: what is left is inserted, else the heads are written.
    fn placed(&self, attempt: &mut Attempt) {
        attempt.step = match () {
            () if !attempt.pending.is_empty() => Step::InsertRows,
            () if self.lacks(Guarantee::HeadsBeforeAnswer) => Step::Answer,
            () => Step::AdvanceHeads,
        };
    }

    fn take_head(&self, attempt: &mut Attempt, head: Seq) {
        attempt.head = head;
        if self.whole {
            attempt.step = Step::AppendWhole;
        } else if self.lacks(Guarantee::HeadBeforeLocation) {
            attempt.step = Step::PutLocation;
        } else {
            attempt.step = self.locate(attempt);
        }
    }

    fn append_whole(&self, state: &mut State, attempt: &mut Attempt) {
        let (first, batch) = (attempt.head + 1, attempt.pending.clone());
        if self.apply(state, &Late::Whole(first, batch.clone())).is_ok() {
            self.witness(Witness::AppendedWhole);
            attempt.pending.clear();
            attempt.found.extend(batch.into_iter().zip(first..));
            attempt.step = Step::Answer;
        } else {
            self.witness(Witness::WholeRefused);
            attempt.step = self.locate(attempt);
        }
    }

    fn read_location(&self, attempt: &mut Attempt, location: Option<Seq>) {
        match location {
            Some(floor) => self.located(attempt, floor),
            None if self.lacks(Guarantee::HeadBeforeLocation) => attempt.step = Step::TakeHead,
            None if self.lacks(Guarantee::Floor) => self.located(attempt, attempt.head),
            None => attempt.step = Step::PutLocation,
        }
    }

    fn insert_rows(&self, state: &mut State, attempt: &mut Attempt) {
        let first = attempt.base + 1;
        match state.insert_rows(first, &attempt.pending) {
            Ok(()) => {
                attempt.found.extend(std::mem::take(&mut attempt.pending).into_iter().zip(first..));
                self.placed(attempt);
            }
            Err(id) => {
                if attempt.see(first, id) {
                    self.witness(Witness::RefusedByOwn);
                    if self.lacks(Guarantee::OneByOne) {
                        attempt.found.extend(std::mem::take(&mut attempt.pending).into_iter().zip(first + 1..));
                    }
                } else {
                    self.witness(Witness::RefusedByOther);
                }
                attempt.step = Step::ReadRows;
                if attempt.pending.is_empty() {
                    self.placed(attempt);
                }
            }
        }
    }
}
