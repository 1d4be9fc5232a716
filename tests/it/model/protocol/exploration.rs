//! What may happen next in each state of the protocol, what becomes of it, and what must hold in all of them.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use super::{Action, Answer, Attempt, Guarantee, Late, Protocol, State, Step, Witness};

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut attempts: Vec<_> = self.attempts.iter().map(|batch| Attempt::new(batch.clone())).collect();
        if self.lacks(Guarantee::HeadBeforeLocation) {
            for attempt in &mut attempts {
                attempt.step = Step::ReadLocation;
            }
        }
        vec![State {
            rows: Vec::new(),
            locations: vec![None; self.named.len()],
            head: 0,
            head_went_back: false,
            late: BTreeSet::new(),
            attempts,
            answers: BTreeSet::new(),
            crashes: self.crashes,
            timeouts: self.timeouts,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, attempt) in state.attempts.iter().enumerate() {
            match attempt.step {
                Step::TakeHead => actions.extend((0..=state.last()).map(|head| Action::TakeHead(at, head))),
                Step::AppendWhole => actions.push(Action::AppendWhole(at, Answer::Arrives)),
                Step::ReadLocation => actions.push(Action::ReadLocation(at)),
                Step::PutLocation => actions.push(Action::PutLocation(at, Answer::Arrives)),
                Step::ReadRows => actions.extend((attempt.base..=state.last().max(attempt.base)).map(|to| Action::ReadRows(at, to))),
                Step::InsertRows => actions.push(Action::InsertRows(at, Answer::Arrives)),
                Step::AdvanceHeads => actions.push(Action::AdvanceHeads(at, Answer::Arrives)),
                Step::Answer => actions.push(Action::Answer(at)),
                Step::Done => {}
            }
            if state.timeouts > 0 {
                match attempt.step {
                    Step::AppendWhole => actions.push(Action::AppendWhole(at, Answer::Lost)),
                    Step::PutLocation => actions.push(Action::PutLocation(at, Answer::Lost)),
                    Step::InsertRows => actions.push(Action::InsertRows(at, Answer::Lost)),
                    Step::AdvanceHeads => actions.push(Action::AdvanceHeads(at, Answer::Lost)),
                    _ => {}
                }
            }
            if state.crashes > 0 && attempt.step != Step::TakeHead {
                actions.push(Action::Crash(at, Answer::Arrives));
                if Self::write_of(attempt).is_some() {
                    actions.push(Action::Crash(at, Answer::Lost));
                }
            }
        }
        actions.extend(state.late.iter().cloned().map(Action::Land));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::TakeHead(at, head) => {
                if head < before.last() {
                    self.witness(Witness::StaleHead);
                }
                self.take_head(&mut state.attempts[at], head);
            }
            Action::AppendWhole(at, Answer::Arrives) => {
                let mut attempt = before.attempts[at].clone();
                self.append_whole(&mut state, &mut attempt);
                state.attempts[at] = attempt;
            }
            Action::ReadLocation(at) => {
                let location = state.locations[usize::from(before.attempts[at].locating())];
                self.read_location(&mut state.attempts[at], location);
            }
            Action::PutLocation(at, Answer::Arrives) => {
                self.apply(&mut state, &Self::write_of(&before.attempts[at])?).ok()?;
                self.located(&mut state.attempts[at], before.attempts[at].head);
            }
            Action::ReadRows(at, to) => {
                let attempt = &mut state.attempts[at];
                for seq in attempt.base + 1..=to {
                    if attempt.see(seq, before.row(seq)?) {
                        self.witness(Witness::FoundInRows);
                    }
                }
                self.placed(attempt);
            }
            Action::InsertRows(at, Answer::Arrives) => {
                let mut attempt = before.attempts[at].clone();
                self.insert_rows(&mut state, &mut attempt);
                state.attempts[at] = attempt;
            }
            Action::AdvanceHeads(at, Answer::Arrives) => {
                self.apply(&mut state, &Self::write_of(&before.attempts[at])?).ok()?;
                state.attempts[at].step = Step::Answer;
            }
            Action::AppendWhole(at, Answer::Lost)
            | Action::PutLocation(at, Answer::Lost)
            | Action::InsertRows(at, Answer::Lost)
            | Action::AdvanceHeads(at, Answer::Lost) => {
                state.timeouts -= 1;
                state.late.insert(Self::write_of(&before.attempts[at])?);
                let attempt = &mut state.attempts[at];
                if attempt.step == Step::PutLocation && self.lacks(Guarantee::FloorAwaited) {
                    self.located(attempt, before.attempts[at].head);
                } else if attempt.step == Step::InsertRows && self.lacks(Guarantee::SameNumber) {
                    attempt.base += 1;
                }
            }
            Action::Answer(at) => {
                let found = state.attempts[at].found.clone();
                state.answers.extend(found);
                state.attempts[at] = Attempt { found: before.attempts[at].found.clone(), step: Step::Done, ..Attempt::new(Vec::new()) };
            }
            Action::Crash(at, answer) => {
                state.crashes -= 1;
                let attempt = &before.attempts[at];
                if matches!(attempt.step, Step::AdvanceHeads | Step::Answer) {
                    self.witness(Witness::DiedUnanswered);
                }
                if answer == Answer::Lost {
                    state.late.insert(Self::write_of(attempt)?);
                }
                let again = self.attempts[at].iter().copied().filter(|id| self.named[usize::from(*id)]).collect();
                state.attempts[at] = Attempt::new(again);
                if self.lacks(Guarantee::HeadBeforeLocation) && state.attempts[at].step == Step::TakeHead {
                    state.attempts[at].step = Step::ReadLocation;
                }
            }
            Action::Land(late) => {
                state.late.remove(&late);
                match (self.apply(&mut state, &late), &late) {
                    (Ok(()), Late::Location(..)) => self.witness(Witness::LateFloor),
                    (Ok(()), Late::Rows(..) | Late::Whole(..)) => self.witness(Witness::LateRows),
                    (Err(_), _) => self.witness(Witness::LateRowsRefused),
                    (Ok(()), Late::Heads(head)) if *head < before.head => self.witness(Witness::LateHead),
                    (Ok(()), Late::Heads(_)) => {}
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no message stands twice in the log", |_, state: &State| {
                let mut ids: Vec<_> = state.rows.iter().flatten().collect();
                ids.sort_unstable();
                ids.windows(2).all(|pair| pair[0] != pair[1])
            }),
            Property::always("the log has no gap", |_, state: &State| state.rows.iter().all(Option::is_some)),
            Property::always("an answered message stands where the answer says", |_, state: &State| {
                state.answers.iter().all(|(id, seq)| state.row(*seq) == Some(*id))
            }),
            Property::always("the location of every message in the log finds it", |_, state: &State| {
                let mut rows = state.rows.iter().zip(1..);
                rows.all(|(id, seq)| id.is_none_or(|id| state.locations[usize::from(id)].is_some_and(|floor| floor < seq)))
            }),
            Property::always("heads never go back", |_, state: &State| !state.head_went_back),
            Property::always("heads never point past the log", |_, state: &State| state.head <= state.last()),
            Property::always("heads cover every answered message", |_, state: &State| {
                state.answers.iter().all(|(_, seq)| *seq <= state.head)
            }),
            Property::sometimes("everything is answered after all that can go wrong", |_, state: &State| {
                let spent = state.crashes == 0 && state.timeouts == 0 && state.late.is_empty();
                spent && state.attempts.iter().all(|attempt| attempt.step == Step::Done && !attempt.found.is_empty())
            }),
        ]
    }
}
