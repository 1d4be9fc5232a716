//! The rows of one conversation that may match a search, newest first, read no further than they are asked for.
//! Partition by partition of the index: the rows that every word proposes; or, where all words are too common for that
//! to be worth anything, the log itself, in which matches are then near.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{Messages, SEARCH_BLOCK_ROWS, TermMatch, search_block_of};
use crate::error::Result;
use crate::id::{ConversationId, Seq};
use crate::log::{LogRow, Membership};

/// Rows of one word and partition above which the word says too little.
const COMMON_ROWS: usize = 4_096;
/// Rows that are read at a time in the beginning: of most conversations no more are asked for.
const FIRST_STEP: usize = 2;
/// Rows that are read at a time in the end.
const MAX_STEP: usize = 32;

/// A row's place among the rows of many conversations: when, then which. Later is greater.
pub(super) type Place = (i64, ConversationId, Seq);

pub(super) fn place_of(row: &LogRow) -> Place {
    (row.created_at.0, row.conversation_id, row.seq)
}

/// What one request may still spend.
pub(super) struct Work {
    ends_at: Instant,
    rows_left: AtomicUsize,
}

impl Work {
    pub fn new(time: Duration, rows: usize) -> Self {
        Self { ends_at: Instant::now() + time, rows_left: AtomicUsize::new(rows) }
    }

    fn is_spent(&self) -> bool {
        self.rows_left.load(Ordering::Relaxed) == 0 || Instant::now() >= self.ends_at
    }

    fn spend(&self, rows: usize) {
        let left = self.rows_left.load(Ordering::Relaxed);
        self.rows_left.store(left.saturating_sub(rows), Ordering::Relaxed);
    }
}

/// What comes next.
pub(super) enum Next {
    /// This row may match.
    Row(Box<LogRow>),
    /// There is nothing more.
    End,
    /// There may be more, but the work that was allowed is done.
    Spent,
}

/// Where the rows of one partition come from.
enum Source {
    /// From these places, descending.
    Rows(VecDeque<Seq>),
    /// From the log, from before the first place down to the second, included.
    Log(Seq, Seq),
}

/// The rows of one conversation.
pub(super) struct Candidates<'a> {
    messages: &'a Messages,
    lookups: &'a [TermMatch],
    conversation: ConversationId,
    /// Nothing at or below it is looked at.
    floor: Seq,
    /// Everything from here on belongs to `source` or is done.
    before: Seq,
    source: Source,
    ahead: VecDeque<LogRow>,
    /// Rows that are read at a time.
    step: usize,
}

impl<'a> Candidates<'a> {
    /// The rows before `before` that this member can see, as far as `lookups` propose them.
    pub fn new(messages: &'a Messages, lookups: &'a [TermMatch], membership: &Membership, before: Seq) -> Self {
        Self {
            messages,
            lookups,
            conversation: membership.conversation_id,
            floor: membership.cleared_seq,
            before: before.min(membership.head.seq + 1),
            source: Source::Rows(VecDeque::new()),
            ahead: VecDeque::new(),
            step: FIRST_STEP,
        }
    }

    /// The next row.
    pub async fn next(&mut self, work: &Work) -> Result<Next> {
        loop {
            if let Some(row) = self.ahead.pop_front() {
                return Ok(Next::Row(Box::new(row)));
            }
            if work.is_spent() {
                return Ok(Next::Spent);
            }
            let messages = self.messages;
            match &mut self.source {
                Source::Rows(seqs) if !seqs.is_empty() => {
                    let part: Vec<Seq> = seqs.drain(..seqs.len().min(self.step)).collect();
                    self.step = (self.step * 2).min(MAX_STEP);
                    work.spend(part.len());
                    let rows = try_join_all(part.iter().map(|seq| messages.reader.row(self.conversation, *seq))).await?;
                    self.ahead.extend(rows.into_iter().flatten());
                }
                Source::Log(before, down_to) if *before > *down_to => {
                    let rows = messages.reader.before(self.conversation, *before, self.step).await?;
                    work.spend(rows.len());
                    self.step = (self.step * 2).min(MAX_STEP);
                    let down_to = *down_to;
                    *before = rows.last().map_or(down_to, |row| row.seq);
                    self.ahead.extend(rows.into_iter().filter(|row| row.seq >= down_to));
                }
                Source::Rows(_) | Source::Log(..) if self.before <= self.floor + 1 => return Ok(Next::End),
                Source::Rows(_) | Source::Log(..) => {
                    work.spend(1);
                    self.source = self.look_up().await?;
                }
            }
        }
    }

    /// The next row that comes after `after` in the order of a merged list.
    pub async fn next_after(&mut self, after: Option<Place>, work: &Work) -> Result<Next> {
        let next = self.next(work).await?;
        match (next, after) {
            (Next::Row(row), Some(after)) if place_of(&row) >= after => {
                self.before = self.first_from(after, row.seq).await?;
                self.source = Source::Rows(VecDeque::new());
                self.ahead.clear();
                self.next(work).await
            }
            (next, _) => Ok(next),
        }
    }

    /// Everything from here on has been returned or cannot match.
    pub fn frontier(&self) -> Seq {
        match &self.source {
            _ if !self.ahead.is_empty() => self.ahead.front().map_or(self.before, |row| row.seq + 1),
            Source::Rows(seqs) => seqs.front().map_or(self.before, |seq| seq + 1),
            Source::Log(before, down_to) => *before.max(down_to),
        }
    }

    /// What the words propose in the partition below `before`, which moves to its beginning.
    async fn look_up(&mut self) -> Result<Source> {
        let block = search_block_of(self.before - 1);
        let down_to = (block * SEARCH_BLOCK_ROWS).max(self.floor + 1);
        let before = std::mem::replace(&mut self.before, down_to);
        let store = &self.messages.store;
        let asked = self.lookups.iter().map(|wanted| store.term_rows(self.conversation, block, wanted, before, COMMON_ROWS));
        let mut proposals: Vec<Vec<Seq>> = try_join_all(asked).await?.into_iter().flatten().collect();
        proposals.sort_unstable_by_key(Vec::len);
        let mut proposals = proposals.into_iter();
        let Some(mut rows) = proposals.next() else { return Ok(Source::Log(before, down_to)) };
        for other in proposals {
            // Both descend.
            rows.retain(|seq| other.binary_search_by(|probe| seq.cmp(probe)).is_ok());
        }
        rows.retain(|seq| *seq >= down_to);
        Ok(Source::Rows(rows.into()))
    }

    /// The first row, at or below `upto`, that does not come after `after`: times never fall within a log.
    async fn first_from(&self, after: Place, upto: Seq) -> Result<Seq> {
        let (mut low, mut high) = (self.floor + 1, upto);
        while low < high {
            let middle = low + (high - low) / 2;
            let row = self.messages.reader.row(self.conversation, middle).await?;
            if row.is_some_and(|row| place_of(&row) >= after) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }
}
