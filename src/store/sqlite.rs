//! The embedded store's engine: one file, one writer thread with group commit, a few reader threads.
//! The writer commits what is queued as soon as the last commit has ended, with no timer, and answers only then:
//! an `Ok` of [`Sqlite::write`] is on the disk (`synchronous=FULL`). No statement of a feature stands here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode as SqliteCode, OpenFlags};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::checkpoint::Checkpoints;
use super::migrate;
use super::queue::{Queue, Refused};
use super::{StoreError, StoreResult};

/// At most this many writes share one commit.
const GROUP_LIMIT: usize = 512;
/// Writes and reads that wait beyond this are refused with [`StoreError::Full`].
const QUEUE_LIMIT: usize = 8_192;

/// A message is a row or two in each of some six places, and every page that it touches is written whole: with the engine's
/// 4,096 bytes a node writes half as much again. For new files; one that is there keeps what it was made with.
const PAGE_BYTES: i64 = 2_048;

/// How the file is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file.
    pub path: PathBuf,
    /// Reader threads.
    pub readers: usize,
    /// Apply missing migrations; else a file that lacks some is refused.
    pub migrate: bool,
}

/// One job of the writer: run in a transaction with others, told afterwards how the commit went.
trait Write: Send {
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    fn answer(self: Box<Self>, outcome: Option<StoreError>);
}

/// Jobs that are on the disk and not answered yet; dropping it answers them. Waking a task from outside of the runtime costs
/// more than everything else about an answer, so the writer wakes one task a commit, which does nothing but wake the others.
struct Committed(Vec<Box<dyn Write>>);

impl Drop for Committed {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|job| job.answer(None));
    }
}

/// Where the writer leaves what is to be answered, once a runtime has a task for it. Until then, and after that one's end, it
/// answers by itself.
type Answers = Arc<OnceLock<mpsc::UnboundedSender<Committed>>>;

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The SQLite store, shared by all features.
#[derive(Clone)]
pub struct Sqlite {
    threads: Arc<Threads>,
}

struct Threads {
    writes: Arc<Queue<Box<dyn Write>>>,
    reads: Arc<Queue<Read>>,
    checkpoints: Option<Sender<()>>,
    answers: Answers,
    waiting: AtomicUsize,
    /// Each gives its connection back at its end.
    handles: Mutex<Vec<JoinHandle<Connection>>>,
}

impl Sqlite {
    /// Opens or creates the file, checks its schema and starts the threads.
    ///
    /// # Errors
    /// [`StoreError::Refused`] says in words what is wrong with the file and what to do about it.
    pub fn open(options: &SqliteOptions) -> StoreResult<Self> {
        let connection = connect(&options.path)?;
        migrate::prepare(&connection, &options.path, options.migrate)?;
        let (writes, reads) = (Arc::new(Queue::<Box<dyn Write>>::new(QUEUE_LIMIT)), Arc::new(Queue::<Read>::new(QUEUE_LIMIT)));
        let waiting = AtomicUsize::new(0);
        let mut handles = Vec::new();
        let spawn = |name: String, body: Box<dyn FnOnce() -> Connection + Send>| {
            std::thread::Builder::new().name(name).spawn(body).map_err(|error| StoreError::Unavailable(Box::new(error)))
        };
        let page_bytes = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(map)?;
        let (checkpointer, checkpoints) = (connect(&options.path)?, Arc::new(Checkpoints::of_pages(page_bytes)));
        let (checkpoint_sender, checkpoint_receiver) = crossbeam_channel::bounded(0);
        let due = Arc::clone(&checkpoints);
        handles.push(spawn("sqlite-checkpoint".to_owned(), Box::new(move || due.run(checkpointer, &checkpoint_receiver)))?);
        let (jobs, answers) = (Arc::clone(&writes), Answers::default());
        let answered = Arc::clone(&answers);
        handles.push(spawn("sqlite-writer".to_owned(), Box::new(move || write_all(connection, &jobs, &checkpoints, &answered)))?);
        for n in 0..options.readers.max(1) {
            let reader = connect(&options.path)?;
            reader.pragma_update(None, "query_only", true).map_err(map)?;
            let jobs = Arc::clone(&reads);
            handles.push(spawn(format!("sqlite-reader-{n}"), Box::new(move || read_all(reader, &jobs)))?);
        }
        let handles = Mutex::new(handles);
        let threads = Threads { writes, reads, checkpoints: Some(checkpoint_sender), answers, waiting, handles };
        Ok(Self { threads: Arc::new(threads) })
    }

    /// Runs `job` on a reader; it sees everything that was committed before it began.
    pub async fn read<T, F>(&self, job: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let read: Read = Box::new(move |connection| {
            // The caller may have gone away at its deadline: then nobody needs the rows.
            if !sender.is_closed() {
                let _ = sender.send(job(connection).map_err(map));
            }
        });
        self.threads.reads.push(read).map_err(refused)?;
        receiver.await.map_err(|_| stopped())?
    }

    /// Runs `job` in a transaction and returns once it is on the disk. All of the job's statements happen or none.
    /// It may run more than once (a group in which another job failed is run again, one by one), so it must not consume.
    pub async fn write<T, F>(&self, job: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let write = Box::new(Job { run: job, result: None, sender });
        if self.threads.answers.get().is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            self.threads.answers.get_or_init(|| answer_all(&runtime));
        }
        self.threads.writes.push(write).map_err(refused)?;
        let _waiting = Waiting::new(&self.threads.waiting);
        receiver.await.map_err(|_| stopped())?
    }

    /// Writes that wait for their commit now.
    pub fn writes_waiting(&self) -> usize {
        self.threads.waiting.load(Ordering::Relaxed)
    }

    /// Whether a write can be committed and read now: the probe behind `/ready`.
    pub async fn probe(&self) -> StoreResult<()> {
        self.write(|connection| {
            connection.prepare_cached("UPDATE probe SET n = n + 1")?.execute([])?;
            Ok(())
        })
        .await?;
        self.read(|connection| connection.prepare_cached("SELECT n FROM probe")?.query_row([], |row| row.get::<_, i64>(0))).await?;
        Ok(())
    }
}

/// Somebody who waits for a commit; he may go away before it.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.writes.close();
        self.reads.close();
        self.checkpoints = None;
        let ended: Vec<_> = self.handles.get_mut().drain(..).map(JoinHandle::join).collect();
        // One by one: of two that close at once each takes the other for a user of the file, and neither does what is up to
        // the last one: to move everything into it and remove the write-ahead log.
        ended.into_iter().for_each(drop);
    }
}

struct Job<T, F> {
    run: F,
    result: Option<T>,
    sender: oneshot::Sender<StoreResult<T>>,
}

impl<T, F> Write for Job<T, F>
where
    T: Send,
    F: FnMut(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.result = Some((self.run)(connection)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Option<StoreError>) {
        let answer = match (outcome, self.result) {
            (None, Some(value)) => Ok(value),
            (Some(error), _) => Err(error),
            (None, None) => Err(stopped()),
        };
        let _ = self.sender.send(answer);
    }
}

fn write_all(mut connection: Connection, jobs: &Queue<Box<dyn Write>>, checkpoints: &Checkpoints, answers: &Answers) -> Connection {
    let mut group = Vec::new();
    let mut outage = Outage::default();
    while jobs.take(&mut group, GROUP_LIMIT) {
        metrics::histogram!("urge_store_commit_writes").record(group.len() as f64);
        if commit(&mut connection, &mut group).is_ok() {
            outage.ended();
            let committed = Committed(std::mem::take(&mut group));
            if let Some(answers) = answers.get() {
                // Given back when the runtime has ended: then it is answered here.
                let _ = answers.send(committed);
            }
        } else {
            // One of them failed and took the others along: each gets its own transaction and its own answer.
            for job in group.drain(..) {
                let mut alone = [job];
                let outcome = commit(&mut connection, &mut alone).err().map(map);
                outage.note(outcome.as_ref());
                let [job] = alone;
                job.answer(outcome);
            }
        }
        checkpoints.committed(&connection);
    }
    connection
}

/// Starts the task that answers; it ends with its runtime, or with the store.
fn answer_all(runtime: &Handle) -> mpsc::UnboundedSender<Committed> {
    let (sender, mut commits) = mpsc::unbounded_channel();
    runtime.spawn(async move { while commits.recv().await.is_some() {} });
    sender
}

/// A time in which nothing can be committed: logged when it begins and when it ends, not once a write.
#[derive(Default)]
struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// What became of a write that was tried alone.
    fn note(&mut self, outcome: Option<&StoreError>) {
        match outcome {
            None => self.ended(),
            Some(StoreError::Unavailable(cause)) if self.since.is_none() => {
                self.since = Some(Instant::now());
                tracing::error!(
                    %cause,
                    "the store cannot be written to: writes are refused until it can; what was acknowledged is safe. Is the disk full, or the data folder read-only?"
                );
            }
            // The rest is the statement's fault, and logged with the request that it answers.
            Some(_) => {}
        }
    }

    fn ended(&mut self) {
        if let Some(since) = self.since.take() {
            tracing::info!(seconds = since.elapsed().as_secs(), "the store can be written to again");
        }
    }
}

/// Not inlined: its instructions are counted by its name (benches/instructions.rs).
#[inline(never)]
fn commit(connection: &mut Connection, group: &mut [Box<dyn Write>]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for job in group {
        catch_unwind(AssertUnwindSafe(|| job.run(&transaction)))
            .unwrap_or_else(|_| Err(rusqlite::Error::ToSqlConversionFailure("a write panicked".into())))?;
    }
    transaction.commit()
}

fn read_all(connection: Connection, jobs: &Queue<Read>) -> Connection {
    let mut next = Vec::with_capacity(1);
    while jobs.take(&mut next, 1) {
        for job in next.drain(..) {
            // A job that panics takes its own answer along, not the thread that all others need.
            if catch_unwind(AssertUnwindSafe(|| job(&connection))).is_err() {
                tracing::error!("a read panicked");
            }
        }
    }
    connection
}

fn connect(path: &Path) -> StoreResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| migrate::explain(path, error))?;
    let set = || -> rusqlite::Result<()> {
        connection.busy_timeout(Duration::from_secs(3))?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "cache_size", -16_384)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
        Ok(())
    };
    set().map_err(|error| migrate::explain(path, error))?;
    connection.set_prepared_statement_cache_capacity(256);
    Ok(connection)
}

fn refused(refused: Refused) -> StoreError {
    match refused {
        Refused::Full => StoreError::Full,
        Refused::Closed => stopped(),
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the store has been closed".into())
}

/// Disk full, read-only, I/O: the store is away and may come back. A file that is none: corrupt. The rest is our fault.
pub(super) fn map(error: rusqlite::Error) -> StoreError {
    match &error {
        rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
            SqliteCode::DiskFull
            | SqliteCode::ReadOnly
            | SqliteCode::SystemIoFailure
            | SqliteCode::CannotOpen
            | SqliteCode::DatabaseBusy
            | SqliteCode::DatabaseLocked
            | SqliteCode::PermissionDenied
            | SqliteCode::OutOfMemory => StoreError::Unavailable(Box::new(error)),
            SqliteCode::DatabaseCorrupt | SqliteCode::NotADatabase => StoreError::Corrupt(error.to_string()),
            _ => StoreError::Statement(Box::new(error)),
        },
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Statement(Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_takes_nobody_along() {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(&SqliteOptions { path: folder.path().join("t.db"), readers: 1, migrate: true }).unwrap();
        for _ in 0..3 {
            sqlite.read::<(), _>(|_| panic!("a read")).await.unwrap_err();
            sqlite.write::<(), _>(|_| panic!("a write")).await.unwrap_err();
        }
        sqlite.probe().await.unwrap();
    }

    #[test]
    fn a_closed_store_is_one_file() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..50 {
            let path = folder.path().join(format!("{n}.db"));
            drop(Sqlite::open(&SqliteOptions { path: path.clone(), readers: 3, migrate: true }).unwrap());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), n + 1);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_goes_away_leaves_nobody_of_his_commit_unanswered() {
        let folder = tempfile::tempdir().unwrap();
        let sqlite = Sqlite::open(&SqliteOptions { path: folder.path().join("t.db"), readers: 1, migrate: true }).unwrap();
        // While this one holds the writer up, the others come together.
        let (go_on, wait) = crossbeam_channel::bounded::<()>(0);
        let first = tokio::spawn({
            let sqlite = sqlite.clone();
            async move { sqlite.write(move |_| Ok(wait.recv().is_ok())).await }
        });
        while sqlite.writes_waiting() < 1 {
            tokio::task::yield_now().await;
        }
        // Somebody who is not polled while the others wait: he holds up himself alone.
        let mut idle = Box::pin(sqlite.write(|_| Ok("idle")));
        assert!(futures_util::poll!(&mut idle).is_pending());
        let writes: Vec<_> = (0..90)
            .map(|n| {
                let sqlite = sqlite.clone();
                tokio::spawn(async move { sqlite.write(move |_| Ok(n)).await })
            })
            .collect();
        while sqlite.writes_waiting() < 92 {
            tokio::task::yield_now().await;
        }
        // The first ones, the last ones, and every third between them.
        let goes = |n: usize| !(10..80).contains(&n) || n.is_multiple_of(3);
        for (_, write) in writes.iter().enumerate().filter(|(n, _)| goes(*n)) {
            write.abort();
        }
        while sqlite.writes_waiting() > 2 + (0..90).filter(|n| !goes(*n)).count() {
            tokio::task::yield_now().await;
        }
        drop(go_on);
        first.await.unwrap().unwrap();
        for (n, write) in writes.into_iter().enumerate().filter(|(n, _)| !goes(*n)) {
            assert_eq!(write.await.unwrap().unwrap(), n);
        }
        assert_eq!(idle.await.unwrap(), "idle");
    }
}
