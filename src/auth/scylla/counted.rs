//! What is counted or spent: a row is read, what becomes of it is decided, and all of it is written with a new revision, under
//! the condition that its revision is still the one that was read. Who was too slow reads again; who does not know whether
//! he has written looks for his own revision.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::super::code::{CodeRecord, CodeState, Purpose};
use super::super::keys::Bytes32;
use super::AuthStatements;
use crate::clock::Timestamp;
use crate::id::UserId;
use crate::phone::Phone;
use crate::store::{Prepared, StoreError, StoreResult};

/// How often others may be quicker, and for how long.
const TRIES: u32 = 32;
const LIMIT: Duration = Duration::from_secs(10);
/// The longest pause after the first try, in milliseconds; each one more adds as much.
const PAUSE_MS: u64 = 5;
/// How long a row stays after its end, in seconds: more than clocks differ.
const SPARE_S: u64 = 60 * 60;
/// The servers take 20 years at most.
const LONGEST_S: u64 = 10 * 365 * 24 * 60 * 60;

/// When a row goes by itself that lives so long, in seconds.
pub(super) fn ttl(lives: Duration) -> i32 {
    lives.as_secs().saturating_add(SPARE_S).min(LONGEST_S) as i32
}

/// The tries of one write that others may be in the way of.
pub(super) struct Tries {
    made: u32,
    until: Instant,
}

impl Tries {
    pub fn new() -> Self {
        Self { made: 0, until: Instant::now() + LIMIT }
    }

    /// Makes room for the others for a moment. An error: it was tried often enough.
    pub async fn again(&mut self) -> StoreResult<()> {
        self.made += 1;
        if self.made == TRIES || Instant::now() > self.until {
            return Err(StoreError::Unavailable("others were quicker each time".into()));
        }
        // The others are on other nodes, and tell nobody when they are done; by chance, so that those who met do not meet again.
        let pause = rand::random_range(0..=PAUSE_MS * u64::from(self.made));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        Ok(())
    }
}

/// A row that changes under its revision.
pub(super) trait Counted: Sized + Send {
    /// Where it is.
    type Store: Sync;
    /// Which row.
    type Key: Send + Sync;

    /// Reads it, with its revision.
    fn read(store: &Self::Store, key: &Self::Key) -> impl Future<Output = StoreResult<Option<(Uuid, Self)>>> + Send;

    /// Writes all of it, if its revision is still the one read; none: if it is still not there.
    fn put(
        self,
        store: &Self::Store,
        key: &Self::Key,
        ttl: i32,
        revision: Uuid,
        read: Option<Uuid>,
    ) -> impl Future<Output = StoreResult<bool>> + Send;

    /// Removes it, if its revision is still the one read.
    fn remove(store: &Self::Store, key: &Self::Key, read: Option<Uuid>) -> impl Future<Output = StoreResult<bool>> + Send;
}

/// What becomes of a row, and the answer once that is done.
pub(super) enum Step<R, T> {
    /// Nothing.
    Leave(T),
    /// This, which lives so long.
    Put(R, Duration, T),
    /// It goes.
    Remove(T),
}

/// What to do when a change was perhaps made, and somebody else has changed the row since.
#[derive(Clone, Copy, Debug)]
pub(super) enum InDoubt {
    /// Decide again: twice is no harm.
    Repeat,
    /// Say so.
    Fail,
}

/// Changes a row as `decide` says of what is there.
pub(super) async fn change<R: Counted, T: Send>(
    store: &R::Store,
    key: &R::Key,
    in_doubt: InDoubt,
    mut decide: impl FnMut(Option<R>) -> Step<R, T> + Send,
) -> StoreResult<T> {
    let mut revision = Uuid::new_v4();
    let mut tries = Tries::new();
    let (mut doubt, mut perhaps, mut last_read) = (None, None::<StoreError>, None);
    loop {
        let known = match R::read(store, key).await {
            Ok(known) => known,
            Err(error) => return Err(perhaps.unwrap_or(error)),
        };
        let (read, row) = known.unzip();
        if let Some((before, wanted, answer)) = doubt.take() {
            if read == wanted {
                return Ok(answer);
            }
            if let (true, InDoubt::Fail) = (read != before, in_doubt)
                && let Some(error) = perhaps
            {
                return Err(error);
            }
        }
        // One for all that is decided of the same row: also what a server comes to do late, after the next try has begun, is known again
        // by it. Of another row something else is decided, and needs a name of its own: perhaps the first was there for a while, and
        // whoever read it then would take the second for it, and write over what has been counted in between.
        if last_read.replace(read).is_some_and(|last| last != read) {
            revision = Uuid::new_v4();
        }
        let (wrote, wanted, answer) = match decide(row) {
            Step::Leave(answer) => return Ok(answer),
            Step::Put(row, lives, answer) => (row.put(store, key, ttl(lives), revision, read).await, Some(revision), answer),
            Step::Remove(answer) => (R::remove(store, key, read).await, None, answer),
        };
        match wrote {
            Ok(true) => return Ok(answer),
            Ok(false) if perhaps.is_none() => {}
            // Refused, perhaps by what the try before came to do after all.
            Ok(false) => doubt = Some((read, wanted, answer)),
            Err(error @ StoreError::Unavailable(_)) => {
                perhaps = Some(error);
                doubt = Some((read, wanted, answer));
            }
            Err(error) => return Err(perhaps.unwrap_or(error)),
        }
        tries.again().await.map_err(|error| perhaps.take().unwrap_or(error))?;
    }
}

impl Counted for CodeRecord {
    type Store = Prepared<AuthStatements>;
    type Key = (Phone, Purpose);

    async fn read(store: &Prepared<AuthStatements>, (phone, purpose): &Self::Key) -> StoreResult<Option<(Uuid, Self)>> {
        type CodeRow = (Uuid, Uuid, Vec<u8>, i64, i64, i32, i32, Vec<u8>);
        let row = store.row::<CodeRow>(&store.statements.code, (phone.as_str(), *purpose as i32)).await?;
        let Some((revision, id, code_hash, sent_at, expires_at, tries, state, claim)) = row else { return Ok(None) };
        let state = match state {
            0 => CodeState::Fresh,
            1 => CodeState::Verified,
            2 => CodeState::Spent,
            3 => CodeState::Verifying,
            4 => CodeState::Claimed,
            other => return Err(StoreError::Corrupt(format!("{other} is no state of a code"))),
        };
        // Empty, not absent: what is absent would have to be deleted.
        let claim = if claim.is_empty() { None } else { Some(hash(&claim)?) };
        let (sent_at, expires_at) = (Timestamp(sent_at), Timestamp(expires_at));
        Ok(Some((revision, Self { id, hash: hash(&code_hash)?, sent_at, expires_at, tries: tries as u32, state, claim })))
    }

    async fn put(
        self,
        store: &Prepared<AuthStatements>,
        (phone, purpose): &Self::Key,
        ttl: i32,
        revision: Uuid,
        read: Option<Uuid>,
    ) -> StoreResult<bool> {
        let claim = self.claim.as_ref().map_or(&[][..], |claim| &claim[..]);
        let (sent_at, expires_at, tries, state) = (self.sent_at.0, self.expires_at.0, self.tries as i32, self.state as i32);
        let (phone, purpose) = (phone.as_str(), *purpose as i32);
        let values = (ttl, revision, self.id, self.hash, sent_at, expires_at, tries, state, claim, phone, purpose, read);
        store.apply(&store.statements.put_code, values).await
    }

    async fn remove(store: &Prepared<AuthStatements>, (phone, purpose): &Self::Key, read: Option<Uuid>) -> StoreResult<bool> {
        store.apply(&store.statements.remove_code, (phone.as_str(), *purpose as i32, read)).await
    }
}

/// A budget: when the units were spent that count, the oldest first, and when none of them does any more.
pub(super) struct Units {
    pub spent_at: Vec<Timestamp>,
    pub ends_at: Timestamp,
}

impl Counted for Units {
    type Store = Prepared<AuthStatements>;
    type Key = String;

    async fn read(store: &Prepared<AuthStatements>, name: &String) -> StoreResult<Option<(Uuid, Self)>> {
        let row = store.row::<(Uuid, Vec<u8>, i64)>(&store.statements.budget, (name,)).await?;
        Ok(row.map(|(revision, bytes, ends_at)| {
            let (times, _) = bytes.as_chunks::<8>();
            let spent_at = times.iter().map(|time| Timestamp(i64::from_le_bytes(*time))).collect();
            (revision, Self { spent_at, ends_at: Timestamp(ends_at) })
        }))
    }

    async fn put(self, store: &Prepared<AuthStatements>, name: &String, ttl: i32, revision: Uuid, read: Option<Uuid>) -> StoreResult<bool> {
        let bytes: Vec<u8> = self.spent_at.iter().flat_map(|at| at.0.to_le_bytes()).collect();
        store.apply(&store.statements.put_budget, (ttl, revision, bytes, self.ends_at.0, name, read)).await
    }

    async fn remove(store: &Prepared<AuthStatements>, name: &String, read: Option<Uuid>) -> StoreResult<bool> {
        store.apply(&store.statements.remove_budget, (name, read)).await
    }
}

/// A login ticket.
pub(super) struct LoginTicket {
    pub tries: u32,
    pub expires_at: Timestamp,
}

impl Counted for LoginTicket {
    type Store = Prepared<AuthStatements>;
    type Key = UserId;

    async fn read(store: &Prepared<AuthStatements>, user: &UserId) -> StoreResult<Option<(Uuid, Self)>> {
        let row = store.row::<(Uuid, i32, i64)>(&store.statements.login_ticket, (user.0,)).await?;
        Ok(row.map(|(revision, tries, expires_at)| (revision, Self { tries: tries as u32, expires_at: Timestamp(expires_at) })))
    }

    async fn put(self, store: &Prepared<AuthStatements>, user: &UserId, ttl: i32, revision: Uuid, read: Option<Uuid>) -> StoreResult<bool> {
        let values = (ttl, revision, self.tries as i32, self.expires_at.0, user.0, read);
        store.apply(&store.statements.put_login_ticket, values).await
    }

    async fn remove(store: &Prepared<AuthStatements>, user: &UserId, read: Option<Uuid>) -> StoreResult<bool> {
        store.apply(&store.statements.remove_login_ticket, (user.0, read)).await
    }
}

/// The 32 bytes of a hash.
pub(super) fn hash(bytes: &[u8]) -> StoreResult<Bytes32> {
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("a hash of {} bytes", bytes.len())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// What becomes of a write that gets no answer.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        Done,
        Lost,
        /// It is done, but not before the row was read again.
        Late,
        /// It is done, one reads it, and another counts then.
        Overtaken,
    }

    /// A row, and the fates of the first writes to it: those after them are answered.
    #[derive(Default)]
    struct Fake {
        row: Option<(Uuid, u32)>,
        fates: VecDeque<Fate>,
        /// What is written after the next read.
        late: Vec<Option<(Uuid, u32)>>,
        /// What was read before it was overtaken.
        overtaken: Vec<Uuid>,
    }

    impl Fake {
        fn with(row: Option<(Uuid, u32)>, fates: &[Fate]) -> Mutex<Self> {
            Mutex::new(Self { row, fates: fates.iter().copied().collect(), ..Self::default() })
        }

        fn write(&mut self, row: Option<(Uuid, u32)>, read: Option<Uuid>) -> StoreResult<bool> {
            if self.row.map(|(revision, _)| revision) != read {
                return Ok(false);
            }
            let fate = self.fates.pop_front();
            match fate {
                None | Some(Fate::Done) => self.row = row,
                Some(Fate::Lost) => {}
                Some(Fate::Late) => self.late.push(row),
                Some(Fate::Overtaken) => {
                    self.overtaken.extend(row.map(|(revision, _)| revision));
                    self.row = Some((Uuid::new_v4(), row.map_or(0, |(_, count)| count) + 1));
                }
            }
            fate.map_or(Ok(true), |fate| Err(StoreError::Unavailable(format!("{fate:?}").into())))
        }
    }

    struct Count(u32);

    impl Counted for Count {
        type Store = Mutex<Fake>;
        type Key = ();

        async fn read(store: &Mutex<Fake>, (): &()) -> StoreResult<Option<(Uuid, Self)>> {
            let mut there = store.lock().unwrap();
            let row = there.row;
            if let Some(late) = there.late.pop() {
                there.row = late;
            }
            Ok(row.map(|(revision, count)| (revision, Self(count))))
        }

        async fn put(self, store: &Mutex<Fake>, (): &(), _ttl: i32, revision: Uuid, read: Option<Uuid>) -> StoreResult<bool> {
            store.lock().unwrap().write(Some((revision, self.0)), read)
        }

        async fn remove(store: &Mutex<Fake>, (): &(), read: Option<Uuid>) -> StoreResult<bool> {
            store.lock().unwrap().write(None, read)
        }
    }

    /// Counts one, up from `begin`; what it says, and the count afterwards, over which nobody writes who has read an earlier one.
    async fn count(begin: Option<u32>, fates: &[Fate], in_doubt: InDoubt) -> (StoreResult<u32>, u32) {
        let store = Fake::with(begin.map(|count| (Uuid::new_v4(), count)), fates);
        let answer = change(&store, &(), in_doubt, |known: Option<Count>| {
            let next = known.map_or(0, |count| count.0) + 1;
            Step::Put(Count(next), Duration::ZERO, next)
        })
        .await;
        let (left, overtaken) = {
            let there = store.lock().unwrap();
            (there.row.unwrap().1, there.overtaken.clone())
        };
        for read in overtaken {
            assert!(!Count(0).put(&store, &(), 0, Uuid::new_v4(), Some(read)).await.unwrap(), "{fates:?}: counts are written over");
        }
        (answer, left)
    }

    /// Removes a row that counts 7, and whatever is in its place; the count that was removed last, and the one that is left.
    async fn remove(fates: &[Fate], in_doubt: InDoubt) -> (StoreResult<Option<u32>>, Option<u32>) {
        let store = Fake::with(Some((Uuid::new_v4(), 7)), fates);
        let answer = change(&store, &(), in_doubt, |known: Option<Count>| match known {
            Some(count) => Step::Remove(Some(count.0)),
            None => Step::Leave(None),
        })
        .await;
        let left = store.lock().unwrap().row;
        (answer, left.map(|(_, count)| count))
    }

    #[tokio::test]
    async fn a_write_without_an_answer_counts_once() {
        for begin in [None, Some(7)] {
            let next = begin.unwrap_or(0) + 1;
            for in_doubt in [InDoubt::Repeat, InDoubt::Fail] {
                for fates in
                    [&[Fate::Done][..], &[Fate::Lost], &[Fate::Late], &[Fate::Lost, Fate::Late], &[Fate::Lost, Fate::Lost, Fate::Done]]
                {
                    let (answer, left) = count(begin, fates, in_doubt).await;
                    assert_eq!((answer.unwrap(), left), (next, next), "{fates:?}, {in_doubt:?}");
                }
            }
        }
    }

    #[tokio::test]
    async fn what_was_overtaken_is_done_again_only_where_that_is_no_harm() {
        let (answer, left) = count(Some(7), &[Fate::Overtaken], InDoubt::Repeat).await;
        assert_eq!((answer.unwrap(), left), (10, 10));
        let (answer, left) = count(Some(7), &[Fate::Overtaken], InDoubt::Fail).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        assert_eq!(left, 9);
    }

    #[tokio::test]
    async fn a_removal_without_an_answer_says_what_it_removed() {
        for in_doubt in [InDoubt::Repeat, InDoubt::Fail] {
            for fates in
                [&[][..], &[Fate::Done], &[Fate::Lost], &[Fate::Late], &[Fate::Lost, Fate::Late], &[Fate::Lost, Fate::Lost, Fate::Done]]
            {
                let (answer, left) = remove(fates, in_doubt).await;
                assert_eq!((answer.unwrap(), left), (Some(7), None), "{fates:?}, {in_doubt:?}");
            }
        }
        // What another has put in its place since goes too, or stays.
        let (answer, left) = remove(&[Fate::Overtaken], InDoubt::Repeat).await;
        assert_eq!((answer.unwrap(), left), (Some(1), None));
        let (answer, left) = remove(&[Fate::Overtaken], InDoubt::Fail).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        assert_eq!(left, Some(1));
    }

    #[tokio::test]
    async fn the_tries_end() {
        let (answer, left) = count(Some(7), &[Fate::Lost; TRIES as usize], InDoubt::Repeat).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))));
        assert_eq!(left, 7);
    }
}
